"""Figures of several runs as one: curves over each other in the colours of their runs, or one run at a time where they cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from grokinterp.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION
from grokinterp.plots.lazy import go

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY)


def colour_of(i: int) -> str:
    """The colour of the i-th run; from the eighth on, those of before with a hexadecimal opacity of 60 %, then 35 %."""
    return _COLOURS[i % len(_COLOURS)] + ("", "99", "59")[(i // len(_COLOURS)) % 3]


def can_overlay(figures: Mapping[str, go.Figure]) -> bool:
    """Whether figures are lines over one axis and a dash is left for each curve of a panel, so that several runs can share it.

    Pictures of a plane are not: each of their panels belongs to one run's own frequency or component.
    """
    drawn = [figure for figure in figures.values() if figure.data]
    if not drawn or len({(figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) for figure in drawn}) > 1:
        return False
    if any(figure.layout.yaxis.scaleanchor for figure in drawn) or any(len(names) > len(DASHES) for names in _curves(drawn).values()):
        return False
    return all(trace.type == "scatter" and "lines" in (trace.mode or "") and not trace.fill for figure in drawn for trace in figure.data)


def _curves(figures: Iterable[go.Figure]) -> dict[str, list[str]]:
    """The names of the curves in each panel, by its vertical axis, over all runs."""
    found: dict[str, list[str]] = {}
    for trace in (trace for figure in figures for trace in figure.data):
        names = found.setdefault(trace.yaxis or "y", [])
        if str(trace.name) not in names:
            names.append(str(trace.name))
    return found


def overlay(figures: Mapping[str, go.Figure], colours: Mapping[str, str]) -> go.Figure:
    """The lines of several figures over each other: the colour says the run, the dash the curve.

    What a figure says of its own run, its phases and notes, is left out; lines that all share stay.

    Args:
        figures: of one kind, by the run's label; see `can_overlay`.
        colours: of the runs.
    """
    figures = {run: figure for run, figure in figures.items() if figure.data}
    first = next(iter(figures.values()))
    curves = _curves(figures.values())
    dashes = {(panel, name): DASHES[i] for panel, names in curves.items() for i, name in enumerate(names)}
    whole = go.Figure(layout=first.layout)
    for run, figure in figures.items():
        for trace in figure.data:
            line = {"color": colours[run], "dash": dashes[trace.yaxis or "y", str(trace.name)], "width": 2}
            name = run if len(dashes) == 1 else f"{run}: {trace.name}"
            whole.add_trace(trace).data[-1].update(
                name=name, line=line, marker={"color": colours[run]}, legendgroup=run, showlegend=False, meta={"run": run}
            )
        # One entry a run, by which all of its curves go and come.
        whole.add_trace(_entry(run, {"color": colours[run], "width": 3}, legendgroup=run, meta={"run": run, "entry": True}))
    if len(dashes) > 1:
        for (panel, curve), dash in dashes.items():  # each a group of its own, since plotly puts the entries of one group below each other
            whole.add_trace(_entry(curve, {"color": GREY, "dash": dash, "width": 2}, legendgroup=f"{panel} {curve}"))
    # Assigned, since an update of a tuple changes its elements one by one.
    whole.layout.shapes = [
        shape for shape in first.layout.shapes if not shape.showlegend and all(shape in figure.layout.shapes for figure in figures.values())
    ]
    whole.layout.annotations = []
    legend = ", dashes are curves" if len(dashes) > 1 else ""
    caption = f"{_caption(figures)} Colours are runs{legend}."
    return whole.update_layout(showlegend=True, hovermode="closest", meta={"caption": caption})


def _caption(figures: Mapping[str, go.Figure]) -> str:
    """The sentences of the captions: once what they share, by run what they do not."""
    captions = {run: str((figure.layout.meta or {}).get("caption", "")) for run, figure in figures.items()}
    sentences = [re.split(r"(?<=\.)\s+", caption) for caption in captions.values()]
    if len({len(each) for each in sentences}) > 1:
        return " ".join(f"{run}: {caption}" for run, caption in captions.items())
    told = []
    for row in zip(*sentences, strict=True):
        told += [row[0]] if len({*row}) == 1 else [f"{run}: {sentence}" for run, sentence in zip(captions, row, strict=True)]
    return " ".join(told)


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
