"""What an intervention is: a small frozen object that says what is changed in a model, for a while or for good.

Subclass `Intervention` for hooks that are put on a finished model, `InForce` for what is part of a model whenever it is built.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from grokinterp.checks import subclasses
from grokinterp.errors import GrokinterpError
from grokinterp.models.adapter import BACKENDS, Adapter
from grokinterp.models.edits import HookFunction, applied
from grokinterp.tasks import Task

if TYPE_CHECKING:
    from grokinterp.models.transformers import ModelConfig

Hooks = list[tuple[str, HookFunction]]


class Intervention(ABC):
    """Something that is done to a model while it runs.

    A class attribute `backends` says on which of `grokinterp.models.adapter.BACKENDS` it is exact; on any other it raises.
    """

    backends = BACKENDS

    @abstractmethod
    def hooks(self, model: Any, task: Task) -> Hooks:
        """The forward hooks that do it, as ``model.run_with_hooks(…, fwd_hooks=…)`` takes them."""

    @contextlib.contextmanager
    def applied(self, model: Any, task: Task) -> Iterator[Any]:
        """The model with the intervention in force, for the length of a ``with`` block.

        Raises:
            GrokinterpError: a hook that the model lacks, a backend that would carry it out differently; and at the end of the block, where the
                model ran, a hook that never fired.
        """
        self.check_backend(model)
        with applied(model, self.hooks(model, task)):
            yield model

    def check_backend(self, model: Any) -> None:
        """Raise a GrokinterpError on a backend where the intervention is not exact."""
        backend = Adapter(model).backend
        if backend not in self.backends:
            raise GrokinterpError(f"{self} is exact on {' and '.join(self.backends)}; this model is a {backend}")


class InForce(Intervention):
    """Something that is part of a model: in force whenever it is built from its configuration, so while it trains as well.

    A subclass is a frozen dataclass with a field ``kind: str = field(default="my_kind", init=False, repr=False)``, under which configurations
    name it. Class attributes say the rest:

        order            its place among others; lower ones come into force first
        contradicts      kinds that cannot be in force beside it, and why
        in_engine        whether the engine computes it; with any other, runs train through the module itself
        position_wise    whether it does the same at every position (of a query, in attention) by itself; under any other, fast paths step aside
    """

    kind: str
    order = 100
    contradicts = MappingProxyType[str, str]({})
    in_engine = False
    position_wise = False

    def check(self, config: ModelConfig) -> None:
        """Raise a GrokinterpError for a model that it does not fit."""

    def removes(self, parameter: str) -> bool:
        """Whether a model with it lacks a parameter, named as in HookedTransformer: it stays 0 and is not trained."""
        return False

    def build(self, model: Any) -> None:
        """Give a model the modules that it has weights for."""

    def initialise(self, model: Any, task: Task) -> None:
        """Write what the weights begin with, after the model's own rule."""

    def install(self, model: Any, task: Task) -> None:
        """Have a model act under it from now on, below every hook of a user's and through `reset_hooks`, copies and files."""
        from grokinterp.models.edited import install

        install(model, self.hooks(model, task))


def in_order(interventions: Sequence[InForce]) -> tuple[InForce, ...]:
    """The interventions in the order in which they come into force, so that the same ones are the same model.

    Raises:
        GrokinterpError: something else among them, one given twice, or two that contradict each other.
    """
    for intervention in interventions:
        if not isinstance(intervention, InForce):
            known = ", ".join(sorted(cls.__name__ for cls in subclasses(InForce)))
            raise GrokinterpError(f"{intervention!r} is not an intervention of a model; those are {known}")
    kinds = {intervention.kind: type(intervention).__name__ for intervention in interventions}
    if len(kinds) < len(interventions):
        raise GrokinterpError(f"a model has an intervention of each kind at most once; got {tuple(interventions)}")
    for intervention in interventions:
        for kind, why in intervention.contradicts.items():
            if kind in kinds:
                raise GrokinterpError(f"{type(intervention).__name__} and {kinds[kind]} contradict each other: {why}; leave one out")
    return tuple(sorted(interventions, key=lambda intervention: (intervention.order, intervention.kind)))
