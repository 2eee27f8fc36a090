"""A snapshot: one model at one moment, its task, and its activations, computed once and shared by every measure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.models.neurons import neuron_hooks
from grokinterp.models.readout import readout_hooks
from grokinterp.shapes import Examples, Logits, LogitTable, PairGrid
from grokinterp.tasks import CyclicGroup, Task

_BLOCK = re.compile(r"blocks\.(\d+)\.")
_BATCH = 2_048  # examples a forward pass: as fast as the whole table at once, and what it allocates is small enough to be used again (chosen here)


class Snapshot:
    """A model at one step, with its task.

    Activations are computed when first asked for: one pass over the whole table that evaluates only the read-out
    position of the last block, and keeps what the measures of this package read.

    Args:
        model: a HookedTransformer, a TransformerBridge or a `Probe` of another architecture, on the CPU.
        task: what it was trained on.
        step: when, in steps; None where that is unknown.
        reference: the snapshot whose circuit is being traced, as a rule the last checkpoint of the same run: it
            decides, for example, which frequencies count as key frequencies. None for this snapshot itself.
    """

    def __init__(self, model: Any, task: Task, step: int | None = None, reference: Snapshot | None = None) -> None:
        if model.cfg.d_vocab < task.n_vocab or model.cfg.d_vocab_out < task.n_classes:
            raise GrokinterpError(
                f"the model has {model.cfg.d_vocab} tokens and {model.cfg.d_vocab_out} outputs, "
                f"too few for task {task.name!r} with {task.n_vocab} tokens and {task.n_classes} answers"
            )
        self.model, self.task, self.step = model, task, step
        self.reference: Snapshot = reference or self
        self._readout: dict[str, Tensor] = {}

    @cached_property
    def neuron_hooks(self) -> list[str]:
        """Hook name of each layer's neurons: a transformer's MLP activations, after the nonlinearity.

        Raises:
            GrokinterpError: an attention-only model.
        """
        names = neuron_hooks(self.model)
        if not names:
            raise GrokinterpError("this measure reads MLP neurons, and the model is attention-only")
        return names

    @property
    def last_mlp(self) -> str:
        """Hook name of the last layer's neurons, see `neuron_hooks`."""
        return self.neuron_hooks[-1]

    @property
    def group(self) -> CyclicGroup:
        """The task's cyclic group.

        Raises:
            GrokinterpError: the task has none.
        """
        if self.task.group is None:
            raise GrokinterpError(f"task {self.task.name!r} has no cyclic group, so Fourier measures do not apply to it")
        return self.task.group

    @cached_property
    def logits(self) -> Logits:
        """Logits of the task's answers at the read-out position, [example, answer], float64."""
        return self._output[:, : self.task.n_classes].double()

    @cached_property
    def logit_table(self) -> LogitTable:
        """Logits by group elements, [x, y, answer element], float64.

        Raises:
            GrokinterpError: the task has no cyclic group.
        """
        return self.table(self.logits)[..., torch.tensor(self.group.tokens)]

    @cached_property
    def answer_table(self) -> PairGrid:
        """The right answer of each pair as a group element, [x, y].

        Raises:
            GrokinterpError: no group, or a pair of elements whose answer is outside it.
        """
        element_of = torch.full((self.task.n_classes,), -1)
        element_of[torch.tensor(self.group.tokens)] = torch.arange(self.group.order)
        answers = element_of[self.table(self.task.answers)]
        if int(answers.min()) < 0:
            raise GrokinterpError(f"task {self.task.name!r} has pairs of group elements whose answer is not an element of the group")
        return answers

    def table(self, values: Tensor) -> Tensor:
        """Values by example, [example, …], rearranged by pairs of group elements, [x, y, …].

        Raises:
            GrokinterpError: the task has no group.
        """
        pairs = self.task.pairs
        if pairs is None:
            raise GrokinterpError(f"task {self.task.name!r} has no group, so its examples are no pairs of group elements")
        n = len(pairs)
        if len(values) == n * n and bool((pairs.flatten() == torch.arange(n * n)).all()):
            return values.reshape(n, n, *values.shape[1:])  # already in that order: no copy
        return values[pairs]

    def readout(self, hook: str) -> Tensor:
        """Activations at the read-out position for every example, [example, …].

        Args:
            hook: a hook name whose values have a position dimension after the batch, like "blocks.0.mlp.hook_post".

        Raises:
            GrokinterpError: the model has no such hook.
        """
        if hook not in self.model.hook_dict:
            raise unknown_name("hook", hook, self.model.hook_dict)
        _ = self._output  # the first pass keeps the neurons of every layer
        if hook not in self._readout:
            self._forward({hook})
        return self._readout[hook]

    def activations(self, hooks: Sequence[str], examples: Examples) -> dict[str, Tensor]:
        """Activations at all positions for some examples, by hook, [example, …]; one pass, no further than the last of them, nothing is kept.

        Args:
            hooks: names of hooks.
            examples: example indices.

        Raises:
            GrokinterpError: the model has no such hook.
        """
        for name in hooks:
            if name not in self.model.hook_dict:
                raise unknown_name("hook", name, self.model.hook_dict)
        kept: dict[str, Tensor] = {}

        def keep(value: Tensor, hook: Any) -> None:
            kept[hook.name] = value

        with torch.no_grad():
            self.model.run_with_hooks(self.task.tokens[examples], fwd_hooks=[(name, keep) for name in hooks], stop_at_layer=_layer_behind(hooks))
        return {name: kept[name] for name in hooks}

    @cached_property
    def _output(self) -> Tensor:
        self._forward(set(neuron_hooks(self.model)))
        return self._readout["output"]

    def _forward(self, hooks: set[str]) -> None:
        """One pass over the whole table that keeps the given hooks, and the logits, at the read-out position."""
        kept: dict[str, list[Tensor]] = {name: [] for name in hooks | {"output"}}
        shortcut = readout_hooks(self.model, self.task.readout)
        capture = [(name, self._capture(kept[name])) for name in sorted(hooks)]
        with torch.no_grad(), self.model.hooks(fwd_hooks=[*shortcut, *capture]):
            for tokens in torch.split(self.task.tokens, _BATCH):
                kept["output"].append(self._at_readout(self.model(tokens)))
        self._readout |= {name: chunks[0] if len(chunks) == 1 else torch.cat(chunks) for name, chunks in kept.items()}

    def _capture(self, into: list[Tensor]) -> Callable[[Tensor, Any], None]:
        def hook_function(value: Tensor, hook: Any) -> None:
            into.append(self._at_readout(value))

        return hook_function

    def _at_readout(self, value: Tensor) -> Tensor:
        # After the shortcut has cut the other positions off there is only one.
        return value[:, 0] if value.shape[1] == 1 else value[:, self.task.readout]


def _layer_behind(hooks: Sequence[str]) -> int | None:
    """The layer before which a pass may stop that is only to fill these hooks; None where one of them lies outside the blocks."""
    blocks = [_BLOCK.match(name) for name in hooks]
    return None if None in blocks else 1 + max(int(match[1]) for match in blocks if match)
