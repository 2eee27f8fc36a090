"""The core of a snapshot as a measure: how large it is, whether it suffices and is needed, and how it moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr
from torch import Tensor

from grokinterp import plots
from grokinterp.ace.core import Core
from grokinterp.ace.dynamics import class_means, cyclic_dynamics, sequence_dynamics
from grokinterp.ace.extract import ENERGY, extract
from grokinterp.ace.size import CoreSize, size
from grokinterp.language.sweep import MODES, agreement_sweep
from grokinterp.measures.headline import Row, row_of
from grokinterp.measures.measure import Measure
from grokinterp.measures.undefined import with_reasons
from grokinterp.models.adapter import Adapter
from grokinterp.models.tail import Tail, readout_of
from grokinterp.shapes import Positions
from grokinterp.snapshot import Snapshot
from grokinterp.tasks import Prompts

SHUFFLES = 5
AXES = 2  # of the core in which mean vectors are drawn

RANKS = ("energy", "necessary", "sufficient", "reported")
FITS = ("fitted", "held_out", "null", "null_max")
_MEANINGS = {
    "core_size": "Smallest rank with the energy share; from there up, the smallest without which accuracy is at chance; the smallest that alone "
    "reaches the whole model's accuracy; the larger of the first two. NaN where there is none.",
    "core_accuracy": "Accuracy of the model as it is, with only the core and without it, at the energy rank.",
    "core_r2": "R² of the linear operator from one state of the core to the next: on what it was fitted to; on transitions that touch answers "
    "which the fit has not seen; the same with shuffled answers, mean and largest.",
    "core_modes": "Number of non-zero frequencies with an eigenvalue of the operator on the unit circle.",
    "core_modes_null": "The same with shuffled answers, mean over shuffles; from p − 1 dimensions on it is all frequencies.",
    "core_ring_fraction": "Share of the operator's eigenvalues on the unit circle.",
    "core_r2_of_oracle": "R² of the core's dynamics, every whitened dimension counting alike, over that of the best predictor.",
}
_CYCLIC = ("core_modes", "core_modes_null", "core_ring_fraction")
_CHAIN = ("core_r2_of_oracle",)


def ace(
    snapshot: Snapshot,
    hook: str | None = None,
    energy: float = ENERGY,
    *,
    refined: bool = True,
    positions: Positions | None = None,
    split: Literal["all", "train", "test"] = "all",
    n_jacobians: int = 256,
    seed: int = 0,
) -> xr.Dataset:
    """Size, necessity, sufficiency and dynamics of the algorithmic core at one hook ("Transformers converge to invariant algorithmic cores").

    Other settings go in by ``functools.partial(ace.measure, energy=0.999, refined=False)``.

    Args:
        snapshot: a model and its task; of agreement prompts `agreement_sweep` is what is returned, with its own settings.
        hook: None for the residual stream behind the last block, which under post-LN is behind its last LayerNorm.
        energy: share of Σ S² behind the energy rank (paper: 0.99; 0.999 for Markov chains).
        refined: whether the core whose dynamics are read has the size that ablation needs (paper, modular addition) or the energy rank.
        positions: where activations are sampled and edited; None for where the task's answers are read (chosen here).
        split: examples behind the core, its accuracies and, for a chain, its dynamics. Those of a cyclic task read all.
        n_jacobians: examples whose Jacobians are averaged where the tail is not linear.
        seed: of their choice and of the shuffles.

    Returns:
        ``core_size`` by rank (energy, necessary, sufficient, reported); ``core_accuracy`` by edit (none, keep, remove) at the energy rank, and
        ``core_accuracy_by_rank`` by edit and core_direction; ``core_energy`` by core_direction, the cumulative share of Σ S². Of a cyclic task
        or a chain also ``core_r2`` by fit (fitted, held_out, null, null_max; NaN for a chain but for the first), ``core_eigenvalue`` by
        eigenvalue and part (real, imaginary), and ``core_mean`` by core_class (answer, or input token) and core_axis, the mean vectors in the
        strongest two directions. Of a cyclic task ``core_modes``, ``core_modes_null`` and ``core_ring_fraction``, of a chain
        ``core_r2_of_oracle``. Numbers that do not apply to the task are NaN, with the reason in their attribute ``undefined``.

    Raises:
        GrokinterpError: an unknown hook, activations that do not vary, no split where one is asked for.
    """
    if isinstance(snapshot.subject, Prompts):
        return agreement_sweep(snapshot.model, snapshot.subject)
    model, task = snapshot.model, snapshot.task
    hook = hook or Adapter(model).residual_hooks()[-1]
    positions = readout_of(task) if positions is None else positions
    core = extract(model, task, hook, energy=energy, positions=positions, split=split, n_jacobians=n_jacobians, seed=seed)
    sizes = size(model, core, task, energy=energy, split=split)
    core = core.with_rank(_reported(sizes) if refined else sizes.energy)
    moving, missing = _dynamics(snapshot, core, split, seed)
    edits = np.stack([np.full(len(sizes.ranks), sizes.base), sizes.keep, sizes.remove])
    energies = core.spectrum.square().cumsum(0).numpy()
    dataset = xr.Dataset(
        {
            "core_size": (
                "rank",
                [float(value) if value else np.nan for value in (sizes.energy, sizes.necessary, sizes.sufficient, _reported(sizes))],
            ),
            "core_accuracy": ("edit", edits[:, sizes.energy - 1]),
            "core_accuracy_by_rank": (("edit", "core_direction"), edits),
            "core_energy": ("core_direction", energies / energies[-1]),
            **dict.fromkeys(missing, np.nan),
            **moving,
        },
        coords={"rank": list(RANKS), "edit": ["none", "keep", "remove"], "core_direction": sizes.ranks},
    )
    for name in _MEANINGS.keys() & dataset.keys():
        dataset[name].attrs = {"long_name": name.replace("_", " "), "description": _MEANINGS[name]}
    ranks = [name for name, rank in zip(RANKS, dataset["core_size"].to_numpy(), strict=True) if np.isnan(rank)]
    reasons: dict[str, str | None] = {"core_size": f"no rank is {' and none '.join(ranks)}" if ranks else None}
    reasons["core_r2"] = None if task.chain is None else "answers of a Markov chain are no cycle, so that none are held out or shuffled"
    return with_reasons(dataset, {**missing, **reasons})


def _reported(sizes: CoreSize) -> int:
    return max(sizes.energy, sizes.necessary or 0)


def _dynamics(snapshot: Snapshot, core: Core, split: Literal["all", "train", "test"], seed: int) -> tuple[dict[str, Any], Mapping[str, str]]:
    """What says how the core moves, and what does not apply, with reasons."""
    task = snapshot.task
    if task.chain is not None:
        tokens = task.tokens[task.indices(split)]
        z = core.project(Tail(snapshot.model, core.hook).activations(tokens))
        sequence = sequence_dynamics(z)
        r2 = [sequence.r_squared, np.nan, np.nan, np.nan]
        means = class_means(z.flatten(0, 1), tokens.flatten(), task.n_vocab)
        relative = {"core_r2_of_oracle": sequence.relative_to(task.chain.oracle_r_squared("whitened"))}
        return _drawn(sequence.eigenvalues, means, r2) | relative, dict.fromkeys(_CYCLIC, "a Markov chain is no cycle of answers")
    if task.cyclic is not None and task.cyclic.order >= 5:
        z = core.project(snapshot.table(snapshot.readout(core.hook)).flatten(0, 1))
        answers, p = snapshot.answer_table.flatten(), task.cyclic.order
        cycle = cyclic_dynamics(z, answers, p, n_shuffles=SHUFFLES, seed=seed)
        r2 = [cycle.r_squared, cycle.held_out_r_squared, float(cycle.null.mean()), float(cycle.null.max())]
        round_it = {
            "core_modes": float(len(cycle.modes)),
            "core_modes_null": float(cycle.null_modes.mean()),
            "core_ring_fraction": cycle.ring_fraction,
        }
        return _drawn(cycle.eigenvalues, class_means(z, answers, p), r2) | round_it, dict.fromkeys(_CHAIN, "the task is no Markov chain")
    reason = f"task {task.name!r} has neither a cyclic group of at least 5 elements nor a Markov chain"
    return {}, dict.fromkeys((*_CYCLIC, *_CHAIN), reason)


def _drawn(eigenvalues: np.ndarray, means: Tensor, r2: list[float]) -> dict[str, Any]:
    """Fits, eigenvalues and mean vectors; in real numbers, since netCDF has no others."""
    shown = (means - means.mean(0))[:, :AXES]
    parts = np.stack([eigenvalues.real, eigenvalues.imag], axis=1)
    coords: Mapping[str, Any] = {"eigenvalue": np.arange(1, 1 + len(eigenvalues)), "part": ["real", "imaginary"]}
    return {
        "core_r2": xr.DataArray(r2, dims="fit", coords={"fit": list(FITS)}),
        "core_eigenvalue": xr.DataArray(parts, dims=("eigenvalue", "part"), coords=coords),
        "core_mean": xr.DataArray(shown.numpy(), dims=("core_class", "core_axis"), coords={"core_axis": np.arange(1, 1 + shown.shape[1])}),
    }


def _at_chosen_layer(last: xr.Dataset, name: str) -> str:
    """A quantity by mode on the test half, at the layer that was chosen on the other half."""
    values = last[name].sel(half="test", layer=int(last["chosen_layer"]))
    return " / ".join(f"{float(values.sel(mode=mode)):.3f}" for mode in MODES)


def _random(last: xr.Dataset) -> str:
    return " / ".join(f"{float(last['random_auc'].sel(mode=mode).min()):.3f}" for mode in MODES[2:])


_WHERE = "on the test half; the layer was chosen on the other"
_AGREEMENT = (
    Row(
        "AUC of the margin, model / core kept / removed / flipped",
        {"agreement_auc", "chosen_layer"},
        lambda at: _at_chosen_layer(at, "agreement_auc"),
        _WHERE,
    ),
    Row(
        "minimal pairs right, model / core kept / removed / flipped",
        {"pair_accuracy", "chosen_layer"},
        lambda at: _at_chosen_layer(at, "pair_accuracy"),
        _WHERE,
    ),
    Row(
        "smallest AUC under random directions, removed / flipped", {"random_auc"}, _random, "the same edits of random directions in the core's place"
    ),
    row_of("p-value of the flip", "flip_p_value", ".2g", "Wilcoxon signed-rank test, one-sided"),
    row_of("R² of the margin on the core's coordinate", "knob_r2", ".3f", "a straight line over the test prompts"),
)

MEASURE = Measure(
    ace,
    rows=(
        row_of("core size, energy / necessary / sufficient", "core_size", ".0f", "dimensions", rank=RANKS[:3]),
        row_of("accuracy whole / core alone / without core", "core_accuracy", ".4g", "at the energy rank", edit=("none", "keep", "remove")),
        row_of("R² of the core's operator, fitted / held out / shuffled", "core_r2", ".3f", "from one state of the core to the next", fit=FITS[:3]),
        row_of("modes of the core on the unit circle", "core_modes", ".0f", "frequencies; shuffled answers have as many as chance gives"),
        *_AGREEMENT,
    ),
    figures=(
        plots.core_size,
        plots.core_r2,
        plots.core_eigenvalues,
        plots.core_clock,
        plots.agreement_by_layer,
        plots.agreement_knob,
        plots.agreement_probabilities,
        plots.agreement_strength,
        plots.coordinate_correlations,
    ),
)
