"""The one writer of a run's folder: whatever moment it is killed at, the run goes on to the same bits.

Metrics reach the disk before the checkpoint that they lead up to, Adam's state before the weights, and `status.json` last.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import torch

from grokinterp.errors import GrokinterpError
from grokinterp.files import is_disk_full, read_json, read_tensors, remove_leftovers, replacing, write_json, write_tensors
from grokinterp.models.transformers import build_model, trained_parameters
from grokinterp.training.config import ParentConfig, RunConfig, identity
from grokinterp.training.runs import Run, file_of, read_metrics, steps_in

if TYPE_CHECKING:
    from grokinterp.training.learner import Moments, Weights

_KEPT_MOMENTS = 2  # the newest, and the one before it in case the newest cannot be read


class FolderInUse(GrokinterpError):
    """Another live process is writing this run."""


class RunWriter:
    """The one writer of a run's folder; use `open_for_writing`, which holds the lock.

    Attributes:
        start: the step to go on from.
        fresh: whether no metrics of the run are on disk yet, so that `start` itself is still to be evaluated.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path, self.config = path, config
        self.start, self.fresh = 0, True
        self._metrics: TextIO | None = None

    def resume(self, latest: int | None = None) -> tuple[Weights, Moments] | None:
        """Go back to the newest whole checkpoint and forget whatever was written after it; None for a new run.

        A fork's first checkpoint is its parent's, which is copied here before anything else happens.

        Args:
            latest: go back to this step or before; −1 is to the very beginning.

        Raises:
            GrokinterpError: the parent of a fork is not where the config says, or is another one.
        """
        self.close()
        self.start = 0
        remove_leftovers(self.path)
        if not (self.path / "config.json").exists():
            write_json(self.path / "config.json", self.config.to_dict())
        for folder in (self.path / "checkpoints", self.path / "moments"):
            folder.mkdir(exist_ok=True)
            remove_leftovers(folder)
        state = self._newest_state(latest)
        rows = [row for row in read_metrics(self.path) if state is not None and row["step"] <= self.start]
        self.fresh = not rows
        if state is None and self.config.parent is not None:
            state = self._adopt(self.config.parent)
        with contextlib.suppress(FileNotFoundError):
            (self.path / "status.json").unlink()
        _write_metrics(self.path, rows)
        self._metrics = open(self.path / "metrics.jsonl", "a")  # noqa: SIM115 (held open for the run's length, closed by `close`)
        return state

    def _newest_state(self, latest: int | None) -> tuple[Weights, Moments] | None:
        for step in reversed(steps_in(self.path / "checkpoints")):
            try:
                if latest is not None and step > latest:
                    raise GrokinterpError(f"step {step} is later than {latest}")
                state = read_tensors(file_of(self.path, "checkpoints", step)), read_tensors(file_of(self.path, "moments", step))
            except GrokinterpError:
                # Newer than the newest whole state, so it will be computed again.
                file_of(self.path, "checkpoints", step).unlink()
                continue
            self.start = step
            return state
        return None

    def _adopt(self, parent: ParentConfig) -> tuple[Weights, Moments]:
        """Make the parent's checkpoint the first of this run."""
        weights, moments = parent_state(parent)
        write_tensors(file_of(self.path, "moments", parent.step), moments)
        write_tensors(file_of(self.path, "checkpoints", parent.step), weights)
        self.start = parent.step
        return weights, moments

    def begin(self, provenance: Mapping[str, Any]) -> None:
        """Write down what computes the run from this step on."""
        file = self.path / "provenance.json"
        parent = None if self.config.parent is None else self.config.parent.to_dict()
        before = read_json(file) if file.exists() else {"parent": parent, "computed": []}
        earlier = [entry for entry in before["computed"] if entry["from_step"] < self.start]
        write_json(file, {**before, "computed": [*earlier, {"from_step": self.start, **provenance}]})

    def append(self, row: Mapping[str, float]) -> None:
        """Add one row of metrics."""
        assert self._metrics is not None  # opened by `resume`
        with _clear_when_full(self.path):
            self._metrics.write(json.dumps(row) + "\n")
            self._metrics.flush()

    def checkpoint(self, step: int, weights: Weights, moments: Moments) -> None:
        """Keep the weights and Adam's state of a step; metrics up to it are on disk first."""
        assert self._metrics is not None  # opened by `resume`
        os.fsync(self._metrics.fileno())
        write_tensors(file_of(self.path, "moments", step), moments)
        write_tensors(file_of(self.path, "checkpoints", step), weights)
        if not self.config.checkpoints.moments:
            for old in steps_in(self.path / "moments")[:-_KEPT_MOMENTS]:
                file_of(self.path, "moments", old).unlink()

    def finish(self, step: int, reason: str) -> None:
        """Say that the run has ended, and why; the last thing that is written."""
        self.close()
        write_json(self.path / "status.json", {"state": "finished", "reason": reason, "step": step})

    def close(self) -> None:
        """Close the metrics file; the run can be resumed."""
        if self._metrics is not None:
            with _clear_when_full(self.path):
                self._metrics.close()


