"""Where a run can go on: everything is read and checked here, and nothing is changed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import torch

from grokinterp.errors import GrokinterpError
from grokinterp.models.transformers import build_model, trained_parameters
from grokinterp.training.config import ParentConfig, RunConfig
from grokinterp.training.folder import (
    Kind,
    Row,
    first_step_of,
    missing_row,
    read_provenance,
    read_state,
    read_status,
    readable_rows,
    steps_in,
    unlike_when_kept,
)
from grokinterp.training.learner import Moments, Weights
from grokinterp.training.optimizers import Optimizer
from grokinterp.training.runs import Run

State = tuple[Weights, Moments]
KINDS: tuple[Kind, ...] = ("checkpoints", "moments")


@dataclass(frozen=True)
class ResumePoint:
    """Where a run goes on.

    Attributes:
        step: the step of the weights.
        rows: the metrics up to there.
        state: weights and optimizer state; None where the model begins as it is initialised.
        adopted: whether `state` is the parent's, which the run still has to write as its own first checkpoint.
    """

    step: int
    rows: tuple[Row, ...] = field(repr=False)
    state: State | None = field(repr=False)
    adopted: bool = False

    @property
    def fresh(self) -> bool:
        """Whether no metrics are there yet, so that `step` itself is still to be evaluated."""
        return not self.rows

    @property
    def position(self) -> int:
        """The step, or −1 at the very beginning."""
        return -1 if self.fresh else self.step


def resume_points(path: Path, config: RunConfig) -> list[ResumePoint]:
    """The points from which a run can go on, the newest first and at most two; a run that has not begun has one.

    A checkpoint counts if its weights and optimizer state can be read and belong to it, and all metrics up to it are there.
    From the very beginning a run goes on only where nothing later was kept, so that nothing is computed twice without being asked for.

    Raises:
        GrokinterpError: there is no such point, or something lies in the folder where the run has to write.
    """
    _refuse_obstacles(path)
    read_status(path)
    if os.path.lexists(path / "provenance.json"):
        read_provenance(path)
    rows, problem = readable_rows(path)
    kept = steps_in(path / "checkpoints")
    points: list[ResumePoint] = []
    reasons: list[str] = []
    for step in reversed(kept):
        try:
            points.append(_point(path, config, step, rows, problem))
        except GrokinterpError as error:
            reasons.append(f"not from step {step}, because {error}")
        if len(points) == 2:
            return points
    first = first_step_of(config)
    lost = not kept and (problem is not None or any(row["step"] > first for row in rows))  # whatever had begun had kept its first weights
    if lost:
        reasons.append(problem or f"metrics.jsonl has rows up to step {int(rows[-1]['step'])}, and no weights are there")
    elif not (points and points[-1].fresh) and all(step == first for step in kept):
        points.append(_beginning(config, points[-1].state if points else None))
    if not points:
        raise GrokinterpError(
            f"{path} cannot go on: {'; '.join(reasons[:2])}{'; and so on' if len(reasons) > 2 else ''}. "
            "Nothing was changed; restore these files, or train into another folder"
        )
    return points


def _point(path: Path, config: RunConfig, step: int, rows: list[Row], problem: str | None) -> ResumePoint:
    """The point at a kept step."""
    before = tuple(row for row in rows if row["step"] <= step)
    begins = step == first_step_of(config) and not before  # killed between the first checkpoint and the first evaluation
    if not begins and (missing := missing_row(config, before, step)) is not None:
        if problem:
            raise GrokinterpError(problem)
        raise GrokinterpError(f"metrics.jsonl lacks the row of step {missing}")
    weights, facts = read_state(path, "checkpoints", step, config.digest)
    moments, _ = read_state(path, "moments", step, config.digest)
    if unlike_when_kept(before, facts) and not begins:
        raise GrokinterpError(f"metrics.jsonl has changed since the weights of step {step} were kept")
    return ResumePoint(step, before, (weights, moments))


def _beginning(config: RunConfig, state: State | None) -> ResumePoint:
    """The very beginning: with the weights that are there already, else the parent's, else those that the seed gives."""
    if state is not None:
        return ResumePoint(first_step_of(config), (), state)
    if config.parent is None:
        return ResumePoint(0, (), None)
    return ResumePoint(config.parent.step, (), parent_state(config.parent, config.optimizer), adopted=True)


def _refuse_obstacles(path: Path) -> None:
    """Raise where a folder, pipe or device has the name of a file that a run writes, or a file that of one of its folders."""
    folders = [path / kind for kind in KINDS]
    for folder in folders:
        if os.path.lexists(folder) and not folder.is_dir():
            raise GrokinterpError(f"{folder} is not a folder, and the run keeps its files there; move it away")
    names = [path / name for name in ("config.json", "provenance.json", "metrics.jsonl", "status.json", "error.txt")]
    names += [file for folder in folders for file in (folder.iterdir() if folder.is_dir() else ()) if file.suffix == ".safetensors"]
    for file in names:
        if os.path.lexists(file) and not (stat.S_ISREG(mode := file.lstat().st_mode) or stat.S_ISLNK(mode)):
            raise GrokinterpError(f"{file} is not a file, and the run would write there; move it away")


def parent_state(parent: ParentConfig, optimizer: Optimizer) -> State:
    """The weights and the optimizer's state that a fork begins with, edited if it says so.

    Args:
        parent: where it begins.
        optimizer: the fork's.

    Raises:
        GrokinterpError: no such run or checkpoint, another run in its place, no state to restore or that of another optimizer, or an edit that
            does not apply.
    """
    run = Run(parent.path)
    if run.config.digest != parent.digest:
        raise GrokinterpError(
            f"{parent.path} holds a run with the digest {run.config.digest}, not the parent {parent.digest}; point parent.path to where that one lies"
        )
    weights = run.weights(parent.step)
    if parent.moments == "restore":
        moments = run.moments(parent.step)
        if run.config.optimizer.state != optimizer.state:
            raise GrokinterpError(f'a fork with {optimizer} cannot restore the state of {run.config.optimizer}; fork with moments="reset"')
    else:
        zeros = {f"{key}.{name}": torch.zeros_like(weight) for key in optimizer.state for name, weight in weights.items()}
        moments = {"updates": torch.tensor(0, dtype=torch.int64), **zeros}
    if parent.edit is None:
        return weights, moments
    return parent.edit.apply(weights, moments, lambda seed: trained_parameters(build_model(run.config.model, run.task, seed)))
