"""A snapshot: one model at one moment, its task, and its activations, computed once and shared by every measure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.models.adapter import Adapter
from grokinterp.models.hanging import Fingerprint, fingerprint, seal
from grokinterp.models.readout import OUTPUT, at_readout, values_of
from grokinterp.shapes import Examples, Logits, LogitTable, PairGrid
from grokinterp.tasks import Operation, Task


class Subject(Protocol):
    """What a snapshot's model is measured on: a `Task`, or something else that a measure is made for."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def n_vocab(self) -> int:
        """How many tokens its inputs are made of."""
        ...


class Snapshot:
    """A model at one step, with its task.

    Activations are computed when first asked for: one pass over the whole table that evaluates only the read-out
    position of the last block, and keeps what the measures of this package read. They are never older than the model: when a hook is put on or
    taken off, or a weight changes, they are computed anew. Measures share them, so that a change in place is an error.

    Args:
        model: a HookedTransformer, a TransformerBridge or a `Baseline` of another architecture.
        subject: the task that it was trained on, or whatever else a measure of its own reads, like agreement prompts.
        step: when, in steps; None where that is unknown.
        reference: the snapshot whose circuit is being traced, as a rule the last checkpoint of the same run: it
            decides, for example, which frequencies count as key frequencies. None for this snapshot itself.
    """

    def __init__(self, model: Any, subject: Subject, step: int | None = None, reference: Snapshot | None = None) -> None:
        if isinstance(subject, Task):
            _refuse_unless_it_fits(model, subject)
        elif (n_tokens := Adapter(model).n_tokens) < subject.n_vocab:
            raise GrokinterpError(f"the model has {n_tokens} tokens, too few for {subject.name!r} with {subject.n_vocab}")
        self.model, self.subject, self.step = model, subject, step
        self.reference: Snapshot = reference or self
        self._kept: dict[str, Tensor] = {}
        self._seals: dict[str, Fingerprint] = {}
        self._state: Fingerprint = ()
        self._spoiled = ""

    @property
    def task(self) -> Task:
        """The task.

        Raises:
            GrokinterpError: the subject is another one.
        """
        if not isinstance(self.subject, Task):
            raise GrokinterpError(f"this measure reads a task, and {self.subject!r} is not a task; take a measure that is made for it")
        return self.subject

    @cached_property
    def neuron_hooks(self) -> list[str]:
        """Hook name of each layer's neurons: a transformer's MLP activations, after the nonlinearity.

        Raises:
            GrokinterpError: an attention-only model.
        """
        names = Adapter(self.model).neuron_hooks()
        if not names:
            raise GrokinterpError("this measure reads MLP neurons, and the model is attention-only")
        return names

    @property
    def last_mlp(self) -> str:
        """Hook name of the last layer's neurons, see `neuron_hooks`."""
        return self.neuron_hooks[-1]

    @property
    def operation(self) -> Operation:
        """How the task's operands combine in its group.

        Raises:
            GrokinterpError: the task has no group.
        """
        if self.task.operation is None:
            raise GrokinterpError(f"task {self.task.name!r} has no group, so its examples are no pairs of group elements")
        return self.task.operation

    @property
    def outputs(self) -> Logits:
        """All logits of the model at the read-out position, those of tokens that answer nothing included, [example, output], float64."""
        return self._value("outputs", lambda: self._at_readout(OUTPUT).double())

    @property
    def logits(self) -> Logits:
        """Logits of the task's answers at the read-out position, [example, answer], float64."""
        return self._value("logits", lambda: self._at_readout(OUTPUT)[:, : self.task.n_classes].double())

    @property
    def logit_table(self) -> LogitTable:
        """Logits by group elements, [x, y, answer element], float64.

        Raises:
            GrokinterpError: the task has no group.
        """
        return self._value("logit_table", lambda: self.table(self.logits)[..., self.operation.token_of])

    @cached_property
    def answer_table(self) -> PairGrid:
        """The right answer of each pair as a group element, [x, y].

        Raises:
            GrokinterpError: no group, or a pair of elements whose answer is outside it.
        """
        element_of = torch.full((self.task.n_classes,), -1)
        element_of[self.operation.token_of] = torch.arange(self.operation.order)
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
        """Activations at the read-out position for every example, [example, …]; attention scores and patterns of its query, [example, head, key].

        Half precision is widened to float32.

        Args:
            hook: a hook name whose values have a position dimension, like "blocks.0.mlp.hook_post".

        Raises:
            GrokinterpError: a hook that the model lacks or does not compute, values without positions, or values that were changed in place.
        """
        Adapter(self.model).check_hook(hook)
        return self._at_readout(hook)

    def activations(self, hooks: Sequence[str], examples: Examples) -> dict[str, Tensor]:
        """Activations at all positions for some examples, by hook, [example, …]; one pass, no further than the last of them, nothing is kept.

        Args:
            hooks: names of hooks.
            examples: example indices.

        Raises:
            GrokinterpError: a hook that the model lacks or does not compute.
        """
        if Adapter(self.model).bare:
            return values_of(self.model, self.task.tokens[examples], hooks)
        # What hangs on the model may expect the whole table, as an ablation over pairs does.
        whole = values_of(self.model, self.task.tokens, hooks)
        return {name: value[examples] if len(value) == len(self.task) else value for name, value in whole.items()}

    @contextlib.contextmanager
    def read_by(self, reader: str) -> Iterator[None]:
        """A block in which one reader takes its values: what it changes in place, of these, of the task or of the model, is an error in its name.

        Changed values are computed anew for the next reader. A changed model or task cannot be, so every later reader gets the error, too.

        Args:
            reader: a measure's name.

        Raises:
            GrokinterpError: at the end of the block, something was changed in place; at its beginning, an earlier reader did.
        """
        if self._spoiled:
            raise GrokinterpError(self._spoiled)
        both = list({id(snapshot): snapshot for snapshot in (self, self.reference)}.values())
        before = [snapshot._shared() for snapshot in both]
        try:
            yield
        finally:
            values = [name for snapshot in both for name in snapshot._drop_broken()]
        beyond = [name for snapshot, own in zip(both, before, strict=True) for name, now in snapshot._shared().items() if now != own[name]]
        if values or beyond:
            what = ", ".join([*values, *beyond])
            message = f"{reader} changed {what} in place, which all measures share; let it change a copy, like values.clone()"
            self._spoiled = message if beyond else ""
            raise GrokinterpError(message)

    def _at_readout(self, name: str) -> Tensor:
        self._renew()
        if name not in self._kept:
            # The first pass keeps the neurons of every layer.
            wanted = {name, *(() if OUTPUT in self._kept else Adapter(self.model).neuron_hooks())} - {OUTPUT}
            found = at_readout(self.model, self.task.tokens, self.task.readout, sorted(wanted))
            self._keep({hook: _widened(value) for hook, value in found.items() if hook not in self._kept})
            self._state = fingerprint(self.model)  # a pass may fill buffers of the model itself
        return self._checked(name)

    def _value(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        self._renew()
        if name not in self._kept:
            value = compute()
            self._keep({name: value})
        return self._checked(name)

    def _keep(self, values: dict[str, Tensor]) -> None:
        self._kept |= values
        self._seals |= {name: seal(value) for name, value in values.items()}

    def _renew(self) -> None:
        """Forget everything if the model is not what it was."""
        state = fingerprint(self.model)
        if state != self._state:
            self._kept, self._seals, self._state = {}, {}, state

    def _checked(self, name: str) -> Tensor:
        value = self._kept[name]
        if seal(value) != self._seals[name]:
            self._drop_broken()
            raise GrokinterpError(f"the values of {name} in this snapshot were changed in place, which all measures share; change a copy")
        return value

    def _shared(self) -> dict[str, Fingerprint]:
        """What measures share besides these values: the model and the task's tensors."""
        table = {f"task.{name}": seal(value) for name, value in vars(self.subject).items() if isinstance(value, Tensor)}
        return {"the model's weights or hooks": fingerprint(self.model, buffers=False), **table}

    def _drop_broken(self) -> list[str]:
        """Forget the values that were changed in place, and name them."""
        broken = [name for name, value in self._kept.items() if seal(value) != self._seals[name]]
        for name in broken:
            del self._kept[name], self._seals[name]
        return broken


def _refuse_unless_it_fits(model: Any, task: Task) -> None:
    adapter = Adapter(model)
    if adapter.n_tokens < task.n_vocab or adapter.n_outputs < task.n_classes:
        raise GrokinterpError(
            f"the model has {adapter.n_tokens} tokens and {adapter.n_outputs} outputs, "
            f"too few for task {task.name!r} with {task.n_vocab} tokens and {task.n_classes} answers"
        )
    if adapter.n_ctx is not None and adapter.n_ctx < task.n_positions:
        raise GrokinterpError(f"the model's context holds {adapter.n_ctx} tokens, too few for task {task.name!r} with inputs of {task.n_positions}")


def _widened(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
