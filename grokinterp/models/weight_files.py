"""The files with a model's weights: found, opened and looked at before anything large is read. Nothing here can run code."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from grokinterp.checks import shown
from grokinterp.errors import GrokinterpError
from grokinterp.files import read_json, regular_file
from grokinterp.models.hub import CONFIG, FILES, INDEX, WEIGHTS
from grokinterp.models.layouts import without_wrappers

Saved = Mapping[str, tuple[Any, str]]
"""Tensors by name: an open file, and the name in it."""

ONE_MODEL = f"use weights and {CONFIG} of one model"
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@contextmanager
def opened(folder: Path) -> Iterator[dict[str, tuple[Any, str]]]:
    """Every tensor of the folder by its name, without what wrappers and GPT-2's older files put in front: an open file, and the name in it.

    Nothing is read yet.

    Raises:
        GrokinterpError: no weights, weights that only pickle can read, shards that are missing, files that are cut short.
    """
    from safetensors import SafetensorError, safe_open

    saved: dict[str, tuple[Any, str]] = {}
    with ExitStack() as stack:
        for path in weight_files(folder):
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
        yield {key.removeprefix("transformer."): value for key, value in without_wrappers(saved).items()}


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, one or as many as its index names; see `opened`."""
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
        read = f"M.from_pretrained({where!r}, weights_only=True, dtype='auto')"
        code = f"from transformers import AutoModelForCausalLM as M; {read}.save_pretrained({where!r})"
        raise GrokinterpError(
            f"{folder} has its weights as a .bin file, a pickle that can run code; convert it once with python -c {shlex.quote(code)}"
        )
    raise GrokinterpError(f"{folder} has no {WEIGHTS}; a model's folder holds {FILES}")


def check_float(name: str, saved_as: str, folder: Path) -> None:
    """Raise unless a tensor is saved as one of the `FLOATS`."""
    if saved_as not in FLOATS:
        raise GrokinterpError(f"{folder}: {name} is saved as {saved_as}; load_model reads {', '.join(FLOATS)}, not quantised weights")


def check_tied(tensors: Saved, head: str, embedding: str, folder: Path) -> None:
    """Raise if a file holds a head that differs from the embedding to which config.json ties it; it would be dropped."""
    if head not in tensors or embedding not in tensors or tensors[head] == tensors[embedding]:
        return
    one, other = (file.get_tensor(key) for file, key in (tensors[head], tensors[embedding]))
    if not torch.equal(one, other):
        raise GrokinterpError(
            f"{folder}: {head} differs from {embedding}, and its {CONFIG} says that they are tied; "
            'write "tie_word_embeddings": false there to use both, or leave the head out'
        )


def check_memory(n_bytes: int, folder: Path) -> None:
    """Raise if a model is larger than this machine's memory, where the system says how much that is."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return
    if n_bytes > memory:
        raise GrokinterpError(f"the model in {folder} needs {n_bytes / 1e9:,.1f} GB of memory, and this machine has {memory / 1e9:,.1f} GB")
