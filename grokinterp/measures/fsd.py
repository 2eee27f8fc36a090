"""Frequency Synchronization Degree: how far the neurons of a layer agree on one frequency of the answer.

"Circuit Synchronization Precedes Generalization" (arXiv 2606.12966). A neuron's signal is its mean activation over all pairs with
the same combination c (the sum, for addition); it takes part in the frequency that dominates the Fourier spectrum of its signal. In groups that
are not cyclic irreducible representations take the place of frequencies (the paper's S5); what both share is in `synchrony.py`.

The paper tests significance by shuffling the dominant frequencies across neurons, which leaves their histogram, and so FSD,
as it is: that test can never reject. `permutation_test` permutes each neuron's signal over the elements instead.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from grokinterp import plots
from grokinterp.chance import Rng, generator
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.groups.families import cyclic as residues
from grokinterp.groups.fourier import frequency_power
from grokinterp.groups.group import Group
from grokinterp.groups.operation import combined_mean
from grokinterp.groups.transform import has_frequencies, irrep_power
from grokinterp.interventions import FourierAblation
from grokinterp.measures.headline import Row, Text, row_of
from grokinterp.measures.measure import Measure
from grokinterp.measures.needs import cyclic, neurons
from grokinterp.measures.synchrony import (
    PermutationTest,
    Power,
    Signals,
    above_chance,
    degree,
    fourier_rank,
    has_power,
    iid_test,
    neuron_shuffle_test,
    participation,
)
from grokinterp.measures.undefined import finite, with_reasons
from grokinterp.models.adapter import Adapter
from grokinterp.models.readout import OUTPUT, at_readout
from grokinterp.snapshot import Snapshot

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

__all__ = [
    "IRREP_TOPS",
    "RANK_SHARES",
    "SET_SIZES",
    "TOPS",
    "PermutationTest",
    "degree",
    "filtered_loss",
    "fourier_rank",
    "fsd",
    "iid_test",
    "neuron_shuffle_test",
    "participation",
    "permutation_test",
    "signals",
    "spectrum",
    "strength",
]

Order = Literal["group", "residue"]

TOPS = (1, 3, 5)  # a neuron takes part in its K strongest frequencies; the paper's definition is K = 1
IRREP_TOPS = (1, 2, 3)  # of the six representations of S5; the paper leaves K open, and its null of 0.05 at 512 neurons is that of K = 2
SET_SIZES = (1, 2)
SYNCHRONIZED, SYNCHRONIZED_S5 = 0.80, 0.50  # from here on the paper calls a layer synchronised
SILENT_LAYER = "every neuron is silent: its mean activation does not depend on the combination of the operands"
RANK_SHARES = (0.5, 0.9)
_CHUNK = 2**20  # activations that are permuted and transformed at a time, so that they stay in cache


def fsd(snapshot: Snapshot, site: str | None = None, order: Order = "group") -> xr.Dataset:
    """Frequency Synchronization Degree of a layer and what it is made of.

    In a group that is not cyclic a neuron takes part in the irreducible representations ρ with the largest power of its signal in ρ
    (`groups.irrep_power`) over the number of ρ's matrix entries that differ as functions, d² for the real type; the trivial one is left out.

    Args:
        snapshot: a model and its task, which must have a group.
        site: hook whose last dimension are the neurons; None for the neurons of layer 0 (of a transformer, its MLP after the
            nonlinearity), or, in an attention-only model, for the attention output of block 0.
        order: over which group signals are transformed: "group", the task's own, discrete logarithms for × and ÷
            (chosen here); or "residue", the answers 0 … p − 1 as they are, as the paper seems to do for multiplication.

    Returns:
        ``fsd`` by top (K = 1 is the paper's definition; with K = 3 or 5 a neuron counts for its K strongest frequencies);
        ``fsd_set`` by set_size (neurons dominated by a member of the best k frequencies, chance k/⌊n/2⌋); ``participation`` by
        signal_frequency, ``dominant_frequency``, ``fourier_rank`` by variance_share (median over neurons), ``silent_neurons``.
        Everything but the last is NaN where all neurons are silent, and an entry whose K or k is the number of frequencies or more, with the
        reason in the variable's attribute ``undefined``. The paper calls a layer synchronised from 0.80 on, on S5 from 0.50 on.

        In a group that is not cyclic: the same by irrep, "(4,1)" for example, in place of signal_frequency, K = 1, 2, 3, and ``dominant_irrep``
        ("" where all neurons are silent) in place of ``dominant_frequency``.

    Raises:
        GrokinterpError: no group, an unknown hook or order, or a group without two frequencies.
    """
    import xarray as xr

    group = residues(snapshot.task.n_classes) if order == "residue" else snapshot.operation.group
    phi = signals(snapshot, site, order)
    power, silent = spectrum(phi, group)
    strengths, by_frequency = strength(power, group), has_frequencies(group)
    n_harmonics, tops = len(power), TOPS if by_frequency else IRREP_TOPS
    counts = participation(strengths)
    best = counts.sort(descending=True).values.cumsum(0)
    sets = [float(above_chance(best[k - 1], k / n_harmonics)) if k < n_harmonics else np.nan for k in SET_SIZES]
    names = np.arange(1, n_harmonics + 1) if by_frequency else np.array(list(group.irreps)[1:])
    harmonic, strongest = ("signal_frequency", "dominant_frequency") if by_frequency else ("irrep", "dominant_irrep")
    kind, none = (float, np.nan) if by_frequency else (str, "")
    dataset = xr.Dataset(
        {
            "fsd": (("top",), [float(degree(participation(strengths, top), top)) for top in tops]),
            "fsd_set": (("set_size",), sets),
            "participation": ((harmonic,), counts.numpy()),
            strongest: ((), kind(names[counts.argmax()]) if power.shape[1] else none),
            "fourier_rank": (("variance_share",), [fourier_rank(power, share) for share in RANK_SHARES]),
            "silent_neurons": ((), silent),
        },
        coords={"top": list(tops), "set_size": list(SET_SIZES), harmonic: names, "variance_share": list(RANK_SHARES)},
    )
    dataset["fsd"].attrs |= {"elements": len(phi), "synchronized_from": SYNCHRONIZED if by_frequency else SYNCHRONIZED_S5}
    dataset["participation"].attrs |= {
        "long_name": "neurons by what dominates them",
        "description": "Share of the neurons whose signal each frequency, or irreducible representation, dominates.",
        "units": "share of neurons",
    }
    if not power.shape[1]:
        return with_reasons(dataset, dict.fromkeys(("fsd", "fsd_set", "participation", strongest, "fourier_rank"), SILENT_LAYER))
    every = f"there are {n_harmonics} {'frequencies' if by_frequency else 'representations'}, and every neuron counts for all of them at "
    too_many = {name: [size for size in sizes if size >= n_harmonics] for name, sizes in (("fsd", tops), ("fsd_set", SET_SIZES))}
    labels = {"fsd": "K = ", "fsd_set": "a set size of "}
    return with_reasons(dataset, {name: f"{every}{labels[name]}{', '.join(map(str, sizes))}" for name, sizes in too_many.items() if sizes})


def signals(snapshot: Snapshot, site: str | None = None, order: Order = "group") -> Signals:
    """Each neuron's mean activation at the read-out position over all pairs with the same combination, float64.

    Args:
        snapshot: a model and its task.
        site: see `fsd`.
        order: see `fsd`; under "residue" all examples count, also those with operands outside the group.

    Raises:
        GrokinterpError: see `fsd`.
    """
    if order not in get_args(Order):
        raise unknown_name("order", order, get_args(Order))
    adapter = Adapter(snapshot.model)
    name = site or (adapter.neuron_hooks() or adapter.attention_hooks("out"))[0]
    values = finite(snapshot.readout(name), f"activations at {name}")
    if values.ndim != 2:
        raise GrokinterpError(f"{name} has values of shape {tuple(values.shape[1:])} for each example; FSD reads hooks with one dimension of neurons")
    if order == "residue":
        answers, n = snapshot.task.answers, snapshot.task.n_classes
        totals = torch.zeros(n, values.shape[1], dtype=torch.float64).index_add_(0, answers, values.double())
        return totals / torch.bincount(answers, minlength=n)[:, None]
    # Frequencies were read off sums in the activations' own precision from the start, and keep it: near ties hang on it.
    dtype = values.dtype if has_frequencies(snapshot.operation.group) else torch.float64
    return combined_mean(snapshot.table(values), snapshot.operation, dtype=dtype).double()


def spectrum(phi: Signals, group: Group | None = None) -> tuple[Power, int]:
    """Power of the neurons that are not silent, [frequency or irrep, neuron], see `groups.irrep_power`, and how many were left out.

    A neuron is silent if its power, the mean removed, is below 1e-6 of the median neuron's (chosen here), or zero.

    Args:
        phi: signals, see `signals`.
        group: on which they live; None for the cyclic group of as many elements. The trivial representation is left out.

    Raises:
        GrokinterpError: signals over so few elements that there is a single frequency or representation.
    """
    power, heard = _spectrum(phi, group or residues(len(phi)))
    return power, int((~heard).sum())


def _spectrum(phi: Signals, group: Group) -> tuple[Power, Tensor]:
    """The power of the neurons that are not silent, and which of all neurons these are."""
    if len(phi) < 4:
        raise GrokinterpError(f"FSD needs at least two frequencies, so a group of at least 4 elements; got {len(phi)}")
    power = irrep_power(group, phi)[1:]
    heard = has_power(phi, power)
    return power[:, heard], heard


def strength(power: Power, group: Group) -> Power:
    """What ranks a neuron's harmonics: the power in an irreducible representation over the number of its functions.

    A signal without structure has equal power on average in each function, of which ρ has d² where it is of the real type. On Z_n it is |DFT(k)|²/n:
    a frequency has two functions, cosine and sine, and n/2, for even n, has one.
    """
    return power / torch.tensor([rho.n_functions for rho in group.irreps.values()][1:])[:, None]


def permutation_test(phi: Signals, rng: Rng = 0, draws: int = 1000, group: Group | None = None) -> PermutationTest:
    """Test FSD (K = 1) against signals whose values are permuted over the elements, each neuron's independently.

    Args:
        phi: signals [element, neuron], see `signals`.
        rng: seed or generator, the only source of chance.
        draws: number of draws.
        group: that the signals are functions on, see `spectrum`.

    Raises:
        GrokinterpError: every neuron is silent.
    """
    rng, group = generator(rng), group or residues(len(phi))
    power, heard = _spectrum(phi, group)
    if not power.shape[1]:
        raise GrokinterpError("FSD is not defined here: every neuron is silent, so there is nothing to test")
    null = _cyclic_null if has_frequencies(group) else _irrep_null
    return PermutationTest.from_counts(strength(power, group), null(phi[:, heard], rng, draws, group), rng)


def _cyclic_null(phi: Signals, rng: np.random.Generator, draws: int, group: Group) -> Int[np.ndarray, "draw frequency"]:
    """How many neurons each frequency dominates, in every draw.

    `draws` permutations are shared out anew in every draw, so that each neuron gets its own; neurons that happen to get the
    same one are told apart by a random unit u of Z_n, which maps the permuted signal's frequency k to u·k. So
    no more than `draws` × neurons spectra are ever computed, by one matrix product each.
    """
    n = len(phi)
    dominant = _dominant_under_permutations(phi, rng.permuted(np.tile(np.arange(n), (draws, 1)), axis=1), group)
    columns = np.argsort(rng.random(dominant.shape), axis=0)  # every neuron meets the permutations in an order of its own
    units = np.flatnonzero(np.gcd(np.arange(n), n) == 1)
    mapped = np.take_along_axis(dominant, columns, axis=0) * rng.choice(units, dominant.shape) % n
    frequency = np.minimum(mapped, n - mapped)
    counts: np.ndarray = np.apply_along_axis(np.bincount, 1, frequency, minlength=n // 2 + 1)
    return counts[:, 1:]


def _irrep_null(phi: Signals, rng: np.random.Generator, draws: int, group: Group) -> Int[np.ndarray, "draw irrep"]:
    """How many neurons each irreducible representation dominates, in every draw; in float32."""
    by_neuron = (phi - phi.mean(0)).float().T.contiguous().numpy()
    at_once, n_irreps = max(1, _CHUNK // phi.numel()), len(group.irreps) - 1
    counts = []
    for start in range(0, draws, at_once):
        permuted = rng.permuted(np.tile(by_neuron, (min(at_once, draws - start), 1)), axis=1)
        dominant = strength(irrep_power(group, torch.from_numpy(permuted).T)[1:], group).argmax(0)
        counts.append(one_hot(dominant.view(-1, len(by_neuron)), n_irreps).sum(1).numpy())
    return np.concatenate(counts)


def _dominant_under_permutations(phi: Signals, permutations: Int[np.ndarray, "draw element"], group: Group) -> Int[np.ndarray, "draw neuron"]:
    """The dominant frequency of every neuron after each permutation of the elements, in float32."""
    centred = (phi - phi.mean(0)).float()
    chunks = torch.split(torch.from_numpy(permutations), max(1, _CHUNK // phi.numel()))
    functions = torch.tensor([rho.n_functions for rho in group.irreps.values()][1:]).view(-1, 1, 1)
    powers = (frequency_power(centred[chunk].transpose(0, 1)).div_(functions) for chunk in chunks)
    # Along the last dimension, and by NumPy, which is three times as fast here as torch's argmax along the first.
    return np.concatenate([1 + power.movedim(0, -1).contiguous().numpy().argmax(-1) for power in powers])


def filtered_loss(snapshot: Snapshot, n_frequencies: int = 7) -> xr.Dataset:
    """Cross-entropy over all pairs with the last MLP's activations filtered to the frequencies that most neurons share.

    The paper's baseline, which it calls "excluded loss"; it keeps frequencies and is compared with an absolute threshold of 0.5 nats,
    so it has its own name here. What belongs to a frequency is chosen here: its {1, cos, sin}² block, see `FourierAblation`.

    Args:
        snapshot: a model and its task.
        n_frequencies: how many are kept; 7 in the paper.

    Returns:
        ``filtered_loss``, in nats, float64; NaN where every neuron is silent, since there is no frequency to keep.

    Raises:
        GrokinterpError: no cyclic group or an attention-only model.
    """
    import xarray as xr

    group = cyclic(snapshot).group
    power, _ = spectrum(signals(snapshot, snapshot.last_mlp), group)
    if not power.shape[1]:
        return with_reasons(xr.Dataset({"filtered_loss": np.nan}), {"filtered_loss": SILENT_LAYER})
    kept = participation(strength(power, group)).argsort(descending=True)[:n_frequencies] + 1
    model, task = snapshot.model, snapshot.task
    ablation = FourierAblation("neurons", tuple(kept.tolist()), "keep")
    logits = at_readout(model, task.tokens, task.readout, edits=ablation.hooks(model, task), batch_size=len(task))[OUTPUT]
    loss = cross_entropy(finite(logits[:, : task.n_classes], "the filtered logits").double(), task.answers)
    meaning = f"Loss over all pairs with nothing but the {n_frequencies} frequencies of most neurons kept in the neurons."
    return xr.Dataset({"filtered_loss": ((), loss.item(), {"long_name": "filtered loss", "units": "nats", "description": meaning})})


def synchronization(dataset: xr.Dataset) -> go.Figure:
    """FSD at each K over steps, beside test accuracy and filtered loss as far as the dataset has them, under train and test loss.

    Draws ``fsd`` over at least two steps, ``metric_test_accuracy`` or ``accuracy``, ``filtered_loss`` over ln of the number of elements, and
    losses, recorded or measured.
    """
    value = plots.need(dataset, "fsd", steps=2)
    lines = {f"FSD, K = {int(top)}": value.sel(top=top) for top in value["top"] if bool(value.sel(top=top).notnull().any())}
    if "metric_test_accuracy" in dataset:
        lines["test accuracy"] = dataset["metric_test_accuracy"]
    elif "accuracy" in dataset:
        lines["test accuracy"] = dataset["accuracy"].sel(split="test")
    caption, heights = "Where FSD reaches the dashed line before accuracy rises, synchronisation precedes grokking.", "FSD, accuracy"
    if "filtered_loss" in dataset and "elements" in value.attrs:
        lines["filtered loss / ln n"] = dataset["filtered_loss"] / np.log(value.attrs["elements"])
        caption, heights = f"{caption} At 1, filtered loss is that of guessing.", "share; loss / ln n"
    figure = plots.layout_figure("Synchronization", caption, plots.lines_of(lines), plots.STEPS, heights)
    figure.add_hline(y=float(value.attrs.get("synchronized_from", SYNCHRONIZED)), line={"color": plots.GREY, "dash": "dash", "width": 1})
    with contextlib.suppress(plots.MissingVariables):
        plots.above(figure, plots.losses(dataset))
    return figure


def participation_of(dataset: xr.Dataset) -> go.Figure:
    """Share of neurons that each frequency or representation dominates: a heat map over steps, or bars for a single step.

    Draws ``participation``.
    """
    figure = plots.default(dataset, "participation")
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        axis.title.text = "representation" if axis.title.text == "irrep" else axis.title.text
    return figure


def _each(name: str, dimension: str, label: str) -> Text:
    """A text that lists the labels of a dimension."""
    return lambda last: f"{label}{' / '.join(f'{float(at):g}' for at in last[name][dimension])}"


def _entries(name: str) -> Text:
    return lambda last: " / ".join(f"{float(entry):.4g}" for entry in last[name])


MEASURE = Measure(
    fsd,
    rows=(
        Row(_each("fsd", "top", "FSD, K = "), {"fsd"}, _entries("fsd"), "how far the neurons of a layer agree on a frequency; 0 is chance"),
        Row("dominant frequency", {"dominant_frequency"}, lambda last: f"{float(last['dominant_frequency']):.0f}", "of most neurons"),
        Row("dominant representation", {"dominant_irrep"}, lambda last: str(last["dominant_irrep"].item()) or "none", "of most neurons"),
        Row(_each("fsd_set", "set_size", "FSD of the best set of "), {"fsd_set"}, _entries("fsd_set"), "frequencies or representations"),
        Row("median Fourier rank, 50 % / 90 %", {"fourier_rank"}, _entries("fourier_rank"), "fewest that explain a share of a neuron's variance"),
        row_of("silent neurons", "silent_neurons", ".0f", "left out of all these"),
    ),
    figures=(synchronization, participation_of),
)
FILTERED_LOSS = Measure(
    filtered_loss,
    needs=(cyclic, neurons),
    rows=(row_of("filtered loss", "filtered_loss", ".4g", "only the seven frequencies of most neurons kept in them"),),
)
