"""Figures of Fourier spectra and of neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from grokinterp.plots.frames import by_step
from grokinterp.plots.lazy import go
from grokinterp.plots.parts import (
    BAR,
    BLUE,
    GREY,
    STEPS,
    at_last_step,
    bars_with_keys,
    heat_style,
    layout_figure,
    map_over_steps,
    need,
    stretched,
    values_of,
)

if TYPE_CHECKING:
    import xarray as xr

EXPLAINED = 0.85
"""Share of variance above which a neuron counts as explained by one frequency (Nanda et al. 2023, section 4)."""


def embedding_spectrum(dataset: xr.Dataset) -> go.Figure:
    """Norm of the embedding W_E at each frequency: a heat map over steps, or bars for a single step, key frequencies set apart.

    Draws ``W_E_norm``.
    """
    caption = "How strongly the embedding varies with its token at each frequency. "
    return _spectrum(dataset, "W_E_norm", "Fourier spectrum of the embedding W_E", caption)


def logit_map_spectrum(dataset: xr.Dataset) -> go.Figure:
    """Norm of the neuron-to-logit map W_L at each frequency: a heat map over steps, or bars for a single step, key frequencies set apart.

    Draws ``W_L_norm``.
    """
    caption = "How strongly the neurons write to the logits at each frequency. "
    return _spectrum(dataset, "W_L_norm", "Fourier spectrum of the neuron-to-logit map W_L", caption)


def logits_2d(dataset: xr.Dataset) -> go.Figure:
    """Norm over answers of every two-dimensional Fourier component of the logits at the last step, one square cell each.

    Draws ``logit_component_norm``.
    """
    caption = (
        "Each cell is a wave over the first operand times a wave over the second; the circuit shows as bright 2 × 2 blocks on the diagonal, "
        "one for each key frequency. Colours are stretched near zero and end at the largest cell other than the constant."
    )
    cells = _component_cells(dataset)
    figure = layout_figure("Logits in the two-dimensional Fourier basis", caption, cells, "component of x", "component of y")
    # Left to itself, plotly stretches cells to the panel and puts the constant at the bottom.
    figure.update_yaxes(type="category", scaleanchor="x", constrain="domain", autorange="reversed")
    figure.update_xaxes(type="category", constrain="domain", constraintoward="left", tickangle=-90)
    return by_step(figure.update_layout(height=700), dataset[["logit_component_norm"]], _component_cells)


def _component_cells(dataset: xr.Dataset) -> list[dict[str, Any]]:
    last = at_last_step(need(dataset, "logit_component_norm")).transpose("component_y", "component_x")
    x, y = ([str(name) for name in last[dim].to_numpy()] for dim in ("component_x", "component_y"))
    varying = last.where((last["component_x"] != "1") | (last["component_y"] != "1"))
    hover = "x: %{x}, y: %{y}<br>norm %{z:.4g}<extra></extra>"
    style = heat_style(hover, "norm") | {"colorscale": stretched()}  # else one strong frequency hides the others
    return [{"type": "heatmap", "x": x, "y": y, "z": values_of(last), "zmin": 0, "zmax": float(varying.max()), **style}]


def neurons(dataset: xr.Dataset) -> go.Figure:
    """Number of neurons by the frequency that explains most of their variance, at the last step, split at `EXPLAINED`.

    Draws ``neuron_frequency`` and ``neuron_share``.
    """
    alive = np.isfinite(values_of(at_last_step(need(dataset, "neuron_frequency"))))
    caption = f"Each neuron counts at the frequency that explains most of its variance, in blue where that is more than {EXPLAINED:.0%}."
    caption += "" if alive.all() else f" Left out: {(~alive).sum():,} neurons that are constant over all inputs."
    figure = layout_figure("Neurons by dominant frequency", caption, _neuron_bars(dataset), "frequency", "number of neurons")
    return by_step(figure.update_layout(barmode="stack"), dataset[["neuron_frequency", "neuron_share"]], _neuron_bars)


def _neuron_bars(dataset: xr.Dataset) -> list[go.Bar]:
    frequency, share = (values_of(at_last_step(need(dataset, name))) for name in ("neuron_frequency", "neuron_share"))
    alive = np.isfinite(frequency)
    bars = []
    for label, chosen, colour in ((f"share above {EXPLAINED}", share > EXPLAINED, BLUE), ("share below", ~(share > EXPLAINED), GREY)):
        found, count = np.unique(frequency[alive & chosen].astype(int), return_counts=True)
        bars.append(go.Bar(x=found, y=count, name=label, width=0.8, marker_color=colour, hovertemplate=BAR))
    return bars


def _with_keys(figure: go.Figure, dataset: xr.Dataset) -> go.Figure:
    """The figure with the key frequencies named at the right end of their rows."""
    keys: list[int] = dataset["key_frequency"].to_numpy().astype(int).tolist() if "key_frequency" in dataset.coords else []
    for key in keys:
        figure.add_annotation(text=str(key), x=1, xref="paper", xanchor="left", y=key, showarrow=False, font={"size": 10})
    return figure.update_layout(margin_r=30 if len(keys) else 20)


def _spectrum(dataset: xr.Dataset, name: str, title: str, caption: str) -> go.Figure:
    norm = need(dataset, name).transpose("frequency", "step")
    frequency = norm["frequency"].to_numpy()
    if norm.sizes["step"] > 1:
        caption += "Rows that brighten are frequencies that the model comes to use; the key frequencies are named on the right."
        cells = map_over_steps(norm, frequency, "step %{x:,}, frequency %{y}<br>norm %{z:.4g}<extra></extra>", "norm")
        return _with_keys(layout_figure(title, caption, [cells], STEPS, "frequency"), dataset)
    key = np.isin(frequency, dataset["key_frequency"].to_numpy() if "key_frequency" in dataset.coords else [])
    bars = bars_with_keys(frequency, values_of(norm)[:, -1], key, "frequencies")
    figure = layout_figure(title, caption + "Tall bars are frequencies that the model uses.", bars, "frequency", "norm")
    return figure.update_layout(barmode="overlay")
