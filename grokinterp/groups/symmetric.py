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
from grokinterp.groups.young import Partition, partition_name, partitions, young_orthogonal
from grokinterp.shapes import PairGrid

__all__ = ["Partition", "Representation", "SymmetricGroup", "partition_name"]

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
        return partitions(self.n)

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
    return MappingProxyType({shape: torch.from_numpy(young_orthogonal(shape)) for shape in partitions(n)})
