"""Figures of variables that have none of their own: lines over steps for scalars, bars or heat maps for arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from grokinterp.plots.frames import by_step
from grokinterp.plots.lazy import go
from grokinterp.plots.parts import BAR, BLUE, MAX_COLUMNS, STEPS, MissingVariables, heat_style, layout_figure, need, spread, values_of
from grokinterp.plots.training import scalar

if TYPE_CHECKING:
    import xarray as xr


def default(dataset: xr.Dataset, name: str) -> go.Figure:
    """A variable by its shape: a scalar as a line over steps, an array of one dimension as bars or, over steps, as a heat map, and one of two
    dimensions as a heat map with a frame for each step.

    Title, units and caption are its attributes ``long_name``, ``units`` and ``description``.

    Raises:
        MissingVariables: the dataset lacks the variable in numbers, a scalar has a single step, or an array has more dimensions.
    """
    value = need(dataset, name)
    rest = [str(dimension) for dimension in value.dims if dimension != "step"]
    if not rest or rest == ["eval_step"]:
        return scalar(dataset, name)
    over_steps = "step" in value.dims and value.sizes["step"] > 1
    if len(rest) == 1:
        return _map(value, "step", rest[0]) if over_steps else _bars(value.isel(step=-1) if "step" in value.dims else value, rest[0])
    if len(rest) == 2:
        figure = _map(value.isel(step=-1) if "step" in value.dims else value, rest[1], rest[0])
        return by_step(figure, dataset, lambda own: _map(need(own, name).isel(step=-1), rest[1], rest[0]).data) if over_steps else figure
    raise MissingVariables(f"{name} has {len(rest)} dimensions besides the step, and no figure of its own")


def _title(value: xr.DataArray) -> tuple[str, str]:
    """Title and caption."""
    label = str(value.attrs.get("long_name", value.name)).replace("_", " ")
    dimensions = " and ".join(str(dimension).replace("_", " ") for dimension in value.dims if dimension != "step")
    return label[:1].upper() + label[1:], str(value.attrs.get("description", f"The value of {value.name} by {dimensions}."))


def _labels(value: xr.DataArray, dimension: str) -> np.ndarray:
    """The coordinate of a dimension: numbers as they are, anything else as text."""
    labels = value[dimension].to_numpy()
    return labels if labels.dtype.kind in "iuf" else labels.astype(str)


def _bars(value: xr.DataArray, dimension: str) -> go.Figure:
    title, caption = _title(value)
    bars = go.Bar(x=_labels(value, dimension), y=values_of(value), name=title, marker_color=BLUE, hovertemplate=BAR)
    return layout_figure(title, caption, [bars], dimension.replace("_", " "), str(value.attrs.get("units", "value")))


def _map(value: xr.DataArray, x: str, y: str) -> go.Figure:
    title, caption = _title(value)
    shown = value.transpose(y, x).isel({x: spread(value.sizes[x], MAX_COLUMNS)})
    names = [STEPS if name == "step" else name.replace("_", " ") for name in (x, y)]
    style = heat_style(f"{names[0]} %{{x}}, {names[1]} %{{y}}<br>%{{z:.4g}}<extra></extra>", str(value.attrs.get("units", "value")))
    cells = go.Heatmap(x=_labels(shown, x), y=_labels(shown, y), z=values_of(shown), **style)
    return layout_figure(title, caption, [cells], *names)
