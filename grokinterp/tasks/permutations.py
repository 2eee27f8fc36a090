"""Composition of permutations as a task."""

from __future__ import annotations

import torch

from grokinterp.errors import GrokinterpError
from grokinterp.groups.families import symmetric
from grokinterp.groups.operation import Operation
from grokinterp.tasks.table import Task


def permutations(n: int = 5, equals: bool = True) -> Task:
    """g∘h in S_n over all (n!)² pairs, h acting first; its group is S_n.

    Args:
        n: letters, 2 … 6. S5 has 120 elements and 14,400 pairs; S6 has 720 and 518,400, whose activations at 512 neurons take 1 GB.
        equals: whether inputs ``[g, h, =]`` end with the equals token n!, at which the answer is read.

    Raises:
        GrokinterpError: n outside 2 … 6.
    """
    if n == 1:
        raise GrokinterpError(f"permutations are composed of at least 2 letters; got n = {n!r}")
    group = symmetric(n)
    order = group.order
    g, h = torch.meshgrid(torch.arange(order), torch.arange(order), indexing="ij")
    columns = [g.flatten(), h.flatten(), *([torch.full((order**2,), order)] if equals else [])]
    return Task(
        "permutations",
        torch.stack(columns, dim=1),
        group.product.flatten(),
        n_vocab=order + equals,
        n_classes=order,
        structure=Operation(group),
        pairs=torch.arange(order**2).view(order, order),
    )
