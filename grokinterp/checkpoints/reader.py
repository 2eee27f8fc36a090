"""What a reader of other people's checkpoints is: it knows one layout of weights, and asks for the facts that the layout does not hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.tasks import Task

if TYPE_CHECKING:
    from grokinterp.checkpoints.checkpoint import Checkpoint

State = Mapping[str, Tensor]

EXAMPLES = {
    "n_heads": "4",
    "act_fn": '"relu"',
    "causal": "True",
    "normalization": '"none"',
    "norm_first": "False",
    "attention_rate": "0.5",
    "embed": '"embedding.weight"',
    "pos_embed": '"positions"',
    "unembed": '"head.weight"',
}
"""Facts that readers ask for, each with a value as it is written in a call."""

_ALIASES = {
    "n_heads": ("n_heads", "n_head", "nhead", "num_heads", "num_attention_heads"),
    "act_fn": ("act_fn", "act_type", "activation", "activation_function", "hidden_act"),
    "attention_rate": ("attention_rate", "attn_coeff"),
}


_KINDS: Mapping[str, tuple[Any, str]] = {
    "causal": (bool, "True or False"),
    "norm_first": (bool, "True or False"),
    "n_heads": (int, "a whole number"),
    "attention_rate": (int | float, "a number in [0, 1]"),
    "act_fn": (str, 'a name like "relu"'),
    "normalization": (str, '"none", "LNPre" or "RMSPre"'),
}


class Facts:
    """What is known about a checkpoint beside its tensors: what the user states first, then its own configuration.

    Args:
        layout: of the checkpoint, for sentences.
        config: the configuration that came with the weights; empty without one.
        given: what the user states.
    """

    def __init__(self, layout: str, config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self.layout, self.config, self.given = layout, config, given
        self._looked_up: set[str] = set()

    def get(self, name: str) -> Any:
        """A fact, or None where neither the user nor the configuration states it.

        Raises:
            GrokinterpError: a value of another type.
        """
        self._looked_up.add(name)
        stated = [self.given.get(name), *(self.config.get(alias) for alias in _ALIASES.get(name, (name,)))]
        value = next((each for each in stated if each is not None), None)
        kind, said = _KINDS.get(name, (object, ""))
        if value is not None and (not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))):
            raise GrokinterpError(f"{name} is {said}; got {value!r}")
        return value

    def need(self, *names: str) -> list[Any]:
        """Facts that the tensors do not tell.

        Raises:
            GrokinterpError: a fact that neither the user nor the configuration states; all such facts are asked for at once.
        """
        values = {name: self.get(name) for name in names}
        if missing := [name for name in names if values[name] is None]:
            call = ", ".join(f"{name}={EXAMPLES.get(name, '…')}" for name in missing)
            raise GrokinterpError(
                f"a checkpoint in the layout of {self.layout} does not say {' and '.join(missing)}; pass load_checkpoint(…, {call})"
            )
        return list(values.values())

    def check_used(self) -> None:
        """Raise a GrokinterpError for a fact of the user's that the reader never looked up."""
        if unused := sorted(self.given.keys() - self._looked_up):
            takes = ", ".join(sorted(self._looked_up & EXAMPLES.keys())) or "nothing more"
            raise GrokinterpError(
                f"{unused[0]}={self.given[unused[0]]!r} is not used for a checkpoint in the layout of {self.layout}, which takes {takes}"
            )


class Reader(ABC):
    """A layout of weights; subclass it and put an instance into `READERS`, or pass it as ``load_checkpoint(…, reader=…)``.

    A class attribute `layout` names it in sentences.
    """

    layout: str

    @abstractmethod
    def recognises(self, state: State, config: Mapping[str, Any]) -> bool:
        """Whether weights with these names and shapes, and their configuration, are of this layout."""

    @abstractmethod
    def read(self, state: State, facts: Facts, task: Task) -> Any:
        """A module with hook points that computes what the checkpoint's model computes.

        Args:
            state: the weights.
            facts: what else is known; ask it for what the shapes do not tell.
            task: gives the number of positions that are read.
        """

    def task(self, state: State, facts: Facts) -> Task | None:
        """The task that the checkpoint itself states, with its split where that can be known; None where it states none."""
        return None

    def check_record(self, checkpoint: Checkpoint, model: Any) -> None:  # noqa: B027  (few layouts come with a record that can be compared)
        """Raise a GrokinterpError where the model contradicts what was recorded while it was trained.

        Args:
            checkpoint: with its record, on the task that it states itself.
            model: of its last step.
        """


def n_blocks(state: State, prefix: str) -> int:
    """The number of blocks, from names like ``blocks.0.attn.W_Q``.

    Args:
        state: the weights.
        prefix: what stands before the number, with its dot.

    Raises:
        GrokinterpError: the numbers are not 0, 1, 2 …
    """
    found = {int(number) for name in state if name.startswith(prefix) and (number := name[len(prefix) :].split(".")[0]).isdigit()}
    if found != set(range(len(found))) or not found:
        raise GrokinterpError(f"the weights have the blocks {sorted(found)} and should have 0, 1, …; pass all of them")
    return len(found)
