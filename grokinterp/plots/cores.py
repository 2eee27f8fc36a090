"""Figures of algorithmic cores over training and of their operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from grokinterp.plots.frames import by_step
from grokinterp.plots.lazy import go
from grokinterp.plots.parts import BLUE, GREY, STEPS, at_last_step, layout_figure, lines_of, need, same_scale, values_of

if TYPE_CHECKING:
    import xarray as xr


def core_size(dataset: xr.Dataset) -> go.Figure:
    """Energy, necessary and sufficient rank of the core over steps.

    Draws ``core_size`` over at least two steps.
    """
    size = need(dataset, "core_size", steps=2)
    caption = (
        "How many dimensions hold the energy share, how many have to go before accuracy is at chance, and how few alone reach the whole model's "
        "accuracy. A gap between the last two is redundancy."
    )
    lines = lines_of({name: size.sel(rank=name) for name in ("energy", "necessary", "sufficient")})
    return layout_figure("Core size over training", caption, lines, STEPS, "dimensions").update_yaxes(rangemode="tozero")


def core_r2(dataset: xr.Dataset) -> go.Figure:
    """R² of the operator that takes the core from one answer to the next, over steps: fitted, held out, and with shuffled answers.

    Draws ``core_r2`` over at least two steps, cut off at −1.
    """
    r2 = need(dataset, "core_r2", steps=2)
    caption = (
        "How well one linear map takes the core from each answer to the next. The fit alone shows nothing; held out, the line rises when the core "
        "goes round a cycle, and shuffled answers stay below. Cut off at −1."
    )
    labels = {"fitted": "fitted", "held out": "held_out", "shuffled, held out": "null"}
    figure = layout_figure("Operator of the core", caption, lines_of({name: r2.sel(fit=fit) for name, fit in labels.items()}), STEPS, "R²")
    return figure.update_yaxes(range=[-1.05, 1.05])


def core_eigenvalues(dataset: xr.Dataset) -> go.Figure:
    """Eigenvalues of the core's operator at the last step, in the complex plane with the unit circle.

    Draws ``core_eigenvalue``.
    """

    def modes(dataset: xr.Dataset) -> list[go.Scatter]:
        values = at_last_step(need(dataset, "core_eigenvalue")).transpose("eigenvalue", "part")
        return [_dots(values_of(values), "eigenvalues")]

    caption = "Each dot is a mode of the core: on the circle it turns for ever, its angle being its frequency; inside it decays."
    figure = _plane("Eigenvalues of the core's operator", caption, modes(dataset), "real part", "imaginary part", circle=True)
    return by_step(figure, dataset, modes)


def core_clock(dataset: xr.Dataset) -> go.Figure:
    """Mean core vector of each answer, or of each input token of a sequence, in the core's strongest two directions, at the last step.

    Draws ``core_mean``.
    """

    def ring(dataset: xr.Dataset) -> list[go.Scatter]:
        means = values_of(at_last_step(need(dataset, "core_mean")).transpose("core_class", "core_axis"))
        round_it = np.concatenate([means, means[:1]])
        path = go.Scatter(x=round_it[:, 0], y=round_it[:, 1], mode="lines", line={"color": GREY, "width": 1}, hoverinfo="skip", showlegend=False)
        return [path, _dots(means, "means")]

    caption = "Each dot is an answer of a cyclic task, or a token of a sequence; where the dots go round in order, the core is a clock."
    figure = _plane("Means in the strongest two core dimensions", caption, ring(dataset), "first dimension", "second dimension")
    return by_step(figure, dataset, ring)


def _dots(values: np.ndarray, name: str) -> go.Scatter:
    """Points [entry, 2] with their numbers."""
    hover = "%{text}: %{x:.3~g}, %{y:.3~g}<extra></extra>"
    text = [str(i) for i in range(len(values))]
    return go.Scatter(x=values[:, 0], y=values[:, 1], text=text, name=name, mode="markers", marker={"color": BLUE, "size": 7}, hovertemplate=hover)


def _plane(title: str, caption: str, traces: Sequence[Any], x: str, y: str, circle: bool = False) -> go.Figure:
    """A figure of a plane in which nothing is hidden by an empty entry."""
    return same_scale(layout_figure(title, caption, traces, x, y).update_layout(hovermode="closest", showlegend=False), circle=circle)
