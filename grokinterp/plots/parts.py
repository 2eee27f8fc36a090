"""What every figure is made of: variables out of a dataset, lines, colours and the one layout."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from grokinterp.errors import GrokinterpError
from grokinterp.plots.lazy import go

if TYPE_CHECKING:
    import xarray as xr

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999"
STYLES = [(colour, dash) for dash in ("solid", "dash", "dot", "dashdot") for colour in (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)]
GRID = "#e4e4e4"
STEPS = "training steps"
BAR = "%{x}: %{y:.4~g}<extra>%{fullData.name}</extra>"
MAX_POINTS = 2000  # of a line
MAX_COLUMNS = 1000  # of a heat map


class MissingVariables(GrokinterpError):
    """A dataset lacks what a figure draws."""


# --- data ------------------------------------------------------------------------------------------------------------------------


def has(dataset: xr.Dataset, name: str, steps: int = 1) -> bool:
    """Whether a variable is there in numbers, with a finite value at no fewer than `steps` steps."""
    if name not in dataset.data_vars or dataset[name].dtype.kind not in "iufb":
        return False
    value = dataset[name]
    # Infinities count as missing too: nothing can be drawn of them.
    finite = value.where(abs(value) < np.inf).notnull()
    return int(finite.any([dim for dim in finite.dims if dim not in ("step", "eval_step")]).sum()) >= steps


def need(dataset: xr.Dataset, name: str, steps: int = 1) -> xr.DataArray:
    """A variable, or `MissingVariables` raised where `has` says no.

    Raises:
        MissingVariables: it is not there, or at fewer steps.
    """
    if not has(dataset, name, steps):
        over = f" over at least {steps} steps" if steps > 1 else ""
        raise MissingVariables(f"this figure draws {name!r}{over}, which the dataset does not hold; run the measure that gives it")
    return dataset[name]


def at_last_step(value: xr.DataArray) -> xr.DataArray:
    """A variable at its last step, or as it is where it has none."""
    return value.isel(step=-1) if "step" in value.dims else value


def values_of(value: xr.DataArray) -> np.ndarray:
    """A variable's numbers in float64."""
    return np.asarray(value.to_numpy(), dtype=float)


