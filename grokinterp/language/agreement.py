"""The core of grammatical number: at every layer of a language model one axis that carries subject-verb agreement.

The margin of a prompt is the sum of its plural verbs' log-probabilities minus that of the singular ones; where every verb is one token, logits give
the same. Its core is extracted from one half of the prompts, the layer is chosen there, and what keeping, removing and flipping does is measured on
the other half ("Transformers converge to invariant algorithmic cores", arXiv 2602.22600; the paper chooses the layer on the half that it reports).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from grokinterp.ace.alignment import canonical_correlations
from grokinterp.ace.core import Core, Project
from grokinterp.ace.extract import ENERGY, ROUNDING, from_matrices
from grokinterp.errors import GrokinterpError
from grokinterp.language.prompts import Prompts
from grokinterp.models.adapter import Adapter
from grokinterp.models.last_token import last_tokens

if TYPE_CHECKING:
    import xarray as xr

BATCH = 64  # prompts at once

Margins = Float64[Tensor, "*variant example"]


def agreement_cores(
    model: Any, prompts: Prompts, hooks: Sequence[str] | None = None, *, rank: int | None = 1, energy: float = ENERGY, batch_size: int = BATCH
) -> dict[str, Core]:
    """The agreement core at every hook, from one pass over the extraction half: Cov of the last token's activations, Obs = mean g gᵀ.

    g is the gradient of the margin at the last token. Centred, at the last position; the signs are such that the margin rises along each
    direction on average.

    Args:
        model: a HookedTransformer or TransformerBridge with causal attention.
        prompts: those of the extraction half are used.
        hooks: None for the residual stream before the first block and after each, where activations vary.
        rank: of the cores (paper: 1); None for the smallest whose share of Σ S² reaches `energy`.
        energy: that share.
        batch_size: prompts at once.

    Raises:
        GrokinterpError: prompts of one number only, a hook that the model lacks, a rank above d_model or above what so few prompts span.
    """
    everywhere = hooks is None
    hooks = Adapter(model).residual_hooks() if hooks is None else list(hooks)
    half = prompts.half("extraction")
    check_both_numbers(half, "extraction")
    found = []
    for examples, reader in last_tokens(model, half.tokens, half.ends, hooks, batch_size, half.forms):
        activations, gradients = reader.gradients(hooks, half.signs[examples])
        found.append((activations.cpu(), gradients.cpu()))
    activations, gradients = (torch.cat(parts, dim=1).double() for parts in zip(*found, strict=True))
    if everywhere:  # before the first block, prompts that end in the same word at the same position are all alike
        hooks, activations, gradients = _where_they_vary(hooks, activations, gradients)
    facts = {"data": half.name, "activations": str(len(half)), "jacobians": str(len(half)), "outputs": "margin of the verbs", "readout": "-1"}
    return {hook: _core(h, g, hook, rank, energy, facts) for hook, h, g in zip(hooks, activations, gradients, strict=True)}


def verb_scores(model: Any, prompts: Prompts, edits: Sequence[Project] = (), *, batch_size: int = BATCH) -> Float64[Tensor, "variant example verb"]:
    """How likely every verb form follows a prompt: clean first, then under each edit alone, float64.

    Where every form is one token, its logit; else log-probabilities of whole forms, natural logarithm. Differences between forms are the same.

    Args:
        model: a HookedTransformer or TransformerBridge with causal attention.
        prompts: all of them, both halves.
        edits: like ``core.flip()``; each acts at its hook on the prompt's last token, whatever a form adds after it.
        batch_size: prompts at once.
    """
    return _scores(model, prompts, edits, batch_size, normalised=False)


def verb_probabilities(
    model: Any, prompts: Prompts, edits: Sequence[Project] = (), *, batch_size: int = BATCH
) -> Float64[Tensor, "variant example verb"]:
    """Probability of every whole verb form after a prompt; for the arguments see `verb_scores`."""
    return _scores(model, prompts, edits, batch_size, normalised=True).exp()


def _scores(model: Any, prompts: Prompts, edits: Sequence[Project], batch_size: int, normalised: bool) -> Float64[Tensor, "variant example verb"]:
    found = torch.zeros(1 + len(edits), len(prompts), len(prompts.forms), dtype=torch.float64)
    for examples, reader in last_tokens(model, prompts.tokens, prompts.ends, [edit.hook for edit in edits], batch_size, prompts.forms):
        found[:, examples] = reader.scores(edits, normalised=normalised).double().cpu()
    return found


def coordinates(model: Any, prompts: Prompts, core: Core, *, batch_size: int = BATCH) -> Float64[Tensor, "example rank"]:
    """Core coordinates of each prompt's last token, Qᵀ(h − μ), in the order of the prompts.

    Args:
        model: a HookedTransformer or TransformerBridge with causal attention.
        prompts: all of them, both halves.
        core: at a hook of this model.
        batch_size: prompts at once.
    """
    found = torch.zeros(len(prompts), core.rank, dtype=torch.float64)
    for examples, reader in last_tokens(model, prompts.tokens, prompts.ends, [core.hook], batch_size):
        found[examples] = core.project(reader.activations([core.hook])[0]).cpu()
    return found


def margins(prompts: Prompts, scores: Float[Tensor, "*variant example verb"]) -> Margins:
    """Σ scores of the plural verbs − Σ scores of the singular ones, [..., example], float64, nats (paper: are + were − is − was)."""
    return (scores.double() * prompts.signs).sum(-1)


def pair_accuracy(prompts: Prompts, scores: Float[Tensor, "*variant example verb"]) -> Float64[Tensor, "*variant"]:
    """Share of minimal pairs in which the right form of the verb, in the prompt's tense, is the likelier one; a tie counts half."""
    plural, singular = (
        scores.double().gather(-1, verbs[:, :1].expand(*scores.shape[:-1], 1))[..., 0] for verbs in (prompts.plural_verbs, prompts.singular_verbs)
    )
    right, wrong = torch.where(prompts.plural, plural, singular), torch.where(prompts.plural, singular, plural)
    return ((right > wrong).double() + 0.5 * (right == wrong).double()).mean(-1)


