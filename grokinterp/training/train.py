"""Training: drive a learner through its steps and keep everything about it in run folders."""

from __future__ import annotations

import contextlib
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from grokinterp.conditions import Condition
from grokinterp.errors import GrokinterpError, os_errors_explained
from grokinterp.shapes import Examples
from grokinterp.tasks import Task
from grokinterp.training.config import RunConfig
from grokinterp.training.engine.engine import Engine, why_not
from grokinterp.training.folder import Row, first_step_of, read_status, readable_rows
from grokinterp.training.learner import Learner, ModuleLearner
from grokinterp.training.resume import ResumePoint, parent_state
from grokinterp.training.runs import Run, wrong_rows
from grokinterp.training.trackers import Tracker, following
from grokinterp.training.writer import RunWriter, open_for_writing, refuse_unless_usable


@os_errors_explained()
def train(config: RunConfig, out: str | Path, *, device: str = "cpu", progress_bar: bool = True, tracker: Tracker | None = None) -> Run:
    """Train one model and keep it in a run folder; call it again after an interruption and it goes on where it was.

    A finished run is opened, not trained again. The result is a function of the config: killed and resumed or not,
    the same bits on the same machine with the same number of threads.

    Args:
        config: what to train, for example ``presets.nanda2023(p=113, seed=0)``.
        out: the run's folder; new, empty, or a run with the same config.
        device: "cpu" or "cuda".
        progress_bar: show a progress bar on a terminal or in a notebook.
        tracker: told of every row of metrics besides metrics.jsonl, `Wandb` for example; not of a run that is finished already.

    Raises:
        GrokinterpError: a bad config, a folder with another config or in use, a run that cannot go on, or a full disk; in all but the
            last case nothing on disk has changed.
    """
    folder = Path(os.path.abspath(out))
    refuse_unless_usable(folder, config)
    task = config.task.build()  # before any folder is made, so that a bad task leaves none behind; nor does a bad parent
    if config.parent is not None and not (folder / "config.json").exists():
        parent_state(config.parent, config.optimizer)
    check_device(device)
    if has_ended(folder, config):
        return Run(folder)
    with open_for_writing(folder, config) as writer, following(tracker, config, folder):
        train_together([config], [task], [writer], device, progress_bar, tracker)
    return Run(folder)


def has_ended(folder: Path, config: RunConfig) -> bool:
    """Whether a run's folder says that training has come to its end, as this config would end it and with all metrics there.

    Raises:
        GrokinterpError: a status.json that no run writes.
    """
    status = read_status(folder)
    if status.get("state") != "finished":
        return False
    ends = ("diverged", f"stop: {config.stop}", f"all {status['step']} steps done")
    rows, problem = readable_rows(folder)
    return str(status["reason"]).startswith(ends) and problem is None and wrong_rows(folder, config, rows) is None


def train_together(
    configs: Sequence[RunConfig], tasks: Sequence[Task], writers: Sequence[RunWriter], device: str, progress_bar: bool, tracker: Tracker | None = None
) -> None:
    """Train runs in lock-step, each into its own folder; those that are a checkpoint ahead go back to where the last one is.

    A tracker follows the first of them.

    Raises:
        GrokinterpError: configs that cannot be trained together, or runs that cannot go on from one step.
    """
    if len(configs) > 1 and (reason := why_not_together(configs)) is not None:
        raise GrokinterpError(reason)
    with on_device(device):
        learner = make_learner(configs, tasks, device)
        _refuse_unknown_stops(configs, learner)
        points = _at_one_step(writers)
        for member, point in enumerate(points):
            if point.state is not None:
                learner.load(member, *point.state)
        # From here on files change; whatever can be wrong with them or with the configs has been found.
        for writer, point in zip(writers, points, strict=True):
            writer.begin(point, _provenance(learner.path, device))
        trackers = [tracker, *[None] * (len(configs) - 1)]
        loop = _Loop(learner, [_Member(*member) for member in zip(configs, tasks, writers, trackers, strict=True)])
        loop.run(progress_bar)


