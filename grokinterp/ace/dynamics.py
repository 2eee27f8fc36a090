"""How a core moves: the linear operator that takes its coordinates from one step to the next, along a sequence or round a cycle."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Complex, Float, Float64
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.shapes import Answers

Operator = Float64[Tensor, "rank rank"]
Eigenvalues = Complex[np.ndarray, "rank"]


@dataclass(frozen=True, eq=False)
class SequenceDynamics:
    """z_{t+1} ≈ A z_t, fitted along sequences.

    Attributes:
        operator: A, acting on centred coordinates as columns.
        eigenvalues: of A, by descending modulus. Centring has taken out the constant, and with it the Perron–Frobenius eigenvalue 1.
        r_squared: 1 − Σ‖z_{t+1} − A z_t‖² / Σ‖z_{t+1}‖², the same in every orthonormal basis of the core; dimensions count by their variance.
        whitened_r_squared: the mean R² over the dimensions of the whitened core, where all count alike, the same in every basis whatever.
        n_transitions: pairs fitted.
    """

    operator: Operator = field(repr=False)
    eigenvalues: Eigenvalues = field(repr=False)
    r_squared: float
    whitened_r_squared: float
    n_transitions: int

    def relative_to(self, oracle: float) -> float:
        """Whitened R² over that of the best predictor, `MarkovChain.oracle_r_squared` for a chain."""
        return self.whitened_r_squared / oracle

    def __str__(self) -> str:
        values = ", ".join(f"{value:.3f}" for value in self.eigenvalues)
        return f"R² {self.r_squared:.3f}, whitened {self.whitened_r_squared:.3f}, over {self.n_transitions} transitions; eigenvalues {values}"


def sequence_dynamics(coordinates: Float[Tensor, "sequence position rank"]) -> SequenceDynamics:
    """The linear operator that best predicts a core's next state from its present one, by least squares.

    Args:
        coordinates: core coordinates along sequences, [sequence, position, rank]; centred here, over sequences and positions.

    Raises:
        GrokinterpError: sequences of one position, or coordinates that do not vary.
    """
    if coordinates.shape[1] < 2:
        raise GrokinterpError("a transition needs two positions; these sequences have one")
    z = coordinates.double()
    z = z - z.mean((0, 1))
    before, after = z[:, :-1].flatten(0, 1), z[:, 1:].flatten(0, 1)
    if not float(after.square().sum()) > 0:
        raise GrokinterpError("the core coordinates do not vary along these sequences")
    operator = _least_squares(before, after)
    residual = (after - before @ operator.T).square().sum() / after.square().sum()
    # The canonical correlations of the states before and after: least squares in whitened coordinates.
    shared = _orthonormal(before).T @ _orthonormal(after)
    whitened = float(shared.square().sum() / shared.shape[1])
    return SequenceDynamics(operator, _eigenvalues(operator), float(1 - residual), whitened, len(before))


@dataclass(frozen=True, eq=False)
class CyclicDynamics:
    """z̄_{t+1 mod p} ≈ A z̄_t, fitted from the mean core vector of each answer to that of the next.

    Attributes:
        p: number of answers.
        operator: A in the truncated coordinates.
        eigenvalues: of A, by descending modulus.
        modes: non-zero frequencies, in 1 … ⌊p/2⌋, with an eigenvalue within sin(π/p) of the unit circle.
        ring_fraction: share of the eigenvalues that lie so close to it (chosen here).
        r_squared: of the fit on the transitions it was fitted to. Many dimensions make it large for any model: see `held_out_r_squared`.
        held_out_r_squared: on transitions into or out of contiguous blocks of answers that the ridge fit has not seen, each answer held
            out once.
        null: the same on shuffled answers, one value for each shuffle.
        null_modes: number of modes on the same shuffled answers. In p − 1 dimensions any means fit the cycle, with all ⌊p/2⌋ modes.
    """

    p: int
    operator: Operator = field(repr=False)
    eigenvalues: Eigenvalues = field(repr=False)
    modes: tuple[int, ...]
    ring_fraction: float
    r_squared: float
    held_out_r_squared: float
    null: np.ndarray = field(repr=False)
    null_modes: np.ndarray = field(repr=False)

    def __str__(self) -> str:
        null = f"; shuffled at most {self.null.max():.3f}" if len(self.null) else ""
        return f"{len(self.modes)} modes of {self.p // 2}; R² {self.r_squared:.3f}, held out {self.held_out_r_squared:.3f}{null}"


def cyclic_dynamics(
    coordinates: Float[Tensor, "vector rank"],
    answers: Answers,
    p: int,
    *,
    truncation: float = 1e-3,
    ridge: float = 1e-3,
    held_out: float = 0.075,
    n_shuffles: int = 20,
    seed: int = 0,
) -> CyclicDynamics:
    """The operator that takes a core from one answer of a cyclic task to the next, with its modes on the unit circle.

    Args:
        coordinates: core coordinates at the read-out, [example, rank].
        answers: elements of Z_p, int64; every one has to occur.
        p: order of the group.
        truncation: singular values of the mean vectors below this share of the largest are dropped.
        ridge: penalty of the held-out fits, × the mean squared singular value (chosen here).
        held_out: share of the answers in a held-out block.
        n_shuffles: shuffles of the answers over examples behind the null.
        seed: of the shuffles.

    Raises:
        GrokinterpError: p below 5, answers outside 0 … p − 1 or missing ones, mean vectors that are all the same, a share outside (0, ½].
    """
    if p < 5:
        raise GrokinterpError(f"a cycle with a held-out block needs at least 5 answers; got p = {p}")
    if not 0 < held_out <= 0.5:
        raise GrokinterpError(f"held_out is a share of the answers in (0, 0.5]; got {held_out}")
    means = class_means(coordinates, answers, p)
    operator, r_squared = _cyclic_operator(means, truncation)
    eigenvalues, on_ring, modes = _on_ring(operator, p)
    generator = torch.Generator().manual_seed(seed)
    shuffled = [class_means(coordinates, answers[torch.randperm(len(answers), generator=generator)], p) for _ in range(n_shuffles)]
    return CyclicDynamics(
        p=p,
        operator=operator,
        eigenvalues=eigenvalues,
        modes=modes,
        ring_fraction=float(on_ring.mean()),
        r_squared=r_squared,
        held_out_r_squared=_held_out(means, truncation, ridge, held_out),
        null=np.array([_held_out(each, truncation, ridge, held_out) for each in shuffled]),
        null_modes=np.array([len(_on_ring(_cyclic_operator(each, truncation)[0], p)[2]) for each in shuffled], dtype=int),
    )


def _cyclic_operator(means: Tensor, truncation: float) -> tuple[Operator, float]:
    """A, and R² on the transitions it was fitted to."""
    z = _truncated(means, truncation)[1]
    operator = _least_squares(z, z.roll(-1, 0))
    residual = (z.roll(-1, 0) - z @ operator.T).square().sum() / z.square().sum()
    return operator, float(1 - residual)


def _on_ring(operator: Operator, p: int) -> tuple[Eigenvalues, np.ndarray, tuple[int, ...]]:
    """Eigenvalues, which of them lie within sin(π/p) of the unit circle, and the modes of these: the nearest k ≠ 0 with angle 2πk/p."""
    eigenvalues = _eigenvalues(operator)
    on_ring = np.abs(np.abs(eigenvalues) - 1) <= math.sin(math.pi / p)
    k = np.rint(np.abs(np.angle(eigenvalues[on_ring])) * p / (2 * np.pi)).astype(int)
    return eigenvalues, on_ring, tuple(sorted({int(frequency) for frequency in k} - {0}))


def class_means(coordinates: Float[Tensor, "vector rank"], answers: Answers, p: int) -> Float64[Tensor, "answer rank"]:
    """Mean vector of the examples with each answer 0 … p − 1, float64.

    Args:
        coordinates: a vector for each example.
        answers: the answer of each example.
        p: number of answers.

    Raises:
        GrokinterpError: not one answer for each vector, answers outside the range, or an answer without examples.
    """
    if len(answers) != len(coordinates):
        raise GrokinterpError(f"one answer for each example is needed; got {len(answers)} answers and {len(coordinates)} vectors")
    if int(answers.min()) < 0 or int(answers.max()) >= p:
        raise GrokinterpError(f"answers must lie in 0 … p − 1 = {p - 1}; got {int(answers.min())} … {int(answers.max())}")
    counts = torch.bincount(answers, minlength=p)
    if int(counts.min()) == 0:
        raise GrokinterpError(f"every answer needs an example; there is none of answer {int(counts.argmin())}")
    total = torch.zeros(p, coordinates.shape[1], dtype=torch.float64).index_add_(0, answers, coordinates.double())
    return total / counts[:, None]


def _held_out(means: Tensor, truncation: float, ridge: float, share: float) -> float:
    """R² on transitions that touch a block of answers, pooled over blocks that tile the cycle; the fit sees none of the block."""
    p = len(means)
    answers = torch.arange(p)
    unexplained = total = 0.0
    for block in torch.tensor_split(answers, math.ceil(p / max(1, round(share * p)))):
        seen = ~torch.isin(answers, block)
        fitted = seen & seen.roll(-1, 0)
        before = means @ _truncated(means[seen], truncation)[0]
        after = before.roll(-1, 0)
        # The fitted rows have means of their own, which give the intercept.
        before, after = before - before[fitted].mean(0), after - after[fitted].mean(0)
        operator = _least_squares(before[fitted], after[fitted], ridge)
        unexplained += float((after - before @ operator.T)[~fitted].square().sum())
        total += float(after[~fitted].square().sum())
    return 1 - unexplained / total


def _truncated(means: Tensor, truncation: float) -> tuple[Tensor, Tensor]:
    """Leading directions [rank, kept] of centred vectors, and their coordinates [answer, kept]."""
    centred = means - means.mean(0)
    _, singular, vh = torch.linalg.svd(centred, full_matrices=False)
    if not float(singular[0]) > 0:
        raise GrokinterpError("the mean core vectors of all answers are the same: the core does not tell answers apart")
    basis = vh[singular > truncation * singular[0]].T
    return basis, centred @ basis


def _orthonormal(samples: Tensor) -> Tensor:
    """Orthonormal columns that span those of samples [sample, coordinate], dependent ones left out."""
    u, s, _ = torch.linalg.svd(samples, full_matrices=False)
    kept: Tensor = u[:, s > 1e-9 * s[0]]
    return kept


def _least_squares(before: Tensor, after: Tensor, ridge: float = 0.0) -> Operator:
    """A with after ≈ A·before, rows being samples; of least norm, or with a penalty relative to the mean squared singular value."""
    u, s, vh = torch.linalg.svd(before, full_matrices=False)
    inverse = torch.where(s > 1e-12 * s[0], s / (s.square() + ridge * s.square().mean()), 0.0)
    operator: Tensor = (vh.T * inverse) @ (u.T @ after)
    return operator.T.contiguous()


def _eigenvalues(operator: Operator) -> Eigenvalues:
    values: np.ndarray = torch.linalg.eigvals(operator).numpy()
    order = np.lexsort((-values.imag, -np.abs(values).round(12)))
    return np.asarray(values[order])
