"""How two operands combine in a finite group, x^±1·y^±1, and which token stands for each element.

Operation(groups.dihedral(59))  # token g is element g, and the answer is xy
Operation(groups.cyclic(113), signs=(1, -1))  # x − y mod 113

A table of pairs ``X[x, y, …]`` is read through its marginals: the means over pairs with the same x, the same y, the same combination, and the
same opposite combination, with y^∓1 in place of y^±1. They hold every component that the measures need.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.groups.group import Group
from grokinterp.shapes import PairGrid

_EXPONENTS = (1, -1)


@dataclass(frozen=True)
class Operation:
    """x^±1·y^±1 in a finite group, and the token that stands for each element.

    Attributes:
        group: whose elements are combined.
        tokens: token, and answer, of each element; None for 0 … order − 1. Multiplication mod a prime p: the powers of a generator of the
            p − 1 non-zero residues, so that products become sums of exponents.
        signs: the exponents of x and y, 1 or −1: (1, 1) for + and ×, (1, −1) for − and ÷.

    Raises:
        GrokinterpError: tokens that are not as many different ones as the group has elements, or exponents other than ±1.
    """

    group: Group
    tokens: tuple[int, ...] | None = None
    signs: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        tokens = tuple(range(self.group.order) if self.tokens is None else map(int, self.tokens))
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "signs", tuple(self.signs))
        if len(set(tokens)) != len(tokens) or len(tokens) != self.order:
            raise GrokinterpError(
                f"{self.group.name} has {self.order} elements, each with a token of its own; got {len(set(tokens))} different tokens"
            )
        if len(self.signs) != 2 or any(sign not in _EXPONENTS for sign in self.signs):
            raise GrokinterpError(f"signs are the exponents of two operands, 1 or −1 each; got {self.signs!r}")

    def __repr__(self) -> str:
        x, y = (name if sign == 1 else f"{name}⁻¹" for name, sign in zip("xy", self.signs, strict=True))
        return f"Operation({x}{y} in {self.group.name})"

    @property
    def order(self) -> int:
        """The number of elements."""
        return self.group.order

    @property
    def token_of(self) -> Tensor:
        """Token, and answer, of each element, [element]."""
        assert self.tokens is not None  # None was replaced above
        return torch.tensor(self.tokens)

    def combination(self, opposite: bool = False) -> PairGrid:
        """The element that each pair combines to, [x, y]; with `opposite` the second exponent is turned round, which gives x − y for x + y."""
        first, second = self.signs
        x, y = (torch.arange(self.order) if sign == 1 else self.group.inverse for sign in (first, -second if opposite else second))
        return self.group.product[x[:, None], y]


def combined_mean(table: Tensor, operation: Operation, opposite: bool = False, dtype: torch.dtype | None = None) -> Tensor:
    """Mean of a table [x, y, …] over the pairs that combine to each element, as [element, …].

    Args:
        table: by pairs of elements.
        operation: how they combine.
        opposite: see `Operation.combination`.
        dtype: of the sums; None for the table's own.
    """
    total = torch.zeros(operation.order, *table.shape[2:], dtype=dtype or table.dtype)
    # A row of pairs holds every combination once: n additions of an [element, …] block, with no copy of the whole table.
    for row, y_of in zip(table, operation.combination(opposite).argsort(1), strict=True):
        total += row[y_of]
    return total / operation.order
