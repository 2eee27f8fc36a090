"""The cyclic group Z_n, and the token that stands for each element."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CyclicGroup:
    """The cyclic group Z_n behind a modular task, and the token that stands for each element.

    Attributes:
        order: n, the number of elements.
        tokens: token of element x = 0 … n − 1. Addition mod p: x itself. Multiplication mod a prime p: the
            powers of a generator of the p − 1 non-zero residues, so that products become sums of exponents.
        signs: the answer's element is ``signs[0]·x + signs[1]·y mod n``: (1, 1) for + and ×, (1, −1) for − and ÷.
    """

    order: int
    tokens: tuple[int, ...]
    signs: tuple[int, int] = (1, 1)

    @property
    def n_frequencies(self) -> int:
        """⌊n/2⌋: the real frequencies 1 … ⌊n/2⌋, the constant left out."""
        return self.order // 2
