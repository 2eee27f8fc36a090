"""HookedTransformers with interventions in force for good: through `reset_hooks`, copies and files, and below every hook of a user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from transformer_lens import HookedTransformer
from transformer_lens.components.layer_norm import LayerNorm
from transformer_lens.components.rms_norm import RMSNorm
from transformer_lens.components.unembed import Unembed

from grokinterp.interventions.architecture import EMBEDDED, Architecture, CosineUnembed, PostNorm
from grokinterp.interventions.base import HookFunction, Intervention
from grokinterp.tasks import Task

_NORMS = {"layer": LayerNorm, "rms": RMSNorm}


class EditedTransformer(HookedTransformer):
    """A HookedTransformer whose interventions are part of it.

    What is done to the sum of the embeddings is done where that sum is made and not in a hook on block 0, so that a
    forward pass that starts at layer 0, from a residual stream that has been edited already, does not edit it again.
    """

    interventions: tuple[Architecture, ...] = ()
    embedding_edits: Sequence[Callable[[Tensor], Tensor]] = ()

    def input_to_embed(self, *args: Any, **kwargs: Any) -> Any:
        """See `HookedTransformer.input_to_embed`."""
        residual, *rest = super().input_to_embed(*args, **kwargs)
        for edit in self.embedding_edits:
            residual = edit(residual)
        return (residual, *rest)


class CosineUnembedding(Unembed):
    """An unembedding whose W_U is computed from its trained parameter at each use, see `CosineUnembed`; writing into it changes nothing."""

    rule: CosineUnembed

    @property
    def W_U(self) -> Tensor:  # type: ignore[override]
        """As it acts, [d_model, output]."""
        weight = self._parameters["W_U"]
        assert weight is not None
        return self.rule.columns(weight)


def add_norms(model: Any, interventions: Sequence[Architecture]) -> None:
    """Give a model the norms that its interventions have weights for."""
    for intervention in interventions:
        if isinstance(intervention, PostNorm):
            for name in intervention.sites(model.cfg.n_layers, model.cfg.attn_only).values():
                parent, _, own = name.rpartition(".")
                model.get_submodule(parent).add_module(own, _NORMS[intervention.norm](model.cfg))
            model.setup()  # which gives their hook points names


def put_in_force(model: Any, interventions: Sequence[Architecture], task: Task) -> None:
    """Have a model act under its interventions from now on."""
    edits: list[Callable[[Tensor], Tensor]] = []
    for intervention in interventions:
        if isinstance(intervention, CosineUnembed):
            model.unembed.__class__, model.unembed.rule = CosineUnembedding, intervention
        elif isinstance(intervention, Intervention):
            for name, hook_function in intervention.hooks(model, task):
                if name == EMBEDDED:
                    edits.append(partial(hook_function, hook=model.hook_dict[name]))
                else:
                    model.hook_dict[name].register_forward_hook(partial(_permanent, hook_function))
    model.embedding_edits, model.interventions = edits, tuple(interventions)


def _permanent(hook_function: HookFunction, module: Any, inputs: Any, output: Tensor) -> Tensor:
    return hook_function(output, hook=module)
