"""Where a model's neurons are, whatever its architecture: their hooks, and how they act on the logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def neuron_hooks(model: Any) -> list[str]:
    """Hook name of each layer's neurons, none for an attention-only model: a transformer's MLP activations, after the nonlinearity.

    Args:
        model: a HookedTransformer, a TransformerBridge, or a `Probe`, which says itself what its neurons are.
    """
    own: list[str] | None = getattr(model, "neuron_hooks", None)
    if own is not None:
        return own
    return [] if model.cfg.attn_only else [f"blocks.{layer}.mlp.hook_post" for layer in range(model.cfg.n_layers)]


def neuron_logit_weights(model: Any) -> Tensor:
    """W_out·W_U: what each neuron of the last layer adds to each logit, a final LayerNorm left aside, [neuron, output], float64.

    Args:
        model: see `neuron_hooks`; it must have neurons.
    """
    own: Tensor | None = getattr(model, "neuron_logit_weights", None)
    if own is not None:
        return own.detach().double()
    product: Tensor = model.blocks[model.cfg.n_layers - 1].mlp.W_out.detach().double() @ model.W_U.detach().double()
    return product