@contextlib.contextmanager
def open_for_writing(path: Path, config: RunConfig) -> Iterator[RunWriter]:
    """Hold a run's folder for one process; nothing on disk changes where this raises.

    Raises:
        GrokinterpError: the folder holds another config or something else, or a live process is writing it.
    """
    from filelock import FileLock, Timeout

    refuse_unless_usable(path, config)
    created = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    # The operating system drops this lock when its process dies, however it dies.
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FolderInUse(f"{path} is being written by another process; wait for it to end, or choose another folder") from None
    writer = RunWriter(path, config)
    try:
        yield writer
    finally:
        writer.close()
        lock.release()
        if created and not (path / "config.json").exists():
            shutil.rmtree(path)


def refuse_unless_usable(path: Path, config: RunConfig) -> None:
    """Raise unless `path` is free, or a run with this very config.

    Raises:
        GrokinterpError: naming the first setting that differs.
    """
    if not path.exists() or (path.is_dir() and all(entry.name.startswith(".") for entry in path.iterdir())):
        return
    if not (path / "config.json").is_file():
        raise GrokinterpError(f"{path} exists and is not a run; choose an empty or new folder")
    there = read_json(path / "config.json")
    if identity(there) != identity(config.to_dict()):
        name, old, new = next(_differences(identity(there), identity(config.to_dict())))
        raise GrokinterpError(
            f"{path} holds a run with another config ({name} is {old!r} there, {new!r} here); choose another folder, or delete it to start over"
        )


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
    elif old != new:
        yield name, old, new


def parent_state(parent: ParentConfig) -> tuple[Weights, Moments]:
    """The weights and Adam's state that a fork begins with, edited if it says so.

    Raises:
        GrokinterpError: no such run or checkpoint, another run in its place, no moments to restore, or an edit that does not apply.
    """
    run = Run(parent.path)
    if run.config.digest != parent.digest:
        raise GrokinterpError(
            f"{parent.path} holds a run with the digest {run.config.digest}, not the parent {parent.digest}; point parent.path to where that one lies"
        )
    weights = run.weights(parent.step)
    if parent.moments == "restore":
        moments = run.moments(parent.step)
    else:
        zeros = {f"{key}.{name}": torch.zeros_like(weight) for key in ("exp_avg", "exp_avg_sq") for name, weight in weights.items()}
        moments = {"updates": torch.tensor(0, dtype=torch.int64), **zeros}
    if parent.edit is None:
        return weights, moments
    return parent.edit.apply(weights, moments, lambda seed: trained_parameters(build_model(run.config.model, run.task, seed)))


def resume_points(path: Path) -> list[int]:
    """The last two steps from which a run can go on, ascending; −1 is the very beginning."""
    whole = set(steps_in(path / "checkpoints")) & set(steps_in(path / "moments"))
    return [-1, *sorted(whole)][-2:]


def _write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    with replacing(path / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))


@contextlib.contextmanager
def _clear_when_full(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise GrokinterpError(f"no room left to write {path}; free some space and run the same command again, it resumes") from error
        raise
