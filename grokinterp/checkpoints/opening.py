"""Files, folders and dictionaries with weights: taken apart into states by step, configuration and record, without running any code in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from grokinterp.checkpoints.reader import State
from grokinterp.checks import LARGEST, shown
from grokinterp.errors import GrokinterpError
from grokinterp.files import TENSORS_LIMIT, read_json, regular_file
from grokinterp.models.adapter import is_model
from grokinterp.models.hub import CONFIG, INDEX
from grokinterp.models.layouts import named_tensors
from grokinterp.models.pickles import plain, read_pickle
from grokinterp.models.weight_files import weight_files

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
"""How files with weights end."""

_STATES = ("model", "state_dict", "model_state_dict", "model_state", "weights", "net", "params", "module")
_CONFIGS = ("model_args", "config", "cfg", "model_config", "hyper_parameters", "args")
_STEPS = ("step", "epoch", "iter_num", "global_step", "iteration")
_CONFIG_CLASSES = (
    "transformer_lens.HookedTransformerConfig.HookedTransformerConfig",
    "transformer_lens.config.HookedTransformerConfig.HookedTransformerConfig",
    "transformer_lens.config.hooked_transformer_config.HookedTransformerConfig",
    "easy_transformer.EasyTransformerConfig.EasyTransformerConfig",
    "argparse.Namespace",
    "types.SimpleNamespace",
)


class _Settings:
    """Stands for a class of settings in a file, which is not imported: its attributes are plain values."""


@dataclass(frozen=True, eq=False)
class Opened:
    """What a file, a folder or a dictionary holds.

    Attributes:
        title: what to call it.
        states: weights by step; step 0 where nothing states it.
        config: the configuration, plain values by name; empty without one.
        recorded: losses recorded while training, by step.
        optimizer: settings of the first parameter group.
        train: indices of the training examples; None where they are not kept.
        files: names of the files.
    """

    title: str
    states: Mapping[int, State]
    config: Mapping[str, Any] = field(default_factory=dict)
    recorded: Mapping[str, pd.Series[float]] = field(default_factory=dict, repr=False)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    train: Sequence[int] | None = None
    files: Sequence[str] = ()


def opened(source: Any) -> Opened:
    """Whatever `load_checkpoint` takes, taken apart.

    Args:
        source: a file, a folder, a state dict, a dictionary that holds one beside other things, or any of these by step.

    Raises:
        GrokinterpError: nothing is there, a file that could run code, or none of these.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        return _folder(path) if path.is_dir() else _file(path)
    if isinstance(source, Mapping) and source and all(isinstance(key, int) and not isinstance(key, bool) for key in source):
        return _by_step({int(step): opened(part) for step, part in source.items()}, "weights by step")
    if is_model(source):
        raise GrokinterpError(f"a {type(source).__name__} is a model with hook points, which needs no reading; pass it to analyze with task=…")
    if hasattr(source, "state_dict"):
        return opened(source.state_dict())
    return _unpacked(source, "a state dict")


def read_file(path: Path) -> Any:
    """The content of a file with weights; tensors and plain values are read, and nothing else.

    Raises:
        GrokinterpError: nothing is there; it is cut short or something else; it holds more than tensors and plain values.
    """
    regular_file(path, TENSORS_LIMIT)
    if path.suffix == ".safetensors":
        import safetensors
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise GrokinterpError(f"{path} is cut short or not a safetensors file; download it again") from error
    return read_pickle(path, [(_Settings, name) for name in _CONFIG_CLASSES])


def _file(path: Path) -> Opened:
    found = _unpacked(read_file(path), str(path))
    for state in found.states.values():
        # A tensor of a terabyte can be one number in the file, repeated; half of the file may be masks or tied weights.
        claimed, size = sum(value.numel() * value.element_size() for value in state.values()), path.stat().st_size
        if claimed > 2 * size:
            raise GrokinterpError(f"{path} claims weights of {claimed:,} bytes and has {size:,}; it is damaged")
    if not found.config and (beside := _config_beside(path)) is not None:
        found = replace(found, config=read_json(beside))
    return replace(found, title=path.name, files=(path.name,))


def _config_beside(path: Path) -> Path | None:
    """``config_X.json`` beside ``model_X.pt``, ``X.json`` beside ``X.pt``, or the folder's ``config.json``."""
    names = [f"config_{path.stem.partition('_')[2]}.json", f"{path.stem}.json", "config.json"]
    return next((beside for name in names if (beside := path.with_name(name)).is_file()), None)


def _folder(folder: Path) -> Opened:
    if (folder / "config.json").is_file() and (folder / "checkpoints").is_dir():
        raise GrokinterpError(f"{folder} is a run, whose config has everything that this asks for; pass the folder to analyze alone")
    if (folder / INDEX).is_file():
        shards = weight_files(folder)
        whole = _unpacked({name: value for shard in shards for name, value in read_file(shard).items()}, str(folder))
        beside = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
        return replace(whole, title=folder.name, config=beside, files=tuple(shard.name for shard in shards))
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if not files:
        raise GrokinterpError(f"{folder} has no file with weights; those end with {', '.join(SUFFIXES)}")
    if len(files) == 1:
        return _file(files[0])
    numbers = {path: re.findall(r"\d+", path.stem) for path in files}
    shapes = {re.sub(r"\d+", "#", path.name) for path in files}
    if len(shapes) > 1 or any(len(found) != 1 for found in numbers.values()):
        raise GrokinterpError(f"{folder} has several files with weights, {', '.join(path.name for path in files[:4])} …, not named by step; name one")
    return replace(_by_step({int(numbers[path][0]): _file(path) for path in files}, folder.name), files=[path.name for path in files])


