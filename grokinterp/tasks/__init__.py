"""WHAT is learned: finite tables of inputs and answers, the structure behind them, and seeded splits."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_type_hints

from grokinterp.checks import check_fields, conformed
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.groups.operation import Operation
from grokinterp.tasks.composition import composition
from grokinterp.tasks.functions import modular_power, modular_sum, sparse_parity
from grokinterp.tasks.markov import MarkovChain, markov_chain
from grokinterp.tasks.modular import (
    modular_addition,
    modular_division,
    modular_multiplication,
    modular_quadratic,
    modular_subtraction,
)
from grokinterp.tasks.permutations import permutations
from grokinterp.tasks.table import SplitRule, Task

if TYPE_CHECKING:
    from grokinterp.language.prompt_files import read_prompts
    from grokinterp.language.prompts import Prompts, agreement

__all__ = [
    "TASKS",
    "MarkovChain",
    "Operation",
    "Prompts",
    "Task",
    "TaskConfig",
    "agreement",
    "composition",
    "markov_chain",
    "modular_addition",
    "modular_division",
    "modular_multiplication",
    "modular_power",
    "modular_quadratic",
    "modular_subtraction",
    "modular_sum",
    "permutations",
    "read_prompts",
    "sparse_parity",
]

TASKS: dict[str, Callable[..., Task]] = {
    builder.__name__: builder
    for builder in (
        modular_addition,
        modular_subtraction,
        modular_multiplication,
        modular_division,
        modular_quadratic,
        modular_sum,
        modular_power,
        composition,
        permutations,
        sparse_parity,
        markov_chain,
    )
}
"""The tasks that a config can name; put a builder of your own in, under a name of its own, before a config names it."""

SEQUENCES = ("markov_chain",)  # their tasks have `targets`


@dataclass(frozen=True)
class TaskConfig:
    """A task as data: which table, with which arguments, split how.

    Attributes:
        name: one of the builders of this package, "modular_addition" for example.
        args: the builder's arguments, ``{"p": 113}``.
        train_fraction: share of all examples that is trained on, in (0, 1).
        split_seed: seed of the shuffle.
        split_rule: "torch", the published "python" shuffle, or "first", see `Task.split`.
        answer_seed: draw the answers at random from this seed (a control that cannot generalise); None keeps them.
    """

    name: str = "modular_addition"
    args: Mapping[str, Any] = field(default_factory=lambda: {"p": 113})
    train_fraction: float = 0.3
    split_seed: int = 0
    split_rule: SplitRule = "torch"
    answer_seed: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def every_position(self) -> bool:
        """Whether the loss is a mean over every position (`Task.targets`), known without building the table."""
        return self.name in SEQUENCES

    def build(self) -> Task:
        """The table with its split.

        Raises:
            GrokinterpError: an unknown task, an argument it does not take, or bad values.
        """
        if self.name not in TASKS:
            raise unknown_name("task", self.name, TASKS)
        builder = TASKS[self.name]
        try:
            inspect.signature(builder).bind(**self.args)
        except TypeError as error:
            known = ", ".join(inspect.signature(builder).parameters)
            raise GrokinterpError(f"task {self.name!r} takes the arguments {known}; {error}") from None
        hints = get_type_hints(builder)
        task = builder(**{name: conformed(hints.get(name), value, f"task.args.{name}") for name, value in self.args.items()})
        if self.answer_seed is not None:
            task = task.with_random_answers(self.answer_seed)
        return task.split(self.train_fraction, self.split_seed, self.split_rule)


def __getattr__(name: str) -> Any:
    # Prompts of a language model lie in a room above this one, and are expected here too.
    rooms = {"Prompts": "prompts", "agreement": "prompts", "read_prompts": "prompt_files"}
    if name not in rooms:
        raise AttributeError(f"module 'grokinterp.tasks' has no attribute {name!r}")
    return getattr(importlib.import_module(f"grokinterp.language.{rooms[name]}"), name)
