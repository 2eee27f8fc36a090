"""Checkpoints that authors published, read into HookedTransformers without running any code of theirs."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.models.transformers import ModelConfig, build_model, load_weights
from grokinterp.tasks import Task, TaskConfig

if TYPE_CHECKING:
    import pandas as pd

_OPERATIONS = {"add": "modular_addition", "subtract": "modular_subtraction"}


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
        config: the author's configuration entry, unchanged; where it disagrees with `optimizer`, that one is right.
    """

    path: Path
    model: Any = field(repr=False)
    task: Task
    epoch: int
    train_losses: pd.Series[float] = field(repr=False)
    test_losses: pd.Series[float] = field(repr=False)
    optimizer: Mapping[str, Any]
    config: Mapping[str, Any] = field(repr=False)


def load(path: str | Path) -> Published:
    """Read a checkpoint of Nanda et al. 2023 (arXiv 2301.05217), weights, recorded losses and optimizer settings.

    The file is opened with ``weights_only=True``, so nothing in it can run. The split is the published one:
    Python's ``random.seed(seed)`` shuffle of all pairs in row order.

    Raises:
        GrokinterpError: the file is missing, cut short, holds code, or is not such a checkpoint.
    """
    file = Path(path)
    saved = _read(file)
    try:
        config, state, optimizer = saved["config"], saved["model"], saved["optimizer"]["param_groups"][0]
        p = int(config["p"])
        task = TaskConfig(_OPERATIONS[config["fn_name"]], {"p": p}, config["frac_train"], config["seed"], "python").build()
        model = build_model(_architecture(state), task, seed=0)
        load_weights(model, _to_hooked_transformer(state))
    except (KeyError, TypeError, IndexError) as error:
        raise GrokinterpError(f"{file} is not a checkpoint of Nanda et al. 2023: {error!r} is missing or of another form") from error
    return Published(
        path=file,
        model=model,
        task=task,
        epoch=int(saved["epoch"]),
        train_losses=_series(saved["train_losses"], int(saved["epoch"])),
        test_losses=_series(saved["test_losses"], int(saved["epoch"])),
        optimizer={name: optimizer[name] for name in ("lr", "betas", "eps", "weight_decay")},
        config=dict(config),
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise GrokinterpError(f"{file} does not exist") from None
    except pickle.UnpicklingError as error:
        raise GrokinterpError(
            f"{file} holds more than tensors and plain values and was not opened, because it could run code; ask its author for weights alone"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise GrokinterpError(f"{file} is cut short or not a PyTorch checkpoint; download it again") from error
    if not isinstance(saved, dict):
        raise GrokinterpError(f"{file} holds a {type(saved).__name__}, not a checkpoint with weights, config and losses")
    return saved


def _architecture(state: Mapping[str, Tensor]) -> ModelConfig:
    n_heads, d_head, d_model = state["blocks.0.attn.W_K"].shape
    n_layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    return ModelConfig(n_layers=n_layers, d_model=d_model, n_heads=n_heads, d_head=d_head, d_mlp=len(state["blocks.0.mlp.b_in"]))


def _to_hooked_transformer(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' layout, outputs first, turned into HookedTransformer's, inputs first."""
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


def _series(losses: list[float], last_epoch: int) -> pd.Series[float]:
    """Recorded losses by epoch; a list ten times shorter than the epochs was recorded every tenth epoch."""
    import pandas as pd

    every = max(1, round((last_epoch + 1) / len(losses)))
    return pd.Series(losses, index=pd.RangeIndex(0, every * len(losses), every, name="epoch"))
