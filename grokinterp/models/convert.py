"""A toy transformer as other libraries have it: TransformerLens's own classes, or a folder in Hugging Face's layout."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.parametrize import is_parametrized

from grokinterp.errors import GrokinterpError, os_errors_explained
from grokinterp.files import whole_folder
from grokinterp.models import gpt2
from grokinterp.models.adapter import Adapter, rounding
from grokinterp.models.hanging import hanging
from grokinterp.models.hooked import beyond_plain

_SIZES = ("n_layers", "d_model", "n_heads", "d_head", "d_mlp", "n_ctx", "d_vocab", "d_vocab_out")
_SAME = (*_SIZES, "act_fn", "eps", "normalization_type", "attention_dir")
_NORMS = (None, "LN")


def hooked_transformer(model: Any) -> Any:
    """A copy as a plain HookedTransformer of TransformerLens 3, no subclass of this package.

    Args:
        model: a toy transformer without interventions in force, ``run.model()`` for example.

    Raises:
        GrokinterpError: another kind of model, interventions in force, hooks or anything else that hangs on it, or TransformerLens 4, which
            has no such class.
    """
    from grokinterp.models.hooked import hooked_transformer as new

    _check_alone(model, "a plain HookedTransformer")
    given = {field.name: getattr(model.cfg, field.name) for field in fields(model.cfg) if field.init and field.name not in ("init_weights", "dtype")}
    copy = new(**given, dtype=_dtype(model))
    copy.load_state_dict(model.state_dict())
    return _same(copy.eval(), model, "a plain HookedTransformer")


def bridge(model: Any) -> Any:
    """A copy as a TransformerBridge around TransformerLens's own model, under TransformerLens 3 and 4.

    Args:
        model: a toy transformer with an MLP and without interventions in force, ``run.model()`` for example.

    Raises:
        GrokinterpError: another kind of model, interventions in force, hooks or anything else that hangs on it, attention alone, a norm other
            than LayerNorm, rotary positions or anything else beyond a plain transformer.
    """
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    _check_alone(model, "a TransformerBridge")
    cfg = model.cfg
    if odd := _beyond(model) or _unlike_native(model):
        raise GrokinterpError(f"this model has {odd}, and a bridge here has an MLP, LayerNorm or no norm, and nothing beyond; pass the model itself")
    try:
        made = TransformerBridge.boot_native(TransformerBridgeConfig(**{name: getattr(cfg, name) for name in _SAME}), dtype=_dtype(model))
    except ValueError as error:  # an activation that it lacks
        raise GrokinterpError(f"TransformerLens's own model cannot be this one ({error}); pass the model itself, which has hook points") from error
    with torch.no_grad():
        for target, value in _native(made.original_model, model):
            target.copy_(value)
    return _same(made.eval(), model, "a TransformerBridge")


@os_errors_explained()
def hugging_face(model: Any, folder: str | Path) -> Path:
    """Write a model as a GPT-2 of Hugging Face's, config.json and model.safetensors, which `load_model` and transformers read.

    Args:
        model: a causal transformer with LayerNorm before each part, learned positions, an output for each token and no bias on the unembedding, which
            is what GPT-2 is: ``ModelConfig(normalization="pre")``, a tiny language model, or a GPT-2 of `load_model`.
        folder: where; it must not exist yet, or be empty.

    Returns:
        the folder.

    Raises:
        GrokinterpError: an architecture that Hugging Face has no class for, with what differs; interventions in force, hooks or anything else
            that hangs on the model; a folder in use.
    """
    from transformers import GPT2LMHeadModel

    _check_alone(model, "a GPT-2 of Hugging Face's")
    if odd := _beyond(model) or _unlike_gpt2(model):
        raise GrokinterpError(f"Hugging Face has no class for this model: it has {odd}, unlike GPT-2; keep it as a run, or as its state dict")
    theirs: Any = GPT2LMHeadModel(gpt2.config_of(model)).to(_dtype(model))
    theirs.load_state_dict(gpt2.state_of(model))
    with whole_folder(Path(folder)) as unfinished:
        theirs.save_pretrained(unfinished)
    return Path(folder)


def _check_alone(model: Any, what: str) -> None:
    """Raise unless a model is a transformer of weights alone: no edit is part of it, and nothing hangs on it, which a copy would not have."""
    if not Adapter(model).hooked:
        raise GrokinterpError(f"{what} is made of a toy transformer, run.model() for example; got a {type(model).__name__}")
    if parts := getattr(model, "interventions", ()):
        raise GrokinterpError(f"{parts[0]} is in force in this model, and {what} does not have it; pass the model itself, which has hook points")
    if found := [*hanging(model), *(name for name, module in model.named_modules() if is_parametrized(module))]:
        raise GrokinterpError(
            f"something hangs on {found[0]}, and {what} would not have it; take it off first, hooks with model.reset_hooks(), or pass the model"
        )


def _same(copy: Any, model: Any, what: str) -> Any:
    """The copy, once it has been seen to give the model's logits on a few tokens."""
    tokens = torch.arange(min(4, model.cfg.n_ctx, model.cfg.d_vocab), device=model.W_E.device)[None]
    with torch.no_grad():
        wanted, found = model(tokens), copy(tokens)
    difference = float((found - wanted).abs().max())
    if not difference <= rounding(wanted):
        raise GrokinterpError(f"{what} of this model gives other logits, by up to {difference:.2g}; pass the model itself, which has hook points")
    return copy


