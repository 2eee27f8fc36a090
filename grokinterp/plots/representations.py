"""Figures of representations and cosets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from grokinterp.plots.frames import by_step
from grokinterp.plots.lazy import go
from grokinterp.plots.parts import BAR, BLUE, GREY, STEPS, bars_with_keys, heat_style, layout_figure, lines_of, map_over_steps, need, values_of
from grokinterp.plots.small_maps import map_traces, small_maps

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

LABELS = 8  # cosets that an axis names
LINES = 24  # cosets up to which lines part them
NAMED = 0.04  # share of the rows from which a subgroup's name fits beside them (chosen here)


def representation_spectrum(dataset: xr.Dataset) -> go.Figure:
    """Similarity of the logits to the character of each irreducible representation: a heat map over steps, or bars for a single step.

    Draws ``logit_similarity``.
    """
    title, similarity = "Representations in the logits", need(dataset, "logit_similarity").transpose("irrep", "step")
    caption = "How far the logits resemble χ(abc⁻¹) of each irreducible representation. "
    names = similarity["irrep"].to_numpy().astype(str)
    if similarity.sizes["step"] > 1:
        caption += "Rows that brighten are representations that the model comes to use."
        cells = map_over_steps(similarity, names, "step %{x:,}, %{y}<br>similarity %{z:.3f}<extra></extra>", "cosine")
        return layout_figure(title, caption, [cells], STEPS, "representation").update_yaxes(type="category")
    key = np.isin(names, dataset["key_irrep"].to_numpy().astype(str) if "key_irrep" in dataset.coords else [])
    bars = bars_with_keys(names, values_of(similarity)[:, 0], key, "representations")
    figure = layout_figure(title, caption + "Tall bars are representations that the model uses.", bars, "representation", "cosine")
    if "key_threshold" in dataset:
        threshold = float(dataset["key_threshold"][-1])
        figure.add_hline(threshold, line={"color": GREY, "width": 1, "dash": "dot"})
        figure.layout.meta = {"caption": f"{figure.layout.meta['caption']} Key are those above the dotted line, at {threshold:.3g}."}
    return figure.update_layout(barmode="overlay").update_xaxes(type="category")


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
    title, counts = "Coset neurons", need(dataset, "coset_neurons_of").transpose("step", "subgroup")
    caption = (
        "Neurons whose two inputs are constant on the right and left cosets of conjugate subgroups, by subgroup; those without any have no line."
    )
    found = {str(each): counts.sel(subgroup=each) for each in counts["subgroup"].to_numpy() if bool((counts.sel(subgroup=each) > 0).any())}
    found = found or {"any subgroup": counts.sum("subgroup")}
    if dataset.sizes["step"] > 1:
        figure = layout_figure(title, caption, lines_of(found), STEPS, "number of neurons").update_layout(showlegend=True)
    else:
        bars = go.Bar(x=list(found), y=[float(each[-1]) for each in found.values()], name="coset neurons", marker_color=BLUE, hovertemplate=BAR)
        figure = layout_figure(title, caption, [bars], "subgroup", "number of neurons").update_xaxes(type="category")
    top = max(1.0, float(counts.max()))
    return figure.update_yaxes(range=[-0.03 * top, 1.05 * top])


def coset_maps(dataset: xr.Dataset) -> go.Figure:
    """What the first operand adds to each coset neuron at the last step, elements sorted by coset, neurons by subgroup.

    Draws ``coset_map`` and ``coset_neurons_of``.
    """
    last = need(dataset, "coset_map").isel(step=-1).transpose("neuron", "element")
    kept = last.isel(neuron=np.flatnonzero(last.notnull().any("element").to_numpy()))
    hover = "element in place %{x}, neuron in row %{y}<br>%{z:.2f}<extra></extra>"
    style = heat_style(hover, "relative size")
    style["colorbar"] |= {"tickvals": [-0.5, 0, 0.5]}  # the ends, −1 and 1, would lie on the title
    cells = go.Heatmap(z=values_of(kept), zmin=-1, zmax=1, **style)
    caption = (
        "Each row is a neuron: what the first operand adds to it over its largest size, from −1 to 1. Elements come in the order of that neuron's "
        "cosets, so that a coset neuron has as many flat stretches as its subgroup has cosets. Subgroups with few neurons have a row and no name."
    )
    figure = layout_figure("Neurons sorted by coset", caption, [cells], "place of the element, by coset", "coset neurons, by subgroup")
    counts = need(dataset, "coset_neurons_of").isel(step=-1)[::-1]  # the largest subgroup is on top
    some = counts[np.flatnonzero(counts.to_numpy() > 0)]
    ends = np.cumsum(some.to_numpy()) - 0.5
    for end in ends[:-1]:
        figure.add_hline(end, line={"color": GREY, "width": 1})
    middles, wide = ends - some.to_numpy() / 2, some.to_numpy() >= NAMED * some.to_numpy().sum()
    return figure.update_yaxes(autorange="reversed", tickvals=middles[wide], ticktext=[str(name) for name in some["subgroup"].to_numpy()[wide]])


def coset_neuron_maps(dataset: xr.Dataset) -> go.Figure:
    """A few coset neurons over both operands, each operand sorted by the cosets on which the neuron is constant at the last step, a map each.

    Draws ``coset_activation``, ``coset_number``, ``shown_subgroup`` and ``shown_concentration``.
    """
    last = need(dataset, "coset_activation").isel(step=-1)
    numbers = need(dataset, "coset_number").isel(step=-1).transpose("shown_coset_neuron", "operand", "element").to_numpy().astype(int)
    names = dataset["subgroup"].to_numpy()[need(dataset, "shown_subgroup").isel(step=-1).to_numpy().astype(int)]
    concentration = need(dataset, "shown_concentration").isel(step=-1).to_numpy()
    neurons = last["shown_coset_neuron"].to_numpy()
    titles = [f"neuron {j}<br>{name}, C = {c:.2f}" for j, name, c in zip(neurons, names, concentration, strict=True)]
    order = numbers.argsort(axis=2, kind="stable")
    n = last.sizes["x"]

    def cells(dataset: xr.Dataset) -> list[dict[str, Any]]:
        value = need(dataset, "coset_activation").isel(step=-1).transpose("shown_coset_neuron", "x", "y").to_numpy()
        maps = {title: value[i][np.ix_(*order[i])] for i, title in enumerate(titles)}
        return map_traces(maps, range(n), range(n), "activation")

    caption = (
        "Activation over both operands, each sorted by the cosets of the subgroup in the title: right cosets of the first as it enters the product, "
        "left ones of the second. A coset neuron is constant in each block, and silent where the two operands cancel. [g] is the coset that g "
        "lies in; C is 0 where all blocks are constant, and about the number of cosets where the subgroup says nothing."
    )
    figure = small_maps("Coset neurons over both operands", caption, cells(dataset), "second operand", "first operand")
    for i in range(len(neurons)):
        number = "" if i == 0 else str(i + 1)
        for axis, operand in (("y", 0), ("x", 1)):
            _blocks(figure, f"{axis}{number}", numbers[i, operand], last["x"].to_numpy())
    return by_step(figure, dataset[["coset_activation"]], cells)


def _blocks(figure: go.Figure, axis: str, numbers: np.ndarray, tokens: np.ndarray) -> None:
    """Lines between the cosets along an axis, and each coset named by its first element, as far as there is room."""
    size, index = len(numbers) // (numbers.max() + 1), int(numbers.max()) + 1
    middles = size * (np.arange(index) + 0.5) - 0.5
    shown = range(0, index, -(-index // LABELS))
    labels = [f"[{tokens[np.flatnonzero(numbers == k)[0]]}]" for k in shown]
    figure.layout[f"{axis[0]}axis{axis[1:]}"].update(tickvals=middles[list(shown)], ticktext=labels, showticklabels=True, showgrid=False)
    other = ("y" if axis[0] == "x" else "x") + axis[1:]
    for edge in size * np.arange(1, index if index <= LINES else 1) - 0.5:
        line = {f"{axis[0]}0": edge, f"{axis[0]}1": edge, f"{other[0]}0": -0.5, f"{other[0]}1": len(numbers) - 0.5}
        figure.add_shape(type="line", **{f"{axis[0]}ref": axis, f"{other[0]}ref": other}, **line, line={"color": "white", "width": 1})
