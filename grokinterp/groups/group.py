"""A finite group as a table: elements, products, inverses, conjugacy classes, and its real irreducible representations.

    group = groups.symmetric(5)
    group.product[g, h]  # index of gh
    group.irreps["(4,1)"].matrices  # [element, row, column]
    groups.from_table(table)  # any group of one's own, by its multiplication table

Measures ask the group, never its type. Every family of this package and every table of a user's is the same class; they differ in where
their representations come from: a closed form where there is one, else `representations.of_table`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.groups.representations import Representation, of_table
from grokinterp.shapes import PairGrid, whole_numbers

Irreps = Mapping[str, Representation]


class Group:
    """A finite group, by its multiplication table.

    Args:
        name: for messages and figures, "D_59" for example.
        product: index of gh, [g, h], a tensor, an array or rows of whole numbers; every row and every column holds each element once.
        elements: a label for each element; None for "0", "1", …
        irreps: makes the real irreducible representations by name, the trivial one first; None for a numerical decomposition
            of the regular representation. Called once, when first asked for; a function of a module or a partial of one can be pickled.

    Raises:
        GrokinterpError: the table is not that of a group; the message names the axiom and the elements.
    """

    def __init__(self, name: str, product: Any, elements: Sequence[str] | None = None, irreps: Callable[[], Irreps] | None = None) -> None:
        self.name = name
        self._product = check_table(product)
        self.elements = tuple(map(str, range(self.order))) if elements is None else tuple(elements)
        if len(self.elements) != self.order:
            raise GrokinterpError(f"{name} has {self.order} elements; got {len(self.elements)} labels")
        self._make_irreps = irreps

    def __repr__(self) -> str:
        return f"Group({self.name}, order {self.order})"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Group) and torch.equal(self._product, other._product)

    def __hash__(self) -> int:
        return hash((self.order, self._product.numpy().tobytes()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Group, (self.name, self._product, self.elements, self._make_irreps)

    @property
    def order(self) -> int:
        """The number of elements."""
        return len(self._product)

    @property
    def product(self) -> PairGrid:
        """Index of gh, [g, h]."""
        return self._product.clone()

    @cached_property
    def identity(self) -> int:
        """The index of e, for which eg = g."""
        return int((self._product.diagonal() == torch.arange(self.order)).nonzero()[0])

    @cached_property
    def inverse(self) -> Int[Tensor, "element"]:
        """Index of each element's inverse."""
        return (self._product == self.identity).int().argmax(1)

    @cached_property
    def is_cyclic(self) -> bool:
        """Whether it is Z_n as it is numbered, gh = g + h mod n, so that Fourier analysis by frequency applies."""
        x = torch.arange(self.order)
        return torch.equal(self._product, (x[:, None] + x) % self.order)

    @property
    def abelian(self) -> bool:
        """Whether gh = hg for all pairs."""
        return torch.equal(self._product, self._product.T)

    @cached_property
    def classes(self) -> Int[Tensor, "element"]:
        """Each element's conjugacy class, numbered in the order of their first elements."""
        inverse = self.inverse
        number = torch.full((self.order,), -1)
        for g in range(self.order):
            if number[g] < 0:
                conjugates = self._product[self._product[:, g], inverse]  # [x] = x g x⁻¹
                number[conjugates] = int(number.max()) + 1
        return number

    @cached_property
    def irreps(self) -> Irreps:
        """The real irreducible representations by name, the trivial one first; their matrices are shared, so leave them unchanged."""
        made = of_table(self._product) if self._make_irreps is None else self._make_irreps()
        return MappingProxyType(dict(made))

    @property
    def characters(self) -> Float64[Tensor, "irrep conjugacy"]:
        """The table of real characters: each representation's trace at each conjugacy class, in the orders of `irreps` and `classes`."""
        first = [int((self.classes == i).nonzero()[0]) for i in range(int(self.classes.max()) + 1)]
        return torch.stack([rho.character[first] for rho in self.irreps.values()])

    def opposite(self) -> Group:
        """The same elements with hg as the product of g and h: isomorphic by g ↦ g⁻¹, and left cosets become right ones."""
        return Group(self.name, self._product.T.contiguous(), self.elements, partial(_transposed, self))

    def renumbered(self, order: Sequence[int]) -> Group:
        """The same group with its elements in another order: new element i is old element ``order[i]``.

        Raises:
            GrokinterpError: `order` does not name every element once.
        """
        if sorted(order) != list(range(self.order)):
            raise GrokinterpError(f"an order of {self.name} names each of 0 … {self.order - 1} once; got {len(order)} numbers")
        old = torch.as_tensor(order)
        new = torch.empty_like(old)
        new[old] = torch.arange(self.order)
        names = [self.elements[i] for i in order]
        return Group(self.name, new[self._product[old][:, old]], names, partial(_renumbered, self, old))


