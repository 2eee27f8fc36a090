"""Ablations in the Fourier basis of a task's cyclic group, put on a model for the length of a ``with`` block."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from grokinterp.checks import check_fields
from grokinterp.errors import GrokinterpError
from grokinterp.groups.fourier import check_frequencies, frequency_projector
from grokinterp.groups.operation import Operation, combined_mean
from grokinterp.models.adapter import Adapter
from grokinterp.models.edits import HookFunction, counted
from grokinterp.models.intervention import Hooks, Intervention
from grokinterp.tasks import Task

Site = Literal["embed", "neurons", "logits"]
Mode = Literal["keep", "remove"]


@dataclass(frozen=True)
class FourierAblation(Intervention):
    """Keep or remove chosen frequencies of the operands at the embedding, of the neurons or of the logits.

    "embed": every operand's embedding as a function of its group element, at every position; any batch works.
    "neurons": the last MLP's activations at the read-out position as functions of the pair. What belongs to frequency k
    are the products of {1, cos k, sin k} of x and of y, the constant left out.
    "logits": the logits at the read-out position as functions of the pair, in float64. What belongs to k are cos w_k(s)
    and sin w_k(s) of the combination s, so that "keep" gives restricted and "remove" excluded loss (Nanda et al. 2023).

    The last two need the task's full table as the batch. "keep" also keeps the mean over all elements or pairs.

    Attributes:
        site: where, "embed", "neurons" or "logits".
        frequencies: of the task's cyclic group, in 1 … ⌊n/2⌋.
        mode: "keep" these alone, or "remove" these.
    """

    site: Site
    frequencies: tuple[int, ...]
    mode: Mode = "remove"

    def __post_init__(self) -> None:
        object.__setattr__(self, "frequencies", tuple(int(k) for k in self.frequencies))
        check_fields(self)

    def hooks(self, model: Any, task: Task) -> Hooks:
        """See `Intervention.hooks`.

        Raises:
            GrokinterpError: a task without a cyclic group, a frequency that its group does not have, "neurons" of an
                attention-only model, "embed" (its hook has to see the tokens: use `applied`); when run, a
                batch that is not the full table.
        """
        operation = self._operation(task)
        if self.site == "embed":
            raise GrokinterpError(
                "an ablation at the embedding has to see the tokens, which no hook of the model passes on; use `with ablation.applied(model, task):`"
            )
        if self.site == "logits":
            return [("unembed.hook_out", self._on_pairs(task, lambda table: self._combination_part(table, operation)))]
        if not (neurons := Adapter(model).neuron_hooks()):
            raise GrokinterpError("there are no neurons to ablate: the model is attention-only")
        return [(neurons[-1], self._on_pairs(task, lambda table: self._block_part(table, operation)))]

    @contextlib.contextmanager
    def applied(self, model: Any, task: Task) -> Iterator[Any]:
        """See `Intervention.applied`."""
        if self.site != "embed":
            with super().applied(model, task):
                yield model
            return
        change = self._embedding_change(model, self._operation(task))
        with counted(model, ["embed"]) as fired:

            def add(module: Any, inputs: Any, output: Tensor) -> Tensor:
                fired("embed")
                return output + change[inputs[0]]

            handle = model.embed.register_forward_hook(add)
            try:
                yield model
            finally:
                handle.remove()

    def _operation(self, task: Task) -> Operation:
        if task.cyclic is None:
            raise GrokinterpError(f"task {task.name!r} has no cyclic group, so it has no frequencies to ablate")
        check_frequencies(task.cyclic.order, np.array(self.frequencies, dtype=int))
        return task.cyclic

    def _edit(self, values: Tensor, part: Tensor, over: tuple[int, ...]) -> Tensor:
        """Remove the frequencies' part, or keep only it and the mean."""
        return values - part if self.mode == "remove" else part + values.mean(over, keepdim=True)

    def _embedding_change(self, model: Any, operation: Operation) -> Tensor:
        """What is added to the embedding of each token, [token, d_model]; 0 for tokens that are no group elements."""
        weights = model.W_E.detach()
        elements = operation.token_of
        table = weights[elements].double()
        change = torch.zeros_like(weights, dtype=torch.float64)
        change[elements] = self._edit(table, self._projector(operation) @ table, over=(0,)) - table
        return change.to(weights.dtype)

    def _on_pairs(self, task: Task, part_of: Callable[[Tensor], Tensor]) -> HookFunction:
        """A hook that edits the read-out position of the full table, given the frequencies' part of [x, y, …]."""

        def hook_function(value: Tensor, hook: Any) -> Tensor:
            if len(value) != len(task):
                raise GrokinterpError(f"an ablation over pairs needs the task's full table of {len(task)} examples as its batch; got {len(value)}")
            at = task.readout % value.shape[1]
            table = value[:, at].double()[task.pairs]
            edited = value.to(torch.float64 if self.site == "logits" else value.dtype, copy=True)
            edited[task.pairs, at] = self._edit(table, part_of(table), over=(0, 1)).to(edited.dtype)
            return edited

        return hook_function

    def _combination_part(self, table: Tensor, operation: Operation) -> Tensor:
        return (self._projector(operation) @ combined_mean(table, operation))[operation.combination()]

    def _block_part(self, table: Tensor, operation: Operation) -> Tensor:
        """The {1, cos k, sin k}² parts, from the four marginals: of x, of y, of the combination and of the opposite one."""
        flat = table.flatten(2)
        projector = self._projector(operation)
        of_x, of_y = projector @ flat.mean(1), projector @ flat.mean(0)
        # cos(πx)cos(πy) is one function, which the combination's part already has.
        opposite = self._projector(operation, halves=False) @ combined_mean(flat, operation, opposite=True)
        part = of_x[:, None] + of_y[None, :] + self._combination_part(flat, operation) + opposite[operation.combination(opposite=True)]
        return part.reshape(table.shape)

    def _projector(self, operation: Operation, halves: bool = True) -> Tensor:
        """Onto the frequencies; `halves` includes n/2, whose sine vanishes."""
        return frequency_projector(operation.order, np.array([k for k in self.frequencies if halves or 2 * k != operation.order], dtype=int))
