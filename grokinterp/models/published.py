"""Checkpoints that authors published, read into HookedTransformers without running any code of theirs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from grokinterp.checks import real, shown, whole
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.files import TENSORS_LIMIT, regular_file
from grokinterp.models.layouts import Shape, check_numbers, misfit, named_tensors
from grokinterp.models.pickles import plain, read_pickle
from grokinterp.models.transformers import Activation, ModelConfig, build_model, load_weights
from grokinterp.tasks import Task, TaskConfig

if TYPE_CHECKING:
    import pandas as pd

OPERATIONS: dict[str, str] = {
    "add": "modular_addition",
    "addition": "modular_addition",
    "subtract": "modular_subtraction",
    "subtraction": "modular_subtraction",
    "multiply": "modular_multiplication",
    "multiplication": "modular_multiplication",
    "x2xyy2": "modular_quadratic",
    "quadratic": "modular_quadratic",
}
"""What a file's ``fn_name`` may say, case and a leading ``modular_`` aside, and the task that it is here. All have every pair in row order."""

ACTIVATIONS: dict[str, Activation] = {"relu": "relu", "gelu": "gelu"}
"""What a file's ``act_type`` may say, case aside."""

_SIZES = {
    "d_model": ("d_model",),
    "n_heads": ("num_heads", "n_heads"),
    "d_mlp": ("d_mlp",),
    "d_head": ("d_head",),
    "n_layers": ("num_layers", "n_layers"),
}
_LARGEST_P = 1_000  # a table of a million pairs (chosen here)
_BATCH, _LAST = 4_096, 10  # examples at once; epochs of the record that say how much the loss moves


@dataclass(frozen=True, eq=False)
class Published:
    """What an author's checkpoint holds.

    Attributes:
        path: the file.
        model: a HookedTransformer with its weights.
        task: the table with the author's split.
        epoch: when the weights were saved, in epochs (full batch, so also steps).
        train_losses, test_losses: recorded losses (nats) by epoch; the test loss may be recorded less often.
        optimizer: the optimizer's true settings (lr, betas, eps, weight_decay), as its own state has them.
        config: the author's configuration entry in plain values, devices and types by name; where it disagrees with `optimizer`, that one is right.
    """

    path: Path
    model: Any = field(repr=False)
    task: Task
    epoch: int
    train_losses: pd.Series[float] = field(repr=False)
    test_losses: pd.Series[float] = field(repr=False)
    optimizer: Mapping[str, Any]
    config: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", plain(self.config, f"{self.path}: its config"))


def load(path: str | Path, *, check_loss: bool = True) -> Published:
    """Read a checkpoint of Nanda et al. 2023 (arXiv 2301.05217), weights, recorded losses and optimizer settings.

    The file is opened with ``weights_only=True``, so nothing in it can run. The split is the published one:
    Python's ``random.seed(seed)`` shuffle of all pairs in row order. The activation function is the configuration's ``act_type``, and
    ReLU where it names none.

    Args:
        path: the file.
        check_loss: compare the training loss of the model as it is read with the last one recorded, where every epoch's was. Weights do
            not say which operation, split and activation function they belong to; their loss does.

    Raises:
        GrokinterpError: the file is missing, cut short, holds code, or is not such a checkpoint: an entry is missing or out of range, tensors do
            not have the names and shapes of one model, an operation or activation function is unknown; or its recorded loss is another one.
    """
    file = regular_file(path, TENSORS_LIMIT)
    saved = read_pickle(file)
    if not isinstance(saved, dict):
        raise GrokinterpError(f"{file} holds a {type(saved).__name__}, not a checkpoint with weights, config and losses")
    where = f"{file} is not a checkpoint of Nanda et al. 2023"
    _check_entries(saved, where)
    config = dict(plain(saved["config"], f"{where}: its config"))
    epoch = whole(f"{where}: epoch", saved["epoch"], 0, 10**9)
    state = _weights(saved["model"], file)
    p = whole(f"{where}: config p", config.get("p"), 3, _LARGEST_P)
    architecture = _architecture(state, config, p, where)
    fraction = real(f"{where}: config frac_train", config.get("frac_train"), 0, 1)
    seed = whole(f"{where}: config seed", config.get("seed"), 0, 2**63 - 1)
    task = TaskConfig(_operation(config, where), {"p": p}, fraction, seed, "python").build()
    model = build_model(architecture, task, seed=0, dtype=torch.promote_types(state["embed.W_E"].dtype, torch.float32))
    load_weights(model, inputs_first(state))
    found = Published(
        path=file,
        model=model,
        task=task,
        epoch=epoch,
        train_losses=_series(saved["train_losses"], epoch, f"{where}: train_losses"),
        test_losses=_series(saved["test_losses"], epoch, f"{where}: test_losses"),
        optimizer=_optimizer(saved["optimizer"]["param_groups"][0], f"{where}: optimizer"),
        config=config,
    )
    if check_loss:
        _check_loss(found)
    return found


