"""The coset algorithm at the neurons of a model of composition in any group (arXiv 2312.06581), as an `Equivalent`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.groups.concentration import CONCENTRATED, Sides, label_means, operand_functions, proper_subgroups
from grokinterp.groups.operation import Operation
from grokinterp.interventions.equivalent import Equivalent, Functions
from grokinterp.models.intervention import Hooks
from grokinterp.tasks import Task


@dataclass(frozen=True)
class Cosets(Equivalent):
    """Each coset neuron's input is what the algorithm needs: its means over right cosets of the left operand and left cosets of the right one.

    Every neuron has a subgroup of its own, the largest one that its input depends on (see `grokinterp.measures.cosets`); an input whose two sides do
    not belong to one class is its mean over the table, so that it computes nothing. The batch has to be the task's full table.

    Attributes:
        threshold: share of a side's variance that has to lie between cosets.
    """

    threshold: float = CONCENTRATED

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side != "inputs":
            raise GrokinterpError(f'the coset algorithm says what goes into neurons; take side="inputs", not {self.side!r}')
        if not 0 < self.threshold <= 1:
            raise GrokinterpError(f"a threshold of the share between cosets lies above 0 and up to 1; got {self.threshold!r}")

    def functions(self, task: Task) -> Functions:
        """Raise a GrokinterpError: each neuron has functions of its own, which depend on the model."""
        raise GrokinterpError(f"{self} has no functions of task {task.name!r} alone: each neuron has its own subgroup; use its hooks")

    def hooks(self, model: Any, task: Task) -> Hooks:
        """See `Equivalent.hooks`.

        Raises:
            GrokinterpError: a task without a group, a group without proper subgroups, a model without such neurons; when run, a batch that is not
                the full table.
        """
        if task.operation is None or task.pairs is None:
            raise GrokinterpError(f"task {task.name!r} has no group, so its operands lie in no cosets")
        proper_subgroups(task.operation.group)
        return [(self._hook(model), partial(_on_cosets, task.operation, task.pairs, self.threshold, len(task)))]


# Hook functions are functions of this module with their arguments bound, so that a copy of a model has copies of the modules in them.


def _on_cosets(operation: Operation, pairs: Tensor, threshold: float, n_examples: int, value: Tensor, hook: Any) -> Tensor:
    """The pairs' values replaced by a mean and a function of each operand's coset."""
    if len(value) != n_examples:
        raise GrokinterpError(f"the coset algorithm needs the task's full table of {n_examples} examples as its batch; got {len(value)}")
    table = value.detach().double().cpu().flatten(1)[pairs]  # [x, y, neuron at each position]
    left, right = operand_functions(table, operation)
    found = Sides.from_functions(proper_subgroups(operation.group), left, right, threshold)
    on_left, on_right = (label_means(own, labels) * found.neurons for own, labels in zip((left, right), found.labels, strict=True))
    element = torch.arange(operation.order)
    x, y = (element if sign == 1 else operation.group.inverse for sign in operation.signs)
    computed = table.mean((0, 1)) + on_left[x][:, None] + on_right[y][None]
    replaced = value.clone()
    replaced[pairs] = computed.reshape(*pairs.shape, *value.shape[1:]).to(value)
    return replaced