def auc(scores: Margins, plural: Bool[Tensor, "example"]) -> Float64[np.ndarray, "*variant"]:
    """Probability that a plural prompt scores above a singular one, ties counting half: 1 perfect, ½ chance, 0 inverted.

    Raises:
        GrokinterpError: prompts of one number only.
    """
    from scipy.stats import rankdata

    n_plural, n_singular = int(plural.sum()), int((~plural).sum())
    if not n_plural or not n_singular:
        raise GrokinterpError(f"an AUC compares both numbers; got {n_plural} plural and {n_singular} singular prompts")
    ranks = rankdata(scores.numpy(), axis=-1)[..., plural.numpy()].sum(-1)
    return np.asarray((ranks - n_plural * (n_plural + 1) / 2) / (n_plural * n_singular))


class Knob(NamedTuple):
    """The line margin ≈ slope · z + intercept by least squares, z the core coordinate; R² is the share of the margins' variance explained."""

    slope: float
    intercept: float
    r_squared: float


def knob(z: Float[Tensor, "example"], margin: Float[Tensor, "example"]) -> Knob:
    """How linearly the margin follows the core coordinate.

    Raises:
        GrokinterpError: coordinates or margins that do not vary.
    """
    x, y = (values.double() - values.double().mean() for values in (z, margin))
    if not (float(x.square().sum()) > 0 and float(y.square().sum()) > 0):
        raise GrokinterpError("a line needs core coordinates and margins that vary over the prompts")
    slope = float(x @ y / (x @ x))
    return Knob(slope, float(margin.double().mean() - slope * z.double().mean()), float((x @ y).square() / (x @ x) / (y @ y)))


def flip_p_value(prompts: Prompts, base: Margins, flipped: Margins) -> float:
    """One-sided p of Wilcoxon's signed-rank test over prompts that the flip lowers the margin for the right number.

    Args:
        prompts: give the number.
        base: clean margins [example].
        flipped: margins under the edit [example].
    """
    from scipy.stats import wilcoxon

    right = torch.where(prompts.plural, 1.0, -1.0).double()
    return float(wilcoxon((right * base).numpy(), (right * flipped).numpy(), alternative="greater", method="approx").pvalue)