def _check_entries(saved: Mapping[str, Any], where: str) -> None:
    """Raise unless the checkpoint has its parts, all that are missing in one message."""
    groups = saved["optimizer"].get("param_groups") if isinstance(saved.get("optimizer"), Mapping) else None
    has_group = isinstance(groups, list) and bool(groups) and isinstance(groups[0], Mapping)
    missing = [repr(name) for name in ("model", "config") if not isinstance(saved.get(name), Mapping)]
    missing += [] if has_group else ["'optimizer' with its param_groups"]
    missing += [repr(name) for name in ("epoch", "train_losses", "test_losses") if name not in saved]
    if not missing:
        return
    tensors = sum(isinstance(value, Tensor) for value in saved.values())
    way_out = "; it holds bare weights: build their model with build_model and pass them to load_weights" if tensors == len(saved) and tensors else ""
    raise GrokinterpError(f"{where}: it has no {', '.join(missing)}{way_out}")


def _weights(state: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """The checkpoint's tensors, once it is known that they are no larger than what the file holds."""
    tensors = named_tensors(state, f"{file}: its weights")
    # A tensor of a terabyte can be one number in the file, repeated; half of the file may be masks or tied weights.
    claimed, size = sum(value.numel() * value.element_size() for value in tensors.values()), file.stat().st_size
    if claimed > 2 * size:
        raise GrokinterpError(f"{file} claims weights of {claimed:,} bytes and has {size:,}; it is damaged")
    check_numbers({name: value for name, value in tensors.items() if not name.endswith(".mask")}, f"{file}: its weights")
    return tensors


def _architecture(state: Mapping[str, Tensor], config: Mapping[str, Any], p: int, where: str) -> ModelConfig:
    """The model that the tensors are of, once names, shapes, masks and configuration agree on it."""
    first = {name: state[name].shape for name in ("blocks.0.attn.W_K", "blocks.0.mlp.b_in") if name in state}
    if [len(shape) for shape in first.values()] != [3, 1]:
        raise GrokinterpError(f"{where}: blocks.0.attn.W_K [head, d_head, d_model] and blocks.0.mlp.b_in [d_mlp] say its sizes; got {shown(first)}")
    (n_heads, d_head, d_model), (d_mlp,) = first.values()
    layers = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    shapes = _shapes(len(layers), n_heads, d_head, d_model, d_mlp, p)
    problem = misfit(shapes, {name: tuple(value.shape) for name, value in state.items() if name in shapes or not name.endswith("attn.mask")})
    if problem is not None:
        raise GrokinterpError(f"{where}: its weights are not those of one model of {len(layers)} layers for p = {p}; {problem}")
    sizes = {"n_layers": len(layers), "n_heads": n_heads, "d_head": d_head, "d_model": d_model, "d_mlp": d_mlp}
    for name, spellings in _SIZES.items():
        for spelling in spellings:
            if config.get(spelling, sizes[name]) != sizes[name]:
                raise GrokinterpError(f"{where}: its config says {spelling} {shown(config[spelling])} and its weights {sizes[name]}")
    activation = config.get("act_type", "ReLU")
    if str(activation).lower() not in ACTIVATIONS:
        raise unknown_name(f"act_type in {where.split(' is not')[0]}:", str(activation)[:60], ACTIVATIONS)
    known = ModelConfig(len(layers), d_model, n_heads, d_head, d_mlp, ACTIVATIONS[str(activation).lower()])
    return replace(known, causal=_is_causal(state, where))


def _shapes(n_layers: int, n_heads: int, d_head: int, d_model: int, d_mlp: int, p: int) -> dict[str, Shape]:
    """Every weight of the authors' model in their layout, outputs first."""
    block: dict[str, Shape] = {f"attn.{name}": (n_heads, d_head, d_model) for name in ("W_K", "W_Q", "W_V")}
    block |= {"attn.W_O": (d_model, n_heads * d_head)}
    block |= {"mlp.W_in": (d_mlp, d_model), "mlp.b_in": (d_mlp,), "mlp.W_out": (d_model, d_mlp), "mlp.b_out": (d_model,)}
    outer: dict[str, Shape] = {"embed.W_E": (d_model, p + 1), "pos_embed.W_pos": (3, d_model), "unembed.W_U": (d_model, p + 1)}
    return outer | {f"blocks.{layer}.{name}": shape for layer in range(n_layers) for name, shape in block.items()}


def _is_causal(state: Mapping[str, Tensor], where: str) -> bool:
    """What the masks beside the weights say; causal where there are none."""
    masks = [value for name, value in state.items() if name.endswith("attn.mask")]
    if all(torch.equal(mask.float(), torch.ones(3, 3).tril()) for mask in masks):
        return True
    if all(torch.equal(mask.float(), torch.ones(3, 3)) for mask in masks):
        return False
    raise GrokinterpError(f"{where}: its attention masks are neither causal nor full: {shown(masks[0].tolist())}")


def _operation(config: Mapping[str, Any], where: str) -> str:
    name = str(config.get("fn_name"))[:60]
    key = name.lower().replace("-", "_").removeprefix("modular_").removeprefix("mod_")
    if key not in OPERATIONS:
        raise unknown_name(f"fn_name in {where.split(' is not')[0]}:", name, OPERATIONS)
    return OPERATIONS[key]


def inputs_first(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' layout, outputs first, turned into HookedTransformer's, inputs first; masks are left out."""
    n_heads, d_head, d_model = state["blocks.0.attn.W_K"].shape
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        match name.split(".")[-1]:
            case "mask":
                continue
            case "W_K" | "W_Q" | "W_V":
                weights[name] = value.transpose(1, 2)
            case "W_O":
                weights[name] = value.T.reshape(n_heads, d_head, d_model)
            case "W_E" | "W_in" | "W_out":
                weights[name] = value.T
            case _:
                weights[name] = value
    return weights


def _optimizer(group: Mapping[str, Any], where: str) -> dict[str, Any]:
    missing = [name for name in ("lr", "betas", "eps", "weight_decay") if name not in group]
    if missing:
        raise GrokinterpError(f"{where} has no {', '.join(missing)}; the published files were trained with AdamW")
    betas = group["betas"]
    if not isinstance(betas, list | tuple) or len(betas) != 2:
        raise GrokinterpError(f"{where} betas are two numbers; got {shown(betas)}")
    return {
        "lr": real(f"{where} lr", group["lr"], 0, math.inf),
        "betas": tuple(real(f"{where} betas", beta, 0, 1) for beta in betas),
        "eps": real(f"{where} eps", group["eps"], 0, math.inf),
        "weight_decay": real(f"{where} weight_decay", group["weight_decay"], 0, math.inf),
    }


def _series(losses: Any, last_epoch: int, where: str) -> pd.Series[float]:
    """Recorded losses by epoch; a list ten times shorter than the epochs was recorded every tenth epoch."""
    import pandas as pd

    values = list(_numbers(losses, where))
    if not values:
        raise GrokinterpError(f"{where} are empty; without recorded losses, build the model with build_model and load_weights")
    every = max(1, round((last_epoch + 1) / len(values)))
    if abs(every * len(values) - (last_epoch + 1)) > every:
        raise GrokinterpError(f"{where} are {len(values):,} numbers, which no regular spacing lays over {last_epoch + 1:,} epochs")
    return pd.Series(values, index=pd.RangeIndex(0, every * len(values), every, name="epoch"))


def _numbers(losses: Any, where: str) -> Iterator[float]:
    """Losses as Python numbers; NaN and inf are what a diverged training recorded."""
    if not isinstance(losses, list | tuple | np.ndarray | Tensor) or (isinstance(losses, np.ndarray | Tensor) and losses.ndim != 1):
        raise GrokinterpError(f"{where} are a list of numbers; got {shown(losses)}")
    for value in losses:
        if isinstance(value, str | bytes | bool) or not hasattr(value, "__float__") or (isinstance(value, Tensor) and value.numel() != 1):
            raise GrokinterpError(f"{where} are a list of numbers; got {shown(value)} in it")
        yield float(value)


def _check_loss(found: Published) -> None:
    """Raise unless the model has the training loss that was recorded last, as closely as the record itself stands still.

    The record was taken an update before or after the weights. So the two may differ by three times what the loss last moved between two
    epochs, and a thousandth (chosen here). On the published file ReLU is 0.001 % off and GELU 7 %.
    """
    recorded = float(found.train_losses.iloc[-1])
    moved = float(found.train_losses.iloc[-_LAST:].diff().abs().max())
    if found.train_losses.index[-1] != found.epoch or not math.isfinite(recorded + moved):
        return
    task, examples = found.task, found.task.indices("train")
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(examples), _BATCH):
            chosen = examples[start : start + _BATCH]
            logits = found.model(task.tokens[chosen])[:, task.readout].double()
            total += float(torch.nn.functional.cross_entropy(logits, task.answers[chosen], reduction="sum"))
    loss, activation = total / len(examples), found.model.cfg.act_fn
    if not abs(loss - recorded) <= 3 * moved + 1e-3 * recorded:
        raise GrokinterpError(
            f"{found.path}: the model has a training loss of {loss:.4g} nats, and {recorded:.4g} was recorded last, so it was trained with another "
            f"operation, split or activation function than its config says ({found.task.name}, {activation}); check_loss=False reads it all the same"
        )
