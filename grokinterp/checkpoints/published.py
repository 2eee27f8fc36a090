"""Checkpoints that authors published, with their task, record and optimizer, read without running any code of theirs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grokinterp.checkpoints.checkpoint import Checkpoint
from grokinterp.checkpoints.loading import read_opened
from grokinterp.checkpoints.opening import opened
from grokinterp.checkpoints.transposed import Nanda2023
from grokinterp.checks import real, shown
from grokinterp.errors import GrokinterpError
from grokinterp.files import regular_file
from grokinterp.models.pickles import plain
from grokinterp.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

_READER = Nanda2023()


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
    """Read a checkpoint of Nanda et al. 2023 (arXiv 2301.05217): weights, recorded losses and optimizer settings.

    It is what `load_checkpoint` reads in the layout "nanda2023", with every entry of the published files there. The split is the published one:
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
    file = regular_file(path)
    found = opened(file)
    missing = [name for name in _READER.stated if name not in found.config]
    missing += ["optimizer with its param_groups"] if not found.optimizer else []
    missing += [f"{name}es" for name in ("train_loss", "test_loss") if name not in found.recorded or found.recorded[name].empty]
    missing += ["epoch"] if 0 in found.states else []
    if missing:
        raise GrokinterpError(f"{file} is no whole checkpoint of Nanda et al. 2023: it has no {', '.join(missing)}; load_checkpoint reads it without")
    try:
        checkpoint, model = read_opened(found, reader=_READER, check_record=check_loss)
    except GrokinterpError as error:
        raise GrokinterpError(f"{file}: {error}") from error
    assert isinstance(checkpoint.task, Task)  # and not prompts
    return Published(
        path=file,
        model=model,
        task=checkpoint.task,
        epoch=checkpoint.steps[-1],
        train_losses=found.recorded["train_loss"],
        test_losses=found.recorded["test_loss"],
        optimizer=_optimizer(found.optimizer, f"{file}: optimizer"),
        config=found.config,
    )


def checkpoint_of_published(published: Published) -> Checkpoint:
    """What `load` reads, as every other checkpoint."""
    return Checkpoint(
        title=published.path.name,
        layout=_READER.layout,
        task=published.task,
        steps=[published.epoch],
        build=lambda step: published.model,
        config=published.config,
        recorded={"train_loss": published.train_losses, "test_loss": published.test_losses},
        optimizer=published.optimizer,
        provenance={"file": published.path.name},
    )


def _optimizer(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    if missing := [name for name in ("lr", "betas", "eps", "weight_decay") if name not in settings]:
        raise GrokinterpError(f"{where} has no {', '.join(missing)}; the published files were trained with AdamW")
    betas = settings["betas"]
    if not isinstance(betas, list | tuple) or len(betas) != 2:
        raise GrokinterpError(f"{where} betas are two numbers; got {shown(betas)}")
    positive = {name: real(f"{where} {name}", settings[name], 0, math.inf) for name in ("lr", "eps", "weight_decay")}
    return {"lr": positive["lr"], "betas": tuple(real(f"{where} betas", beta, 0, 1) for beta in betas), **positive}
