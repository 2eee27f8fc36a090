"""Several maps side by side, and lines at the onsets of conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from grokinterp.conditions import Condition
from grokinterp.plots.lazy import go
from grokinterp.plots.parts import GREY, GRID, STEPS, heat_style, layout_figure, stretched

if TYPE_CHECKING:
    import xarray as xr

GAP = 0.1  # of the width, between two maps


def map_traces(maps: Mapping[str, np.ndarray], x: Sequence[Any], y: Sequence[Any], quantity: str, square_root: bool = False) -> list[dict[str, Any]]:
    """One heat map each, as plain dicts, in colours that mean the same in all, two in a row.

    Args:
        maps: by title, [y, x].
        x: labels of the columns.
        y: labels of the rows.
        quantity: what colours mean, with units.
        square_root: stretch the colours near zero, where one cell would hide the others.
    """
    known = [values[np.isfinite(values)] for values in maps.values()]
    held = np.concatenate(known) if known else np.zeros(0)
    ends = {"zmin": float(held.min()), "zmax": float(held.max())} if len(held) else {}
    cells = []
    for i, (title, values) in enumerate(maps.items()):
        style = heat_style(f"{title}<br>%{{x}}, %{{y}}: %{{z:.4g}}<extra></extra>", quantity)
        place = {} if i == 0 else {"xaxis": f"x{i + 1}", "yaxis": f"y{i + 1}"}
        if square_root:
            style["colorscale"] = stretched()
        cells.append(
            {"type": "heatmap", "x": np.array(x), "y": np.array(y), "z": values, "name": title, "showscale": i == 0, **style, **ends, **place}
        )
    return cells


def small_maps(title: str, caption: str, cells: Sequence[dict[str, Any]], x: str, y: str) -> go.Figure:
    """The layout of `map_traces`: square maps, two in a row, each with its title above; axes, which are the same, are named at the edges.

    Args:
        title: of the figure.
        caption: how it is read.
        cells: the traces.
        x: what the columns are.
        y: what the rows are.
    """
    figure = layout_figure(title, caption, cells, x, y)
    columns = min(2, len(cells))
    rows = -(-len(cells) // columns)
    width, height = (1 - GAP * (columns - 1)) / columns, (1 - 0.16 * (rows - 1)) / rows
    for i, cell in enumerate(cells):
        left, top = (i % columns) * (width + GAP), 1 - (i // columns) * (height + 0.16)
        number = "" if i == 0 else str(i + 1)
        common = {"automargin": True, "zeroline": False, "constrain": "domain", "gridcolor": GRID, "nticks": 6, "tickfont": {"size": 10}}
        lowest, leftmost = i + columns >= len(cells), i % columns == 0
        across = {"anchor": f"y{number}", "title": {"text": x if lowest else ""}, "showticklabels": lowest}
        figure.layout[f"xaxis{number}"] = {**common, **across, "domain": [left, left + width]}
        below = {
            "scaleanchor": f"x{number}",
            "anchor": f"x{number}",
            "title": {"text": y if leftmost else ""},
            "showticklabels": leftmost,
        }
        figure.layout[f"yaxis{number}"] = {**common, **below, "domain": [max(top - height, 0), top], "autorange": "reversed"}
        corner = {"xref": f"x{number} domain", "yref": f"y{number} domain", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom"}
        figure.add_annotation(text=cell["name"], showarrow=False, **corner)
    aspect = 1.9 if rows == 1 and columns == 2 else 0.95 if columns == 1 else 0.95 * 2 / (1.12 * rows)
    return figure.update_layout(showlegend=False, height=360 * rows, margin_t=64, meta={"caption": caption, "aspect": round(min(aspect, 1.6), 3)})


def above(figure: go.Figure, upper: go.Figure) -> None:
    """Put the lines of another figure in a panel of their own above those of a figure, over the same axis.

    Args:
        figure: over some axis; it is changed.
        upper: over the same.
    """
    figure.layout.yaxis.domain = [0, 0.55]
    axis = upper.layout.yaxis
    scale = {"type": axis.type, "exponentformat": axis.exponentformat, "tickfont": axis.tickfont, "hoverformat": axis.hoverformat}
    panel = {"domain": [0.62, 1], "anchor": "x", "title": {"text": axis.title.text}, "automargin": True, "zeroline": False, "gridcolor": GRID}
    panel["nticks"] = 4  # a low panel; of a log axis over one decade every digit would be named
    figure.layout.yaxis2 = {**panel, **scale}
    for line in upper.data:
        figure.add_trace(line).data[-1].update(yaxis="y2", name=f"{line.name} loss", line={"dash": "dashdot"})
    figure.update_layout(hovermode="closest", showlegend=True, meta={**figure.layout.meta, "aspect": 1.15})


def mark(figure: go.Figure, dataset: xr.Dataset, *conditions: str) -> go.Figure:
    """A copy of a figure over steps with a dotted line at the first step at which each condition holds; as it is where none ever does.

    Args:
        figure: with training steps across.
        dataset: of the report.
        conditions: like "test_accuracy >= 0.95" or "fsd[1] >= 0.8 for 2", see `grokinterp.conditions`.

    Raises:
        GrokinterpError: a condition that cannot be read or on a quantity that the dataset lacks.
    """
    found = {text: Condition.parse(text).first_of(dataset) for text in conditions}
    marked = go.Figure(figure)
    if figure.layout.xaxis.title.text != STEPS:
        return marked
    for i, (text, stretch) in enumerate((text, stretch) for text, stretch in found.items() if stretch is not None):
        marked.add_vline(x=stretch.onset, line={"color": GREY, "dash": "dot", "width": 2})
        words = {"text": f"{text}: {stretch.onset:,.0f}", "showarrow": False, "yref": "paper", "y": 0.98 - 0.07 * (i % 6), "yanchor": "top"}
        middle = float(np.mean(_ends(figure)))
        marked.add_annotation(
            x=stretch.onset, xanchor="left" if stretch.onset < middle else "right", xshift=4 if stretch.onset < middle else -4, **words
        )
    return marked


def _ends(figure: go.Figure) -> tuple[float, float]:
    """The first and the last step that a figure shows."""
    held = [np.asarray(trace.x, dtype=float) for trace in figure.data if trace.x is not None and len(trace.x)]
    return (min(float(x.min()) for x in held), max(float(x.max()) for x in held)) if held else (0.0, 0.0)
