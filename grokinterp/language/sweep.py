"""Agreement cores at every layer, the layer chosen on one half of the prompts, everything else reported on the other half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float64

from grokinterp.ace.core import Core, Project
from grokinterp.language.agreement import (
    agreement_cores,
    auc,
    check_both_numbers,
    coordinates,
    flip_p_value,
    knob,
    margins,
    pair_accuracy,
    verb_probabilities,
    verb_scores,
)
from grokinterp.language.prompts import Prompts
from grokinterp.models.adapter import Adapter
from grokinterp.snapshot import Snapshot

if TYPE_CHECKING:
    import xarray as xr

MODES = ("base", "keep", "remove", "flip")
STRENGTHS = tuple(0.25 * i for i in range(-12, 13))
"""Factors of the core: 1 changes nothing, 0 removes it, −1 flips it (chosen here)."""
N_RANDOM = 10
HALVES = ("extraction", "test")

_MEANINGS = {
    "agreement_auc": "Probability that a plural prompt has a larger margin than a singular one.",
    "pair_accuracy": "Share of minimal pairs in which the right form of the verb is the likelier one.",
    "spectral_gap": "First over second eigenvalue of the balanced matrices, σ₁²/σ₂².",
    "chosen_layer": "The layer whose flip has the lowest AUC on the extraction half.",
    "random_auc": "AUC under the same edits of random directions at the chosen layer, test half.",
    "core_coordinate": "qᵀ(h − μ) at the chosen layer.",
    "margin": "Plural minus singular logits of the verbs, core of the chosen layer edited.",
    "number": "1 for a plural head, −1 for a singular one.",
    "verb_probability": "Mean over test prompts of a number.",
    "strength_auc": "AUC when the core of the chosen layer is multiplied by a factor, test half.",
    "strength_margin": "Mean margin when the core of the chosen layer is multiplied by a factor, test half.",
    "knob_slope": "Slope of the clean margin on the core coordinate, test half.",
    "knob_intercept": "Intercept of that line.",
    "knob_r2": "R² of that line.",
    "flip_p_value": "Wilcoxon signed-rank test, one-sided: the flip lowers the margin for the right number, test half.",
}


def agreement_sweep(
    model: Any,
    prompts: Prompts,
    *,
    rank: int = 1,
    hooks: Sequence[str] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    n_random: int = N_RANDOM,
    seed: int = 0,
) -> xr.Dataset:
    """AUC of the margin against number with the core kept, removed and flipped at every layer, and how the core of the best layer acts.

    The layer is the one whose flip has the lowest AUC on the extraction half (paper: on the half that it reports); ties go to the lower AUC
    of remove there, then to the higher one of keep (chosen here).

    Args:
        model: a HookedTransformer or TransformerBridge with causal attention, or a Snapshot of one.
        prompts: with both numbers in both halves.
        rank: of every core (paper: 1).
        hooks: None for the residual stream before the first block and after each.
        strengths: factors of the core to sweep, 1 for no change.
        n_random: random directions of the same rank, the control.
        seed: of their generator.

    Returns:
        ``agreement_auc`` and ``pair_accuracy`` [half, layer, mode], ``spectral_gap`` [layer], with the coordinate ``hook`` [layer];
        ``chosen_layer``; at that layer, on the test half, ``margin`` [prompt, mode], ``core_coordinate`` [prompt] (the first, if the rank is
        higher), ``number`` [prompt], ``verb_probability`` [mode, head_number, verb], ``strength_auc`` [strength], ``strength_margin``
        [strength, head_number], ``knob_slope``, ``knob_intercept``, ``knob_r2``, ``flip_p_value``, and ``random_auc`` [random, mode].

    Raises:
        GrokinterpError: prompts of one number only, a hook that the model lacks, a rank above d_model.
    """
    import xarray as xr

    model = model.model if isinstance(model, Snapshot) else model
    halves = {half: prompts.half(half) for half in HALVES}  # type: ignore[arg-type]
    for name, half in halves.items():
        check_both_numbers(half, name)
    names = list(Adapter(model).residual_hooks() if hooks is None else hooks)
    cores = list(agreement_cores(model, prompts, hooks, rank=rank).values())
    edits = [edit for core in cores for edit in edits_of(core)]
    logits = {name: with_base(verb_scores(model, half, edits), len(cores)) for name, half in halves.items()}
    margin_of = {name: margins(half, logits[name]) for name, half in halves.items()}
    best = _chosen(halves["extraction"], margin_of["extraction"])
    test, margin = halves["test"], margin_of["test"][best]
    by_layer = ("half", "layer", "mode")
    dataset = xr.Dataset(
        {
            "agreement_auc": (by_layer, np.stack([auc(margin_of[name], half.plural) for name, half in halves.items()])),
            "pair_accuracy": (by_layer, np.stack([pair_accuracy(half, logits[name]).numpy() for name, half in halves.items()])),
            "spectral_gap": ("layer", [float((core.spectrum[0] / core.spectrum[1]).square()) for core in cores]),
            "chosen_layer": names.index(cores[best].hook),
            "margin": (("prompt", "mode"), margin.T.numpy()),
            "number": ("prompt", np.where(test.plural.numpy(), 1, -1)),
            "flip_p_value": flip_p_value(test, margin[0], margin[3]),
            **_at_the_best(model, test, cores[best], strengths, n_random, seed),
        },
        coords={
            "half": list(HALVES),
            "layer": [names.index(core.hook) for core in cores],
            "hook": ("layer", [core.hook for core in cores]),
            "mode": list(MODES),
            "prompt": list(test.texts),
            "head_number": ["singular", "plural"],
        },
    )
    for name, meaning in _MEANINGS.items():
        dataset[name].attrs = {"description": meaning}
    return dataset


def best_core(model: Any, prompts: Prompts, *, rank: int = 1, hooks: Sequence[str] | None = None) -> Core:
    """The agreement core at the layer that `agreement_sweep` would choose, from the extraction half alone.

    Args:
        model: a HookedTransformer or TransformerBridge with causal attention.
        prompts: with both numbers in the extraction half.
        rank: of the core.
        hooks: to choose among; None for the residual stream before the first block and after each.

    Raises:
        GrokinterpError: as `agreement_sweep`.
    """
    cores = list(agreement_cores(model, prompts, hooks, rank=rank).values())
    half = prompts.half("extraction")
    logits = verb_scores(model, half, [edit for core in cores for edit in edits_of(core)])
    return cores[_chosen(half, margins(half, with_base(logits, len(cores))))]


def random_core(core: Core, generator: torch.Generator) -> Core:
    """A core of the same rank, hook and mean with random directions: the control."""
    directions = torch.linalg.qr(torch.randn(core.basis.shape, generator=generator, dtype=torch.float64)).Q
    return replace(core, directions=directions, provenance={"directions": "random"})


def edits_of(core: Core) -> list[Project]:
    """What is done to a core, in the order of `MODES` after "base"."""
    return [core.keep(), core.remove(), core.flip()]


def with_base(values: Float64[torch.Tensor, "variant ..."], *shape: int) -> Float64[torch.Tensor, "..."]:
    """Values under each of `MODES` for many cores, [*shape, mode, …], those of "base" repeated for every core.

    Args:
        values: [1 + edit, …], without an edit first, then under the `edits_of` one core after the other.
        shape: how the cores are arranged, (n_ranks, n_layers) for example.
    """
    rest = values.shape[1:]
    return torch.cat([values[0].expand(*shape, 1, *rest), values[1:].reshape(*shape, len(MODES) - 1, *rest)], dim=len(shape))


def _chosen(half: Prompts, margin: Float64[torch.Tensor, "layer mode example"]) -> int:
    _, keep, remove, flip = auc(margin, half.plural).T
    return int(np.lexsort((-keep, remove, flip))[0])


def _at_the_best(model: Any, test: Prompts, core: Core, strengths: Sequence[float], n_random: int, seed: int) -> Mapping[str, Any]:
    """What one core does on the test half."""
    import xarray as xr

    generator = torch.Generator().manual_seed(seed)
    controls = [edit for _ in range(n_random) for edit in edits_of(random_core(core, generator))]
    margin = margins(test, verb_scores(model, test, [*(core.scale(s) for s in strengths), *controls]))
    scaled, random = margin[1 : 1 + len(strengths)], margin[1 + len(strengths) :]
    control = with_base(torch.cat([margin[:1], random]), n_random)
    z = coordinates(model, test, core)[:, 0]
    line = knob(z, margin[0])
    probabilities = verb_probabilities(model, test, edits_of(core))
    numbers = [~test.plural, test.plural]
    by_number = np.stack([probabilities[:, number].mean(1).numpy() for number in numbers], axis=1)
    verbs = list(test.words)
    return {
        "core_coordinate": ("prompt", z.numpy()),
        "verb_probability": xr.DataArray(by_number, dims=("mode", "head_number", "verb"), coords={"verb": verbs}),
        "strength_auc": xr.DataArray(auc(scaled, test.plural), dims="strength", coords={"strength": list(strengths)}),
        "strength_margin": (("strength", "head_number"), np.stack([scaled[:, number].mean(1).numpy() for number in numbers], axis=1)),
        "random_auc": (("random", "mode"), auc(control, test.plural)),
        "knob_slope": line.slope,
        "knob_intercept": line.intercept,
        "knob_r2": line.r_squared,
    }