def _transposed(group: Group) -> Irreps:
    return {name: Representation(name, rho.matrices.mT.contiguous()) for name, rho in group.irreps.items()}


def _renumbered(group: Group, order: Tensor) -> Irreps:
    return {name: rho.renumbered(order) for name, rho in group.irreps.items()}


def check_table(product: Any) -> PairGrid:
    """A multiplication table as int64, if it is that of a group.

    Args:
        product: index of gh, [g, h]: a tensor, an array or rows of whole numbers.

    Raises:
        GrokinterpError: not a square of whole numbers, an entry that is no element, a row or column that holds an element twice, no identity, or a
            product that is not associative; the message names the elements. Associativity is tested at generators (Light's test), which is exact.
    """
    table = whole_numbers("the products of a group", product, 2)
    n = len(table)
    if not n or table.shape[1] != n:
        raise GrokinterpError(f"a multiplication table is a square with the product gh in row g and column h; got {n} rows of {table.shape[1]}")
    for g, h in ((table < 0) | (table >= n)).nonzero()[:1].tolist():
        _refuse(f"the elements of a table of {n} rows are 0 … {n - 1}, and its product {g}·{h} is {int(table[g, h])}")
    for what, rows in (("row", table), ("column", table.T)):
        held = torch.zeros_like(rows).scatter_add_(1, rows, torch.ones_like(rows))
        for g, x in (held > 1).nonzero()[:1].tolist():
            missing = int((held[g] == 0).int().argmax())
            _refuse(f"{what} {g} of the table holds {x} more than once and {missing} not at all, where a group has each element once")
    everything = torch.arange(n)
    left, right = (table == everything).all(1), (everything[:, None] == table).all(0)
    if not bool((left & right).any()):
        one_sided = [f"; {int(e.int().argmax())} is one on the {side} alone" for side, e in (("left", left), ("right", right)) if bool(e.any())]
        _refuse(f"no element of the table is an identity e, with eg = ge = g for all {n} elements g{''.join(one_sided)}")
    for x in generators(table):
        first, last = table[table[:, x]], table[:, table[x]]  # (gx)h and g(xh)
        for g, h in (first != last).nonzero()[:1].tolist():
            _refuse(f"the table is not associative: ({g}·{x})·{h} is {int(first[g, h])}, and {g}·({x}·{h}) is {int(last[g, h])}")
    return table


def _refuse(why: str) -> NoReturn:
    raise GrokinterpError(f"{why}; correct the table, or learn it as a `Task` whose structure is None, which needs no group")


def generators(product: PairGrid) -> list[int]:
    """Few elements whose products are all elements: greedily, each one outside what the earlier ones generate."""
    found: list[int] = []
    inside = torch.zeros(len(product), dtype=torch.bool)
    while not bool(inside.all()):
        found.append(int((~inside).int().argmax()))
        inside = generated(product, found)
    return found


def generated(product: PairGrid | Int[np.ndarray, "x y"], seeds: Sequence[int], start: Sequence[int] = ()) -> Tensor:
    """Mask [element] of the subgroup that some elements generate.

    Args:
        product: the multiplication table of a finite group.
        seeds: the elements.
        start: more elements of that subgroup, where they are known: a smaller subgroup that the seeds generate in part.
    """
    table, steps = np.asarray(product), np.asarray(seeds)
    inside = np.zeros(len(table), dtype=bool)
    inside[[*start, *seeds]] = True
    new = np.flatnonzero(inside)
    while len(new):
        reached = np.zeros_like(inside)
        reached[table[new[:, None], steps]] = True
        new = np.flatnonzero(reached & ~inside)
        inside |= reached
    return torch.from_numpy(inside)
