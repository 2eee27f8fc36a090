"""The numbering of S_5, S_6 and A_5 in the published models of "A Toy Model of Universality" (arXiv 2302.03025).

Permutations come in sympy's coset order, the products u0∘u1∘u2∘… of one factor from each of several lists, u0 running fastest; they compose the
first operand first, (xy)(i) = y(x(i)). Z_n and D_n are numbered there as here.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

from grokinterp.errors import unknown_name
from grokinterp.groups.families import named
from grokinterp.groups.group import Group

_FACTORS = {
    "S_5": ("01234 12340 23401 34012 41230", "01234 02143 03412 04123", "01423 01234 01243", "01234 01432"),
    "S_6": (
        "012345 123450 234501 345012 451230 512340",
        "012345 021354 031254 045123 051234",
        "013524 012534 012345 012354",
        "012345 013542 015243",
        "012345 012543",
    ),
    "A_5": ("01234 12340 23401 34012 42130", "01234 02143 03124 04213", "01234 01342 01423"),
}


@lru_cache
def published(name: str) -> Group:
    """S_5, S_6 or A_5 with the elements and products of the published models.

    Raises:
        GrokinterpError: another group.
    """
    if name not in _FACTORS:
        raise unknown_name("group with a published numbering", name, _FACTORS)
    # The last list is the outermost loop.
    chosen = itertools.product(*(factors.split() for factors in reversed(_FACTORS[name])))
    group = named(name)
    place = {element: i for i, element in enumerate(group.elements)}
    return group.opposite().renumbered([place[_composed(tuple(reversed(factors)))] for factors in chosen])


def _composed(factors: tuple[str, ...]) -> str:
    """u0∘u1∘…, the last factor acting first, in one-line notation."""
    result = factors[-1]
    for factor in reversed(factors[:-1]):
        result = "".join(factor[int(letter)] for letter in result)
    return result