def _refuse_unknown_stops(configs: Sequence[RunConfig], learner: Learner) -> None:
    """Raise where a stop condition names something that is not recorded."""
    conditions = [Condition.parse(config.stop) for config in configs if config.stop is not None]
    names = learner.evaluate()[0] if conditions else {}
    for condition in conditions:
        condition.require(names)


def why_not_together(configs: Sequence[RunConfig]) -> str | None:
    """Why these configs cannot be trained together; None if they can.

    They share what an engine's members share (`engine.why_not`) and what the loop does at which step; their stop
    conditions may differ.
    """
    for config in configs[1:]:
        for name in ("steps", "eval_every", "checkpoints"):
            if getattr(config, name) != getattr(configs[0], name):
                return f"runs that train together share one {name}; got {getattr(configs[0], name)} and {getattr(config, name)}"
        if first_step_of(config) != first_step_of(configs[0]):
            return f"runs that train together begin at one step; got {first_step_of(configs[0])} and {first_step_of(config)}"
    return why_not(configs)


def _at_one_step(writers: Sequence[RunWriter]) -> list[ResumePoint]:
    """Where runs go on together; a process that was killed while it wrote checkpoints left some of them one ahead.

    Raises:
        GrokinterpError: they cannot go on from one step.
    """
    points = [{point.position: point for point in writer.points()} for writer in writers]
    earliest = min(max(own) for own in points)
    if any(earliest not in own for own in points):
        there = ", ".join(f"{writer.path} at {max(own)}" for writer, own in zip(writers, points, strict=True))
        raise GrokinterpError(f"these runs cannot go on from one step ({there}); train them one by one")
    return [own[earliest] for own in points]


def make_learner(configs: Sequence[RunConfig], tasks: Sequence[Task], device: str) -> Learner:
    """The engine where it covers these configs together, else, for a single one, the module itself."""
    if len(configs) == 1 and why_not(configs) is not None:
        return ModuleLearner(configs[0], tasks[0], device)
    return Engine(configs, tasks, device)


