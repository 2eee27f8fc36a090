"""Frequency Synchronization Degree: how far the neurons of a layer agree on one frequency of the answer.

"Circuit Synchronization Precedes Generalization" (arXiv 2606.12966). A neuron's signal is its mean activation over all pairs with
the same combination c (the sum, for addition); it takes part in the frequency that dominates the Fourier spectrum of its signal. On
permutations, which have no frequencies, irreducible representations take their place; what both share is in `synchrony.py`.

The paper tests significance by shuffling the dominant frequencies across neurons, which leaves their histogram, and so FSD,
as it is: that test can never reject. `permutation_test` permutes each neuron's signal over the elements instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from grokinterp.chance import Rng, generator
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.groups.fourier import combined_mean, frequency_power
from grokinterp.groups.symmetric import partition_name
from grokinterp.groups.symmetric_fourier import irrep_power, product_mean
from grokinterp.interventions import FourierAblation
from grokinterp.measures.synchrony import (
    PermutationTest,
    Power,
    Signals,
    above_chance,
    degree,
    fourier_rank,
    iid_test,
    loud,
    neuron_shuffle_test,
    participation,
)
from grokinterp.models.readout import OUTPUT, at_readout
from grokinterp.snapshot import Snapshot
from grokinterp.tasks import SymmetricGroup

if TYPE_CHECKING:
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
RANK_SHARES = (0.5, 0.9)
_CHUNK = 2**20  # activations that are permuted and transformed at a time, so that they stay in cache


def fsd(snapshot: Snapshot, site: str | None = None, order: Order = "group") -> xr.Dataset:
    """Frequency Synchronization Degree of a layer and what it is made of.

    On permutations (`SymmetricGroup`) a neuron takes part in the irreducible representations ρ with the largest P(ρ)/d_ρ², where
    P(ρ) = (d_ρ/|G|)·‖Σ_c φ(c) ρ(c)‖_F² is the power of its signal φ in ρ; the trivial one is left out.

    Args:
        snapshot: a model and its task, which must have a cyclic or a symmetric group.
        site: hook whose last dimension are the neurons; None for the neurons of layer 0 (of a transformer, its MLP after the
            nonlinearity), or, in an attention-only model, for the attention output of block 0.
        order: over which group signals are transformed: "group", the task's own, discrete logarithms for × and ÷
            (chosen here); or "residue", the answers 0 … p − 1 as they are, as the paper seems to do for multiplication.

    Returns:
        ``fsd`` by top (K = 1 is the paper's definition; with K = 3 or 5 a neuron counts for its K strongest frequencies);
        ``fsd_set`` by set_size (neurons dominated by a member of the best k frequencies, chance k/⌊n/2⌋); ``participation`` by
        signal_frequency, ``dominant_frequency``, ``fourier_rank`` by variance_share (median over neurons), ``silent_neurons``.
        Everything but the last is NaN where all neurons are silent. The paper calls a layer synchronized from 0.80 on, on S5 from 0.50 on.

        On permutations: the same by irrep, "(4,1)" for example, in place of signal_frequency, K = 1, 2, 3, and ``dominant_irrep``
        ("" where all neurons are silent) in place of ``dominant_frequency``.

    Raises:
        GrokinterpError: no group, an unknown hook or order, or a group without two frequencies.
    """
    import xarray as xr

    group = snapshot.task.symmetric_group if order == "group" else None
    power, silent = spectrum(signals(snapshot, site, order), group)
    strengths = strength(power, group)
    n_harmonics, tops = len(power), TOPS if group is None else IRREP_TOPS
    counts = participation(strengths)
    best = counts.sort(descending=True).values.cumsum(0)
    sets = [k for k in SET_SIZES if k < n_harmonics]
    names = np.arange(1, n_harmonics + 1) if group is None else np.array([partition_name(shape) for shape in group.partitions[1:]])
    harmonic, strongest = ("signal_frequency", "dominant_frequency") if group is None else ("irrep", "dominant_irrep")
    kind, none = (float, np.nan) if group is None else (str, "")
    return xr.Dataset(
        {
            "fsd": (("top",), [float(degree(participation(strengths, top), top)) for top in tops]),
            "fsd_set": (("set_size",), [float(above_chance(best[k - 1], k / n_harmonics)) for k in sets]),
            "participation": ((harmonic,), counts.numpy()),
            strongest: ((), kind(names[counts.argmax()]) if power.shape[1] else none),
            "fourier_rank": (("variance_share",), [fourier_rank(power, share) for share in RANK_SHARES]),
            "silent_neurons": ((), silent),
        },
        coords={"top": list(tops), "set_size": sets, harmonic: names, "variance_share": list(RANK_SHARES)},
    )


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
    name = site or ("blocks.0.hook_attn_out" if snapshot.model.cfg.attn_only else snapshot.neuron_hooks[0])
    values = snapshot.readout(name)
    if values.ndim != 2:
        raise GrokinterpError(f"{name} has values of shape {tuple(values.shape[1:])} for each example; FSD reads hooks with one dimension of neurons")
    if order == "residue":
        answers, n = snapshot.task.answers, snapshot.task.n_classes
        totals = torch.zeros(n, values.shape[1], dtype=torch.float64).index_add_(0, answers, values.double())
        return totals / torch.bincount(answers, minlength=n)[:, None]
    if (group := snapshot.task.symmetric_group) is not None:
        return product_mean(snapshot.table(values), group)
    return combined_mean(snapshot.table(values), snapshot.group).double()


def spectrum(phi: Signals, group: SymmetricGroup | None = None) -> tuple[Power, int]:
    """Fourier power of the neurons that are not silent, [frequency or irrep, neuron], and how many were left out.

    A neuron is silent if its power, the mean removed, is below 1e-6 of the median neuron's (chosen here), or zero.

    Args:
        phi: signals, see `signals`.
        group: None for frequencies of the cyclic group of as many elements; S_n for its representations but the trivial one.

    Raises:
        GrokinterpError: signals over so few elements that there is a single frequency or representation.
    """
    power, heard = _spectrum(phi, group)
    return power, int((~heard).sum())


def _spectrum(phi: Signals, group: SymmetricGroup | None) -> tuple[Power, Tensor]:
    """The Fourier power of the neurons that are not silent, and which of all neurons these are."""
    if len(phi) < 4:
        raise GrokinterpError(f"FSD needs at least two frequencies, so a group of at least 4 elements; got {len(phi)}")
    power = frequency_power(phi) if group is None else irrep_power(group, phi)[1:]
    heard = loud(phi, power)
    return power[:, heard], heard


def strength(power: Power, group: SymmetricGroup | None = None) -> Power:
    """What ranks a neuron's harmonics: the power of a frequency, or P(ρ)/d_ρ² of an irreducible representation.

    A signal without structure has a power of d_ρ² on average in ρ, one for each of its matrix entries.
    """
    if group is None:
        return power
    return power / torch.tensor([rho.shape[1] ** 2 for rho in group.irreps.values()][1:])[:, None]


def permutation_test(phi: Signals, rng: Rng = 0, draws: int = 1000, group: SymmetricGroup | None = None) -> PermutationTest:
    """Test FSD (K = 1) against signals whose values are permuted over the elements, each neuron's independently.

    Args:
        phi: signals [element, neuron], see `signals`.
        rng: seed or generator, the only source of chance.
        draws: number of draws.
        group: S_n where the signals are functions on it, see `spectrum`.

    Raises:
        GrokinterpError: every neuron is silent.
    """
    rng = generator(rng)
    power, heard = _spectrum(phi, group)
    if not power.shape[1]:
        raise GrokinterpError("FSD is not defined here: every neuron is silent, so there is nothing to test")
    counts = _cyclic_null(phi[:, heard], rng, draws) if group is None else _irrep_null(phi[:, heard], rng, draws, group)
    return PermutationTest.of_counts(strength(power, group), counts, rng)


def _cyclic_null(phi: Signals, rng: np.random.Generator, draws: int) -> Int[np.ndarray, "draw frequency"]:
    """How many neurons each frequency dominates, in every draw.

    `draws` permutations are shared out anew in every draw, so that each neuron gets its own; neurons that happen to get the
    same one are told apart by a random unit u of Z_n, which maps the permuted signal's frequency k to u·k. So
    no more than `draws` × neurons spectra are ever computed, by one matrix product each.
    """
    n = len(phi)
    dominant = _dominant_under_permutations(phi, rng.permuted(np.tile(np.arange(n), (draws, 1)), axis=1))
    columns = np.argsort(rng.random(dominant.shape), axis=0)  # every neuron meets the permutations in an order of its own
    units = np.flatnonzero(np.gcd(np.arange(n), n) == 1)
    mapped = np.take_along_axis(dominant, columns, axis=0) * rng.choice(units, dominant.shape) % n
    frequency = np.minimum(mapped, n - mapped)
    counts: np.ndarray = np.apply_along_axis(np.bincount, 1, frequency, minlength=n // 2 + 1)
    return counts[:, 1:]


def _irrep_null(phi: Signals, rng: np.random.Generator, draws: int, group: SymmetricGroup) -> Int[np.ndarray, "draw irrep"]:
    """How many neurons each irreducible representation dominates, in every draw; in float32."""
    by_neuron = (phi - phi.mean(0)).float().T.contiguous().numpy()
    at_once, n_irreps = max(1, _CHUNK // phi.numel()), len(group.partitions) - 1
    counts = []
    for start in range(0, draws, at_once):
        permuted = rng.permuted(np.tile(by_neuron, (min(at_once, draws - start), 1)), axis=1)
        dominant = strength(irrep_power(group, torch.from_numpy(permuted).T)[1:], group).argmax(0)
        counts.append(one_hot(dominant.view(-1, len(by_neuron)), n_irreps).sum(1).numpy())
    return np.concatenate(counts)


def _dominant_under_permutations(phi: Signals, permutations: Int[np.ndarray, "draw element"]) -> Int[np.ndarray, "draw neuron"]:
    """The dominant frequency of every neuron after each permutation of the elements, in float32."""
    centred = (phi - phi.mean(0)).float()
    chunks = torch.split(torch.from_numpy(permutations), max(1, _CHUNK // phi.numel()))
    powers = (frequency_power(centred[chunk].transpose(0, 1)) for chunk in chunks)
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
        ``filtered_loss``, in nats, float64.

    Raises:
        GrokinterpError: no cyclic group or an attention-only model.
    """
    import xarray as xr

    power, _ = spectrum(signals(snapshot, snapshot.last_mlp))
    kept = participation(power).argsort(descending=True)[:n_frequencies] + 1
    model, task = snapshot.model, snapshot.task
    ablation = FourierAblation("neurons", tuple(kept.tolist()), "keep")
    logits = at_readout(model, task.tokens, task.readout, edits=ablation.hooks(model, task), batch_size=len(task))[OUTPUT]
    loss = cross_entropy(logits[:, : task.n_classes].double(), task.answers)
    return xr.Dataset({"filtered_loss": loss.item()})
