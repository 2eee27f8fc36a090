"""Named weights as people have them: unwrapped where that is exact, and all that does not fit said at once, with the way out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from grokinterp.errors import GrokinterpError

_INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # of torch.compile, FSDP, activation checkpointing: at any module
_AROUND = "module."  # of DataParallel and its kin: at the whole model
_NESTS = ("model_state_dict", "state_dict", "model", "module", "weights")  # where training scripts keep the weights
_LAYER = re.compile(r"\.(\d+)(?=\.)")
_GPT2 = re.compile(r"(transformer\.)?h\.\d+\.attn\.c_attn\.weight")

Shape = tuple[int, ...]
Value = TypeVar("Value")


def named_tensors(weights: Any, where: str = "these weights") -> dict[str, Tensor]:
    """Weights by name, without the prefix that a wrapper puts in front of every name.

    Args:
        weights: a state dict; what wrappers put into names is taken out, see `without_wrappers`.
        where: what an error calls them.

    Raises:
        GrokinterpError: a whole module, a checkpoint that holds the weights one level down, or values that are no tensors of numbers.
    """
    if isinstance(weights, nn.Module):
        raise GrokinterpError(f"{where} are a whole {type(weights).__name__}; pass its state_dict()")
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise GrokinterpError(f"{where} must be tensors by name; got a {type(weights).__name__}")
    nested = [name for name in _NESTS if isinstance(weights.get(name), Mapping)]
    if nested:
        raise GrokinterpError(f"{where} are a checkpoint that holds the weights one level down; pass what is under {nested[0]!r}")
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise GrokinterpError(f"{where} must be tensors by name; {name} is a {type(value).__name__}")
    return without_wrappers(weights)


def without_wrappers(named: Mapping[str, Value]) -> dict[str, Value]:
    """What has names, under the names without what wrappers put into them: ``_orig_mod.`` and its kin anywhere, ``module.`` before every one.

    Raises:
        GrokinterpError: two names become one.
    """
    bare = [".".join(part for part in name.split(".") if part not in _INSIDE) for name in named]
    while bare and all(name.startswith(_AROUND) for name in bare):
        bare = [name.removeprefix(_AROUND) for name in bare]
    if len(set(bare)) < len(bare):
        twice = next(name for name in bare if bare.count(name) > 1)
        raise GrokinterpError(f"these weights hold {twice} twice, with and without a wrapper's name in it; pass those of one model")
    return dict(zip(bare, named.values(), strict=True))


def misfit(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> str | None:
    """All that keeps weights from fitting, in one sentence with the way out; None where names and shapes are the same.

    Args:
        wanted: shape of each weight that the model has.
        found: shape of each weight that there is.
    """
    missing, foreign = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    misshapen = [name for name in wanted if name in found and found[name] != wanted[name]]
    parts = [f"missing: {listed(missing)}"] if missing else []
    parts += [f"not in the model: {listed(foreign)}"] if foreign else []
    parts += ["of another shape: " + ", ".join(f"{name} {found[name]}, wanted {wanted[name]}" for name in misshapen)] if misshapen else []
    if not parts:
        return None
    return "; ".join([*parts, *_way_out(wanted, found, foreign, misshapen)])


def _way_out(wanted: Mapping[str, Shape], found: Mapping[str, Shape], foreign: Iterable[str], misshapen: list[str]) -> list[str]:
    """What the differences point to, if anything."""
    if any(_GPT2.fullmatch(name) for name in foreign):
        return ["these are the names of Hugging Face's GPT-2: load_model(folder) reads it"]
    if misshapen and all(sorted(found[name]) == sorted(wanted[name]) for name in misshapen):
        published = "; published.load reads the files of Nanda et al. 2023" if any(name.endswith(".W_K") for name in misshapen) else ""
        return [f"they are laid out outputs first, as in torch.nn.Linear: transpose each of them{published}"]
    return []


def listed(names: Iterable[str]) -> str:
    """Every name, those that differ in their layer alone written together: ``blocks.0…3.attn.b_Q``."""
    layers: dict[str, list[int]] = {}
    for name in sorted(names):
        layer = _LAYER.search(name)
        key = name if layer is None else f"{name[: layer.start(1)]}\0{name[layer.end(1) :]}"
        layers.setdefault(key, []).extend([] if layer is None else [int(layer[1])])
    return ", ".join(key.replace("\0", _ranges(sorted(numbers))) if numbers else key for key, numbers in layers.items())


def _ranges(numbers: list[int]) -> str:
    """0, 1, 2, 5 as "0…2,5"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}…{run[-1]}" for run in runs)


def check_numbers(tensors: Mapping[str, Tensor]) -> None:
    """Raise a GrokinterpError unless all are dense tensors of floating-point numbers, which alone a parameter can take over."""
    for name, value in tensors.items():
        if not value.is_floating_point() or value.layout != torch.strided or value.is_meta:
            kind = "meta tensor without values" if value.is_meta else f"{value.layout} tensor of {value.dtype}"
            raise GrokinterpError(f"these weights must be dense tensors of floating-point numbers; {name} is a {kind}")
