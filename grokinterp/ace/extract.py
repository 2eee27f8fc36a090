"""Algorithmic core extraction: the directions that are both active and read, by balancing two matrices.

"Transformers converge to invariant algorithmic cores" (arXiv 2602.22600). With Cov = Lc Lcᵀ the covariance of the activations and
Obs = Lo Loᵀ the mean of JᵀJ over the tail's Jacobians, Lcᵀ Lo = USVᵀ, and the core of rank r is spanned by the first r columns of LcU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from grokinterp.ace.core import Core, Mean
from grokinterp.ace.moments import Outputs, Square, activation_moments, linear_observability, sampled_observability
from grokinterp.errors import GrokinterpError
from grokinterp.models.tail import Tail, readout_of
from grokinterp.shapes import Positions, Tokens
from grokinterp.tasks import Task

Score = Callable[[Tensor], Tensor]
"""Logits at the read-out, [..., vocab] -> one number for each, [...]."""


@runtime_checkable
class OwnCores(Protocol):
    """Data that define their own cores, as prompts do: they choose what is sampled and which output is read."""

    def extract_core(self, model: Any, hook: str, *, rank: int | None, energy: float, batch_size: int | None) -> Core:
        """The core at a hook.

        Args:
            model: a HookedTransformer or TransformerBridge.
            hook: where.
            rank: of the core; None for the smallest whose share of Σ S² reaches `energy`.
            energy: that share.
            batch_size: examples at once; None for their own number.
        """
        ...


ENERGY = 0.99
JITTER = 1e-8  # × the mean eigenvalue
ROUNDING = 1e-6  # of the mean activation; what varies less is float32 noise


def extract(
    model: Any,
    data: Task | Tokens | OwnCores,
    hook: str,
    *,
    rank: int | None = None,
    energy: float = ENERGY,
    score: Score | None = None,
    positions: Positions | None = None,
    readout: Positions | None = None,
    centred: bool | None = None,
    split: Literal["all", "train", "test"] | None = None,
    n_jacobians: int | None = None,
    sketch: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
) -> Core:
    """The algorithmic core at a hook: balanced reduction of what is active there and what the outputs read.

    Activations are streamed: memory grows with d_model² and with one batch, never with the number of examples.

    Args:
        model: a HookedTransformer or TransformerBridge.
        data: a task, whose answers' logits are the outputs; tokens [example, position] without padding, for all logits; or data that say
            themselves what is sampled and read, like agreement prompts (`agreement_cores`), which leave only rank, energy, centred and
            batch_size open.
        hook: its values are [example, position, d_model].
        rank: of the core; None for the smallest whose share of Σ S² reaches `energy`.
        energy: that share, in (0, 1] (paper: 0.99; 0.999 for Markov chains).
        score: one number from the logits at the read-out, instead of all of them.
        positions: where activations are sampled and where the core will act, "all" or an index; None for all.
        readout: where the outputs are read, an index or "all"; None for the task's own ("all" where every position counts), or the last
            of plain tokens.
        centred: whether the core's projections act on h − μ, None for the data's own way: they do for prompts, and not for tasks and tokens. The
            covariance is centred in either case.
        split: which examples of a task; None for all.
        n_jacobians: examples whose Jacobians are averaged, at most (paper: 64 to 3,000), None for 1,000. A linear tail needs none.
        sketch: random combinations of the outputs for each example instead of every output, see `sampled_observability`.
        batch_size: examples at once; None for 128, or the data's own number.
        seed: of the examples' choice and of the sketch; None for 0.

    Raises:
        GrokinterpError: an unknown hook, a rank above d_model, outputs that do not depend on the hook, a score of another shape,
            numbers out of range, an argument that the data leave no room for.
    """
    for name, value in (("n_jacobians", n_jacobians), ("batch_size", batch_size), ("sketch", sketch)):
        if value is not None and value < 1:
            raise GrokinterpError(f"{name} must be at least 1; got {value}")
    if isinstance(data, OwnCores):
        given = {
            "score": score,
            "positions": positions,
            "readout": readout,
            "split": split,
            "n_jacobians": n_jacobians,
            "sketch": sketch,
            "seed": seed,
        }
        if closed := ", ".join(name for name, value in given.items() if value is not None):
            raise GrokinterpError(f"these data say what is sampled and read; leave out {closed}, and pass rank, energy, centred and batch_size alone")
        core = data.extract_core(model, hook, rank=rank, energy=energy, batch_size=batch_size)
        return core if centred is None else replace(core, centred=centred)
    if not isinstance(data, Task) and split is not None:
        raise GrokinterpError(f"plain tokens have no split; leave split={split!r} out, or pass a task")
    positions, batch_size = "all" if positions is None else positions, batch_size or 128
    n_jacobians, seed, centred = n_jacobians or 1_000, seed or 0, bool(centred)
    tokens, n_outputs = (data.tokens[data.indices(split or "all")], data.n_classes) if isinstance(data, Task) else (data, None)
    if readout is None:
        readout = readout_of(data) if isinstance(data, Task) else -1
    tail = Tail(model, hook, positions, readout)
    moments = activation_moments(tail, tokens, batch_size)
    covariance, mean = moments.covariance, moments.mean
    if not torch.isfinite(covariance).all():
        where = f"the activations at {hook}, positions {positions}, hold NaN or overflow"
        raise GrokinterpError(f"{where}, as those of a run that has diverged do; leave it out, or take its weights of a step before")
    if float(covariance.trace()) <= ROUNDING**2 * float(mean.square().sum()):
        raise GrokinterpError(f"the activations at {hook}, positions {positions}, do not vary over these inputs")
    observability = None if score else linear_observability(tail, n_outputs, tokens.shape[1])
    provenance = {"data": data.name if isinstance(data, Task) else "tokens", "activations": str(moments.n), "readout": str(readout)}
    if observability is None:
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(tokens), generator=generator)[:n_jacobians].sort().values
        observability = sampled_observability(tail, _outputs(score, n_outputs), tokens[chosen], batch_size, sketch, generator)
        outputs = "score" if score else "all" if sketch is None else f"sketch of {sketch}"
        provenance |= {"jacobians": str(len(chosen)), "seed": str(seed), "outputs": outputs}
    else:
        provenance |= {"jacobians": "exact: the tail is linear", "outputs": "all"}
    return from_matrices(
        covariance,
        observability,
        rank=rank,
        energy=energy,
        mean=mean,
        hook=hook,
        positions=positions,
        centred=centred,
        provenance=provenance,
    )


def from_matrices(
    covariance: Square,
    observability: Float64[Tensor, "d_read d_read"],
    *,
    rank: int | None = None,
    energy: float = ENERGY,
    mean: Mean | None = None,
    hook: str = "",
    positions: Positions = "all",
    centred: bool = False,
    provenance: Mapping[str, str] | None = None,
) -> Core:
    """The core of a covariance and an observability that are already at hand.

    Args:
        covariance: of the activations, [d_model, d_model], float64.
        observability: mean of JᵀJ, [d_model, d_model], float64.
        rank: of the core; None for the smallest whose share of Σ S² reaches `energy`.
        energy: that share.
        mean: mean activation, which a centred core needs.
        hook: where the core acts.
        positions: "all" or an index.
        centred: whether projections act on h − μ.
        provenance: how the matrices came about.

    Raises:
        GrokinterpError: matrices of different shapes, not symmetric, not finite or zero; a rank above d_model.
    """
    width = len(covariance)
    if covariance.shape != observability.shape:
        raise GrokinterpError(f"covariance and observability differ in shape: {tuple(covariance.shape)} and {tuple(observability.shape)}")
    if rank is not None and not 1 <= rank <= width:
        raise GrokinterpError(f"the rank of a core lies in 1 … d_model = {width}; got {rank}")
    if centred and mean is None:
        raise GrokinterpError("a centred core acts on h − μ: pass the mean activation")
    active = _factor(covariance, "covariance", "nothing varies")
    read = _factor(observability, "observability", "the outputs do not depend on the hook at these positions")
    u, spectrum, _ = torch.linalg.svd(active.T @ read)
    return Core(
        directions=torch.linalg.qr(active @ u).Q,
        rank=energy_rank(spectrum, energy) if rank is None else rank,
        spectrum=spectrum,
        mean=torch.zeros(width, dtype=torch.float64) if mean is None else mean,
        hook=hook,
        positions=positions,
        centred=centred,
        provenance={**(provenance or {}), "rank": "given" if rank is not None else f"energy {energy}"},
    )


def energy_rank(spectrum: Tensor, energy: float = ENERGY) -> int:
    """The smallest rank whose share of Σ S² reaches `energy`.

    Raises:
        GrokinterpError: an energy outside (0, 1].
    """
    if not 0 < energy <= 1:
        raise GrokinterpError(f"energy is a share in (0, 1]; got {energy}")
    share = spectrum.square().cumsum(0)
    return min(int((share < energy * share[-1]).sum()) + 1, len(spectrum))


def _factor(matrix: Square, name: str, if_zero: str) -> Square:
    """L with LLᵀ = matrix + jitter, from an eigen-decomposition clamped at 0."""
    scale = float(matrix.abs().max())
    if not torch.isfinite(matrix).all() or float((matrix - matrix.T).abs().max()) > 1e-6 * scale:
        raise GrokinterpError(f"the {name} must be finite and symmetric")
    if scale == 0:
        raise GrokinterpError(f"the {name} is zero: {if_zero}")
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    factor: Tensor = vectors * (values.clamp(min=0) + JITTER * matrix.trace() / len(matrix)).sqrt()
    return factor


def _outputs(score: Score | None, n_outputs: int | None) -> Outputs:
    if score is None:
        return lambda logits: logits[..., :n_outputs]

    def scored(logits: Tensor) -> Tensor:
        value = score(logits)
        if value.shape != logits.shape[:-1]:
            raise GrokinterpError(
                f"a score gives one number for each read-out: {tuple(logits.shape[:-1])} from logits {tuple(logits.shape)}; got {tuple(value.shape)}"
            )
        return value[..., None]

    return scored
