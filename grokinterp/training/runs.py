"""A run: the folder that holds everything about one training.

    config.json                    the RunConfig; a function of it alone: same config, machine and threads, same bits
    provenance.json                which code, library versions, device and threads computed which steps; a fork's parent
    metrics.jsonl                  one JSON object a line: step, losses (nats), accuracies, weight norm
    checkpoints/step_00000100.safetensors   weights
    moments/step_00000100.safetensors       Adam's state, of the newest checkpoints or of all
    status.json                    written last: how the run ended

Every file but the metrics appears whole, by renaming; a metrics line that was cut short is not read. Weights and moments carry a
checksum, the run's digest and their step, and weights a checksum of the metrics that led up to them. Here a run is read;
`folder.py` reads its single files, `resume.py` finds where it can go on, and `writer.py` is the one place that writes it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from grokinterp.conditions import Condition
from grokinterp.errors import GrokinterpError, os_errors_explained
from grokinterp.files import read_facts, read_json
from grokinterp.models.transformers import build_model, load_weights
from grokinterp.notebook import html_table
from grokinterp.seal import SEAL
from grokinterp.tasks import Task
from grokinterp.training.config import RunConfig
from grokinterp.training.folder import Row, file_of, missing_row, read_metrics, read_provenance, read_state, read_status, steps_in, unlike_when_kept

if TYPE_CHECKING:
    import pandas as pd

    from grokinterp.training.learner import Moments, Weights


class Run:
    """A training on disk, opened for reading.

    Args:
        path: the run's folder.

    Raises:
        GrokinterpError: the folder holds no readable run.
    """

    @os_errors_explained()
    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.abspath(path))  # so that it is the same folder after a change of directory
        self.config = read_config(self.path)

    def __repr__(self) -> str:
        steps = self.steps
        reached = f"last at step {steps[-1]}" if steps else "none yet"
        state = "diverged" if self.diverged else self.status.get("state", "unfinished")
        return f"Run({shown(self.path)!r}: {self.config.task.name}, {len(steps)} checkpoints, {reached}, {state})"

    def _repr_html_(self) -> str:
        last = (read_metrics(self.path) or [{}])[-1]
        rows = [
            ("task", f"{self.config.task.name}, {', '.join(f'{name} = {value}' for name, value in self.config.task.args.items())}"),
            ("state", self.status.get("reason", "unfinished; train with the same config and folder to go on")),
            ("checkpoints", f"{len(self.steps)}, the last at step {self.steps[-1]:,}" if self.steps else "none yet"),
            *((name.replace("_", " "), f"{value:.4g}") for name, value in last.items() if name != "step"),
            ("digest of the config", self.config.digest),
        ]
        if self.unsealed:
            rows.append(("without a checksum", f"{len(self.unsealed)} checkpoints, written by an older version"))
        return html_table(f"Run {shown(self.path)}", rows)

    @cached_property
    def task(self) -> Task:
        """The task with its split."""
        return self.config.task.build()

    @property
    def steps(self) -> list[int]:
        """The steps whose weights are kept, ascending."""
        return steps_in(self.path / "checkpoints")

    @property
    def steps_with_moments(self) -> list[int]:
        """The steps whose Adam state is kept, ascending; from these a run can be forked without resetting it."""
        return steps_in(self.path / "moments")

    @property
    def unsealed(self) -> list[int]:
        """The steps whose weights carry no checksum, because an older version wrote them: damage to them would not be noticed."""
        return [step for step in self.steps if SEAL not in read_facts(file_of(self.path, "checkpoints", step))]

    @property
    def status(self) -> dict[str, Any]:
        """How the run ended: {"state": "finished", "reason": …, "step": …}; empty while it has not."""
        return read_status(self.path)

    @property
    def finished(self) -> bool:
        """Whether training has come to its end."""
        return self.status.get("state") == "finished"

    @property
    def diverged(self) -> bool:
        """Whether training ended because the loss was no longer finite; `status` says when."""
        return has_diverged(self.status)

    @property
    def provenance(self) -> dict[str, Any]:
        """What computed the run: versions, device, threads and path, from which step on; "unsealed" are checkpoints without a checksum, if any."""
        unsealed = self.unsealed
        return read_provenance(self.path) | ({"unsealed": unsealed} if unsealed else {})

    @property
    def metrics(self) -> pd.DataFrame:
        """One row an evaluation: step, train_loss, test_loss (nats), train_accuracy, test_accuracy, weight_norm.

        A commutative task has unseen_loss and unseen_accuracy too, over the "unseen" examples of `Task.splits`; runs that an earlier
        version began go on without.

        Raises:
            GrokinterpError: rows are missing or damaged.
        """
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame(self.rows)
        return frame

    @property
    def rows(self) -> list[Row]:
        """The rows of `metrics` as dicts.

        Raises:
            GrokinterpError: see `metrics`.
        """
        rows = read_metrics(self.path)
        if (problem := wrong_rows(self.path, self.config, rows)) is not None:
            raise GrokinterpError(problem)
        return rows

    def weights(self, step: int | None = None) -> Weights:
        """Named parameters at a kept step; None for the last.

        Raises:
            GrokinterpError: no such checkpoint (the nearest are named), or one that cannot be read.
        """
        return read_state(self.path, "checkpoints", self.kept(step), self.config.digest)[0]

    def moments(self, step: int | None = None) -> Moments:
        """Adam's state at a kept step.

        Raises:
            GrokinterpError: it was not kept.
        """
        step = self.kept(step)
        if step not in self.steps_with_moments:
            raise GrokinterpError(
                f"{self.path} has no optimizer state at step {step}, only at {self.steps_with_moments}; "
                "train with checkpoints.moments = true to keep all of them"
            )
        return read_state(self.path, "moments", step, self.config.digest)[0]

    def model(self, step: int | None = None) -> Any:
        """A HookedTransformer with the weights of a kept step (None for the last), on the CPU."""
        weights = self.weights(step)
        model = build_model(self.config.model, self.task, self.config.seed, dtype=getattr(torch, self.config.dtype))
        load_weights(model, weights)
        return model

    def first(self, condition: str) -> int | None:
        """The first evaluated step at which a condition like "test_accuracy >= 0.99" holds, or None; of "… for 3" the first of the three."""
        return first_step(self.rows, condition)

    def kept(self, step: int | None) -> int:
        """The given step, if its weights are kept; for None the last one.

        Raises:
            GrokinterpError: no such checkpoint; the nearest are named.
        """
        steps = self.steps
        if not steps:
            raise GrokinterpError(f"{self.path} has no checkpoint yet")
        if step is None:
            return steps[-1]
        if step not in steps:
            near = sorted(steps, key=lambda kept: abs(kept - step))[:3]
            raise GrokinterpError(f"{self.path} has no checkpoint at step {step}; the nearest are {sorted(near)}")
        return step


def read_config(path: Path) -> RunConfig:
    """The config of the run in a folder.

    Raises:
        GrokinterpError: the folder holds no readable run.
    """
    file = path / "config.json"
    if not file.is_file():
        raise GrokinterpError(f"{path} is not a run: it has no config.json; train one there with `grokinterp train PRESET --out {path}`")
    values = read_json(file)
    try:
        return RunConfig.from_dict(values)
    except GrokinterpError as error:
        raise GrokinterpError(f"{file}: {error}") from error


def wrong_rows(path: Path, config: RunConfig, rows: list[Row]) -> str | None:
    """What is wrong with the rows of metrics of a run: rows that are missing, or others than when weights were kept; None where all is well."""
    file = path / "metrics.jsonl"
    status = read_status(path)
    until = int(status["step"]) if status.get("state") == "finished" else int(rows[-1]["step"]) if rows else -1
    if (step := missing_row(config, rows, until)) is not None:
        return f"{file} lacks the row of step {step}; `train` with the same config writes it again if it can, else restore the file"
    kept = [step for step in steps_in(path / "checkpoints") if step <= until]
    facts: dict[str, str] = {}
    with contextlib.suppress(GrokinterpError):  # weights that cannot be read say so where they are asked for
        facts = read_facts(file_of(path, "checkpoints", kept[-1])) if kept else {}
    if unlike_when_kept(rows, facts):
        return f"{file} has changed since the weights of step {kept[-1]} were kept; restore it, or `train` with the same config to write it again"
    return None


def has_diverged(status: Mapping[str, Any]) -> bool:
    """Whether a run's status says that the loss was no longer finite."""
    return str(status.get("reason", "")).startswith("diverged")


def shown(path: Path) -> str:
    """A path as one would type it here: relative where it lies below the working directory."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def first_step(rows: Sequence[Row], condition: str) -> int | None:
    """The step of the first row of metrics at which a condition holds, its onset, or None.

    Raises:
        GrokinterpError: a condition that cannot be read, or on a quantity that is not recorded.
    """
    found = Condition.parse(condition).first_in(rows)
    return None if found is None else int(found.onset)