class _Member:
    """One run inside the loop: its folder, the order of its minibatches, and whether it should end."""

    def __init__(self, config: RunConfig, task: Task, writer: RunWriter, tracker: Tracker | None) -> None:
        self.config, self.writer, self._tracker = config, writer, tracker
        self.batches = None if config.batch_size is None else BatchOrder(task.indices("train"), config.batch_size, config.seed)
        self._stop = None if config.stop is None else Condition.parse(config.stop)
        self._rows = writer.rows
        self._finite = next((row for row in reversed(self._rows) if _is_finite(row)), None)

    def record(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write a row of metrics."""
        if self._rows:  # a run that an earlier version began goes on with the columns that it has
            metrics = {name: value for name, value in metrics.items() if name in self._rows[0]}
        row: Row = {"step": step, **metrics}
        self.writer.append(row)
        if self._tracker is not None:
            self._tracker.log(step, metrics)
        self._rows = [*self._rows, row][-self._stop.times :] if self._stop else [row]
        self._finite = row if _is_finite(row) else self._finite

    def reason_to_end(self, step: int) -> str | None:
        """Why the run ends at this step, or None; only a step that was evaluated can end it."""
        if not self._rows or self._rows[-1]["step"] != step:
            return None
        stopped = self._stop is not None and self._stop.first_in(self._rows[-self._stop.times :]) is not None
        reason = why_it_ends(self.config, self._rows[-1], stopped)
        return f"{reason} at step {step}; {_last_finite(self._finite)}" if reason and reason.startswith("diverged") else reason


def why_it_ends(config: RunConfig, row: Row, stopped: bool) -> str | None:
    """Why a training ends at an evaluation: its loss is no longer finite, its stop condition holds, or all steps are done; None where it goes on.

    Args:
        config: of the training.
        row: of metrics, the last.
        stopped: whether the stop condition holds.
    """
    if not math.isfinite(row["train_loss"]):
        return f"diverged: train loss is {row['train_loss']}"
    if stopped:
        return f"stop: {config.stop}"
    return f"all {config.steps} steps done" if row["step"] >= config.steps else None


def _is_finite(row: Row) -> bool:
    return all(map(math.isfinite, row.values()))


def _last_finite(row: Row | None) -> str:
    if row is None:
        return "no evaluation before it was finite"
    numbers = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in row.items() if name != "step")
    return f"the last finite evaluation was at step {row['step']}: {numbers}"


class _Loop:
    """The training loop over the members that are still going."""

    def __init__(self, learner: Learner, members: list[_Member]) -> None:
        self._learner, self._members = learner, members
        self._config = members[0].config  # steps, schedule and batch size are the same for all

    def run(self, progress_bar: bool) -> None:
        first, total = self._members[0].writer, self._config.steps
        start, fresh = first.start, first.fresh
        with tqdm(total=total, initial=start, unit="step", desc=first.path.name, disable=None if progress_bar else True) as bar:
            for step in range(start, total + 1):
                # What stands at the step that is resumed from was written before, but perhaps not that the run ends there.
                if step > start or fresh:
                    self._look(step, bar)
                self._finish_those_that_end(step)
                if not self._members:
                    return
                batches = [member.batches.at(step) for member in self._members if member.batches is not None]
                self._learner.step(step, batches or None)
                bar.update()

    def _look(self, step: int, bar: Any) -> None:
        """Evaluate and checkpoint where due."""
        first = step == first_step_of(self._config)  # a fork's may be any
        if first or step % self._config.eval_every == 0 or step == self._config.steps:
            metrics = self._learner.evaluate()
            for member, row in zip(self._members, metrics, strict=True):
                member.record(step, row)
            bar.set_postfix({name: f"{metrics[0][name]:.2g}" for name in ("train_loss", "test_loss", "test_accuracy")}, refresh=False)
        for i, member in enumerate(self._members):
            if self._config.checkpoints.includes(step) or member.reason_to_end(step):
                member.writer.checkpoint(step, self._learner.weights(i), self._learner.moments(i))

    def _finish_those_that_end(self, step: int) -> None:
        """Finish the members that end at this step."""
        reasons = [member.reason_to_end(step) for member in self._members]
        for member, reason in zip(self._members, reasons, strict=True):
            if reason:
                member.writer.finish(step, reason)
        if any(reasons):
            going = [i for i, reason in enumerate(reasons) if reason is None]
            self._members = [self._members[i] for i in going]
            if going:
                self._learner.keep(going)


class BatchOrder:
    """The examples of each step: every epoch a fresh seeded shuffle, cut into batches, the last one maybe smaller.

    A function of (seed, step) alone, so a resumed run needs no generator state.
    """

    def __init__(self, examples: Examples, batch_size: int, seed: int) -> None:
        self._examples, self._batch_size, self._seed = examples, batch_size, seed
        self._epoch, self._order = -1, examples

    def at(self, step: int) -> Examples:
        """Example indices of the update from `step` to `step + 1`."""
        epoch, batch = divmod(step, math.ceil(len(self._examples) / self._batch_size))
        return self.of_epoch(epoch)[batch * self._batch_size : (batch + 1) * self._batch_size]

    def of_epoch(self, epoch: int) -> Examples:
        """All example indices of an epoch, in order."""
        if epoch != self._epoch:
            seed = int(np.random.SeedSequence([self._seed, epoch]).generate_state(1, np.uint64)[0]) >> 1
            self._order = self._examples[torch.randperm(len(self._examples), generator=torch.Generator().manual_seed(seed))]
            self._epoch = epoch
        return self._order


def _provenance(path: str, device: str) -> dict[str, Any]:
    """Everything besides the config that the bits depend on."""
    return {
        "path": path,
        "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("grokinterp", "torch", "transformer-lens")},
    }


def _version(name: str) -> str:
    with contextlib.suppress(Exception):
        return version(name)
    return "unknown"


def check_device(device: str) -> None:
    """Raise GrokinterpError unless this machine has the device: "cpu", "cuda", or one of its GPUs like "cuda:1"."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))]
    if device not in known:
        raise GrokinterpError(f"device {device!r} is not available on this machine; it has {', '.join(known)}")


@contextlib.contextmanager
def on_device(device: str) -> Iterator[None]:
    """Make a GPU the current one, so that streams and captured graphs belong to it; nothing on a CPU."""
    with torch.cuda.device(device) if ":" in device else contextlib.nullcontext():
        yield
