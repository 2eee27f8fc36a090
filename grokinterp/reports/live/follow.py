"""One run on disk, followed while another process writes it: what state it is in, how fast it goes, its curves so far."""

from __future__ import annotations

import math
import os
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grokinterp.errors import GrokinterpError, explained
from grokinterp.files import read_bytes, read_text
from grokinterp.training.config import RunConfig
from grokinterp.training.folder import METRICS_LIMIT, read_provenance, read_status, rows_in
from grokinterp.training.runs import has_diverged, read_config
from grokinterp.training.sweep import flat_settings

PATIENCE = 30.0  # seconds without a new row before a run counts as unfinished
_ROWS_OF_PATIENCE = 10.0  # or as long as so many rows have taken on average


@dataclass
class Followed:
    """A run's folder, read again and again; each time only what has been added.

    Attributes:
        path: the folder.
        columns: the metrics so far by name, "step" among them; NaN where a row lacks one.
    """

    path: Path
    columns: dict[str, array[float]] = field(default_factory=dict)
    _config: tuple[tuple[int, int] | None, RunConfig, dict[str, Any]] | None = None
    _read: tuple[int, int, int] = (0, 0, 0)  # inode, bytes and lines of metrics.jsonl that were read

    def look(self, now: float) -> dict[str, Any]:
        """How far the run has come, as plain values; what cannot be read is a failure with its sentence.

        Args:
            now: seconds since the epoch, as file times are.

        Returns:
            state (finished, diverged, failed, training, unfinished), why, step, steps, last (metrics of the last row), settings by dotted name,
            pace (steps a second since the run was begun or resumed, or None) and left (seconds at that pace at most, or None).
        """
        found: dict[str, Any] = {"state": "failed", "why": "", "step": None, "steps": None, "last": {}, "settings": {}, "pace": None, "left": None}
        try:
            config = self._read_config()
            found |= {"steps": config.steps, "settings": self._config[2] if self._config else {}}
            self._read_rows()
            if steps := self.columns.get("step"):
                last = {name: values[-1] for name, values in self.columns.items()}
                found |= {"step": int(steps[-1]), "last": {name: value for name, value in last.items() if name != "step"}}
            return found | self._state(now, config)
        except GrokinterpError as problem:
            return found | {"why": str(problem)}
        except OSError as problem:
            return found | {"why": str(explained(problem))}

    def _read_config(self) -> RunConfig:
        file = self.path / "config.json"
        mark = _mark(file)
        if self._config is None or self._config[0] != mark:
            config = read_config(self.path)
            self._config = (mark, config, flat_settings(config.to_dict()))
        return self._config[1]

    def _read_rows(self) -> None:
        """Add the rows that are new; all over again where the file is another one, as after a resumption that cut it off."""
        file = self.path / "metrics.jsonl"
        try:
            found = file.stat()
        except FileNotFoundError:
            self.columns, self._read = {}, (0, 0, 0)
            return
        inode, size, lines = self._read
        if found.st_ino != inode or found.st_size < size:
            self.columns, size, lines = {}, 0, 0
        if found.st_size == size:
            return
        content = read_bytes(file, METRICS_LIMIT, start=size)
        rows, problem = rows_in(content, file, lines, self.columns["step"][-1] if lines else -1)
        if problem is not None:
            self.columns, self._read = {}, (0, 0, 0)
            raise GrokinterpError(problem)
        for number, row in enumerate(rows, start=lines):
            for name in {*row, *self.columns}:
                self.columns.setdefault(name, array("d", [math.nan] * number)).append(row.get(name, math.nan))
        self._read = (found.st_ino, size + content.rfind(b"\n") + 1, lines + len(rows))

    def _state(self, now: float, config: RunConfig) -> dict[str, Any]:
        status = read_status(self.path)
        if status.get("state") == "finished":
            return {"state": "diverged" if has_diverged(status) else "finished", "why": status["reason"]}
        written, failed = _mark(self.path / "metrics.jsonl"), _mark(self.path / "error.txt")
        if failed is not None and (written is None or failed[0] >= written[0]):
            lines = read_text(self.path / "error.txt").strip().splitlines()
            return {"state": "failed", "why": lines[-1] if lines else "error.txt is empty"}
        if written is None:
            return {"state": "unfinished", "why": "no row of metrics yet"}
        seconds, silent = self._seconds_a_step(), now - written[0] / 1e9
        patience = PATIENCE if seconds is None else max(PATIENCE, _ROWS_OF_PATIENCE * seconds * config.eval_every)
        if silent > patience:
            return {"state": "unfinished", "why": "no new row of metrics for some time; if its training has ended, the same command goes on with it"}
        left = None if seconds is None else seconds * (config.steps - self.columns["step"][-1])
        return {"state": "training", "pace": None if seconds is None else 1 / seconds, "left": left}

    def _seconds_a_step(self) -> float | None:
        """Since the run was begun or resumed, by the times of its files; None before its second row."""
        begun, written = _mark(self.path / "provenance.json"), _mark(self.path / "metrics.jsonl")
        if begun is None or written is None or not self.columns.get("step"):
            return None
        steps = self.columns["step"][-1] - read_provenance(self.path)["computed"][-1]["from_step"]
        return (written[0] - begun[0]) / 1e9 / steps if steps > 0 and written[0] > begun[0] else None


def _mark(file: Path) -> tuple[int, int] | None:
    """When a file was changed, in nanoseconds, and its inode; None where there is none."""
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino
