"""Models of one training that another program saved, with their task: a subject of `analyze`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grokinterp.errors import GrokinterpError
from grokinterp.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

    from grokinterp.tasks import Prompts


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What was read from other people's files; `grokinterp.analyze` takes it as it takes a run.

    Attributes:
        title: what to call it.
        layout: the reader that read it.
        task: the table, with its split where that is known; or prompts, of a language model.
        steps: when weights were saved, ascending, in the units of the program that saved them; [0] where nothing states them.
        config: the configuration that came with the weights.
        recorded: what was recorded while training, as series by step, like ``train_loss`` in nats.
        optimizer: the optimizer's settings, as its own state has them; empty without one.
        provenance: the files.
    """

    title: str
    layout: str
    task: Task | Prompts
    steps: list[int]
    build: Callable[[int], Any] = field(repr=False)
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    recorded: Mapping[str, pd.Series[float]] = field(default_factory=dict, repr=False)
    optimizer: Mapping[str, Any] = field(default_factory=dict, repr=False)
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def facts(self) -> dict[str, Any]:
        """The configuration and the optimizer's settings as plain values; any other value as text."""
        optimizer = {"optimizer": self.optimizer} if self.optimizer else {}
        plain: dict[str, Any] = json.loads(json.dumps({**self.config, **optimizer}, default=str))
        return plain

    def model(self, step: int | None = None) -> Any:
        """The model of a step, None for the last: a module with hook points and its weights.

        Raises:
            GrokinterpError: nothing was saved then.
        """
        return self.build(self.kept(step))

    def kept(self, step: int | None) -> int:
        """The given step, if its weights are saved; for None the last one.

        Raises:
            GrokinterpError: nothing was saved then; the nearest steps are named.
        """
        if step is None:
            return self.steps[-1]
        if step not in self.steps:
            near = sorted(self.steps, key=lambda kept: abs(kept - step))[:3]
            raise GrokinterpError(f"{self.title} has no weights of step {step}; the nearest are {', '.join(map(str, sorted(near)))}")
        return step
