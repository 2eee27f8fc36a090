"""Figures of representations and cosets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from grokinterp.plots.lazy import go
from grokinterp.plots.parts import BAR, BLUE, GREY, MAX_COLUMNS, STEPS, VERMILLION, heat_style, layout_figure, lines_of, need, values_of

if TYPE_CHECKING:
    import xarray as xr


def representation_spectrum(dataset: xr.Dataset) -> go.Figure:
    """Similarity of the logits to the character of each irreducible representation: a heat map over steps, or bars for a single step.

    Draws ``logit_similarity``.
    """
    title, similarity = "Representations in the logits", need(dataset, "logit_similarity").transpose("irrep", "step")
    caption = "How far the logits resemble χ(abc⁻¹) of each irreducible representation. "
    names, steps = [str(name) for name in similarity["irrep"].to_numpy()], similarity["step"].to_numpy()
    if len(steps) > 1:
        columns = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MAX_COLUMNS)).round().astype(int))
        hover = "step %{x:,}, %{y}<br>similarity %{z:.3f}<extra></extra>"
        cells = go.Heatmap(x=steps[columns], y=names, z=values_of(similarity)[:, columns], **heat_style(hover, "cosine"))
        figure = layout_figure(
            title, caption + "Rows that brighten are representations that the model comes to use.", [cells], STEPS, "representation"
        )
        return figure.update_yaxes(type="category")
    key = np.isin(names, dataset["key_irrep"].to_numpy().astype(str) if "key_irrep" in dataset.coords else [])
    bars = [
        go.Bar(x=np.array(names)[chosen], y=values_of(similarity)[chosen, 0], name=label, marker_color=colour, hovertemplate=BAR)
        for label, chosen, colour in (("key representations", key, VERMILLION), ("others", ~key, GREY))
        if chosen.any()
    ]
    figure = layout_figure(title, caption + "Tall bars are representations that the model uses.", bars, "representation", "cosine")
    return figure.update_xaxes(type="category")


def representation_losses(dataset: xr.Dataset) -> go.Figure:
    """Train, test, restricted (all pairs) and excluded (training pairs) loss of the key representations over at least two steps, logarithmic.

    Draws ``pairs_loss``, ``restricted_loss_keys`` and ``excluded_loss_keys``.
    """
    own, restricted, excluded = (need(dataset, name, steps=2) for name in ("pairs_loss", "restricted_loss_keys", "excluded_loss_keys"))
    lines = {"train": own.sel(split="train"), "test": own.sel(split="test")}
    lines |= {"restricted": restricted.sel(split="all"), "excluded": excluded.sel(split="train")}
    caption = "Restricted loss keeps only the key representations in the neurons, excluded loss takes them out; the scale is logarithmic."
    return layout_figure("Progress by representations", caption, lines_of(lines), STEPS, "loss (nats)", log=True)


def coset_neurons(dataset: xr.Dataset) -> go.Figure:
    """Number of coset neurons by subgroup: lines over steps, or bars for a single step.

    Draws ``coset_neurons_of``.
    """
    title, counts = "Coset neurons", need(dataset, "coset_neurons_of")
    caption = "Neurons whose two inputs are constant on the right and left cosets of conjugate subgroups."
    some = counts.isel(subgroup=np.flatnonzero((counts > 0).any([dim for dim in counts.dims if dim != "subgroup"]).to_numpy()))
    if not some.sizes["subgroup"]:
        some = counts.isel(subgroup=[0])
    names = [str(name) for name in some["subgroup"].to_numpy()]
    if dataset.sizes["step"] > 1:
        lines = lines_of({name: some.isel(subgroup=i) for i, name in enumerate(names)})
        return layout_figure(title, caption, lines, STEPS, "number of neurons")
    bars = [go.Bar(x=names, y=values_of(some.isel(step=-1)), marker_color=BLUE, hovertemplate=BAR)]
    return layout_figure(title, caption, bars, "subgroup", "number of neurons").update_xaxes(type="category")


def coset_maps(dataset: xr.Dataset) -> go.Figure:
    """What the first operand adds to each coset neuron at the last step, elements sorted by coset, neurons by subgroup.

    Draws ``coset_map``.
    """
    last = need(dataset, "coset_map").isel(step=-1).transpose("neuron", "element")
    kept = last.isel(neuron=np.flatnonzero(last.notnull().any("element").to_numpy()))
    hover = "element place %{x}, neuron %{y}<br>%{z:.2f}<extra></extra>"
    cells = go.Heatmap(z=values_of(kept), **heat_style(hover, "share"))
    caption = "Each row is a neuron: what the first operand adds, scaled to its largest value, elements in the order of that neuron's cosets."
    return layout_figure("Neurons sorted by coset", caption, [cells], "elements, by coset", "coset neurons, by subgroup")
