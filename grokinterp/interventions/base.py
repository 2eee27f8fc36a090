"""What an intervention is: a small frozen object that says what is changed, as hooks on a HookedTransformer."""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from grokinterp.tasks import Task

HookFunction = Callable[..., Tensor]
Hooks = list[tuple[str, HookFunction]]

_PER_HEAD = re.compile(r"blocks\.(\d+)\.attn\.(W_[QKVO]|b_[QKV])")


class Intervention(ABC):
    """Something that is done to a model while it runs."""

    @abstractmethod
    def hooks(self, model: Any, task: Task) -> Hooks:
        """The forward hooks that do it, as ``model.run_with_hooks(…, fwd_hooks=…)`` takes them."""

    @contextlib.contextmanager
    def applied(self, model: Any, task: Task) -> Iterator[Any]:
        """The model with the intervention in force, for the length of a ``with`` block."""
        with model.hooks(fwd_hooks=self.hooks(model, task)):
            yield model


def layer_of_heads(parameter: str) -> int | None:
    """The layer of an attention parameter whose first dimension is the head, W_Q, W_K, W_V, W_O, b_Q, b_K or b_V; None for any other."""
    match = _PER_HEAD.fullmatch(parameter)
    return int(match[1]) if match else None
