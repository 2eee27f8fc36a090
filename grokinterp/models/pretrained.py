"""GPT-2 of any size as a HookedTransformer with the weights as they were published, by name or from a folder."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from grokinterp.checks import real, shown, whole
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.files import read_json, regular_file
from grokinterp.models.hub import (
    ALIASES,
    CONFIG,
    FILES,
    INDEX,
    MERGES,
    REPOSITORIES,
    TOKENIZER,
    VOCABULARY,
    WEIGHTS,
    cached_or_downloaded,
    has_tokenizer,
)
from grokinterp.models.layouts import misfit, wrapper_of

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
_ONE_MODEL = f"use weights and {CONFIG} of one model"
_FLOATS = ("F64", "F32", "F16", "BF16")
_ACTIVATIONS = ("gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")  # called the same in both libraries
_TOKENIZER_FILES = (TOKENIZER, VOCABULARY, MERGES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_TOKENIZER_LIMIT = 1 << 28  # bytes; the largest published ones have 40 million

Saved = Mapping[str, tuple[Any, str]]  # name -> an open file, and the name in it


def load_model(
    source: str | Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    processed: bool = False,
    tokenizer: bool | str | Path = True,
) -> Any:
    """A pretrained GPT-2 as a HookedTransformer, its weights neither centred nor folded, so that its residual stream is the model's own.

    The logits are those of Hugging Face's GPT2LMHeadModel. A name is looked up in the local Hugging Face cache first, without a network,
    and downloaded only if it is not there. Weights are read tensor by tensor from safetensors; no file can run code.

    Args:
        source: "gpt2" (or "gpt2-small"), "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2", or a folder in Hugging Face's layout with a
            GPT-2 of any size: config.json, model.safetensors (or its shards with their index), tokenizer.json or vocab.json with merges.txt.
            A folder that is called like one of the names is "./gpt2".
        device: where the model ends up, "cpu" or "cuda".
        dtype: what the saved weights, float32 in the published models, are turned into.
        processed: apply TransformerLens's usual processing: LayerNorm folded into the maps behind it, writing weights and unembedding centred,
            value biases folded. Log-probabilities stay, residual stream and logits do not, so a core found before does not fit after.
        tokenizer: True for the one in the same folder, another folder that holds one, or False for none, when only tokens are passed in.

    Returns:
        the model in eval mode, weights frozen (``model.requires_grad_(True)`` to train it), with

        - ``model.tokenizer``, as it is in the folder; GPT-2's adds no BOS, and neither does ``model.to_tokens(text)`` here, where TransformerLens
          would: pass ``prepend_bos=True`` to have one. What a tokenizer puts around a text besides a BOS, [CLS] and [SEP] or an EOS, stays;
        - ``model.provenance``: source, folder, commit (of the hub, None for a folder of one's own), processed, dtype.

    Raises:
        GrokinterpError: an unknown name; neither cache nor network; a folder without weights, with weights that only pickle can read,
            that are cut short or do not fit config.json, with another kind of model; a tokenizer that does not fit.
    """
    _check(device, dtype)
    folder = _folder(source)
    config = _read_config(folder)
    words = None if tokenizer is False else _read_tokenizer(folder if tokenizer is True else Path(tokenizer), config.vocab_size)
    with _opened(folder) as tensors:
        table = _checked(tensors, config, folder, dtype)
        model = _build(config, str(source), device, dtype)
        _fill(model, tensors, table, tied=config.tie_word_embeddings)
    if processed:
        model.process_weights_()
    if words is not None:
        # Not with set_tokenizer, which makes it anew so that it adds a BOS to every text, and may ask the hub for it.
        model.tokenizer, model.cfg.tokenizer_prepends_bos = words
    commit = folder.name if folder.parent.name == "snapshots" else None
    model.provenance = {"source": str(source), "folder": str(folder), "commit": commit, "processed": processed, "dtype": str(dtype)}
    return model.requires_grad_(False).eval()


def _folder(source: str | Path) -> Path:
    if isinstance(source, str) and source in REPOSITORIES:
        return cached_or_downloaded(source)
    if Path(source).is_dir():
        return Path(source)
    if isinstance(source, str) and source in ALIASES:
        return cached_or_downloaded(ALIASES[source])
    if isinstance(source, Path) or "/" in source or "\\" in source:
        raise GrokinterpError(f"{source} is not a folder; pass one with {FILES}, or one of the names {', '.join(REPOSITORIES)}")
    raise unknown_name("model or folder", source, REPOSITORIES)


def _check(device: str, dtype: torch.dtype) -> None:
    if not dtype.is_floating_point:
        raise GrokinterpError(f"dtype must be a floating-point type like torch.float32; got {dtype}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # the second from a torch that was built without CUDA
        raise GrokinterpError(f"device {device!r} is not available on this machine; use 'cpu'") from None


def _read_config(folder: Path) -> Any:
    """The folder's config.json as a GPT2Config, which knows the defaults."""
    from transformers import GPT2Config

    path = folder / CONFIG
    if not path.is_file():
        raise GrokinterpError(f"{folder} has no {CONFIG}; a GPT-2 folder holds {FILES}")
    written = read_json(path)
    kind = written.get("model_type") if isinstance(written, dict) else None
    if kind != "gpt2":
        raise GrokinterpError(f"{path} describes a model of type {kind!r}; load_model reads GPT-2 of any size (model_type 'gpt2')")
    try:
        config = GPT2Config.from_dict(written)
    except Exception as error:  # whatever transformers raises over a field: a ValueError, an AttributeError for a type that torch lacks …
        raise GrokinterpError(f"{path} is not a configuration of GPT-2: {' '.join(str(error).split())}") from error
    _check_sizes(config, written, path)
    if config.n_embd % config.n_head:
        raise GrokinterpError(f"{path} divides a width of {config.n_embd} among {config.n_head} heads, which leaves a remainder; restore the file")
    if config.activation_function not in _ACTIVATIONS:
        raise unknown_name(f"activation function in {path}:", config.activation_function, _ACTIVATIONS)
    if config.add_cross_attention:
        raise GrokinterpError(f"{path} describes a decoder with cross-attention, which needs an encoder; load_model reads plain GPT-2")
    return config


def _check_sizes(config: Any, written: Mapping[str, Any], path: Path) -> None:
    """Raise unless every size and number has a value that a model can have, and no field asks for what is not done here."""
    for name in ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size"):
        whole(f"{path}: {name}", getattr(config, name), 1, 10_000_000)
    if config.n_inner is not None:
        whole(f"{path}: n_inner", config.n_inner, 1, 10_000_000)
    real(f"{path}: layer_norm_epsilon", config.layer_norm_epsilon, 0, 1)
    for field in ("pruned_heads", "quantization_config"):
        if written.get(field):
            raise GrokinterpError(f"{path} has {field} {shown(written[field])}, which load_model does not carry out; save the model without")


def _build(config: Any, name: str, device: str, dtype: torch.dtype) -> Any:
    """A HookedTransformer of that architecture with memory that nothing has been written to yet."""
    from grokinterp.models.hooked import hooked_transformer

    return hooked_transformer(
        model_name=name,
        original_architecture="GPT2LMHeadModel",
        n_layers=config.n_layer,
        d_model=config.n_embd,
        n_heads=config.n_head,
        d_head=config.n_embd // config.n_head,
        d_mlp=config.n_inner or 4 * config.n_embd,
        n_ctx=config.n_positions,
        d_vocab=config.vocab_size,
        act_fn=config.activation_function,
        eps=config.layer_norm_epsilon,
        use_attn_scale=config.scale_attn_weights,
        scale_attn_by_inverse_layer_idx=config.scale_attn_by_inverse_layer_idx,
        normalization_type="LN",
        tie_word_embeddings=config.tie_word_embeddings,
        default_prepend_bos=False,
        device=device,
        dtype=dtype,
    )


@contextmanager
def _opened(folder: Path) -> Iterator[dict[str, tuple[Any, str]]]:
    """Every tensor of the folder by its name without prefix: an open file, and the name in it. Nothing is read yet."""
    from safetensors import SafetensorError, safe_open

    saved: dict[str, tuple[Any, str]] = {}
    with ExitStack() as stack:
        for path in _weight_files(folder):
            try:
                file = stack.enter_context(safe_open(regular_file(path), framework="pt"))
            except (SafetensorError, OSError) as error:
                raise GrokinterpError(
                    f"{path} is cut short or not a safetensors file ({error}); download it again (after a git clone: git lfs pull)"
                ) from error
            keys = set(file.keys())
            saved |= {key: (file, key) for key in keys}
            # safetensors' save_model writes a shared tensor once, and notes its other names.
            saved |= {alias: (file, key) for alias, key in (file.metadata() or {}).items() if key in keys and alias not in keys}
        wrapper = wrapper_of(saved)
        yield {key.removeprefix(wrapper).removeprefix("transformer."): value for key, value in saved.items()}


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        index = read_json(folder / INDEX)
        names = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
            raise GrokinterpError(f"{folder / INDEX} is not an index of weights; restore it")
        for outside in (name for name in names.values() if Path(name).name != name):
            raise GrokinterpError(f"{folder / INDEX} names the file {shown(outside)}, which lies outside its folder; its weights are files beside it")
        files = [folder / name for name in sorted(set(names.values()))]
        for missing in (file for file in files if not file.exists()):
            raise GrokinterpError(f"{folder} has no {missing.name}, which its {INDEX} names; the download is incomplete")
        return files
    if any(folder.glob("pytorch_model*.bin")):
        where = str(folder)
        code = f"from transformers import GPT2LMHeadModel as M; M.from_pretrained({where!r}, weights_only=True).save_pretrained({where!r})"
        raise GrokinterpError(
            f"{folder} has its weights as a .bin file, a pickle that can run code; convert it once with python -c {shlex.quote(code)}"
        )
    raise GrokinterpError(f"{folder} has no {WEIGHTS}; a GPT-2 folder holds {FILES}")


def _checked(tensors: dict[str, tuple[Any, str]], config: Any, folder: Path, dtype: torch.dtype) -> dict[str, tuple[str, str, dict[str, int]]]:
    """What becomes of every tensor, once it is known from the files' headers that they hold this model; nothing large has been allocated.

    Where embedding and head are tied, one of the two may be absent, and where both are there they have to be equal.
    """
    tied = config.tie_word_embeddings
    if tied and _EMBEDDING not in tensors and _HEAD in tensors:
        tensors[_EMBEDDING] = tensors[_HEAD]
    present = {name: tuple(file.get_slice(key).get_shape()) for name, (file, key) in tensors.items() if not _MASK.fullmatch(name)}
    if config.n_layer > len(present):
        raise GrokinterpError(f"{folder / CONFIG} asks for {config.n_layer:,} layers, and the weights are {len(present)} tensors; {_ONE_MODEL}")
    e = config.n_embd // config.n_head
    sizes = {"v": config.vocab_size, "p": config.n_positions, "d": config.n_embd, "m": config.n_inner or 4 * config.n_embd}
    sizes |= {"h": config.n_head, "e": e, "i": 3}
    table = _table(config.n_layer, tied)
    shapes = {name: _shape(pattern, sizes) for name, (pattern, _) in table.items()}
    problem = misfit(shapes | ({_HEAD: shapes[_EMBEDDING]} if tied and _HEAD in present else {}), present)
    if problem is not None:
        raise GrokinterpError(f"the weights in {folder} are not those that its {CONFIG} asks for; {problem}; {_ONE_MODEL}")
    for name in shapes:
        file, key = tensors[name]
        if (saved_as := file.get_slice(key).get_dtype()) not in _FLOATS:
            raise GrokinterpError(f"{folder}: {name} is saved as {saved_as}; load_model reads {', '.join(_FLOATS)}, not quantised weights")
    _check_memory(sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize, folder)
    if tied and _HEAD in present and tensors[_HEAD] != tensors[_EMBEDDING]:
        head, embedding = (file.get_tensor(key) for file, key in (tensors[_HEAD], tensors[_EMBEDDING]))
        if not torch.equal(head, embedding):
            raise GrokinterpError(
                f"{folder}: {_HEAD} differs from {_EMBEDDING}, and its {CONFIG} says that they are tied; "
                'write "tie_word_embeddings": false there to use both, or leave the head out'
            )
    return {name: (pattern, targets, sizes) for name, (pattern, targets) in table.items()}


def _check_memory(n_bytes: int, folder: Path) -> None:
    """Raise if a model is larger than this machine's memory, where the system says how much that is."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return
    if n_bytes > memory:
        raise GrokinterpError(f"the model in {folder} needs {n_bytes / 1e9:,.1f} GB of memory, and this machine has {memory / 1e9:,.1f} GB")


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


def _read_tokenizer(folder: Path, n_vocab: int) -> tuple[Any, bool]:
    """The tokenizer of a folder as it is, with an end of text that also serves as padding and BOS where it names no others.

    And whether it puts its BOS in front of a text: TransformerLens then takes the first token off again.
    """
    from transformers import GPT2Tokenizer, PreTrainedTokenizerFast

    if not has_tokenizer(folder):
        raise GrokinterpError(f"{folder} has no {TOKENIZER}, nor {VOCABULARY} with {MERGES}; add them, or pass tokenizer=another folder or False")
    for name in _TOKENIZER_FILES:
        if (folder / name).exists():
            regular_file(folder / name, _TOKENIZER_LIMIT)
    # Not AutoTokenizer: it takes whatever lies beside GPT-2's config.json for GPT-2's own, and reads another's words as nothing.
    reader: Callable[..., Any] = (PreTrainedTokenizerFast if (folder / TOKENIZER).is_file() else GPT2Tokenizer).from_pretrained
    try:
        tokenizer = reader(str(folder), local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a file that it cannot read
        raise GrokinterpError(f"the tokenizer in {folder} cannot be read ({' '.join(str(error).split())}); download it again") from error
    largest = max([len(tokenizer) - 1, *tokenizer.get_vocab().values()])
    if largest >= n_vocab:
        raise GrokinterpError(f"the tokenizer in {folder} has {largest + 1} tokens and the model {n_vocab}; they belong to different models")
    prepends_bos = tokenizer.bos_token_id is not None and tokenizer.encode("a")[:1] == [tokenizer.bos_token_id]
    if tokenizer.eos_token is None and "<|endoftext|>" in tokenizer.get_vocab():
        tokenizer.eos_token = "<|endoftext|>"
    tokenizer.bos_token = tokenizer.bos_token or tokenizer.eos_token
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer, prepends_bos
