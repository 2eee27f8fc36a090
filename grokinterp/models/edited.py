"""HookedTransformers with interventions in force for good: through `reset_hooks`, copies and files, and below every hook of a user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from torch import Tensor
from transformer_lens import HookedTransformer
from transformer_lens.components.layer_norm import LayerNorm
from transformer_lens.components.rms_norm import RMSNorm
from transformer_lens.components.unembed import Unembed

from grokinterp.models.adapter import EMBEDDED
from grokinterp.models.edits import Hooks
from grokinterp.models.hanging import in_force
from grokinterp.models.intervention import InForce

_NORMS = {"layer": LayerNorm, "rms": RMSNorm}


class EditedTransformer(HookedTransformer):
    """A HookedTransformer whose interventions are part of it.

    What is done to the sum of the embeddings is done where that sum is made and not in a hook on block 0, so that a
    forward pass that starts at layer 0, from a residual stream that has been edited already, does not edit it again.
    """

    interventions: tuple[InForce, ...] = ()
    embedding_edits: Sequence[Callable[[Tensor], Tensor]] = ()

    def input_to_embed(self, *args: Any, **kwargs: Any) -> Any:
        """See `HookedTransformer.input_to_embed`."""
        residual, *rest = super().input_to_embed(*args, **kwargs)
        for edit in self.embedding_edits:
            residual = edit(residual)
        return (residual, *rest)


class Rule(Protocol):
    """How an unembedding acts."""

    def columns(self, weight: Tensor, /) -> Tensor:
        """W_U as it acts [d_model, output], from the trained parameter."""
        ...


class RuledUnembedding(Unembed):
    """An unembedding whose W_U is computed from its trained parameter at each use, see `CosineUnembed`; writing into it changes nothing."""

    rule: Rule

    @property
    def W_U(self) -> Tensor:  # type: ignore[override]
        """As it acts, [d_model, output]."""
        weight = self._parameters["W_U"]
        assert weight is not None
        return self.rule.columns(weight)


def unembed_by(model: Any, rule: Rule) -> None:
    """Have a model unembed by a rule from now on."""
    model.unembed.__class__, model.unembed.rule = RuledUnembedding, rule


def add_norm(model: Any, name: str, kind: str) -> None:
    """Give a model a norm with weights of its own.

    Args:
        model: a HookedTransformer.
        name: of the new module, with dots.
        kind: "layer" or "rms".
    """
    parent, _, own = name.rpartition(".")
    model.get_submodule(parent).add_module(own, _NORMS[kind](model.cfg))
    model.setup()  # which gives its hook points names


def install(model: Any, hooks: Hooks) -> None:
    """Have a model act under hooks from now on; they have to do the same at every position by itself, but for one on the sum of the embeddings."""
    for name, hook_function in hooks:
        if name == EMBEDDED:
            model.embedding_edits = [*model.embedding_edits, partial(hook_function, hook=model.hook_dict[name])]
        else:
            model.hook_dict[name].register_forward_hook(partial(in_force, hook_function))