def combined_p_value(p_values: Sequence[float]) -> float:
    """Fisher's combination of independent p-values, one for each model."""
    from scipy.stats import combine_pvalues

    return float(combine_pvalues(list(p_values), method="fisher").pvalue)


def coordinate_correlations(z: Mapping[str, Float[Tensor, "example rank"]]) -> xr.Dataset:
    """How far several models order the same prompts alike: correlations of their core coordinates.

    Args:
        z: by model's name, coordinates of its core on the same prompts in the same order, [example, rank].

    Returns:
        ``coordinate_spearman`` and ``coordinate_pearson`` [model, other] of the first coordinate, and ``coordinate_canonical``, the
        largest canonical correlation.

    Raises:
        GrokinterpError: fewer than two models, or coordinates of different prompts.
    """
    import xarray as xr
    from scipy.stats import pearsonr, spearmanr

    if len(z) < 2:
        raise GrokinterpError(f"correlations across models need at least 2; got {len(z)}")
    names = list(z)
    tables = {kind: np.eye(len(names)) for kind in ("spearman", "pearson", "canonical")}
    for (i, a), (j, b) in combinations(enumerate(z.values()), 2):
        canonical = float(canonical_correlations(a, b)[0])
        x, y = a[:, 0].numpy(), b[:, 0].numpy()
        for kind, value in (("spearman", spearmanr(x, y).statistic), ("pearson", pearsonr(x, y).statistic), ("canonical", canonical)):
            tables[kind][i, j] = tables[kind][j, i] = value
    coords = {"model": names, "other": names}
    return xr.Dataset({f"coordinate_{kind}": (("model", "other"), table) for kind, table in tables.items()}, coords=coords)


def check_both_numbers(prompts: Prompts, half: str) -> None:
    """Raise a GrokinterpError unless there are prompts of both numbers."""
    n_plural = int(prompts.plural.sum())
    if not 0 < n_plural < len(prompts):
        raise GrokinterpError(f"the {half} half has {n_plural} plural prompts of {len(prompts)}; agreement needs both numbers")


def _where_they_vary(hooks: Sequence[str], activations: Tensor, gradients: Tensor) -> tuple[list[str], Tensor, Tensor]:
    spread = activations.var(1).sum(1) > ROUNDING**2 * activations.mean(1).square().sum(1)
    return [hook for hook, varies in zip(hooks, spread.tolist(), strict=True) if varies], activations[spread], gradients[spread]


def _core(
    h: Float64[Tensor, "example d_model"],
    g: Float64[Tensor, "example d_model"],
    hook: str,
    rank: int | None,
    energy: float,
    facts: Mapping[str, str],
) -> Core:
    """Balanced reduction inside the span of the activations, which holds every direction that it can find."""
    (n, width), mean = h.shape, h.mean(0)
    if float(h.var(0).sum()) <= ROUNDING**2 * float(mean.square().sum()):
        raise GrokinterpError(f"the activations at {hook} do not vary over the last tokens of these prompts")
    if rank is not None and not 1 <= rank <= width:
        raise GrokinterpError(f"the rank of a core lies in 1 … d_model = {width}; got {rank}")
    if rank is not None and rank >= n:
        raise GrokinterpError(f"{n} prompts span at most {n - 1} dimensions; got rank {rank}; extract from more prompts")
    span = torch.linalg.qr((h - mean).T).Q if n <= width else torch.eye(width, dtype=torch.float64)
    inside, read = (h - mean) @ span, g @ span
    within = from_matrices(inside.T @ inside / (n - 1), read.T @ read / n, rank=rank, energy=energy, provenance=facts)
    directions = span @ within.directions
    rising = torch.where(g.mean(0) @ directions < 0, -1.0, 1.0).double()
    return replace(within, directions=directions * rising, mean=mean, hook=hook, positions=-1, centred=True)
