"""The symmetric group S_n: its product, conjugacy classes, and irreducible representations from Young's orthogonal form.

Elements are the permutations of 0 … n − 1 in lexicographic order of their one-line notation, so that element 0 is the identity. Products
compose from the right: (g∘h)(i) = g(h(i)). Irreducible representations and conjugacy classes go by partitions of n, like (4, 1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.shapes import PairGrid

Partition = tuple[int, ...]
Tableau = tuple[tuple[int, int], ...]
"""A standard Young tableau: the (row, column) of each of the letters 0 … n − 1."""
Representation = Float64[Tensor, "element row column"]

LARGEST = 6  # letters: 720 elements and a table of 518,400 pairs


@dataclass(frozen=True)
class SymmetricGroup:
    """The symmetric group S_n with its classes, characters and real orthogonal irreducible representations.

    Attributes:
        n: letters, 2 … 6.
    """

    n: int

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or not 2 <= self.n <= LARGEST:
            raise GrokinterpError(f"S_n is offered for n from 2 to {LARGEST} letters; got {self.n!r}")

    @property
    def order(self) -> int:
        """n!, the number of elements."""
        return math.factorial(self.n)

    @property
    def elements(self) -> Int[Tensor, "element letter"]:
        """The image of each letter, row by row in lexicographic order."""
        return torch.from_numpy(_elements(self.n).copy())

    @property
    def product(self) -> PairGrid:
        """Index of g∘h, [g, h]."""
        return torch.from_numpy(_product(self.n).copy())

    @property
    def inverse(self) -> Int[Tensor, "element"]:
        """Index of each element's inverse."""
        return torch.from_numpy(_index(np.argsort(_elements(self.n), axis=1)))

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """The partitions of n from (n) to (1, …, 1), which name both irreducible representations and conjugacy classes.

        The first representation is the trivial one, the last the sign; the last class is that of the identity.
        """
        return _partitions(self.n)

    @property
    def classes(self) -> Int[Tensor, "element"]:
        """Each element's conjugacy class, its cycle type, as a position in `partitions`."""
        position = {partition: i for i, partition in enumerate(self.partitions)}
        return torch.tensor([position[_cycle_type(element)] for element in _elements(self.n).tolist()])

    @property
    def irreps(self) -> Mapping[Partition, Representation]:
        """The real orthogonal irreducible representations by partition, [element, row, column], float64: Young's orthogonal form.

        An adjacent transposition s_i = (i i+1) acts on the standard tableaux T of the partition's shape by
        ``ρ(s_i) T = T/r + √(1 − 1/r²) s_i T``, where r is the content (column − row) of i + 1 in T less that of i; every other
        permutation is a product of these. Computed once; the tensors are shared, so leave them unchanged.
        """
        return _irreps(self.n)

    @property
    def characters(self) -> Float64[Tensor, "irrep conjugacy"]:
        """The character table: the trace of each irreducible representation at each conjugacy class, both in the order of `partitions`."""
        first = [int((self.classes == i).nonzero()[0]) for i in range(len(self.partitions))]
        return torch.stack([rho[first].diagonal(dim1=1, dim2=2).sum(1) for rho in self.irreps.values()])


def partition_name(partition: Partition) -> str:
    """A partition as text, "(4,1)"."""
    return f"({','.join(map(str, partition))})"


@lru_cache
def _elements(n: int) -> Int[np.ndarray, "element letter"]:
    return np.array(list(itertools.permutations(range(n))))


def _index(permutations: Int[np.ndarray, "*shape letter"]) -> Int[np.ndarray, "*shape"]:
    """The place of permutations in lexicographic order: read as numbers to base n they are sorted."""
    n = permutations.shape[-1]
    weights = n ** np.arange(n)[::-1]
    places: np.ndarray = np.searchsorted(_elements(n) @ weights, permutations @ weights)
    return places


@lru_cache
def _product(n: int) -> Int[np.ndarray, "x y"]:
    elements = _elements(n)
    return _index(elements[:, elements])


@lru_cache
def _partitions(n: int, largest: int | None = None) -> tuple[Partition, ...]:
    if n == 0:
        return ((),)
    firsts = range(min(n, largest or n), 0, -1)
    return tuple((first, *rest) for first in firsts for rest in _partitions(n - first, first))


def _cycle_type(permutation: list[int]) -> Partition:
    left, lengths = set(permutation), []
    while left:
        start = letter = left.pop()
        length = 1
        while (letter := permutation[letter]) != start:
            left.remove(letter)
            length += 1
        lengths.append(length)
    return tuple(sorted(lengths, reverse=True))


@lru_cache
def _irreps(n: int) -> Mapping[Partition, Representation]:
    return MappingProxyType({shape: torch.from_numpy(_young_orthogonal(shape)) for shape in _partitions(n)})


def _young_orthogonal(shape: Partition) -> Float64[np.ndarray, "element row column"]:
    """The representation of a shape at every element, as products of adjacent transpositions."""
    n = sum(shape)
    elements, tableaux = _elements(n), _standard_tableaux(shape)
    swaps = [_adjacent_transposition(tableaux, i) for i in range(n - 1)]
    rho = np.empty((len(elements), len(tableaux), len(tableaux)))
    rho[0] = np.eye(len(tableaux))
    for g in range(1, len(elements)):
        # Where one-line notation descends at i, g∘s_i has the two entries in order, so it comes earlier and is known.
        i = int(np.argmax(elements[g, :-1] > elements[g, 1:]))
        before = elements[g].copy()
        before[[i, i + 1]] = before[[i + 1, i]]
        rho[g] = rho[_index(before[None])[0]] @ swaps[i]
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