def thin(values: np.ndarray, limit: int = MAX_POINTS) -> np.ndarray:
    """Indices, ascending and at most `limit`, that draw a long line without losing a spike.

    The first and the last point stay, and the smallest and largest of each of equal stretches between.

    Args:
        values: the line's finite heights.
        limit: at least 4.
    """
    n = len(values)
    if n <= limit:
        return np.arange(n)
    edges = np.linspace(1, n - 1, (limit - 2) // 2 + 1).astype(int)
    extremes = [start + pick(values[start:stop]) for start, stop in pairwise(edges) for pick in (np.argmin, np.argmax)]
    return np.unique([0, *extremes, n - 1])


def spread(n: int, limit: int) -> list[int]:
    """At most `limit` of n positions, evenly apart, the first and the last among them."""
    return [int(i) for i in np.unique(np.linspace(0, n - 1, min(n, limit)).round())]


# --- drawing ---------------------------------------------------------------------------------------------------------------------


def lines_of(values: dict[str, xr.DataArray]) -> list[go.Scatter]:
    """A line for each array over its own steps, long ones thinned, values that are not finite left out."""
    lines = []
    for i, (label, value) in enumerate(values.items()):
        colour, dash = STYLES[i % len(STYLES)]
        x, y = value[value.dims[0]].to_numpy(), values_of(value)
        kept = np.flatnonzero(np.isfinite(y))
        kept = kept[thin(y[kept])]
        lines.append(go.Scatter(x=x[kept], y=y[kept], name=label, mode="lines", line={"color": colour, "dash": dash, "width": 2}))
    return lines


def heat_style(hover: str, quantity: str) -> dict[str, Any]:
    """Colours, colour bar and hover text of every heat map; the quantity, with units, stands beside the bar."""
    # Below the panel, where it takes nothing of a narrow screen's width.
    bar = {
        "title": {"text": quantity, "side": "right"},
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "yref": "container",
        "y": 0,
        "yanchor": "bottom",
    }
    return {"colorscale": "Cividis", "colorbar": bar | {"thickness": 10, "nticks": 4, "tickangle": 0, "outlinewidth": 0}, "hovertemplate": hover}


def map_over_steps(value: xr.DataArray, names: Sequence[Any], hover: str, quantity: str) -> go.Heatmap:
    """A heat map of a variable [row, step] with named rows, at most `MAX_COLUMNS` steps of it; hover text and quantity as in `heat_style`."""
    shown = value.isel(step=spread(value.sizes["step"], MAX_COLUMNS))
    return go.Heatmap(x=shown["step"].to_numpy(), y=names, z=values_of(shown), **heat_style(hover, quantity))


def bars_with_keys(names: np.ndarray, heights: np.ndarray, key: np.ndarray, what: str) -> list[go.Bar]:
    """Named bars, those that are key to the model in a colour of their own; `what` they are, in the plural."""
    return [
        go.Bar(x=names[chosen], y=heights[chosen], name=label, width=0.8, marker_color=colour, hovertemplate=BAR)
        for label, chosen, colour in ((f"key {what}", key, VERMILLION), (f"other {what}", ~key, GREY))
        if chosen.any()
    ]


def same_scale(figure: go.Figure, *, circle: bool = False) -> go.Figure:
    """A figure of a plane, with the same scale both ways, and the unit circle where it is asked for."""
    if circle:
        figure.add_shape(type="circle", x0=-1, y0=-1, x1=1, y1=1, line={"color": GREY, "width": 1}, layer="below")
    return figure.update_yaxes(scaleanchor="x", constrain="domain").update_xaxes(constrain="domain")


def stretched() -> list[tuple[float, str]]:
    """The colours of heat maps, stretched near zero, for where one strong cell would hide the others."""
    from plotly.colors import get_colorscale

    return [(position**2, colour) for position, colour in get_colorscale("Cividis")]


def heat_map(
    title: str,
    caption: str,
    z: np.ndarray,
    x: Sequence[Any],
    y: Sequence[Any],
    names: tuple[str, str],
    quantity: str,
    limits: tuple[float, float] | None = None,
    text: np.ndarray | None = None,
) -> go.Figure:
    """A map of one quantity over two axes of which each entry is labelled.

    Args:
        title: of the figure.
        caption: how it is read.
        z: the values, [y, x]; NaN stays empty.
        x: labels of the columns.
        y: labels of the rows.
        names: of both axes, with units.
        quantity: what the colours mean, with units.
        limits: of the colours; None for those of the values.
        text: written into the cells, [y, x].
    """
    style = heat_style(f"{names[0]} %{{x}}, {names[1]} %{{y}}<br>{quantity} %{{z:.4g}}<extra></extra>", quantity)
    ends = {} if limits is None else {"zmin": limits[0], "zmax": limits[1]}
    written = {} if text is None else {"text": text, "texttemplate": "%{text}"}
    figure = layout_figure(title, caption, [go.Heatmap(x=list(x), y=list(y), z=z, **style, **ends, **written)], *names)
    return figure.update_xaxes(type="category").update_yaxes(type="category")


def layout_figure(title: str, caption: str, traces: Sequence[Any], x: str, y: str, *, log: bool = False) -> go.Figure:
    """The one layout of every figure: title, caption, named axes, legend below."""
    figure = go.Figure(list(traces), layout={"template": "none"})
    figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "y": 1, "yanchor": "top", "yref": "container", "pad": {"t": 10, "b": 10}},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1a1a1a"},
        hovermode="x unified" if figure.data[0].type == "scatter" else "closest",
        legend={"orientation": "h", "xref": "container", "x": 0, "yref": "container", "y": 0, "yanchor": "bottom"},
        showlegend=len(figure.data) > 1,
        margin={"l": 8, "r": 20, "t": 40, "b": 8},
        meta={"caption": caption},
    )
    figure.update_xaxes(title_text=x, automargin=True, gridcolor=GRID, zeroline=False, hoverformat=",d" if x == STEPS else None)
    figure.update_yaxes(title_text=y, automargin=True, gridcolor=GRID, zeroline=False, hoverformat=".4g" if log or x == STEPS else None)
    return figure.update_yaxes(type="log", exponentformat="power", tickfont_size=10) if log else figure
