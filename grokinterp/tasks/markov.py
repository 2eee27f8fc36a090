"""Markov chains: the task whose best predictor, spectrum and predictability are known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Complex, Float64
from torch import Tensor

from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.shapes import Tokens
from grokinterp.tasks.table import Task

Transition = tuple[tuple[float, ...], ...]

FOUR_STATES: Transition = ((0.75, 0.25, 0, 0), (0, 0.75, 0.25, 0), (0, 0, 0.75, 0.25), (0.25, 0, 0, 0.75))
"""Stay with probability ¾, else step round a ring of four; eigenvalues 1, ¾ ± ¼i and ½ (arXiv 2602.22600)."""


@dataclass(frozen=True)
class MarkovChain:
    """A chain with a unique stationary distribution π, and what the best predictor of its next state reaches.

    Attributes:
        transition: T, probability of each next state [from, to]; rows sum to 1.
    """

    transition: Transition = FOUR_STATES

    def __post_init__(self) -> None:
        rows = tuple(tuple(float(value) for value in row) for row in self.transition)
        if len(rows) < 2 or any(len(row) != len(rows) for row in rows):
            raise GrokinterpError(f"a transition matrix is square with at least 2 states; got rows of {[len(row) for row in rows]}")
        for state, row in enumerate(rows):
            if not (min(row) >= 0 and abs(sum(row) - 1) < 1e-9):
                raise GrokinterpError(f"row {state} of a transition matrix holds probabilities that sum to 1; got {list(row)}")
        object.__setattr__(self, "transition", rows)
        if int((torch.linalg.svdvals(self._leaving) < 1e-9).sum()) != 1:
            raise GrokinterpError("the chain has several stationary distributions: its states fall apart into groups that never reach each other")

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.transition)

    @property
    def matrix(self) -> Float64[Tensor, "state state"]:
        """T as a tensor, [from, to]."""
        return torch.tensor(self.transition, dtype=torch.float64)

    @cached_property
    def stationary(self) -> Float64[Tensor, "state"]:
        """π, with πT = π."""
        system = torch.cat([self._leaving, torch.ones(1, self.n_states, dtype=torch.float64)])
        right = torch.zeros(self.n_states + 1, 1, dtype=torch.float64)
        right[-1] = 1
        solution: Tensor = torch.linalg.lstsq(system, right).solution
        return solution[:, 0]

    @property
    def eigenvalues(self) -> Complex[np.ndarray, "eigenvalue"]:
        """Eigenvalues of T by descending modulus, the Perron–Frobenius eigenvalue 1 left out."""
        values = torch.linalg.eigvals(self.matrix).numpy()
        values = np.delete(values, np.abs(values - 1).argmin())
        return values[np.lexsort((-values.imag, -np.abs(values).round(12)))]

    @property
    def bayes_accuracy(self) -> float:
        """Accuracy of the most likely next state in the stationary state: Σ_i π_i max_j T_ij."""
        return float(self.stationary @ self.matrix.max(1).values)

    def oracle_r_squared(self, average: Literal["states", "variance", "whitened"] = "states") -> float:
        """R² of the best predictor of the next state's indicator: 1 − m_j/v_j, averaged over states j.

        m_j = Σ_i π_i T_ij(1 − T_ij) is what stays unpredictable and v_j = π_j(1 − π_j) the variance. The paper multiplies by π_j outside the
        sum over i, which is the same where π is uniform, as in its chain; here π_i stays inside, as the theorem needs.

        Args:
            average: "states" for the mean over states (paper); "variance" for 1 − Σm/Σv and "whitened" for the mean over whitened
                dimensions, which are what `r_squared` and `whitened_r_squared` of `ace.sequence_dynamics` reach on indicators. All
                three agree for the default chain, ½.

        Raises:
            GrokinterpError: an unknown average.
        """
        if average not in ("states", "variance", "whitened"):
            raise unknown_name("average", average, ("states", "variance", "whitened"))
        pi, t = self.stationary, self.matrix
        unpredictable, variance = pi @ (t * (1 - t)), pi * (1 - pi)
        if average == "whitened":
            covariance = torch.diag(pi) - torch.outer(pi, pi)
            return float((torch.linalg.pinv(covariance) @ t.T @ covariance @ t).trace() / (self.n_states - 1))
        if average == "variance":
            return float(1 - unpredictable.sum() / variance.sum())
        return float(1 - (unpredictable / variance).mean())

    def sample(self, n_sequences: int, length: int, seed: int) -> Tokens:
        """Sequences of states from a uniform start, [sequence, position], int64.

        Raises:
            GrokinterpError: no sequences, or sequences of less than 2 states.
        """
        if n_sequences < 1 or length < 2:
            raise GrokinterpError(f"a sample needs at least 1 sequence of at least 2 states; got {n_sequences} of {length}")
        generator = torch.Generator().manual_seed(seed)
        cumulative = self.matrix.cumsum(1)[:, :-1].contiguous()
        states = torch.empty(n_sequences, length, dtype=torch.int64)
        states[:, 0] = torch.randint(self.n_states, (n_sequences,), generator=generator)
        draws = torch.rand(n_sequences, length, generator=generator, dtype=torch.float64)
        for t in range(1, length):
            states[:, t] = (draws[:, t, None] >= cumulative[states[:, t - 1]]).sum(1)
        return states

    @property
    def _leaving(self) -> Tensor:
        """I − Tᵀ, whose null space holds the stationary distributions."""
        return torch.eye(self.n_states, dtype=torch.float64) - self.matrix.T


def markov_chain(
    n_sequences: int = 3_000, length: int = 32, seed: int = 0, transition: Sequence[Sequence[float]] = FOUR_STATES, test_seed: int | None = None
) -> Task:
    """The next state of a Markov chain at every position of a sequence.

    The table holds the first T − 1 states of each sequence as tokens and their successors as targets; the answer is the last state. Whole
    sequences are those of `MarkovChain.sample` with the same arguments.

    Args:
        n_sequences: examples (paper: 3,000 for training with seed 0, 3,000 for testing with seed 999).
        length: T, states in a sequence, the last one included (paper: 32).
        seed: of the generator.
        transition: T [from, to]; the paper's four states on a ring by default.
        test_seed: draw as many sequences again with this seed and append them, so that ``split(0.5, seed, "first")`` trains on the
            former and tests on the latter; None for none.

    Raises:
        GrokinterpError: a matrix that is no transition matrix, too few sequences or states, a test seed that repeats the training sequences.
    """
    if test_seed == seed:
        raise GrokinterpError(f"test_seed = {test_seed} would test on the training sequences; take another seed than {seed}")
    chain = MarkovChain(tuple(tuple(row) for row in transition))
    states = torch.cat([chain.sample(n_sequences, length, each) for each in (seed, test_seed) if each is not None])
    tokens, targets = states[:, :-1].contiguous(), states[:, 1:].contiguous()
    n = chain.n_states
    return Task("markov_chain", tokens, targets[:, -1].contiguous(), n_vocab=n, n_classes=n, targets=targets, structure=chain)
