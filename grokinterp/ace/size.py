"""How many dimensions a model needs, and how many suffice: accuracy with the core kept and removed, over all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from grokinterp.ace.core import Core
from grokinterp.ace.extract import ENERGY, energy_rank
from grokinterp.errors import GrokinterpError
from grokinterp.models.tail import Tail, readout_of
from grokinterp.shapes import Tokens
from grokinterp.tasks import Task

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class CoreSize:
    """Sizes of a core by energy, by necessity and by sufficiency, with the accuracies behind them.

    Attributes:
        energy: rank that holds the energy share.
        necessary: smallest measured rank, from `energy` up, whose removal brings accuracy to chance; None if none does.
        sufficient: smallest measured rank that alone reaches the whole model's accuracy; None if none does.
        base: accuracy of the whole model.
        ranks: the ranks measured.
        keep: accuracy with only the core of each rank.
        remove: accuracy without it.
    """

    energy: int
    necessary: int | None
    sufficient: int | None
    base: float
    ranks: np.ndarray = field(repr=False)
    keep: np.ndarray = field(repr=False)
    remove: np.ndarray = field(repr=False)

    def table(self) -> pd.DataFrame:
        """The curve: one row for each rank, ``rank``, ``keep``, ``remove``."""
        import pandas as pd

        table: pd.DataFrame = pd.DataFrame({"rank": self.ranks, "keep": self.keep, "remove": self.remove})
        return table

    def __str__(self) -> str:
        return f"energy rank {self.energy}, necessary {self.necessary}, sufficient {self.sufficient} (base accuracy {self.base:.3f})"


def size(
    model: Any,
    core: Core,
    task: Task,
    *,
    ranks: Sequence[int] | None = None,
    energy: float = ENERGY,
    chance: float | None = None,
    tolerance: float = 1e-3,
    split: Literal["all", "train", "test"] = "all",
    batch_size: int = 1_024,
) -> CoreSize:
    """Energy, necessary and sufficient rank of a core, and its keep and remove accuracies at every rank.

    The inputs run up to the hook once; each rank then resumes from there through the tail alone.

    Args:
        model: the one that the core was extracted from.
        core: its directions are taken in order; its rank plays no part.
        task: accuracy is at its read-out, over its answers; over every position where all of them count.
        ranks: which to measure, ascending; None for all.
        energy: share of Σ S² behind the energy rank.
        chance: accuracy that counts as destroyed; None for 2/n_classes (the paper's 2/p).
        tolerance: how far below base accuracy still suffices (paper: 1e-3).
        split: which examples.
        batch_size: examples at once.

    Raises:
        GrokinterpError: ranks that are not ascending or that the core lacks, a model without the core's hook.
    """
    measured = list(range(1, core.directions.shape[1] + 1)) if ranks is None else [int(r) for r in ranks]
    if not measured or measured[0] < 1 or measured[-1] > core.directions.shape[1] or any(b <= a for a, b in pairwise(measured)):
        raise GrokinterpError(f"ranks must ascend within 1 … {core.directions.shape[1]}; got {measured}")
    if batch_size < 1:
        raise GrokinterpError(f"batch_size must be at least 1; got {batch_size}")
    examples = task.indices(split)
    tail = Tail(model, core.hook, core.positions, readout_of(task))
    right = task.answers if task.targets is None else task.targets
    hits = torch.zeros(1 + 2 * len(measured), dtype=torch.int64)
    with torch.no_grad():
        for chosen in torch.split(examples, batch_size):
            hits += _hits(tail, core, task.tokens[chosen], right[chosen], task.n_classes, measured)
    accuracy = (hits.double() / right[examples].numel()).numpy()
    base, keep, remove = float(accuracy[0]), accuracy[1::2], accuracy[2::2]
    held = energy_rank(core.spectrum, energy)
    below = remove <= (2 / task.n_classes if chance is None else chance)
    return CoreSize(
        energy=held,
        necessary=next((r for r, low in zip(measured, below, strict=True) if low and r >= held), None),
        sufficient=next((r for r, kept in zip(measured, keep, strict=True) if kept >= base - tolerance), None),
        base=base,
        ranks=np.array(measured),
        keep=keep,
        remove=remove,
    )


def _hits(tail: Tail, core: Core, tokens: Tokens, answers: Tensor, n_classes: int, ranks: Sequence[int]) -> Tensor:
    """Right answers of the whole model, then with keep and remove at each rank in turn."""
    h, logits = tail.resume(tokens)

    def right(edited: Tensor) -> int:
        return int((logits(edited.to(h.dtype))[..., :n_classes].argmax(-1).cpu() == answers).sum())

    directions = core.directions.to(h.device)
    mean = core.mean.to(h.device) if core.centred else torch.zeros_like(core.mean, device=h.device)
    x = h.double() - mean
    kept = torch.zeros_like(x)
    hits = [right(h)]
    for before, rank in pairwise([0, *ranks]):
        q = directions[:, before:rank]
        # All directions keep everything, exactly: no answers are read off rounding errors.
        kept = x if rank == len(directions) else kept + (x @ q) @ q.T
        hits += [right(kept + mean), right(x - kept + mean)]
    return torch.tensor(hits)