def _beyond(model: Any) -> str | None:
    """The setting by which a HookedTransformer is more than a plain transformer; None where it is one."""
    odd = beyond_plain(vars(model.cfg))
    return odd and f"{odd[0]}={odd[1]!r}"


def _unlike_native(model: Any) -> str | None:
    """What keeps a plain transformer from being a bridge's own model; None where nothing does."""
    norm = model.cfg.normalization_type
    return "no MLP" if Adapter(model).attention_only else None if norm in _NORMS else f"the norm {norm}"


def _unlike_gpt2(model: Any) -> str | None:
    """What sets a model apart from GPT-2, in words; None where nothing does."""
    cfg = model.cfg
    unlike = {
        f"the norm {cfg.normalization_type}" if cfg.normalization_type else "no norm": cfg.normalization_type != "LN",
        "attention to later tokens": not Adapter(model).causal,
        "no MLP": Adapter(model).attention_only,
        f"{cfg.d_vocab} tokens and {cfg.d_vocab_out} outputs": cfg.d_vocab != cfg.d_vocab_out,
        f"heads of {cfg.d_head} that do not fill the width {cfg.d_model}": cfg.n_heads * cfg.d_head != cfg.d_model,
        "a bias on its unembedding": bool(model.b_U.any()),
        f"the activation {cfg.act_fn}": cfg.act_fn not in gpt2.ACTIVATIONS,
    }
    return next((what for what, differs in unlike.items() if differs), None)


def _native(native: Any, model: Any) -> list[tuple[Tensor, Tensor]]:
    """Each weight of TransformerLens's own model, outputs first, with its value."""
    pairs = [(native.tok_embed.weight, model.W_E), (native.pos.weight, model.W_pos), (native.head.weight, model.W_U.T), (native.head.bias, model.b_U)]
    normed = model.cfg.normalization_type is not None
    pairs += _norm(native.ln_out, model.ln_final) if normed else []
    for theirs, block in zip(native.layers, model.blocks, strict=True):
        attention = block.attn
        for name in "qkv":
            weight, bias = getattr(attention, f"W_{name.upper()}"), getattr(attention, f"b_{name.upper()}")
            own = getattr(theirs.attn, name)
            pairs += [(own.weight, weight.transpose(1, 2).flatten(0, 1)), (own.bias, bias.flatten())]
        pairs += [(theirs.attn.o.weight, attention.W_O.flatten(0, 1).T), (theirs.attn.o.bias, attention.b_O)]
        pairs += [(theirs.mlp.fc_in.weight, block.mlp.W_in.T), (theirs.mlp.fc_in.bias, block.mlp.b_in)]
        pairs += [(theirs.mlp.fc_out.weight, block.mlp.W_out.T), (theirs.mlp.fc_out.bias, block.mlp.b_out)]
        pairs += [*_norm(theirs.ln1, block.ln1), *_norm(theirs.ln2, block.ln2)] if normed else []
    return pairs


def _norm(theirs: Any, ours: Any) -> list[tuple[Tensor, Tensor]]:
    return [(theirs.weight, ours.w), (theirs.bias, ours.b)]


def _dtype(model: Any) -> torch.dtype:
    found: torch.dtype = model.W_E.dtype
    return found
