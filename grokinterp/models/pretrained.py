"""A pretrained language model with the weights as they were published, by name or from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from grokinterp.checks import shown
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.files import read_object
from grokinterp.models import bridged, gpt2
from grokinterp.models.hooked import has_hooked_transformer
from grokinterp.models.hub import ALIASES, CONFIG, FILES, REPOSITORIES, cached_or_downloaded, is_repository
from grokinterp.models.tokenizer import read_tokenizer


def load_model(
    source: str | Path,
    *,
    revision: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    processed: bool = False,
    tokenizer: bool | str | Path = True,
) -> Any:
    """A pretrained causal language model, its weights neither centred nor folded, so that its residual stream is the model's own.

    The logits are those of Hugging Face's model. A name is looked up in the local Hugging Face cache first, without a network,
    and downloaded only if it is not there. Weights are read from safetensors; no file can run code.

    Args:
        source: "gpt2" (or "gpt2-small"), "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2", the name of any other repository of the hub like
            "EleutherAI/pythia-70m", or a folder in Hugging Face's layout: config.json, model.safetensors (or its shards with their index),
            tokenizer.json or another form of tokenizer. A folder that is called like one of the names is "./gpt2".
        revision: branch, tag or commit of the repository, "step1000" of Pythia for example; None for the main branch.
        device: where the model ends up, "cpu" or "cuda".
        dtype: what the saved weights are turned into; None leaves them as they are, in half precision too.
        processed: apply TransformerLens's usual processing: norms folded into the maps after them, writing weights and unembedding centred,
            value biases folded. Log-probabilities stay, residual stream and logits do not, so a core found before does not fit after.
        tokenizer: True for the one in the same folder, another folder that holds one, or False for none, when only tokens are passed in.

    Returns:
        the model in eval mode, weights frozen (``model.requires_grad_(True)`` to train it): under TransformerLens 3 a HookedTransformer for GPT-2,
        otherwise a TransformerBridge around transformers' model that has been seen to give its logits; with

        - ``model.tokenizer``, as it is in the folder. ``model.to_tokens(text)`` puts a BOS in front where the tokenizer does, but never for GPT-2,
          where TransformerLens would: pass ``prepend_bos=True`` to have one. What a tokenizer puts around a text besides a BOS stays;
        - ``model.provenance``: source, folder, revision, commit (of the hub, None for a folder of one's own), processed, dtype.

    Raises:
        GrokinterpError: an unknown name; neither cache nor network; a folder without weights, with weights that only pickle can read,
            that are cut short or do not fit config.json, with a model that is no causal language model or that TransformerLens does not know;
            a tokenizer that does not fit.
    """
    _check(device, dtype)
    folder = _folder(source, revision)
    written = _config(folder)
    kind = str(written.get("model_type"))
    plain_gpt2 = kind == "gpt2" and has_hooked_transformer()
    model = (gpt2 if plain_gpt2 else bridged).load(folder, written, str(source), device, dtype)
    words, prepends = None, False
    if tokenizer is not False:
        words, prepends = read_tokenizer(folder if tokenizer is True else Path(tokenizer), kind, model.cfg.d_vocab)
    if processed:
        model.process_weights_() if plain_gpt2 else model.enable_compatibility_mode()
    if words is not None:
        _set_tokenizer(model, words, prepends, kind)
    model.provenance = {
        "source": str(source),
        "folder": str(folder),
        "revision": revision,
        "commit": folder.name if folder.parent.name == "snapshots" else None,
        "processed": processed,
        "dtype": str(next(model.parameters()).dtype),
    }
    return model.requires_grad_(False).eval()


def _set_tokenizer(model: Any, words: Any, prepends: bool, kind: str) -> None:
    """Give a model its tokenizer, not with TransformerLens's own way, which makes it anew so that it adds a BOS to every text."""
    setattr(model, "tokenizer" if hasattr(model, "set_tokenizer") else "_tokenizer", words)
    model.cfg.tokenizer_prepends_bos, model.cfg.tokenizer_appends_eos = prepends, False
    model.cfg.default_prepend_bos = prepends and kind != "gpt2"


def _folder(source: str | Path, revision: str | None) -> Path:
    name = source if isinstance(source, str) else ""
    if name in REPOSITORIES:
        return cached_or_downloaded(name, revision)
    if Path(source).is_dir():
        if revision is not None:
            raise GrokinterpError(f"{source} is a folder, which has no revision {revision!r}; leave revision out, or pass a name of the hub")
        return Path(source)
    if name in ALIASES:
        return cached_or_downloaded(ALIASES[name], revision)
    if is_repository(name) and not Path(name).parent.is_dir():
        return cached_or_downloaded(name, revision)
    if isinstance(source, Path) or "/" in name or "\\" in name:
        raise GrokinterpError(
            f"{source} is not a folder; pass one with {FILES}, or one of the names {', '.join(REPOSITORIES)}, or owner/name of the hub"
        )
    raise unknown_name("model or folder", source, REPOSITORIES)


def _check(device: str, dtype: torch.dtype | None) -> None:
    if dtype is not None and not dtype.is_floating_point:
        raise GrokinterpError(f"dtype must be a floating-point type like torch.float32; got {dtype}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # the second from a torch that was built without CUDA
        raise GrokinterpError(f"device {device!r} is not available on this machine; use 'cpu'") from None


def _config(folder: Path) -> Mapping[str, Any]:
    if not (folder / CONFIG).is_file():
        raise GrokinterpError(f"{folder} has no {CONFIG}; a model's folder holds {FILES}")
    written = read_object(folder / CONFIG)
    for field in ("pruned_heads", "quantization_config"):
        if written.get(field):
            raise GrokinterpError(
                f"{folder / CONFIG} has {field} {shown(written[field])}, which load_model does not carry out; save the model without"
            )
    return written
