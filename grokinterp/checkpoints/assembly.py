"""Weights under HookedTransformer's names, made into a transformer; what is missing, superfluous or misshapen is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from grokinterp.checkpoints.reader import State
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.models.hooked import new_transformer
from grokinterp.models.intervention import InForce, in_order
from grokinterp.models.transformers import freeze_absent, load_weights
from grokinterp.tasks import Task

ACTIVATIONS = ("relu", "gelu", "gelu_new")
"""Of an MLP: ReLU, GELU with the error function, GELU in GPT-2's tanh form; what every backend computes."""


def assemble(weights: State, task: Task, interventions: Sequence[InForce] = (), **settings: Any) -> Any:
    """A transformer with these weights.

    Args:
        weights: by HookedTransformer's names, in its layout. Biases that are not among them are 0 and not trained.
        task: for interventions that depend on it.
        interventions: in force from now on.
        settings: of HookedTransformerConfig; sizes of vocabulary, context and output follow from the weights.

    Raises:
        GrokinterpError: an unknown activation; a weight is missing, superfluous or of another shape than the others imply.
    """
    settings["act_fn"] = str(settings["act_fn"]).lower()
    if settings["act_fn"] not in ACTIVATIONS:
        raise unknown_name("act_fn", settings["act_fn"], ACTIVATIONS)
    for name in ("embed.W_E", "pos_embed.W_pos", "unembed.W_U"):
        if name not in weights:
            raise GrokinterpError(f"these weights have no {name}; a transformer needs embeddings, positions and an unembedding")
        if weights[name].ndim != 2:
            raise GrokinterpError(f"{name} is a matrix in a transformer; got shape {tuple(weights[name].shape)}")
    model = new_transformer(
        d_vocab=len(weights["embed.W_E"]),
        d_model=weights["embed.W_E"].shape[1],
        n_ctx=len(weights["pos_embed.W_pos"]),
        d_vocab_out=weights["unembed.W_U"].shape[1],
        device="cpu",
        **settings,
    )
    parts = in_order(interventions)
    for part in parts:
        part.build(model)
    freeze_absent(model, [name for name, _ in model.named_parameters() if name not in weights and _is_bias(name)])
    model.to(torch.promote_types(weights["embed.W_E"].dtype, torch.float32), print_details=False)
    load_weights(model, weights)
    for part in parts:
        part.install(model, task)
    if parts:
        model.interventions = parts
    return model


def _is_bias(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last == "b" or last.startswith("b_")
