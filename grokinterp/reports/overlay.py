"""Figures of several runs as one: curves over each other in the colours of their runs, or one run at a time where they cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from grokinterp.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION
from grokinterp.plots.lazy import go

if TYPE_CHECKING:
    import plotly.graph_objects as go

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY)


def colour_of(i: int) -> str:
    """The colour of the i-th run; from the eighth on, those of before with a hexadecimal opacity of 60 %, then 35 %."""
    return _COLOURS[i % len(_COLOURS)] + ("", "99", "59")[(i // len(_COLOURS)) % 3]


def can_overlay(figures: Mapping[str, go.Figure]) -> bool:
    """Whether figures are lines over one axis, so that several runs can share it."""
    drawn = [figure for figure in figures.values() if figure.data]
    if not drawn or len({(figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) for figure in drawn}) > 1:
        return False
    return all(trace.type == "scatter" and "lines" in (trace.mode or "") and not trace.fill for figure in drawn for trace in figure.data)


def overlay(figures: Mapping[str, go.Figure], colours: Mapping[str, str]) -> go.Figure:
    """The lines of several figures over each other: the colour says the run, the dash the curve.

    Args:
        figures: of one kind, by the run's label; see `can_overlay`.
        colours: of the runs.
    """
    figures = {run: figure for run, figure in figures.items() if figure.data}
    first = next(iter(figures.values()))
    curves = list(dict.fromkeys(str(trace.name) for figure in figures.values() for trace in figure.data))
    whole = go.Figure(layout=first.layout)
    for run, figure in figures.items():
        for trace in figure.data:
            line = {"color": colours[run], "dash": DASHES[curves.index(str(trace.name)) % len(DASHES)], "width": 2}
            name = run if len(curves) == 1 else f"{run}: {trace.name}"
            whole.add_trace(trace).data[-1].update(
                name=name, line=line, marker={"color": colours[run]}, legendgroup=run, showlegend=False, meta={"run": run}
            )
        # One entry a run, by which all of its curves go and come.
        whole.add_trace(_entry(run, {"color": colours[run], "width": 3}, legendgroup=run, meta={"run": run, "entry": True}))
    if len(curves) > 1:
        for i, curve in enumerate(curves):
            whole.add_trace(_entry(curve, {"color": GREY, "dash": DASHES[i % len(DASHES)], "width": 2}))
    shared = [shape for shape in first.layout.shapes if all(shape in figure.layout.shapes for figure in figures.values())]
    caption = str((first.layout.meta or {}).get("caption", ""))
    dashes = ", dashes are curves" if len(curves) > 1 else ""
    whole.update_layout(shapes=shared, annotations=[], showlegend=True, hovermode="closest", meta={"caption": f"{caption} Colours are runs{dashes}."})
    return whole


def _entry(name: str, line: dict[str, Any], **more: Any) -> go.Scatter:
    """An entry of the legend that draws nothing."""
    return go.Scatter(x=[None], y=[None], name=name, mode="lines", line=line, hoverinfo="skip", showlegend=True, **more)


def one_at_a_time(figures: Mapping[str, go.Figure]) -> go.Figure:
    """Figures that cannot lie over each other, with a menu that chooses the run.

    Args:
        figures: of one kind, by the run's label.
    """
    figures = {run: figure for run, figure in figures.items() if figure.data}
    first = next(iter(figures.values()))
    layout = {name: value for name, value in first.layout.to_plotly_json().items() if name not in ("sliders", "updatemenus")}
    whole = go.Figure(layout=layout)  # without frames, which are those of a run's own figure
    for run, figure in figures.items():
        for trace in figure.data:
            whole.add_trace(trace).data[-1].update(visible=figure is first, meta={"run": run})
    owners = [trace.meta["run"] for trace in whole.data]
    buttons = [
        {"label": run, "method": "update", "args": [{"visible": [owner == run for owner in owners]}, _own_words(figure)]}
        for run, figure in figures.items()
    ]
    return whole.update_layout(updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom", "showactive": True}])


def _own_words(figure: go.Figure) -> dict[str, Any]:
    """What a figure's layout says of its own run: notes, and the names of its axes."""
    notes = [note.to_plotly_json() for note in figure.layout.annotations]
    return {"annotations": notes, **{f"{axis}.title.text": figure.layout[axis].title.text for axis in ("xaxis", "yaxis")}}
