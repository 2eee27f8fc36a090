"""GPT-2 of any size as a HookedTransformer, from a folder in Hugging Face's layout, tensor by tensor."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from grokinterp.checks import real, whole
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.models.hub import CONFIG
from grokinterp.models.layouts import misfit
from grokinterp.models.weight_files import FLOATS, ONE_MODEL, Saved, check_float, check_memory, check_tied, opened

# Hugging Face's tensor: how it is cut, and the HookedTransformer parameters that the pieces become. Axes: v vocabulary, p position, d model,
# m MLP, h head, e inside a head, i query, key, value. Both libraries store maps as [in, out].
_OUTER = {
    "wte.weight": ("v d", "embed.W_E"),
    "wpe.weight": ("p d", "pos_embed.W_pos"),
    "ln_f.weight": ("d", "ln_final.w"),
    "ln_f.bias": ("d", "ln_final.b"),
}
_BLOCK = {
    "ln_1.weight": ("d", "ln1.w"),
    "ln_1.bias": ("d", "ln1.b"),
    "attn.c_attn.weight": ("d (i h e) -> i h d e", "attn.W_Q attn.W_K attn.W_V"),
    "attn.c_attn.bias": ("(i h e) -> i h e", "attn.b_Q attn.b_K attn.b_V"),
    "attn.c_proj.weight": ("(h e) d -> h e d", "attn.W_O"),
    "attn.c_proj.bias": ("d", "attn.b_O"),
    "ln_2.weight": ("d", "ln2.w"),
    "ln_2.bias": ("d", "ln2.b"),
    "mlp.c_fc.weight": ("d m", "mlp.W_in"),
    "mlp.c_fc.bias": ("m", "mlp.b_in"),
    "mlp.c_proj.weight": ("m d", "mlp.W_out"),
    "mlp.c_proj.bias": ("d", "mlp.b_out"),
}
_EMBEDDING, _HEAD = "wte.weight", "lm_head.weight"
_MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # causal masks that older versions saved with the weights
_FIELDS = {  # of GPT2Config, as HookedTransformer's configuration calls them
    "n_layer": "n_layers",
    "n_embd": "d_model",
    "n_head": "n_heads",
    "n_inner": "d_mlp",
    "n_positions": "n_ctx",
    "vocab_size": "d_vocab",
    "activation_function": "act_fn",
    "layer_norm_epsilon": "eps",
}
ACTIVATIONS = ("gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")  # called the same in both libraries


def load(folder: Path, written: Mapping[str, Any], name: str, device: str, dtype: torch.dtype | None) -> Any:
    """A HookedTransformer with the weights of a folder.

    Args:
        folder: holds config.json and weights.
        written: the content of its config.json.
        name: what the model is called.
        device: where it ends up.
        dtype: of its weights; None for that of the saved embedding.

    Raises:
        GrokinterpError: weights and config.json that are not of one GPT-2, or that ask for what is not done here.
    """
    config = _config(written, folder / CONFIG)
    with opened(folder) as tensors:
        table = _checked(tensors, config, folder, dtype)
        file, key = tensors[_EMBEDDING]
        model = _build(config, name, device, dtype or FLOATS[file.get_slice(key).get_dtype()])
        _fill(model, tensors, table, tied=config.tie_word_embeddings)
    return model


def _config(written: Mapping[str, Any], path: Path) -> Any:
    """A config.json as a GPT2Config, which knows the defaults."""
    from transformers import GPT2Config

    try:
        config = GPT2Config.from_dict(dict(written))
    except Exception as error:  # whatever transformers raises over a field: a ValueError, an AttributeError for a type that torch lacks …
        raise GrokinterpError(f"{path} is not a configuration of GPT-2: {' '.join(str(error).split())}") from error
    for name in ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size"):
        whole(f"{path}: {name}", getattr(config, name), 1, 10_000_000)
    if config.n_inner is not None:
        whole(f"{path}: n_inner", config.n_inner, 1, 10_000_000)
    real(f"{path}: layer_norm_epsilon", config.layer_norm_epsilon, 0, 1)
    config.n_inner = config.n_inner or 4 * config.n_embd
    if config.n_embd % config.n_head:
        raise GrokinterpError(f"{path} divides a width of {config.n_embd} among {config.n_head} heads, which leaves a remainder; restore the file")
    if config.activation_function not in ACTIVATIONS:
        raise unknown_name(f"activation function in {path}:", config.activation_function, ACTIVATIONS)
    if config.add_cross_attention:
        raise GrokinterpError(f"{path} describes a decoder with cross-attention, which needs an encoder; load_model reads plain GPT-2")
    return config


def _build(config: Any, name: str, device: str, dtype: torch.dtype) -> Any:
    """A HookedTransformer of that architecture with memory that nothing has been written to yet."""
    from grokinterp.models.hooked import hooked_transformer

    return hooked_transformer(
        model_name=name,
        original_architecture="GPT2LMHeadModel",
        **{ours: getattr(config, theirs) for theirs, ours in _FIELDS.items()},
        d_head=config.n_embd // config.n_head,
        use_attn_scale=config.scale_attn_weights,
        scale_attn_by_inverse_layer_idx=config.scale_attn_by_inverse_layer_idx,
        normalization_type="LN",
        tie_word_embeddings=config.tie_word_embeddings,
        default_prepend_bos=False,
        device=device,
        dtype=dtype,
    )


def _checked(tensors: dict[str, tuple[Any, str]], config: Any, folder: Path, dtype: torch.dtype | None) -> dict[str, tuple[str, str, dict[str, int]]]:
    """What becomes of every tensor, once it is known from the files' headers that they hold this model; nothing large has been allocated.

    Where embedding and head are tied, one of the two may be absent, and where both are there they have to be equal.
    """
    tied = config.tie_word_embeddings
    if tied and _EMBEDDING not in tensors and _HEAD in tensors:
        tensors[_EMBEDDING] = tensors[_HEAD]
    present = {name: tuple(file.get_slice(key).get_shape()) for name, (file, key) in tensors.items() if not _MASK.fullmatch(name)}
    if config.n_layer > len(present):
        raise GrokinterpError(f"{folder / CONFIG} asks for {config.n_layer:,} layers, and the weights are {len(present)} tensors; {ONE_MODEL}")
    e = config.n_embd // config.n_head
    sizes = {"v": config.vocab_size, "p": config.n_positions, "d": config.n_embd, "m": config.n_inner}
    sizes |= {"h": config.n_head, "e": e, "i": 3}
    table = _table(config.n_layer, tied)
    shapes = {name: _shape(pattern, sizes) for name, (pattern, _) in table.items()}
    problem = misfit(shapes | ({_HEAD: shapes[_EMBEDDING]} if tied and _HEAD in present else {}), present)
    if problem is not None:
        raise GrokinterpError(f"the weights in {folder} are not those that its {CONFIG} asks for; {problem}; {ONE_MODEL}")
    for name in shapes:
        file, key = tensors[name]
        check_float(name, file.get_slice(key).get_dtype(), folder)
    check_memory(sum(math.prod(shape) for shape in shapes.values()) * (dtype or torch.float16).itemsize, folder)
    if tied:
        check_tied(tensors, _HEAD, _EMBEDDING, folder)
    return {name: (pattern, targets, sizes) for name, (pattern, targets) in table.items()}


def _fill(model: Any, tensors: Saved, table: Mapping[str, tuple[str, str, dict[str, int]]], tied: bool) -> None:
    """Copy saved tensors into the model one at a time, after all names, shapes and types have been checked."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, (pattern, targets, sizes) in table.items():
            file, key = tensors[name]
            for target, value in zip(targets.split(), _pieces(file.get_tensor(key), pattern, sizes), strict=True):
                parameters[target].copy_(value)
        if tied:
            model.unembed.W_U.copy_(model.embed.W_E.T)


def config_of(model: Any) -> Any:
    """The GPT2Config of a HookedTransformer of this architecture, its embedding and head tied where they are equal."""
    from transformers import GPT2Config

    tied = torch.equal(model.W_U, model.W_E.T)
    given = {theirs: getattr(model.cfg, ours) for theirs, ours in _FIELDS.items()}
    return GPT2Config(**given, tie_word_embeddings=tied, bos_token_id=None, eos_token_id=None)


def state_of(model: Any) -> dict[str, Tensor]:
    """The weights of a HookedTransformer of this architecture by the names and shapes of Hugging Face's GPT2LMHeadModel; the head under its own name.

    Args:
        model: with LayerNorm, learned positions and biases, which may be 0.
    """
    own = {name: value.detach() for name, value in model.named_parameters()}
    state = {
        name if name == _HEAD else f"transformer.{name}": _joined([own[target] for target in targets.split()], pattern)
        for name, (pattern, targets) in _table(int(model.cfg.n_layers), tied=False).items()
    }
    return {name: value.clone() for name, value in state.items()}


def _joined(pieces: list[Tensor], pattern: str) -> Tensor:
    """The inverse of `_pieces`."""
    if "->" not in pattern:
        return pieces[0]
    saved, own = (side.strip() for side in pattern.split("->"))
    return rearrange(torch.stack(pieces) if own.startswith("i") else pieces[0], f"{own} -> {saved}")


def _table(n_layers: int, tied: bool) -> dict[str, tuple[str, str]]:
    """Every tensor of a GPT-2: how it is cut, and the parameters that the pieces become."""
    blocks = {
        f"h.{layer}.{name}": (pattern, " ".join(f"blocks.{layer}.{target}" for target in targets.split()))
        for layer in range(n_layers)
        for name, (pattern, targets) in _BLOCK.items()
    }
    return _OUTER | blocks | ({} if tied else {_HEAD: ("v d -> d v", "unembed.W_U")})


def _shape(pattern: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a saved tensor: the left side of its pattern, with products of what is in brackets."""
    axes = re.findall(r"\(([^)]*)\)|(\w)", pattern.split("->")[0])
    return tuple(math.prod(sizes[axis] for axis in (group or single).split()) for group, single in axes)


def _pieces(value: Tensor, pattern: str, sizes: Mapping[str, int]) -> list[Tensor]:
    """A saved tensor in HookedTransformer's layout, cut along the axis of query, key, value where it has one."""
    if "->" not in pattern:
        return [value]
    moved = rearrange(value, pattern, **{axis: sizes[axis] for axis in set(re.findall(r"\w", pattern))})
    return list(moved) if pattern.split("->")[1].strip().startswith("i") else [moved]
