"""A run: the folder that holds everything about one training.

    config.json                    the RunConfig; a function of it alone: same config, machine and threads, same bits
    provenance.json                which code, library versions, device and threads computed which steps; a fork's parent
    metrics.jsonl                  one JSON object a line: step, losses (nats), accuracies, weight norm
    checkpoints/step_00000100.safetensors   weights
    moments/step_00000100.safetensors       Adam's state, of the newest checkpoints or of all
    status.json                    written last: how the run ended

Every file but the metrics appears whole, by renaming; a metrics line that was cut short is not read. Here a run is
read; `writer.py` is the one place that writes it.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from grokinterp.conditions import Condition
from grokinterp.errors import GrokinterpError, os_errors_explained
from grokinterp.files import read_json, read_tensors
from grokinterp.models.transformers import build_model, load_weights
from grokinterp.notebook import html_table
from grokinterp.tasks import Task
from grokinterp.training.config import RunConfig

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
        self.path = Path(path)
        if not (self.path / "config.json").is_file():
            raise GrokinterpError(
                f"{self.path} is not a run: it has no config.json; train one there with `grokinterp train PRESET --out {self.path}`"
            )
        self.config = RunConfig.from_dict(read_json(self.path / "config.json"))

    def __repr__(self) -> str:
        steps = self.steps
        reached = f"last at step {steps[-1]}" if steps else "none yet"
        return f"Run({str(self.path)!r}: {self.config.task.name}, {len(steps)} checkpoints, {reached}, {self.status.get('state', 'unfinished')})"

    def _repr_html_(self) -> str:
        last = (read_metrics(self.path) or [{}])[-1]
        rows = [
            ("task", f"{self.config.task.name}, {', '.join(f'{name} = {value}' for name, value in self.config.task.args.items())}"),
            ("state", self.status.get("reason", "unfinished; train with the same config and folder to go on")),
            ("checkpoints", f"{len(self.steps)}, the last at step {self.steps[-1]:,}" if self.steps else "none yet"),
            *((name.replace("_", " "), f"{value:.4g}") for name, value in last.items() if name != "step"),
            ("digest of the config", self.config.digest),
        ]
        return html_table(f"Run {self.path}", rows)

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
    def status(self) -> dict[str, Any]:
        """How the run ended: {"state": "finished", "reason": …, "step": …}; empty while it has not."""
        file = self.path / "status.json"
        return dict(read_json(file)) if file.exists() else {}

    @property
    def finished(self) -> bool:
        """Whether training has come to its end."""
        return self.status.get("state") == "finished"

    @property
    def provenance(self) -> dict[str, Any]:
        """What computed the run: versions, device, threads and path, from which step on."""
        return dict(read_json(self.path / "provenance.json"))

    @property
    def metrics(self) -> pd.DataFrame:
        """One row an evaluation: step, train_loss, test_loss (nats), train_accuracy, test_accuracy, weight_norm."""
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame(read_metrics(self.path))
        return frame

    def weights(self, step: int | None = None) -> Weights:
        """Named parameters at a kept step; None for the last.

        Raises:
            GrokinterpError: no such checkpoint (the nearest are named), or one that cannot be read.
        """
        return read_tensors(file_of(self.path, "checkpoints", self.kept(step)))

    def moments(self, step: int | None = None) -> Moments:
        """Adam's state at a kept step.

        Raises:
            GrokinterpError: it was not kept.
        """
        step = self.kept(step)
        file = file_of(self.path, "moments", step)
        if not file.exists():
            raise GrokinterpError(
                f"{self.path} has no optimizer state at step {step}, only at {self.steps_with_moments}; "
                "train with checkpoints.moments = true to keep all of them"
            )
        return read_tensors(file)

    def model(self, step: int | None = None) -> Any:
        """A HookedTransformer with the weights of a kept step (None for the last), on the CPU."""
        weights = self.weights(step)
        model = build_model(self.config.model, self.task, self.config.seed, dtype=getattr(torch, self.config.dtype))
        load_weights(model, weights)
        return model

    def first(self, condition: str) -> int | None:
        """The first evaluated step at which a condition like "test_accuracy >= 0.99" holds, or None; of "… for 3" the first of the three."""
        return first_step(read_metrics(self.path), condition)

    def kept(self, step: int | None) -> int:
        """The step of a checkpoint: this very one, or for None the last.

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


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The metrics of a run folder, a dict an evaluation; a last line that was cut short is left out."""
    file = path / "metrics.jsonl"
    if not file.exists():
        return []
    lines = file.read_text().split("\n")
    # A whole line ends with a newline, so what follows the last newline is nothing or half a line.
    return [json.loads(line) for line in lines[:-1]]


def first_step(rows: list[dict[str, float]], condition: str) -> int | None:
    """The step of the first row of metrics at which a condition holds, its onset, or None.

    Raises:
        GrokinterpError: a condition that cannot be read, or on a quantity that is not recorded.
    """
    found = Condition.parse(condition).first_in(rows)
    return None if found is None else int(found.onset)


def file_of(path: Path, kind: Literal["checkpoints", "moments"], step: int) -> Path:
    """Where a run keeps the weights or Adam's state of a step."""
    return path / kind / f"step_{step:08d}.safetensors"


def steps_in(folder: Path) -> list[int]:
    """The steps that have a file in a folder of checkpoints or moments, ascending."""
    return sorted(int(file.stem.removeprefix("step_")) for file in folder.glob("step_*.safetensors"))
