"""The one writer of a run's folder: whatever moment it is killed at, the run goes on to the same bits.

Metrics reach the disk before the checkpoint that they lead up to, Adam's state before the weights, and `status.json` last.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from grokinterp.errors import GrokinterpError, os_errors_explained
from grokinterp.files import replacing, sync_folder, write_json, write_tensors
from grokinterp.outputs import check_folder
from grokinterp.training.config import RunConfig, identity
from grokinterp.training.folder import Kind, Row, RowsSum, file_of, line_of, read_provenance, state_facts, steps_in
from grokinterp.training.resume import KINDS, ResumePoint, resume_points
from grokinterp.training.runs import read_config

if TYPE_CHECKING:
    from grokinterp.training.learner import Moments, Weights

_KEPT_MOMENTS = 2  # the newest, and the one before it in case the newest cannot be read
_LEFTOVER = re.compile(r"\.(config\.json|provenance\.json|metrics\.jsonl|status\.json|step_\d{8,}\.safetensors)\.tmp-[\d-]+")


class FolderInUse(GrokinterpError):
    """Another live process is writing this run."""


class RunWriter:
    """The one writer of a run's folder; use `open_for_writing`, which holds the lock.

    First `points` says where the run can go on, which changes nothing; then `begin` goes back to one of these points.

    Attributes:
        start: the step to go on from.
        fresh: whether no metrics of the run are on disk yet, so that `start` itself is still to be evaluated.
        rows: the metrics up to there.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        # As a reader of config.json gets it, so that both find the same digest: there 1 is written for 1.0 as well.
        self.path, self.config = path, RunConfig.from_dict(config.to_dict())
        self.start, self.fresh, self.rows = 0, True, list[Row]()
        self._metrics: TextIO | None = None

    def points(self) -> list[ResumePoint]:
        """Where the run can go on, see `resume_points`."""
        return resume_points(self.path, self.config)

    def begin(self, point: ResumePoint, provenance: Mapping[str, Any]) -> None:
        """Go back to a point: metrics after it are cut off, and what computes the run from here on is written down.

        Weights and moments of later steps stay until they are written again.

        Args:
            point: one of `points`.
            provenance: versions, device, threads and path.
        """
        self.close()
        self.start, self.fresh, self.rows = point.step, point.fresh, list(point.rows)
        if not (self.path / "config.json").exists():
            write_json(self.path / "config.json", self.config.to_dict())  # first: without it, anything else would not be a run's
        for folder in (self.path, *(self.path / kind for kind in KINDS)):
            folder.mkdir(exist_ok=True)
            for name in filter(_LEFTOVER.fullmatch, os.listdir(folder)):
                (folder / name).unlink()
        if point.adopted and point.state is not None:
            weights, moments = point.state
            self._keep("moments", point.step, moments)
            self._keep("checkpoints", point.step, weights)
        (self.path / "status.json").unlink(missing_ok=True)
        self._open_metrics()
        file = self.path / "provenance.json"
        parent = None if self.config.parent is None else self.config.parent.to_dict()
        before = read_provenance(self.path) if file.exists() else {"parent": parent, "computed": []}
        earlier = [entry for entry in before["computed"] if entry["from_step"] < self.start]
        write_json(file, {**before, "computed": [*earlier, {"from_step": self.start, **provenance}]})
        if self.config.durable:
            sync_folder(self.path)

    def _open_metrics(self) -> None:
        """Leave the rows up to the start on disk, and open the file for more."""
        file = Path(os.path.realpath(self.path / "metrics.jsonl"))  # a link is followed, not replaced
        text = "".join(map(line_of, self.rows))
        if not file.exists() or file.read_bytes() != text.encode():
            with replacing(file) as temporary:
                temporary.write_text(text)
        self._sum = RowsSum(self.rows)
        self._metrics = open(file, "a")  # noqa: SIM115 (held open for the run's length, closed by `close`)

    def append(self, row: Row) -> None:
        """Add one row of metrics."""
        assert self._metrics is not None  # opened by `begin`
        line = line_of(row)
        with os_errors_explained(self.path):
            self._metrics.write(line)
            self._metrics.flush()
        self._sum.add(line)

    def checkpoint(self, step: int, weights: Weights, moments: Moments) -> None:
        """Keep the weights and Adam's state of a step; metrics up to it are on disk first."""
        assert self._metrics is not None  # opened by `begin`
        os.fsync(self._metrics.fileno())
        self._keep("moments", step, moments)
        self._keep("checkpoints", step, weights, self._sum)
        if not self.config.checkpoints.moments:
            for old in [kept for kept in steps_in(self.path / "moments") if kept <= step][:-_KEPT_MOMENTS]:
                file_of(self.path, "moments", old).unlink()

    def _keep(self, kind: Kind, step: int, tensors: Mapping[str, Any], rows: RowsSum | None = None) -> None:
        file = file_of(self.path, kind, step)
        write_tensors(file, tensors, state_facts(kind, step, self.config.digest, rows))
        if self.config.durable:
            sync_folder(file.parent)

    def finish(self, step: int, reason: str) -> None:
        """Say that the run has ended, and why; the last thing that is written."""
        self.close()
        write_json(self.path / "status.json", {"state": "finished", "reason": reason, "step": step})
        if self.config.durable:
            sync_folder(self.path)

    def close(self) -> None:
        """Close the metrics file; the run can be resumed."""
        if self._metrics is not None:
            with os_errors_explained(self.path):
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
        if created and set(os.listdir(path)) <= {".lock"}:  # nothing was written, by this process or another
            (path / ".lock").unlink(missing_ok=True)
            path.rmdir()


def refuse_unless_usable(path: Path, config: RunConfig) -> None:
    """Raise unless `path` is free, or a run with this very config.

    Raises:
        GrokinterpError: naming the first setting that differs.
    """
    if not os.path.lexists(path):
        check_folder(path)
        return
    if path.is_dir() and all(entry.name.startswith(".") for entry in path.iterdir()):
        return
    if not (path / "config.json").is_file():
        raise GrokinterpError(f"{path} exists and is not a run; choose an empty or new folder")
    there, here = identity(read_config(path).to_dict()), identity(config.to_dict())
    if there != here:
        name, old, new = next(_differences(there, here))
        raise GrokinterpError(
            f"{path} holds a run with another config ({name} is {old!r} there, {new!r} here); choose another folder, or delete it to start over"
        )


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
    elif old != new:
        yield name, old, new
