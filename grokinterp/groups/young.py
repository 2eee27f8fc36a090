"""Irreducible representations of the symmetric group S_n in Young's orthogonal form, one for each partition of n.

An adjacent transposition s_i = (i i+1) acts on the standard tableaux T of the partition's shape by ``ρ(s_i) T = T/r + √(1 − 1/r²) s_i T``,
where r is the content (column − row) of i + 1 in T less that of i; every other permutation is a product of these.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int

Partition = tuple[int, ...]
Tableau = tuple[tuple[int, int], ...]
"""A standard Young tableau: the (row, column) of each of the letters 0 … n − 1."""


def partition_name(partition: Partition) -> str:
    """A partition as text, "(4,1)"."""
    return f"({','.join(map(str, partition))})"


@lru_cache
def partitions(n: int, largest: int | None = None) -> tuple[Partition, ...]:
    """The partitions of n from (n) to (1, …, 1), with no part above `largest`."""
    if n == 0:
        return ((),)
    firsts = range(min(n, largest or n), 0, -1)
    return tuple((first, *rest) for first in firsts for rest in partitions(n - first, first))


def young_orthogonal(shape: Partition) -> Float64[np.ndarray, "element row column"]:
    """The representation of a shape at every element, as products of adjacent transpositions."""
    n = sum(shape)
    elements, tableaux = permutations_of(n), _standard_tableaux(shape)
    swaps = [_adjacent_transposition(tableaux, i) for i in range(n - 1)]
    weights = n ** np.arange(n)[::-1]
    numbers = elements @ weights  # one-line notation read as numbers to base n is sorted
    rho = np.empty((len(elements), len(tableaux), len(tableaux)))
    rho[0] = np.eye(len(tableaux))
    for g in range(1, len(elements)):
        # Where one-line notation descends at i, g∘s_i has the two entries in order, so it comes earlier and is known.
        i = int(np.argmax(elements[g, :-1] > elements[g, 1:]))
        before = elements[g].copy()
        before[[i, i + 1]] = before[[i + 1, i]]
        rho[g] = rho[np.searchsorted(numbers, before @ weights)] @ swaps[i]
    return rho


def _adjacent_transposition(tableaux: list[Tableau], i: int) -> Float64[np.ndarray, "row column"]:
    position = {tableau: t for t, tableau in enumerate(tableaux)}
    matrix = np.zeros((len(tableaux), len(tableaux)))
    for t, tableau in enumerate(tableaux):
        (row, column), (next_row, next_column) = tableau[i], tableau[i + 1]
        r = (next_column - next_row) - (column - row)
        matrix[t, t] = 1 / r
        if abs(r) > 1:  # else i and i + 1 are neighbours, and exchanging them leaves no standard tableau
            swapped = (*tableau[:i], tableau[i + 1], tableau[i], *tableau[i + 2 :])
            matrix[position[swapped], t] = math.sqrt(1 - 1 / r**2)
    return matrix


def _standard_tableaux(shape: Partition) -> list[Tableau]:
    """Every filling with 0 … n − 1 that grows along rows and columns: the last letter sits at a corner, the others fill the rest."""
    if not sum(shape):
        return [()]
    corners = [row for row, length in enumerate(shape) if length > (shape[row + 1] if row + 1 < len(shape) else 0)]
    smaller = {row: tuple(length - (r == row) for r, length in enumerate(shape)) for row in corners}
    return [(*rest, (row, shape[row] - 1)) for row in corners for rest in _standard_tableaux(smaller[row])]


@lru_cache
def permutations_of(n: int) -> Int[np.ndarray, "element letter"]:
    """The permutations of 0 … n − 1 in lexicographic order of their one-line notation."""
    return np.array(list(itertools.permutations(range(n))))
