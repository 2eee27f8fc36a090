"""The degree of synchronisation of a population, given the spectrum of every neuron, and its significance.

A harmonic is whatever the neurons may agree on: a frequency of a cyclic group, or an irreducible representation of another.
`fsd.py` reads spectra off models and names them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from grokinterp.chance import Rng, generator

Signals = Float[Tensor, "element neuron"]
Power = Float[Tensor, "harmonic neuron"]

SILENT = 1e-6  # of the median neuron's power (chosen here)


def has_power(phi: Signals, power: Power) -> Tensor:
    """Which neurons have more than rounding errors, and more than 1e-6 of the median neuron's power, in their spectrum."""
    total = power.sum(0)
    rounding = torch.finfo(torch.float64).eps * phi.square().sum(0)
    return total > torch.maximum(SILENT * total.median(), rounding)


def participation(power: Power, top: int = 1) -> Float[Tensor, "harmonic"]:
    """Share of neurons that have each harmonic among their `top` strongest; NaN without neurons."""
    strongest = power.topk(min(top, len(power)), dim=0).indices
    return (
        torch.bincount(strongest.flatten(), minlength=len(power)).double() / power.shape[1]
        if power.shape[1]
        else torch.full((len(power),), torch.nan)
    )


def degree(shares: Float[Tensor, "... harmonic"], top: int = 1) -> Tensor:
    """The degree of synchronisation of participation shares: (largest − chance) / (1 − chance), chance = K / number of harmonics.

    NaN where K is the number of harmonics or more: every neuron takes part in all of them, whatever it does.
    """
    largest = shares.max(-1).values
    return above_chance(largest, top / shares.shape[-1]) if top < shares.shape[-1] else torch.full_like(largest, torch.nan)


def above_chance(share: Tensor, chance: float) -> Tensor:
    """A share on the scale where chance is 0 and everything is 1."""
    return (share - chance) / (1 - chance)


def fourier_rank(power: Power, share: float = 0.9) -> float:
    """Fewest harmonics that explain a share of a neuron's variance, median over neurons; NaN without neurons.

    The paper states 0.9; its table fits 0.5 (method sheet), so reports give both.
    """
    if not power.shape[1]:
        return float("nan")
    explained = power.sort(0, descending=True).values.cumsum(0) / power.sum(0)
    return float(((explained < share - 1e-12).sum(0) + 1).double().median())


@dataclass(frozen=True)
class PermutationTest:
    """Whether a degree of synchronization is more than chance.

    Attributes:
        observed: FSD of the signals.
        null: FSD of each draw.
        p_value: (1 + number of draws at least as large) / (1 + draws); conservative, since FSD is discrete and ties count.
        p_randomised: the same with ties broken at random, uniform on (0, 1) under the null.
    """

    observed: float
    null: np.ndarray = field(repr=False)
    p_value: float
    p_randomised: float

    @classmethod
    def from_null(cls, observed: float, null: np.ndarray, rng: np.random.Generator) -> PermutationTest:
        """Compare an observed degree with its null."""
        larger, equal = int((null > observed + 1e-12).sum()), int((np.abs(null - observed) <= 1e-12).sum())
        rank = larger + rng.uniform() * (equal + 1)
        return cls(observed, null, (1 + larger + equal) / (1 + len(null)), float(rank / (1 + len(null))))

    @classmethod
    def from_counts(cls, power: Power, counts: Iterable[np.ndarray], rng: np.random.Generator) -> PermutationTest:
        """Compare the degree (K = 1) of a population with draws of how many of its neurons each harmonic dominates."""
        null = degree(torch.from_numpy(np.stack(list(counts)) / power.shape[1])).numpy()
        return cls.from_null(float(degree(participation(power))), null, rng)


def iid_test(power: Power, rng: Rng = 0, draws: int = 1000) -> PermutationTest:
    """Test FSD (K = 1) against dominant harmonics that are independent and uniform.

    Args:
        power: of the neurons that are not silent, [harmonic, neuron].
        rng: seed or generator, the only source of chance.
        draws: number of draws.
    """
    rng = generator(rng)
    n_harmonics, n_neurons = power.shape
    return PermutationTest.from_counts(power, rng.multinomial(n_neurons, np.full(n_harmonics, 1 / n_harmonics), size=draws), rng)


def neuron_shuffle_test(power: Power, rng: Rng = 0, draws: int = 1000) -> PermutationTest:
    """The paper's own test: shuffle the dominant harmonics across neurons. It cannot reject, and is here to show that; see `iid_test`."""
    source, dominant = generator(rng), power.argmax(0).numpy()
    return PermutationTest.from_counts(power, (np.bincount(source.permutation(dominant), minlength=len(power)) for _ in range(draws)), source)
