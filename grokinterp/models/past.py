"""Keys and values of earlier positions, as a block stores them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Past:
    """Keys and values of one block at earlier positions, each [example, position, head, d_head], as the block computes and stores them."""

    keys: Tensor = field(repr=False)
    values: Tensor = field(repr=False)

    def first(self, n_positions: int) -> Past:
        """Those of the first positions alone."""
        return Past(self.keys[:, :n_positions], self.values[:, :n_positions])

    def then(self, later: Past) -> Past:
        """These, and those of later positions after them."""
        return Past(torch.cat([self.keys, later.keys], dim=1), torch.cat([self.values, later.values], dim=1))

    def repeated(self, times: int) -> Past:
        """Copies one after the other along the examples."""
        return Past(self.keys.repeat(times, 1, 1, 1), self.values.repeat(times, 1, 1, 1))
