"""Coset neurons: whether what each operand adds to a neuron depends on a coset alone ("Grokking Group Multiplication with Cosets", arXiv 2312.06581).

L(a) and R(b) are what the operands add to a neuron's input. A coset neuron is constant on right cosets Hg as a function of the left operand, and on
left cosets gK as a function of the right one, with K conjugate to H: then the product decides whether both lie in the coset that they share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from grokinterp import plots
from grokinterp.chance import Rng, generator
from grokinterp.errors import GrokinterpError
from grokinterp.groups.concentration import CONCENTRATED, Functions, Sides, operand_functions, proper_subgroups
from grokinterp.groups.cosets import Subgroup
from grokinterp.measures.headline import Row, row_of
from grokinterp.measures.measure import Measure
from grokinterp.measures.needs import group, neurons
from grokinterp.measures.undefined import finite, with_reasons
from grokinterp.models.adapter import Adapter
from grokinterp.snapshot import Snapshot

if TYPE_CHECKING:
    import xarray as xr

SILENT = 1e-6  # of the median neuron's variance over all pairs (chosen here)
DRAWS = 5
SHOWN = 2  # neurons of the figure over both operands (chosen here: one row of maps, whose cosets can be named)
OPERANDS = ("x", "y")


def cosets(snapshot: Snapshot, threshold: float = CONCENTRATED, rng: Rng = 0, draws: int = DRAWS) -> xr.Dataset:
    """How far each neuron of the last layer depends on each operand through a coset.

    η² is the share of a function's variance that lies between cosets, C_H the sum over cosets of the variance inside over the whole variance (the
    paper's, which grows with the number of cosets and cannot tell a subgroup from its own subgroups). Each side belongs to the class of the
    largest subgroup, neither trivial nor whole, with η² ≥ threshold for one of its conjugates (chosen here).

    Args:
        snapshot: a model and its task, which must have a group.
        threshold: of η².
        rng: seed or generator of the null.
        draws: how often the null permutes each operand's function over the elements, each neuron's by itself.

    Returns:
        - by operand, subgroup (one of each class, by order) and neuron ``coset_share``, the largest η² over conjugates
        - by operand and neuron ``coset_subgroup``, the number of the side's class along ``subgroup``; NaN where it belongs to none; and
          ``coset_concentration``, the smallest C_H over all subgroups but the trivial and the whole one
        - by subgroup ``coset_neurons_of``, the coset neurons: both sides belong to that class; ``coset_neurons`` in total,
          ``coset_neurons_null``, the same with permuted functions, mean over draws, and ``coset_neurons_wrong_side``, the same with left and
          right cosets exchanged, which leaves normal subgroups as they are
        - ``live_neurons``, those that are not constant over all pairs; the others count nowhere
        - by neuron and element ``coset_map``, what the first operand adds to each coset neuron over its largest value, the elements in the order of
          that neuron's cosets, neurons by subgroup; NaN behind the last coset neuron
        - for up to `SHOWN` coset neurons of ``snapshot.reference``, some of each subgroup, where it has any: by shown_coset_neuron, x and y
          ``coset_activation``, after the nonlinearity, float32; by operand and element ``coset_number``, the place of the coset that the operand
          lies in there, by what the first operand adds ascending and by what the second adds descending; ``shown_subgroup``, as ``coset_subgroup``
          there; and ``shown_concentration``, C_H of that subgroup here, the larger of both operands

        NaN for dead neurons, with the reason in the variable's attribute ``undefined``.

    Raises:
        GrokinterpError: no group, no neurons whose inputs are one hook, a group without proper subgroups or with too many, a bad threshold.
    """
    import xarray as xr

    if not 0 < threshold <= 1:
        raise GrokinterpError(f"a threshold of η² lies above 0 and up to 1; got {threshold!r}")
    proper = proper_subgroups(snapshot.operation.group)
    left, right, live = sides(snapshot)
    both = Sides.from_functions(proper, left, right, threshold)
    coset = both.neurons & live
    wrong = Sides.from_functions(proper, right, left, threshold)
    source = generator(rng)
    null = [Sides.from_functions(proper, _permuted(left, source), _permuted(right, source), threshold).neurons & live for _ in range(draws)]
    counts = torch.bincount(both.classes[0][coset], minlength=len(proper))
    dead = torch.where(live, 1.0, torch.nan)
    classes = torch.where(both.classes < 0, torch.nan, both.classes.double()) * dead
    dataset = xr.Dataset(
        {
            "coset_share": (("operand", "subgroup", "neuron"), (both.shares * dead).numpy()),
            "coset_subgroup": (("operand", "neuron"), classes.numpy()),
            "coset_concentration": (("operand", "neuron"), (both.concentration * dead).numpy()),
            "coset_neurons_of": (("subgroup",), counts.numpy()),
            "coset_neurons": ((), int(coset.sum())),
            "coset_neurons_null": ((), float(np.mean([int(each.sum()) for each in null])) if null else np.nan),
            "coset_neurons_wrong_side": ((), int((wrong.neurons & live).sum())),
            "live_neurons": ((), int(live.sum())),
            "coset_map": (("neuron", "element"), _map(both, coset, left).numpy()),
        },
        coords={"operand": list(OPERANDS), "subgroup": [subgroup.name for subgroup in proper]},
    )
    dataset = dataset.assign(_shown(snapshot, proper, threshold, both))
    n_dead, n_outside = int((~live).sum()), int((live & (both.classes < 0).any(0)).sum())
    told = [f"{n_dead} of {len(live)} neurons are constant over all pairs"] if n_dead else []
    return with_reasons(
        dataset,
        {
            **dict.fromkeys(("coset_share", "coset_concentration"), told[0] if told else None),
            "coset_subgroup": "; ".join([*told, *([f"{n_outside} neurons belong to no subgroup"] if n_outside else [])]) or None,
            "coset_neurons_null": None if null else "no draws were asked for",
            "coset_map": None if bool(coset.all()) else f"{int((~coset).sum())} neurons are no coset neurons",
        },
    )


def sides(snapshot: Snapshot) -> tuple[Functions, Functions, Bool[Tensor, "neuron"]]:
    """What each operand adds to the inputs of the last neurons, see `operand_functions`, and which neurons are not dead.

    Raises:
        GrokinterpError: no group, no neurons, or neurons whose inputs are no one hook.
    """
    hook = Adapter(snapshot.model).neuron_inputs(snapshot.last_mlp)
    if hook is None:
        raise GrokinterpError(f"the inputs of the neurons at {snapshot.last_mlp} are no one hook of this model, so no operand adds to them")
    left, right = operand_functions(snapshot.table(finite(snapshot.readout(hook), f"activations at {hook}")), snapshot.operation)
    variance = snapshot.table(snapshot.readout(snapshot.last_mlp)).double().flatten(0, 1).var(0, correction=0)
    return left, right, variance > SILENT * variance.median()


def _permuted(values: Functions, source: np.random.Generator) -> Functions:
    return torch.from_numpy(source.permuted(values.numpy(), axis=0))


def _map(both: Sides, coset: Bool[Tensor, "neuron"], left: Functions) -> Float64[Tensor, "neuron element"]:
    found = torch.full((len(coset), len(left)), torch.nan, dtype=torch.float64)
    chosen = torch.nonzero(coset).flatten()
    for row, neuron in enumerate(chosen[both.classes[0][chosen].argsort(descending=True, stable=True)].tolist()):
        values = left[both.labels[0][:, neuron].argsort(stable=True), neuron]
        found[row] = values / values.abs().max()
    return found


def _shown(snapshot: Snapshot, proper: tuple[Subgroup, ...], threshold: float, both: Sides) -> dict[str, Any]:
    """The variables of a few coset neurons over both operands, sorted alike at every step; none without coset neurons at the reference."""
    import xarray as xr

    left, right, live = sides(snapshot.reference)
    last = Sides.from_functions(proper, left, right, threshold)
    found = torch.nonzero(last.neurons & live).flatten()
    if not len(found):
        return {}
    classes = last.classes[0]
    labels = last.labels[0]
    like = [sum(torch.equal(labels[:, earlier], labels[:, neuron]) for earlier in found[:i]) for i, neuron in enumerate(found)]
    before = [int((classes[found[:i]] == classes[neuron]).sum()) for i, neuron in enumerate(found)]
    first = sorted(range(len(found)), key=lambda i: (like[i], before[i], -int(classes[found[i]])))  # other cosets first, and other subgroups
    chosen = found[sorted(first[:SHOWN])]
    places = [
        torch.stack([_places(sign * values[:, j], numbers[:, j]) for j in chosen.tolist()])
        for sign, values, numbers in zip((1, -1), (left, right), last.labels, strict=True)
    ]
    operation = snapshot.operation
    own = [numbers if sign == 1 else numbers[:, operation.group.inverse] for sign, numbers in zip(operation.signs, places, strict=True)]
    index = torch.tensor([proper[i].index for i in classes[chosen].tolist()])
    spread = index * (1 - both.shares[:, classes[chosen], chosen].amin(0)).clamp(min=0)
    activation = snapshot.table(snapshot.readout(snapshot.last_mlp))[..., chosen].movedim(-1, 0).float()
    tokens = operation.token_of.numpy()
    shown = "shown_coset_neuron"
    coords = {shown: chosen.numpy(), "x": tokens, "y": tokens}
    return {
        "coset_activation": xr.DataArray(activation.numpy(), coords, (shown, "x", "y")),
        "coset_number": (("operand", shown, "element"), torch.stack(own).numpy()),
        "shown_subgroup": (shown, classes[chosen].numpy()),
        "shown_concentration": (shown, spread.numpy()),
    }


def _places(values: Float64[Tensor, "element"], labels: Int[Tensor, "element"]) -> Int[Tensor, "element"]:
    """The place of each element's coset in the order of the values' means."""
    means = torch.zeros(int(labels.max()) + 1, dtype=values.dtype).scatter_add_(0, labels, values)  # all cosets have as many elements
    return means.argsort(stable=True).argsort()[labels]


def _by_subgroup(last: xr.Dataset) -> str:
    counts: Any = last["coset_neurons_of"]
    found = {str(name): int(count) for name, count in zip(counts["subgroup"].values, counts, strict=True) if int(count)}
    return ", ".join(f"{name}: {count}" for name, count in found.items()) or "none"


MEASURE = Measure(
    cosets,
    needs=(group, neurons),
    rows=(
        row_of("coset neurons", "coset_neurons", ".0f", f"both inputs constant on cosets of conjugate subgroups to {CONCENTRATED:.0%}"),
        row_of("… with permuted inputs", "coset_neurons_null", ".3g", "mean over draws"),
        row_of("… on the wrong side's cosets", "coset_neurons_wrong_side", ".0f", "left and right exchanged; normal subgroups have one side"),
        row_of("neurons that are not dead", "live_neurons", ".0f"),
        Row("coset neurons by subgroup", {"coset_neurons_of"}, _by_subgroup),
    ),
    figures=(plots.coset_neurons, plots.coset_maps, plots.coset_neuron_maps),
)
