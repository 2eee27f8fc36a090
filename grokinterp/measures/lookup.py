"""What restricted loss is compared with: a lookup table of the training pairs, and the test pairs alone.

The projection of the logits on the key frequencies averages over training pairs too. So even a table that knows nothing but the training pairs has a
low restricted loss, on test pairs as well, once nearly all frequencies are kept.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from grokinterp.shapes import ElementLogits, PairGrid


def lookup_sums(train: Tensor, answers: PairGrid, s: PairGrid, n: int, train_loss: float) -> ElementLogits:
    """Mean logits, over the pairs with each combination, of a table that knows exactly the training pairs, [s, c].

    Its logits are 0 but for one margin at the right answer of every training pair, which gives it the training loss of the model that it is
    compared with (chosen here). A model whose loss is above that of guessing is compared with a table that knows nothing.

    Args:
        train: mask of the training pairs [x, y].
        answers: [x, y].
        s: combination of each pair [x, y].
        n: number of elements.
        train_loss: of the model, in nats; NaN comes out where it is 0, since no margin is large enough.
    """
    margin = np.log((n - 1) / np.expm1(train_loss)) if train_loss > 0 else np.nan
    total = torch.zeros(n, n, dtype=torch.float64)
    known = torch.full((int(train.sum()),), max(margin, 0.0) if np.isfinite(margin) else torch.nan, dtype=torch.float64)
    return total.index_put_((s[train], answers[train]), known, accumulate=True) / n


def mean_by_combination(logits: Tensor, s: Tensor, n: int) -> ElementLogits:
    """Mean logits of some pairs by combination, [s, c]; NaN throughout where a combination has none of them."""
    total = torch.zeros(n, n, dtype=logits.dtype).index_add_(0, s, logits)
    return total / torch.bincount(s, minlength=n)[:, None]


def nearly_all(n_keys: int, n_frequencies: int) -> bool:
    """Whether so many frequencies are key, 80 % or more (chosen here), that keeping them keeps the logits, and restricted loss says little."""
    return n_keys >= 0.8 * n_frequencies
