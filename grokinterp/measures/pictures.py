"""What the field's pictures are drawn from: single neurons over pairs, attention over pairs, the path of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from grokinterp import plots
from grokinterp.errors import GrokinterpError
from grokinterp.groups.fourier import component_names, neuron_frequency_shares, pair_spectrum
from grokinterp.measures import needs
from grokinterp.measures.measure import Measure
from grokinterp.measures.undefined import with_reasons
from grokinterp.models.adapter import Adapter
from grokinterp.models.transformers import trained_parameters
from grokinterp.plots.lazy import go
from grokinterp.snapshot import Snapshot

SHOWN = 4  # neurons, or heads of a figure (chosen here: as many as fit a screen)
SKETCH = 4096  # numbers that stand for all weights (chosen here: distances keep to about 2 %)


def neuron_maps(snapshot: Snapshot, neurons: Sequence[int] | None = None) -> xr.Dataset:
    """Activations of a few neurons of the last layer over all pairs of operands, at the read-out position.

    Args:
        snapshot: a model and its task, which must have a group.
        neurons: which; None for up to `SHOWN` of ``snapshot.reference``: in a cyclic group, of each of the frequencies that dominate most
            neurons the one whose variance it explains best; in another, those that vary most.

    Returns:
        ``neuron_activation`` by shown_neuron (the neuron's number), x and y, after the nonlinearity, float32. In a cyclic group also
        ``shown_frequency``, that explains most of each neuron's variance, and ``shown_share``, how much of it; NaN for a constant neuron.

    Raises:
        GrokinterpError: a task without a group, an attention-only model, a neuron that the layer lacks.
    """
    table = snapshot.table(snapshot.readout(snapshot.last_mlp))
    chosen = _typical(snapshot.reference) if neurons is None else [int(neuron) for neuron in neurons]
    if not chosen or min(chosen) < 0 or max(chosen) >= table.shape[-1]:
        raise GrokinterpError(f"the neurons of {snapshot.last_mlp} are 0 … {table.shape[-1] - 1}; got {chosen}")
    held = table[..., chosen]
    dataset = xr.Dataset(
        {"neuron_activation": (("shown_neuron", "x", "y"), held.movedim(-1, 0).float().numpy())},
        coords={"shown_neuron": chosen, "x": snapshot.operation.token_of.numpy(), "y": snapshot.operation.token_of.numpy()},
    )
    if snapshot.task.cyclic is None:
        return dataset
    shares = neuron_frequency_shares(held, snapshot.task.cyclic)
    best = shares.max(0)
    frequency = np.where(best.values.isnan().numpy(), np.nan, best.indices.numpy() + 1.0)
    found = dataset.assign(shown_frequency=("shown_neuron", frequency), shown_share=("shown_neuron", best.values.numpy()))
    constant = ", ".join(str(neuron) for neuron, known in zip(chosen, np.isfinite(frequency), strict=True) if not known)
    reason = f"neurons that are constant over all pairs have no frequency: {constant}" if constant else None
    return with_reasons(found, {"shown_frequency": reason, "shown_share": reason})


def _typical(snapshot: Snapshot) -> list[int]:
    """A neuron for each of the frequencies of most neurons, or the neurons that vary most."""
    table = snapshot.table(snapshot.readout(snapshot.last_mlp))
    if snapshot.task.cyclic is None:
        return sorted(int(i) for i in table.double().var((0, 1)).topk(min(SHOWN, table.shape[-1])).indices)
    shares = neuron_frequency_shares(table, snapshot.task.cyclic).nan_to_num(-1.0)
    best = shares.max(0)
    counts = torch.bincount(best.indices[best.values >= 0], minlength=len(shares))
    frequencies = sorted(int(k) for k in counts.topk(min(SHOWN, len(counts))).indices if counts[k])
    found = [int(torch.where(best.indices == k, best.values, -1.0).argmax()) for k in frequencies]
    return found or list(range(min(SHOWN, table.shape[-1])))


def neuron_map(dataset: xr.Dataset) -> go.Figure:
    """A few neurons over both operands, a map each.

    Draws ``neuron_activation``.
    """

    def cells(dataset: xr.Dataset) -> list[dict[str, Any]]:
        value = plots.need(dataset, "neuron_activation").isel(step=-1).transpose("shown_neuron", "x", "y")
        maps = {_named(dataset, i): value[i].to_numpy() for i in range(value.sizes["shown_neuron"])}
        return plots.map_traces(maps, value["y"].to_numpy(), value["x"].to_numpy(), "activation")

    pattern = "has the same row for operands that it does not tell apart, those of one coset for example"
    if "shown_frequency" in dataset:
        pattern = "is a wave in both, of the frequency k in its title, so that its map is a regular pattern"
    caption = f"Activation over first and second operand. A neuron of the circuit {pattern}; a neuron that memorises is speckled."
    plots.need(dataset, "neuron_activation")
    named = _named_alike(dataset)
    figure = plots.small_maps("Neurons over both operands", caption, cells(named), "second operand", "first operand")
    return plots.by_step(figure, named, cells)


def neuron_spectrum(dataset: xr.Dataset) -> go.Figure:
    """The same neurons in the two-dimensional Fourier basis, all of its components.

    Draws ``neuron_activation`` and ``shown_frequency``.
    """
    plots.need(dataset, "shown_frequency")
    names = component_names(plots.need(dataset, "neuron_activation").sizes["x"])

    def cells(dataset: xr.Dataset) -> list[dict[str, Any]]:
        value = plots.need(dataset, "neuron_activation").isel(step=-1).transpose("x", "y", "shown_neuron")
        components = pair_spectrum(torch.from_numpy(np.ascontiguousarray(value.to_numpy())).double())
        components[0, 0] = 0  # the mean says nothing of the shape
        maps = {_named(dataset, i): components[..., i].abs().numpy() for i in range(value.sizes["shown_neuron"])}
        return plots.map_traces(maps, names, names, "size", square_root=True)

    caption = "Each cell is a wave of the first operand times one of the second; a neuron of the circuit has a few bright cells at its frequency."
    named = _named_alike(dataset)
    figure = plots.small_maps("Neurons in the 2-D Fourier basis", caption, cells(named), "second operand", "first operand")
    return plots.by_step(figure, named, cells)


def _named_alike(dataset: xr.Dataset) -> xr.Dataset:
    """What the pictures read, with the last step's frequencies at every step, by which neurons are called in each frame."""
    shown = dataset[["neuron_activation"]]
    if "shown_frequency" not in dataset:
        return shown
    return shown.assign(shown_frequency=dataset["shown_frequency"].isel(step=-1, drop=True).expand_dims(step=dataset["step"]))


def _named(dataset: xr.Dataset, i: int) -> str:
    neuron = int(dataset["shown_neuron"][i])
    frequency = float(dataset["shown_frequency"].isel(step=-1)[i]) if "shown_frequency" in dataset else math.nan
    return f"neuron {neuron}" + ("" if math.isnan(frequency) else f", k = {frequency:.0f}")


def attention_maps(snapshot: Snapshot) -> xr.Dataset:
    """Attention of every head over all pairs of operands, from the read-out position to each token.

    Args:
        snapshot: a model and its task, which must have a group.

    Returns:
        ``attention_map`` by layer, head, key (position), x and y, float32: rows of the patterns after the softmax.

    Raises:
        GrokinterpError: a task without a group, a model without attention.
    """
    needs.attention(snapshot)
    rows = [snapshot.table(snapshot.readout(hook)) for hook in Adapter(snapshot.model).attention_hooks("pattern")]
    stacked = torch.stack(rows).permute(0, 3, 4, 1, 2).float()  # [layer, head, key, x, y]
    elements = snapshot.operation.token_of.numpy()
    return xr.Dataset({"attention_map": (("layer", "head", "key", "x", "y"), stacked.numpy())}, coords={"x": elements, "y": elements})


def attention(dataset: xr.Dataset) -> go.Figure:
    """Attention to the first token over both operands, a map for each head; of more than four heads the first four of the last layer.

    Draws ``attention_map``.
    """

    def cells(dataset: xr.Dataset) -> list[dict[str, Any]]:
        value = plots.need(dataset, "attention_map").isel(step=-1, layer=-1, key=0).transpose("head", "x", "y")
        maps = {f"head {head}": value[head].to_numpy() for head in range(min(SHOWN, value.sizes["head"]))}
        return plots.map_traces(maps, value["y"].to_numpy(), value["x"].to_numpy(), "attention")

    value = plots.need(dataset, "attention_map")
    layer, heads = value.sizes["layer"] - 1, value.sizes["head"]
    whose = f"layer {layer}" if layer else "the layer"
    caption = f"How much of its attention the read-out position of {whose} gives to the first token, over first and second operand; 1 is all. "
    caption += "Stripes are heads that look at one operand for what it is, waves those that compare both."
    caption += f" Of {heads} heads the first {SHOWN}." if heads > SHOWN else ""
    figure = plots.small_maps("Attention to the first operand", caption, cells(dataset), "second operand", "first operand")
    return plots.by_step(figure, dataset[["attention_map"]], cells)


def weights_path(snapshot: Snapshot, size: int = SKETCH) -> xr.Dataset:
    """All weights of a model as a few thousand numbers whose distances are those of the weights, for a path that can be drawn.

    A count sketch (Charikar, Chen and Farach-Colton 2002) with a fixed seed: every weight is added to one of `size` numbers with a random
    sign. Squared distances keep their mean, with a relative standard deviation of at most √(2/size).

    Args:
        snapshot: any model.
        size: of the sketch.

    Returns:
        ``weight_sketch`` by sketch, float64.

    Raises:
        GrokinterpError: a size below 1.
    """
    if size < 1:
        raise GrokinterpError(f"a sketch has at least 1 number; got size={size}")
    generator = torch.Generator().manual_seed(0)
    sketch = torch.zeros(size, dtype=torch.float64)
    for weights in trained_parameters(snapshot.model).values():
        flat: Tensor = weights.detach().cpu().double().flatten()
        place = torch.randint(size, (len(flat),), generator=generator)
        sign = torch.randint(2, (len(flat),), generator=generator) * 2.0 - 1
        sketch.index_add_(0, place, sign * flat)
    return xr.Dataset({"weight_sketch": ("sketch", sketch.numpy())})


def principal_path(sketches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two principal components of points along their path, [step, 2], and the shares of the variance that they explain.

    Args:
        sketches: [step, sketch].
    """
    centred = sketches - sketches.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    total = float((s**2).sum())
    return u[:, :2] * s[:2], s[:2] ** 2 / total if total > 0 else np.full(2, np.nan)


def trajectory(dataset: xr.Dataset) -> go.Figure:
    """The path of the weights in its two principal components, coloured by the phase of training.

    Draws ``weight_sketch`` over at least three steps.
    """
    value = plots.need(dataset, "weight_sketch", steps=3).transpose("step", "sketch")
    path, shares = principal_path(value.to_numpy())
    steps = value["step"].to_numpy()
    hover = "step %{text}<extra>%{fullData.name}</extra>"
    lines = []
    for name, colour, span in plots.phase_spans(dataset, steps):
        inside = np.flatnonzero((steps >= span[0]) & (steps <= span[1]))
        text = [f"{step:,}" for step in steps[inside]]
        marks = {"mode": "lines+markers", "line": {"color": colour, "width": 2}, "marker": {"size": 5}}
        lines.append(go.Scatter(x=path[inside, 0], y=path[inside, 1], text=text, name=name, hovertemplate=hover, **marks))
    axes = [f"component {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(shares)]
    caption = "Each dot is a checkpoint. Distances are those between all weights, kept to about 2 % by a random projection."
    figure = plots.layout_figure("Path of the weights", caption, lines, *axes).update_layout(hovermode="closest")
    ends: dict[str, Any] = {"showarrow": True, "arrowhead": 0, "ax": 18, "ay": -18}
    for i in (0, -1):
        figure.add_annotation(x=float(path[i, 0]), y=float(path[i, 1]), text=f"step {steps[i]:,}", **ends)
    return figure


NEURON_MAPS = Measure(neuron_maps, needs=(needs.group, needs.neurons), figures=(neuron_map, neuron_spectrum))
ATTENTION_MAPS = Measure(attention_maps, needs=(needs.group, needs.attention), figures=(attention,))
WEIGHTS_PATH = Measure(weights_path, figures=(trajectory,))
