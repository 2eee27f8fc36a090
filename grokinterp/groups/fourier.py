"""Fourier analysis on the cyclic group Z_n, by matrix products: bases, spectra, marginals of tables of pairs.

The real basis of functions on Z_n is ``[1/√n, cos 1, sin 1, …, cos ⌊n/2⌋, sin ⌊n/2⌋]``, every row of unit norm (Nanda et
al. 2023, section 3). For even n the last sine vanishes and is left out, so there are always n rows.

It is the fast path of `transform.py`, and gives the same numbers. A table of pairs is read through its four marginals (`operation.py`), so that no
full two-dimensional transform is ever computed for it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.groups.operation import Operation, combined_mean
from grokinterp.shapes import ElementLogits, FourierMatrix, Frequencies


def fourier_basis(n: int) -> FourierMatrix:
    """The n unit-norm basis functions on Z_n as rows [component, element], float64: constant, cos 1, sin 1, cos 2, …

    Raises:
        GrokinterpError: n < 2.
    """
    if n < 2:
        raise GrokinterpError(f"a Fourier basis needs a group of at least 2 elements; got n = {n}")
    return _basis(n).clone()


@lru_cache(maxsize=8)
def _basis(n: int) -> FourierMatrix:
    frequency, sine = _components(n)
    # Reduce k·x mod n before the cosine: the angle stays exact for large k·x.
    angle = 2 * np.pi * (frequency[:, None] * np.arange(n)[None, :] % n) / n
    rows = np.where(sine[:, None], np.sin(angle), np.cos(angle))
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def component_frequencies(n: int) -> Frequencies:
    """Frequency of each row of `fourier_basis`: 0, 1, 1, 2, 2, …"""
    return _components(n)[0]


def component_names(n: int) -> list[str]:
    """Name of each row of `fourier_basis`: "1", "cos 1", "sin 1", …"""
    frequency, sine = _components(n)
    return ["1" if k == 0 else f"{'sin' if s else 'cos'} {k}" for k, s in zip(frequency, sine, strict=True)]


def _components(n: int) -> tuple[Frequencies, np.ndarray]:
    frequency = (np.arange(n) + 1) // 2
    sine = (np.arange(n) % 2 == 0) & (frequency > 0)
    return frequency, sine


def frequency_power(vectors: Tensor) -> Tensor:
    """Squared norm of functions on Z_n at each frequency 1 … ⌊n/2⌋, the constant left out.

    Args:
        vectors: [element, …]; any number of functions, element first.

    Returns:
        [frequency, …], float64 for float64 input. Summed over frequencies it is the squared norm of the centred input (Parseval).
    """
    n = len(vectors)
    squares = fourier_components(vectors).square()
    power = squares[1::2].clone()  # cosines of 1 … ⌊n/2⌋
    power[: (n - 1) // 2] += squares[2::2]
    return power


def fourier_components(vectors: Tensor) -> Tensor:
    """Coefficients of functions on Z_n, [element, …], in the rows of `fourier_basis`, as [component, …]."""
    n = len(vectors)
    return (_basis(n).to(vectors) @ vectors.reshape(n, -1)).reshape(vectors.shape)


def frequency_projector(n: int, frequencies: Frequencies) -> Tensor:
    """The orthogonal projector [element, element] on the cosines and sines of the given frequencies, float64.

    Raises:
        GrokinterpError: a frequency outside 1 … ⌊n/2⌋.
    """
    check_frequencies(n, frequencies)
    rows = _basis(n)[torch.from_numpy(np.isin(component_frequencies(n), frequencies))]
    return rows.T @ rows


def check_frequencies(n: int, frequencies: Frequencies) -> None:
    """Raise a GrokinterpError for a frequency outside 1 … ⌊n/2⌋."""
    bad = [int(k) for k in frequencies if not 1 <= k <= n // 2]
    if bad:
        raise GrokinterpError(f"frequencies of Z_{n} lie in 1 … {n // 2}; got {bad[0]}")


def neuron_frequency_shares(table: Tensor, operation: Operation) -> Tensor:
    """Share of each neuron's variance over all pairs that its {1, cos, sin}² block explains, for each frequency.

    The 3×3 block of frequency k holds the eight products of {1, cos k, sin k} of x and of y, the constant left out
    (Nanda et al. 2023, appendix). Its power is that of k in the four marginals of the table.

    Args:
        table: activations [x, y, neuron].
        operation: of the operands, in a cyclic group.

    Returns:
        [frequency, neuron], float64; NaN for a neuron that is constant over all pairs.
    """
    n = operation.order
    mean = table.mean((0, 1))
    # Short float32 sums, then float64: one float32 sum over all n² pairs would lose four digits.
    total = (table - mean).square_().sum(0).double().sum(0)
    # The marginals are small, and in float64 a large mean does not leak into the cosines of a nearly constant neuron.
    marginals = (table.mean(1), table.mean(0), combined_mean(table, operation))
    power = sum((frequency_power(marginal.double()) for marginal in marginals), torch.zeros(()))
    opposite = frequency_power(combined_mean(table, operation, opposite=True).double())
    if n % 2 == 0:
        opposite[-1] = 0  # cos(πx)cos(πy) is one function, not two: x + y and x − y agree mod 2
    floor = torch.finfo(table.dtype).eps * mean.square() * n * n
    return n * (power + opposite) / torch.where(total > floor, total, torch.nan).double()


def gini(values: Tensor) -> float:
    """Gini coefficient of non-negative values: 0 when all are equal, 1 − 1/N when one holds everything.

    ``1 − 2 Σ_k (c_k/‖c‖₁)(N − k + ½)/N`` over the values sorted ascending (Nanda et al. 2023, after Hurley and Rickard).

    Raises:
        GrokinterpError: negative values, or all zero.
    """
    ascending = values.flatten().double().sort().values
    if ascending[0] < 0 or ascending[-1] <= 0:
        raise GrokinterpError("a Gini coefficient needs non-negative values that are not all zero")
    n = len(ascending)
    rank = torch.arange(1, n + 1, dtype=torch.float64)
    return float(1 - 2 * (ascending / ascending.sum() * (n - rank + 0.5) / n).sum())


def pair_spectrum(table: Tensor) -> Tensor:
    """Two-dimensional Fourier components of a table of pairs in the real basis.

    Args:
        table: [x, y, …].

    Returns:
        [component, component, …], rows and columns in the order of `fourier_basis`; the same squared norm as the table.
    """
    return fourier_components(fourier_components(table).transpose(0, 1)).transpose(0, 1)


def cosine_coefficients(sums: ElementLogits, n_pairs: int) -> Tensor:
    """Projections of a logit table on the unit-norm functions cos(w_k(s − c)) over all pairs and answers, for each k.

    Args:
        sums: mean logits of the pairs that combine to s, [s, c].
        n_pairs: pairs for each s (n over the full table).

    Returns:
        [frequency], in logits · √(number of table entries).
    """
    n = len(sums)
    s = torch.arange(n)
    k = torch.arange(1, n // 2 + 1)[:, None]
    by_difference = sums[s[None, :], (s[None, :] - s[:, None]) % n].sum(1)  # [d] = Σ_s sums[s, s − d]
    cosines = torch.cos(2 * torch.pi * (k * s % n).to(sums.dtype) / n)
    norm = torch.sqrt(n_pairs * n * cosines.square().sum(1))
    return n_pairs * (cosines @ by_difference) / norm
