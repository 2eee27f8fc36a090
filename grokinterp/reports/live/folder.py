"""A folder of runs and sweeps, followed: which runs there are, what differs between those that lie side by side, what is left to do."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from grokinterp.errors import GrokinterpError
from grokinterp.plots.parts import thin
from grokinterp.reports.live.follow import Followed
from grokinterp.reports.several import labels
from grokinterp.training.config import RunConfig
from grokinterp.training.sweep import TABLE, kept_rows

DONE = ("finished", "diverged", "failed")
_POINTS = 24_000  # of all curves of one folder together
_RUN_FILES = {"provenance.json", "metrics.jsonl", "status.json", "error.txt"}  # one of them tells a run from another folder with a config.json
_FRESH = 0.5  # seconds that one look at the disk serves every browser


class FolderOfRuns:
    """Everything below a folder that is a run or a sweep; reading disturbs no one, and may be asked from several threads.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._runs: dict[Path, Followed] = {}
        self._tables: dict[Path, tuple[int, dict[str, dict[str, Any]]]] = {}
        self._lock, self._looked, self._groups = threading.Lock(), -math.inf, list[dict[str, Any]]()

    def state(self, quantity: str) -> dict[str, Any]:
        """What the page shows, as JSON values.

        Args:
            quantity: the metric whose curves are wanted.

        Returns:
            folder, quantity, quantities (every recorded metric), and groups: the runs of one folder each, see `_group`, with curves of the
            quantity as "x" and "y".
        """
        with self._lock:
            if time.monotonic() - self._looked > _FRESH:
                self._groups, self._looked = self._look(), time.monotonic()
            names = dict.fromkeys(name for run in self._runs.values() for name in run.columns if name != "step")
            groups = [
                {**group, "runs": [run | self._curve(run["path"], quantity, len(group["runs"])) for run in group["runs"]]} for group in self._groups
            ]
        return {"folder": str(self.path), "quantity": quantity, "quantities": list(names), "groups": groups}

    def _curve(self, path: str, quantity: str, among: int) -> dict[str, list[float]]:
        columns = self._runs[Path(path)].columns if Path(path) in self._runs else {}
        if quantity not in columns:
            return {"x": [], "y": []}
        x, y = (np.frombuffer(columns[name]) for name in ("step", quantity))
        kept = np.flatnonzero(np.isfinite(y))
        kept = kept[thin(y[kept], max(20, _POINTS // among))]
        return {"x": x[kept].tolist(), "y": y[kept].tolist()}

    def _look(self) -> list[dict[str, Any]]:
        now, folders = time.time(), dict[Path, list[Path]]()
        for at, inside, files in os.walk(self.path):
            if "config.json" in files and _RUN_FILES & set(files):
                folders.setdefault(Path(at).parent, []).append(Path(at))
            if TABLE in files:
                folders.setdefault(Path(at), [])
            inside[:] = [name for name in inside if name not in ("checkpoints", "moments") and not name.startswith(".")]
        self._runs = {path: self._runs.get(path) or Followed(path) for paths in folders.values() for path in paths}
        return [self._group(folder, sorted(folders[folder]), now) for folder in sorted(folders)]

    def _group(self, folder: Path, paths: Sequence[Path], now: float) -> dict[str, Any]:
        """The runs of one folder: each with path, label and what `Followed.look` says; how many are in which state; seconds left at most."""
        problem, planned = "", dict[str, dict[str, Any]]()
        try:
            planned = self._table(folder)
        except (GrokinterpError, OSError) as error:
            problem = str(error)
        runs = {path.name: self._runs[path].look(now) for path in paths}
        runs |= {digest: _known(row) for digest, row in planned.items() if digest not in runs}
        called = dict(zip(runs, labels([run["settings"] for run in runs.values()], list(runs)), strict=True))
        shown = [
            {**{key: value for key, value in run.items() if key != "settings"}, "path": str(folder / name), "name": name, "label": called[name]}
            for name, run in runs.items()
        ]
        states = [run["state"] for run in shown]
        name = folder.name if self.path.is_relative_to(folder) else str(folder.relative_to(self.path))
        return {
            "path": str(folder),
            "name": name,
            "problem": problem,
            "runs": shown,
            "counts": {state: states.count(state) for state in dict.fromkeys(states)},
        } | _left(shown)

    def _table(self, folder: Path) -> dict[str, dict[str, Any]]:
        """The rows of a sweep's table, read again when it has changed."""
        file = folder / TABLE
        if not file.is_file():
            return {}
        changed = file.stat().st_mtime_ns
        if folder not in self._tables or self._tables[folder][0] != changed:
            self._tables[folder] = (changed, kept_rows(file))
        return self._tables[folder][1]


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """A run that has no folder, or none any more, as the table of its sweep knows it."""
    settings = {name: value for name, value in row.items() if "." in name or name in {field.name for field in fields(RunConfig)}}
    step, reason = row.get("step"), row.get("error") or row.get("reason")
    metrics = {name: value for name, value in row.items() if name.endswith(("_loss", "_accuracy", "weight_norm")) and value is not None}
    unknown = {"pace": None, "left": None}
    return {"state": row["state"], "why": reason or "", "step": step, "steps": row.get("steps"), "last": metrics, "settings": settings} | unknown


def _left(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The share of all steps that is done, and the seconds that the rest takes at most at the pace of those that train now; None if none does."""
    share = [1.0 if run["state"] in DONE else (run["step"] or 0) / run["steps"] if run["steps"] else 0.0 for run in runs]
    paces = [run["pace"] for run in runs if run["pace"]]
    todo = sum((run["steps"] or 0) - (run["step"] or 0) for run in runs if run["state"] not in DONE)
    longest = max((run["left"] for run in runs if run["left"] is not None), default=0.0)
    return {"done": sum(share) / len(share) if share else 1.0, "left": max(todo / sum(paces), longest) if paces else None}
