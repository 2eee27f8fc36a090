"""Any causal language model that TransformerLens wraps, from a folder in Hugging Face's layout: transformers reads it, a bridge gives it hooks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grokinterp.checks import shown
from grokinterp.errors import GrokinterpError
from grokinterp.models.adapter import Adapter, rounding
from grokinterp.models.hub import CONFIG
from grokinterp.models.layouts import listed
from grokinterp.models.weight_files import FLOATS, ONE_MODEL, check_float, check_memory, check_tied, opened

_BUFFER = re.compile(r".*\.(attn|attention)\.(bias|masked_bias)|.*rotary_emb\.inv_freq")  # older versions saved what is computed with the weights
_YOURSELF = "wrap the module yourself: analyze takes any model with hook points"
_HEAD_BIASES = ("lm_head._original_component.bias", "embed_out._original_component.bias")


def load(folder: Path, written: Mapping[str, Any], name: str, device: str, dtype: torch.dtype | None) -> Any:
    """A TransformerBridge around transformers' model of a folder, which has been seen to give that model's logits under the names of hooks.

    Args:
        folder: holds config.json and weights.
        written: the content of its config.json.
        name: what the model is called.
        device: where it ends up.
        dtype: of its weights; None for that of config.json, or of the weights where it names none.

    Raises:
        GrokinterpError: a kind of model that transformers or TransformerLens does not know as a causal language model, or only with code from the
            hub; weights that are missing, left over or of another shape; a bridge that is not the same function.
    """
    config = _config(folder, written)
    _check_weights(folder, config, dtype)
    model = _read(folder, config, dtype, nested="text_config" in written).to(device)
    tokens = torch.arange(min(4, config.vocab_size, _n_positions(config)), device=device)[None]
    logits = _logits(model, tokens, folder)
    has_bias = getattr(model.get_output_embeddings(), "bias", None) is not None
    bridge = wrapped(model, str(folder), device)
    bridge.cfg.model_name = name
    bridge.absent_parameters = frozenset(key for key, _ in bridge.named_parameters() if _is_unused(key, has_bias))
    _check_bridge(bridge, tokens, logits, folder)
    return bridge


def _config(folder: Path, written: Mapping[str, Any]) -> Any:
    """The folder's config.json as transformers reads it, for a causal language model without quantisation."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    path, kind = folder / CONFIG, written.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING_NAMES:
        code = ", and its own code from the hub, which load_model never runs" if "auto_map" in written else ""
        raise GrokinterpError(
            f"{path} describes a model of type {kind!r}, which transformers does not know{code}; convert it to a layout that transformers reads, "
            f"or {_YOURSELF}"
        )
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise GrokinterpError(f"{path} describes a model of type {kind!r}; load_model reads causal language models, and transformers has none of it")
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever transformers raises over a field
        raise GrokinterpError(f"{path} is not a configuration of {kind}: {_one_line(error)}") from error
    return config.get_text_config()


def _n_positions(config: Any) -> int:
    """The most positions that a model reads at once, where its configuration says how many; 4 where it names no limit."""
    limit = getattr(config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else 4


def _check_weights(folder: Path, config: Any, dtype: torch.dtype | None) -> None:
    """Raise unless the files hold as many numbers as the model has, each a float, and one head; nothing large has been allocated yet."""
    with opened(folder) as tensors:
        pieces = {name: file.get_slice(key) for name, (file, key) in tensors.items() if not _BUFFER.fullmatch(name)}
        for name, piece in pieces.items():
            check_float(name, piece.get_dtype(), folder)
        empty = _empty(folder, config, len(tensors))
        apart = {(id(tensors[name][0]), tensors[name][1]): piece for name, piece in pieces.items()}  # an alias is the same tensor
        n_saved, n_needed = (
            sum(sizes) for sizes in ((math.prod(piece.get_shape()) for piece in apart.values()), map(Tensor.numel, empty.parameters()))
        )
        if n_needed > n_saved:
            raise GrokinterpError(f"{folder / CONFIG} asks for {n_needed:,} weights, and the files hold {n_saved:,}; {ONE_MODEL}")
        saved_as = [FLOATS[piece.get_dtype()] for piece in pieces.values()]
        check_memory(n_needed * (max(kind.itemsize for kind in saved_as) if dtype is None else dtype.itemsize), folder)
        if config.tie_word_embeddings:
            head, embedding = (_name_of(module, empty) for module in (empty.get_output_embeddings(), empty.get_input_embeddings()))
            check_tied(tensors, head, embedding, folder)


def _empty(folder: Path, config: Any, n_tensors: int) -> Any:
    """The model without memory for its weights, once it is known to have no more layers than the files have tensors."""
    from transformers import AutoModelForCausalLM

    layers = getattr(config, "num_hidden_layers", 0)
    if not isinstance(layers, int) or layers > n_tensors:
        raise GrokinterpError(f"{folder / CONFIG} asks for {shown(layers)} layers, and the weights are {n_tensors} tensors; {ONE_MODEL}")
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, attn_implementation="eager", trust_remote_code=False)
    except Exception as error:  # sizes that do not go together end in errors of transformers' layers and of torch
        raise GrokinterpError(f"{folder / CONFIG} is not a configuration that transformers can build: {_one_line(error)}") from error


def _name_of(module: Any, model: Any) -> str:
    """The name of a module's weight in files."""
    return next(f"{name}.weight" for name, own in model.named_modules() if own is module).removeprefix("transformer.")


def _read(folder: Path, config: Any, dtype: torch.dtype | None, nested: bool) -> Any:
    """transformers' model, in eval mode and frozen, every saved tensor used and every weight saved.

    Args:
        folder: holds the weights.
        config: of the language model.
        dtype: of its weights; None for that of config.json, or of the weights where it names none.
        nested: whether config.json describes a larger model, one that sees images for example, of which that is a part.

    Raises:
        GrokinterpError: weights that are missing, left over or of another shape.
    """
    from transformers import AutoModelForCausalLM

    try:
        model, notes = AutoModelForCausalLM.from_pretrained(
            str(folder),
            config=config,
            dtype="auto" if dtype is None else dtype,
            attn_implementation="eager",  # the others keep scores and patterns to themselves
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # shapes that differ are a RuntimeError, much else an OSError or ValueError, by version
        raise GrokinterpError(f"transformers cannot read the weights in {folder}: {_one_line(error)}; {ONE_MODEL}") from error
    left_over = [name for name in notes["unexpected_keys"] if not _BUFFER.fullmatch(name)]
    misfits = {"missing": notes["missing_keys"], "not in the model": left_over}
    parts = [f"{what}: {_cut(listed(names))}" for what, names in misfits.items() if names]
    if parts:
        way = f"save its language model alone, with a {CONFIG} of its own" if nested else ONE_MODEL
        raise GrokinterpError(f"the weights in {folder} are not those that its {CONFIG} asks for; {'; '.join(parts)}; {way}")
    return model.requires_grad_(False).eval()


def _logits(model: Any, tokens: Tensor, folder: Path) -> Tensor:
    try:
        with torch.no_grad():
            logits: Tensor = model(tokens).logits
    except Exception as error:  # sizes that transformers accepts and that do not go together
        raise GrokinterpError(f"transformers' own model of {folder} cannot run: {_one_line(error)}; restore its {CONFIG}") from error
    return logits


def wrapped(model: Any, name: str, device: str) -> Any:
    """A model of transformers' in a TransformerBridge, without a tokenizer.

    Args:
        model: a causal language model.
        name: of the model, or its folder.
        device: where it ends up.

    Raises:
        GrokinterpError: TransformerLens has no bridge for it.
    """
    from tokenizers import Tokenizer, models
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerFast

    # Without a tokenizer boot_transformers looks for one by the model's name, and makes an empty one up; one that has a BOS is taken as it is.
    stand_in = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<s>": 0}, unk_token="<s>")),
        **dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<s>"),
        add_bos_token=True,
        name_or_path=name,
    )
    try:
        bridge = TransformerBridge.boot_transformers(name, hf_model=model, tokenizer=stand_in, device=device, dtype=model.dtype)
    except Exception as error:  # what it lacks is a ValueError by one version, an AttributeError deep inside by another
        kind, why = type(model).__name__, _one_line(error).partition(" Available architectures")[0]
        raise GrokinterpError(f"TransformerLens has no bridge for this {kind} ({why}); {_YOURSELF}") from error
    bridge._tokenizer = None  # not through its setter, which would set the number of tokens to the tokenizer's
    return bridge


def _is_unused(name: str, has_bias: bool) -> bool:
    """Whether a parameter of a bridge takes no part: a fused map of which the bridge uses copies, or a bias of the head that the model lacks."""
    fused = ".qkv._original_component." in name or ".gate_up_proj." in name
    return fused or (name.endswith(_HEAD_BIASES) and not has_bias)


def _check_bridge(bridge: Any, tokens: Tensor, logits: Tensor, folder: Path) -> None:
    """Raise unless a pass gives the wrapped model's logits, and a residual stream that goes from block to block to the final norm."""
    stream = [f"blocks.{layer}.hook_resid_{side}" for layer in range(Adapter(bridge).n_layers) for side in ("pre", "post")]
    outputs = [f"blocks.{layer}.hook_{part}_out" for layer in range(Adapter(bridge).n_layers) for part in ("attn", "mlp")]
    wanted = [*stream, *outputs, "ln_final.hook_in"]
    try:
        with torch.no_grad():
            found, values = bridge.run_with_cache(tokens, names_filter=wanted)
    except Exception as error:  # a part that this model lacks is noticed deep inside
        raise GrokinterpError(f"the bridge of {folder} cannot run ({_one_line(error)}); {_YOURSELF}") from error
    if absent := [hook for hook in wanted if hook not in values]:
        raise GrokinterpError(
            f"the bridge of {folder} has no {absent[0]}: the model is no chain of attention and MLP on a residual stream to a final norm; {_YOURSELF}"
        )
    behind = [*stream[2::2], wanted[-1]]
    pairs = [(found, logits), *((values[end], values[start]) for end, start in zip(stream[1::2], behind, strict=True))]
    for ours, theirs in pairs:
        difference = float((ours - theirs).abs().max())
        if not difference <= rounding(theirs.to(logits.dtype)):
            what = "other logits than transformers' model" if ours is found else "a residual stream that changes between two blocks"
            raise GrokinterpError(
                f"the bridge of {folder} gives {what}, by up to {difference:.2g}; try another version of TransformerLens, or {_YOURSELF}"
            )


def _one_line(error: Exception) -> str:
    return _cut(" ".join(str(error).split()), 300).rstrip(".")


def _cut(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[:length]} …"