def _by_step(parts: Mapping[int, Opened], title: str) -> Opened:
    """Several of one training; what they know beside their weights is the last one's."""
    several = [step for step, part in parts.items() if len(part.states) > 1]
    if several:
        raise GrokinterpError(f"step {several[0]} holds weights of several steps itself; pass it alone")
    states = {step: next(iter(parts[step].states.values())) for step in sorted(parts)}
    return replace(parts[max(parts)], title=title, states=states)


def _unpacked(saved: Any, name: str) -> Opened:
    if not isinstance(saved, Mapping):
        raise GrokinterpError(f"{name} holds a {type(saved).__name__}, not a checkpoint with weights, config and losses")
    if _is_state(saved):
        return Opened(name, {0: dict(saved)})
    config = next((_plain(saved[key], f"{name}: its {key}") for key in _CONFIGS if key in saved), {})
    step = next((int(saved[key]) for key in _STEPS if _is_whole(saved.get(key))), None)
    states = _states(saved, step)
    if not states:
        for key in _STATES:
            if isinstance(saved.get(key), Mapping) and saved[key]:
                named_tensors(saved[key], f"{name}: its weights")  # which says what is wrong with them
        known = ", ".join(_STATES)
        raise GrokinterpError(f"{name} holds no weights under {known} or checkpoints; it holds {', '.join(map(str, saved))}. Pass its state dict")
    groups = saved["optimizer"].get("param_groups") if isinstance(saved.get("optimizer"), Mapping) else None
    group = groups[0] if isinstance(groups, list) and groups and isinstance(groups[0], Mapping) else {}
    return Opened(
        title=name,
        states=states,
        config=config,
        recorded=_record(saved, step, name),
        optimizer={key: group[key] for key in ("lr", "betas", "eps", "weight_decay") if key in group},
        train=None if saved.get("train_indices") is None else [int(i) for i in saved["train_indices"]],
    )


def _states(saved: Mapping[Any, Any], step: int | None) -> dict[int, State]:
    """Weights by step: a list of ``checkpoints`` with their ``checkpoint_epochs``, or one state dict."""
    several = saved.get("checkpoints")
    if isinstance(several, Sequence) and len(several) and all(map(_is_state, several)):
        steps = saved.get("checkpoint_epochs")
        if steps is None or len(steps) != len(several):
            raise GrokinterpError(
                f"{len(several)} checkpoints need as many checkpoint_epochs; got {None if steps is None else len(steps)}. Pass them by step"
            )
        if len({int(at) for at in steps}) < len(several):
            raise GrokinterpError(f"checkpoint_epochs names an epoch twice: {', '.join(str(int(at)) for at in steps)}; each checkpoint has its own")
        return {int(at): state for at, state in sorted(zip(steps, several, strict=True), key=lambda pair: int(pair[0]))}
    held = [key for key in _STATES if _is_state(saved.get(key))]
    if len(held) > 1:
        raise GrokinterpError(f"the checkpoint holds weights under {' and '.join(held)}; pass the ones that you mean")
    return {step or 0: saved[held[0]]} if held else {}


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())


def _is_whole(value: Any) -> bool:
    """Whether something counts steps."""
    whole = isinstance(value, int) or (isinstance(value, Tensor) and value.numel() == 1 and not value.is_floating_point())
    return whole and 0 <= int(value) <= LARGEST


def _plain(config: Any, where: str) -> dict[str, Any]:
    values = config if isinstance(config, Mapping) else vars(config) if isinstance(config, _Settings) else {}
    return dict(plain(values, where))


def _record(saved: Mapping[Any, Any], last: int | None, name: str) -> dict[str, pd.Series[float]]:
    """Recorded losses in nats by step, up to the last step; a list ten times shorter than the steps was recorded every tenth step.

    Where no step is stated, there is one loss a step.
    """
    import pandas as pd

    found: dict[str, pd.Series[float]] = {}
    for kind in ("train", "test"):
        if (losses := saved.get(f"{kind}_losses")) is None:
            continue
        where, every = f"{name}: {kind}_losses", 1
        values = list(_numbers(losses, where))
        if values and last is not None:
            every = max(1, round((last + 1) / len(values)))
            if abs(every * len(values) - (last + 1)) > every:
                raise GrokinterpError(
                    f"{where} are {len(values):,} numbers, which no regular spacing lays over {last + 1:,} steps; pass the weights alone"
                )
        found[f"{kind}_loss"] = pd.Series(values, index=pd.RangeIndex(0, every * len(values), every, name="epoch"))
    return found


def _numbers(losses: Any, where: str) -> Iterator[float]:
    """Losses as Python numbers; NaN and inf are what a diverged training recorded."""
    if not isinstance(losses, list | tuple | np.ndarray | Tensor) or (isinstance(losses, np.ndarray | Tensor) and losses.ndim != 1):
        raise GrokinterpError(f"{where} are a list of numbers; got {shown(losses)}")
    for value in losses:
        if isinstance(value, str | bytes | bool) or not hasattr(value, "__float__") or (isinstance(value, Tensor) and value.numel() != 1):
            raise GrokinterpError(f"{where} are a list of numbers; got {shown(value)} in it")
        yield float(value)
