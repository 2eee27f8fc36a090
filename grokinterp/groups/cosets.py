"""Subgroups up to conjugacy, and their cosets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.groups.group import Group, generated

LARGEST = 1_000  # elements (chosen here: S_6, of 720, takes seconds)
MOST = 2_000  # subgroups, conjugates counted (chosen here: Z_2 to the 6th has 2,825, to the 7th 29,212)


@dataclass(frozen=True, eq=False)
class Subgroup:
    """A subgroup, standing for its conjugacy class.

    Attributes:
        group: the group that it lies in.
        members: mask of its elements.
        n_conjugates: how many subgroups are conjugate to it, itself included.
        name: "order 24 a", letters tell classes of one order apart; "trivial" and "whole" for the two ends.
    """

    group: Group
    members: Bool[Tensor, "element"]
    n_conjugates: int
    name: str

    def __repr__(self) -> str:
        return f"Subgroup({self.name} of {self.group.name}, {self.n_conjugates} conjugates)"

    @property
    def order(self) -> int:
        """The number of its elements."""
        return int(self.members.sum())

    @property
    def index(self) -> int:
        """The number of its cosets."""
        return self.group.order // self.order

    @property
    def left_cosets(self) -> Int[Tensor, "element"]:
        """The number of the coset gH that each element g lies in, 0 … index − 1, in the order of their first elements."""
        return _numbered(self.group.product[:, self.members].min(1).values)

    @property
    def right_cosets(self) -> Int[Tensor, "element"]:
        """The number of the coset Hg that each element g lies in, 0 … index − 1, in the order of their first elements."""
        return _numbered(self.group.product[self.members].min(0).values)

    @property
    def normal(self) -> bool:
        """Whether every conjugate is the subgroup itself."""
        return self.n_conjugates == 1

    def conjugates(self) -> list[Bool[Tensor, "element"]]:
        """The masks of all subgroups that are conjugate to it, itself first."""
        return [_mask(bits, self.group.order) for bits in _conjugates(_Table.from_group(self.group), _bits(self.members.numpy()))]


@lru_cache(maxsize=8)
def subgroups(group: Group) -> tuple[Subgroup, ...]:
    """One subgroup of each conjugacy class, by order, from the trivial one to the whole group.

    Every subgroup is reached from a smaller one by adding an element; up to conjugacy it is enough to add elements to one of each class.

    Raises:
        GrokinterpError: a group of more than 1,000 elements or with more than 2,000 subgroups.
    """
    if group.order > LARGEST:
        raise GrokinterpError(f"subgroups are searched in groups of up to {LARGEST:,} elements; {group.name} has {group.order:,}")
    table = _Table.from_group(group)
    trivial = 1 << group.identity
    classes, seen, queue = {trivial: 1}, {trivial}, [(trivial, list[int]())]
    while queue:
        start, seeds = queue.pop()
        members, done = table.elements(start), start
        for x in table.cyclic_generators:
            if done >> x & 1:
                continue
            larger = _bits(generated(table.product, [*seeds, x], members).numpy())
            index = larger.bit_count() // len(members)
            if all(index % k for k in range(2, index)):  # of prime index nothing lies between, so that its other elements lead to it too
                done |= larger
            if larger in seen:
                continue
            conjugate = _conjugates(table, larger)
            seen |= set(conjugate)
            if len(seen) > MOST:
                raise GrokinterpError(
                    f"{group.name} has more than {MOST:,} subgroups, conjugates counted, too many to look for cosets; take a group with fewer"
                )
            classes[larger] = len(conjugate)
            queue.append((larger, [*seeds, x]))
    ordered = sorted(classes, key=lambda bits: (bits.bit_count(), classes[bits], bits))
    return tuple(Subgroup(group, _mask(bits, group.order), classes[bits], name) for bits, name in zip(ordered, _names(ordered, group.order)))


@dataclass(frozen=True, eq=False)
class _Table:
    """What the search asks of a group, as arrays."""

    product: Int[np.ndarray, "x y"]
    inverse: Int[np.ndarray, "element"]

    @classmethod
    def from_group(cls, group: Group) -> _Table:
        return cls(group.product.numpy(), group.inverse.numpy())

    @cached_property
    def cyclic_generators(self) -> list[int]:
        """One element of each cyclic subgroup but the trivial one."""
        found: dict[int, int] = {}
        for x in range(len(self.product)):
            found.setdefault(_bits(generated(self.product, [x]).numpy()), x)
        return [x for bits, x in found.items() if bits.bit_count() > 1]

    def elements(self, bits: int) -> list[int]:
        members: list[int] = _mask(bits, len(self.product)).nonzero().flatten().tolist()
        return members


def _conjugates(table: _Table, bits: int) -> list[int]:
    """All x H x⁻¹, H itself first; elements x of one coset xH give the same."""
    members = table.elements(bits)
    x = np.unique(table.product[:, members].min(1))
    masks = np.zeros((len(x), len(table.product)), dtype=bool)
    np.put_along_axis(masks, table.product[table.product[x[:, None], members], table.inverse[x][:, None]], True, axis=1)
    distinct = np.unpackbits(np.unique(np.packbits(masks, axis=1), axis=0), axis=1, count=masks.shape[1]).astype(bool)
    return list(dict.fromkeys([bits, *map(_bits, distinct)]))


def _bits(mask: Bool[np.ndarray, "element"]) -> int:
    """A mask as a whole number, which is quick to compare and to look up."""
    return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")


def _mask(bits: int, n: int) -> Bool[Tensor, "element"]:
    raw = np.frombuffer(bits.to_bytes((n + 7) // 8, "little"), dtype=np.uint8)
    return torch.from_numpy(np.unpackbits(raw, count=n, bitorder="little").astype(bool))


def _numbered(labels: Int[Tensor, "element"]) -> Int[Tensor, "element"]:
    numbers: Tensor = torch.unique(labels, return_inverse=True)[1]
    return numbers


def _names(ordered: list[int], order: int) -> list[str]:
    orders = [bits.bit_count() for bits in ordered]
    names = []
    for i, k in enumerate(orders):
        letter = chr(ord("a") + orders[:i].count(k)) if orders.count(k) <= 26 else f"#{orders[:i].count(k) + 1}"
        names.append("whole" if k == order else "trivial" if k == 1 else f"order {k}{f' {letter}' if orders.count(k) > 1 else ''}")
    return names
