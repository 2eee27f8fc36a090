"""Interventions that are part of a model: they survive `reset_hooks`, copies and files, and act before any hook of the user."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from grokinterp.models.adapter import EMBEDDED
from grokinterp.models.edits import Hooks
from grokinterp.models.hanging import in_force
from grokinterp.models.toy import Norm, NormLayer

_NORMS: dict[str, Norm] = {"layer": "LN", "rms": "RMS"}


class Rule(Protocol):
    """How an unembedding acts."""

    def columns(self, weight: Tensor, /) -> Tensor:
        """W_U as it acts [d_model, output], from the trained parameter."""
        ...


@lru_cache
def _ruled(unembedding: Any) -> type[nn.Module]:
    """A class of unembeddings whose W_U is computed from its trained parameter at each use; writing into it changes nothing."""

    def as_it_acts(self: Any) -> Tensor:
        acting: Tensor = self.rule.columns(self._parameters["W_U"])
        return acting

    return type(f"Ruled{unembedding.__name__}", (unembedding,), {"W_U": property(as_it_acts)})


def unembed_by(model: Any, rule: Rule) -> None:
    """Have a model unembed by a rule from now on, see `CosineUnembed`."""
    kind: Any = type(model.unembed)
    model.unembed.__class__, model.unembed.rule = _ruled(kind), rule


def add_norm(model: Any, name: str, kind: Literal["layer", "rms"]) -> None:
    """Give a model a norm with weights of its own.

    Args:
        model: what `new_transformer` made.
        name: of the new module, with dots.
        kind: "layer" or "rms".
    """
    parent, _, own = name.rpartition(".")
    model.get_submodule(parent).add_module(own, NormLayer(model.cfg, _NORMS[kind]))
    model.setup()  # which gives its hook points names


def install(model: Any, hooks: Hooks) -> None:
    """Put hooks on a model for good; each has to treat every position by itself, except one on the sum of the embeddings."""
    for name, hook_function in hooks:
        if name == EMBEDDED:
            model.embedding_edits = [*model.embedding_edits, partial(hook_function, hook=model.hook_dict[name])]
        else:
            model.hook_dict[name].register_forward_hook(partial(in_force, hook_function))
