"""Groups by name: Z_n, D_n, Q_n, S_n, A_n, direct products, and any table of one's own.

groups.cyclic(113), groups.dihedral(59), groups.symmetric(5), groups.alternating(5)
groups.direct_product(groups.cyclic(2), groups.symmetric(3)), groups.named("Z_2 x S_3"), groups.from_table(table)
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from grokinterp.checks import shown
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.groups.group import Group
from grokinterp.groups.representations import Representation, in_order, split
from grokinterp.groups.young import partition_name, partitions, permutations_of, young_orthogonal

LETTERS = 6  # S_6 has 720 elements and a table of 518,400 pairs
QUATERNIONS = 512  # elements of Q_n, whose representations are computed
ELEMENTS = 8_192  # of Z_n, D_n and products: a table of 67 million pairs, 0.5 GB


def _family(name: str, largest: int) -> Callable[[Callable[[int], Group]], Callable[[int], Group]]:
    """A family of groups by a whole number n: n is checked, and each group is made once."""

    def checked(make: Callable[[int], Group]) -> Callable[[int], Group]:
        made = lru_cache(make)

        @wraps(make)
        def member(n: int) -> Group:
            if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= largest:
                raise GrokinterpError(f"{name} is offered for whole numbers n from 1 to {largest:,}; got {n!r}")
            return made(n)

        return member

    return checked


@_family("Z_n", ELEMENTS)
def cyclic(n: int) -> Group:
    """The cyclic group Z_n: element x is x, the product is addition mod n.

    Its real irreducible representations go by their frequency: "0" is trivial, "k" the rotation by 2πkx/n, and n/2, for even n, alternates.

    Raises:
        GrokinterpError: n outside 1 … 8,192.
    """
    x = torch.arange(n)
    return Group(f"Z_{n}", (x[:, None] + x) % n, irreps=partial(_cyclic, n))


def _cyclic(n: int) -> dict[str, Representation]:
    found = {"0": torch.ones(n, 1, 1, dtype=torch.float64)}
    found |= {str(k): _rotations(n, k) for k in range(1, (n + 1) // 2)}
    if n % 2 == 0:
        found[str(n // 2)] = (1 - 2 * (torch.arange(n) % 2)).double().view(n, 1, 1)
    return _by_name(found)


@_family("D_n", ELEMENTS // 2)
def dihedral(n: int) -> Group:
    """The dihedral group D_n of order 2n, the symmetries of a regular n-gon; element r + n·s stands for (r, s).

    The product is (r, s)(r', s') = (r ± r' mod n, s + s' mod 2), minus if s = 1 (numbered as by arXiv 2302.03025).

    Raises:
        GrokinterpError: n outside 1 … 4,096.
    """
    index = torch.arange(2 * n)
    r, s = index % n, index // n
    product = (r[:, None] + (1 - 2 * s[:, None]) * r) % n + n * ((s[:, None] + s) % 2)
    names = [f"{'s' if flip else ''}r{turn}" for turn, flip in zip(r.tolist(), s.tolist(), strict=True)]
    return Group(f"D_{n}", product, names, partial(_dihedral, n))


def _dihedral(n: int) -> dict[str, Representation]:
    r, s = torch.arange(2 * n) % n, torch.arange(2 * n) // n
    flips, turns = (1 - 2 * s).double().view(-1, 1, 1), (1 - 2 * (r % 2)).double().view(-1, 1, 1)
    found = {"trivial": torch.ones(2 * n, 1, 1, dtype=torch.float64), "sign": flips}
    if n % 2 == 0:
        found |= {"alternating": turns, "alternating sign": turns * flips}
    mirror = torch.stack([torch.ones(2 * n), (1 - 2 * s).float()], dim=1).double()[:, None]  # diag(1, ±1) from the right
    found |= {f"rotation {k}": _rotations(n, k)[r] * mirror for k in range(1, (n + 1) // 2)}
    return _by_name(found)


@_family("Q_n", QUATERNIONS)
def quaternion(n: int) -> Group:
    """The generalised quaternion group of order n: Q_8, or ⟨a, x⟩ with a^(n/2) = 1, x² = a^(n/4) and xax⁻¹ = a⁻¹; r + s·n/2 stands for a^r x^s.

    Raises:
        GrokinterpError: n outside 1 … 512, or no multiple of 4.
    """
    if n % 4:
        raise GrokinterpError(f"Q_n has n elements, and n is a multiple of 4; got {n}")
    half = n // 2
    r, s = torch.arange(n) % half, torch.arange(n) // half
    turns = (r[:, None] + (1 - 2 * s[:, None]) * r + half // 2 * s[:, None] * s) % half
    names = [f"a{turn}{'x' if flip else ''}" for turn, flip in zip(r.tolist(), s.tolist(), strict=True)]
    return Group(f"Q_{n}", turns + half * ((s[:, None] + s) % 2), names)


@_family("S_n", LETTERS)
def symmetric(n: int) -> Group:
    """The symmetric group S_n: permutations of 0 … n − 1 in lexicographic order of their one-line notation; (gh)(i) = g(h(i)).

    Its irreducible representations go by partitions, "(4,1)", in Young's orthogonal form; the trivial one "(5)" is first, the sign last.

    Raises:
        GrokinterpError: n outside 1 … 6.
    """
    elements = permutations_of(n)
    return Group(f"S_{n}", _composition(elements), _one_line(elements), partial(_symmetric, n))


def _symmetric(n: int) -> dict[str, Representation]:
    return _by_name({partition_name(shape): torch.from_numpy(young_orthogonal(shape)) for shape in partitions(n)})


@_family("A_n", LETTERS)
def alternating(n: int) -> Group:
    """The alternating group A_n: the even permutations, numbered and composed as in `symmetric`.

    A partition and its transpose give the same representation, named by the earlier one; one that is its own transpose falls into two,
    "(3,1,1)a" and "(3,1,1)b", or stays whole where the two are complex.

    Raises:
        GrokinterpError: n outside 1 … 6.
    """
    elements = permutations_of(n)[_even(n)]
    return Group(f"A_{n}", _composition(elements), _one_line(elements), partial(_alternating, n))


def _alternating(n: int) -> dict[str, Representation]:
    found: dict[str, Tensor] = {}
    for shape in partitions(n):
        transposed = tuple(sum(row > column for row in shape) for column in range(shape[0]))
        if shape < transposed:
            continue
        restricted = torch.from_numpy(young_orthogonal(shape)[_even(n)])
        parts = split(restricted) if shape == transposed and restricted.shape[1] > 1 else [restricted]
        found |= {partition_name(shape) + (letter if len(parts) > 1 else ""): part for letter, part in zip("ab", in_order(parts))}
    return _by_name(found)


def direct_product(first: Group, second: Group) -> Group:
    """The direct product of two groups: element i·|H| + j stands for (g_i, h_j), with products by component.

    Its representations are the irreducible parts of the tensor products, named "ρ × σ", with "#1" and "#2" where one falls into two.

    Raises:
        GrokinterpError: more than 8,192 elements.
    """
    n, m = first.order, second.order
    if n * m > ELEMENTS:
        raise GrokinterpError(f"products are offered up to {ELEMENTS:,} elements; {first.name} × {second.name} has {n * m:,}")
    index = torch.arange(n * m)
    i, j = index // m, index % m
    product = first.product[i[:, None], i] * m + second.product[j[:, None], j]
    names = [f"({first.elements[a]}, {second.elements[b]})" for a, b in zip(i.tolist(), j.tolist(), strict=True)]
    return Group(f"{first.name} × {second.name}", product, names, partial(_product, first, second))


def _product(first: Group, second: Group) -> dict[str, Representation]:
    n, m = first.order, second.order
    i, j = torch.arange(n * m) // m, torch.arange(n * m) % m
    found: dict[str, Tensor] = {}
    for (a, rho), (b, sigma) in itertools.product(first.irreps.items(), second.irreps.items()):
        d = rho.dimension * sigma.dimension
        tensor = torch.einsum("gij,gkl->gikjl", rho.matrices[i], sigma.matrices[j]).reshape(n * m, d, d)
        whole = rho.commuting == 1 or sigma.commuting == 1
        parts = {"": tensor} if whole else _different(split(tensor))
        found |= {f"{a} × {b}{suffix}": part for suffix, part in parts.items()}
    return _by_name(found)


FAMILIES: dict[str, Callable[[int], Group]] = {"Z": cyclic, "C": cyclic, "D": dihedral, "Q": quaternion, "S": symmetric, "A": alternating}
"""Families that `named` knows; open for your own, a function of n by its letters."""


def named(text: str) -> Group:
    """The group that a name stands for, a family's letters with n, a power of such, or a direct product: "D_59", "s5", "Z_2^3", "Z_2 x S_3".

    C_n is Z_n. D_n has 2n elements, Q_n has n. Letters that no family has are read as capitals.

    Raises:
        GrokinterpError: a name that is no such thing, a family that `FAMILIES` lacks, or an n that it does not offer.
    """
    found: Group | None = None
    for factor in re.split("[x×]", str(text)):
        match = re.fullmatch(r"([A-Za-z]+)_?(\d+)(?:\^([1-9]\d?))?", factor.strip())
        if match is None:
            raise GrokinterpError(f"a group is named like D_59, Q8, Z_2^3 or Z_2 x S_3; got {shown(text)}")
        family = FAMILIES.get(match[1], FAMILIES.get(match[1].upper()))
        if family is None:
            raise GrokinterpError(f"{unknown_name('family of groups', match[1], FAMILIES)}; any other group goes by its multiplication table")
        for _ in range(int(match[3] or 1)):
            found = family(int(match[2])) if found is None else direct_product(found, family(int(match[2])))
    assert found is not None  # a split of text has at least one part, and a power is at least 1
    return found


def from_table(product: Any, name: str = "table") -> Group:
    """A group by its multiplication table; its representations are computed, or those of `cyclic` where it is that group.

    Args:
        product: index of gh, [g, h]: a tensor, an array or rows of whole numbers.
        name: for messages and figures.

    Raises:
        GrokinterpError: the table is not that of a group; the message names the elements.
    """
    group = Group(name, product)
    return Group(name, group.product, irreps=partial(_cyclic, group.order)) if group.is_cyclic else group


def _composition(elements: Int[np.ndarray, "element letter"]) -> Int[Tensor, "x y"]:
    """Index of g∘h, [g, h]: read as numbers to base n the rows are sorted."""
    n = elements.shape[1]
    weights = n ** np.arange(n)[::-1]
    return torch.from_numpy(np.searchsorted(elements @ weights, elements[:, elements] @ weights))


def _one_line(elements: Int[np.ndarray, "element letter"]) -> list[str]:
    return ["".join(map(str, row)) for row in elements.tolist()]


def _even(n: int) -> Bool[np.ndarray, "element"]:
    """Which permutations of 0 … n − 1 are even."""
    return np.array([_parity(row) == 0 for row in permutations_of(n)])


def _parity(permutation: Int[np.ndarray, "letter"]) -> int:
    """0 for an even permutation: the number of pairs in the wrong order, mod 2."""
    return sum(int(a > b) for a, b in itertools.combinations(permutation.tolist(), 2)) % 2


def _rotations(n: int, k: int) -> Tensor:
    """The rotation by 2πkx/n for each x, [x, row, column]; k·x is reduced mod n first, so that the angle stays exact."""
    angle = 2 * torch.pi * (k * torch.arange(n) % n).double() / n
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)


def _different(parts: list[Tensor]) -> dict[str, Tensor]:
    """Parts of different characters, by the suffix of their name."""
    kept: list[Tensor] = []
    for part in parts:
        character = part.diagonal(dim1=1, dim2=2).sum(1)
        if not any(torch.allclose(character, other.diagonal(dim1=1, dim2=2).sum(1), atol=1e-6) for other in kept):
            kept.append(part)
    return {"" if len(kept) == 1 else f" #{i + 1}": part for i, part in enumerate(in_order(kept))}


def _by_name(matrices: dict[str, Tensor]) -> dict[str, Representation]:
    return {name: Representation(name, values) for name, values in matrices.items()}
