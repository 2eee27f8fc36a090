"""What every paper does with its plan: train all of it, and read runs side by side."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm.auto import tqdm

from grokinterp.analysis import analyze
from grokinterp.errors import GrokinterpError
from grokinterp.measures import MEASURES
from grokinterp.measures.measure import Function
from grokinterp.reports.report import Report
from grokinterp.training import executors
from grokinterp.training.config import RunConfig
from grokinterp.training.runs import Run
from grokinterp.training.sweep import default_workers, sweep

Result = TypeVar("Result")
DEPENDS_ON = "depends_on"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the trainings of a budget are carried out; what is trained stands in each paper's own plan.

    Attributes:
        workers: processes; None for as many as cores, 0 for this one.
        ensemble: runs that train as one tensor program; None for as many as the device likes. On a CPU it is slower for models that fill a core.
        device: "cpu" or "cuda".
    """

    workers: int | None = None
    ensemble: int | None = 1
    device: str = "cpu"

    @property
    def how(self) -> dict[str, Any]:
        """The arguments of `sweep`."""
        return {"workers": self.workers, "ensemble": self.ensemble, "device": self.device}


def on_a_gpu() -> dict[str, Any]:
    """The arguments of a `Plan` of models that are trained on a GPU where there is one, as many at once as it likes."""
    return {"ensemble": None, "device": "cuda"} if torch.cuda.is_available() else {}


def train_all(configs: Sequence[RunConfig], folder: Path, **options: Any) -> list[Run]:
    """Train what is not finished yet and open everything: one run each, in the order of the configs.

    Args:
        configs: what to train; may be empty.
        folder: of the run folders.
        options: of `sweep`.

    Raises:
        GrokinterpError: a run fails.
    """
    if not configs:
        return []
    for _, outcome in sweep(configs, folder, **options).iterrows():
        if outcome["state"] not in ("finished", "diverged"):
            raise GrokinterpError(f"the run {folder / outcome['digest']} is {outcome['state']}: {outcome['error']}; call again to go on")
    return [Run(folder / config.digest) for config in configs]


def finished(config: RunConfig, path: Path) -> Run | None:
    """The run of a configuration in a run folder; None where it is not finished, or not that configuration's."""
    run = Run(path) if (path / "config.json").exists() else None
    return run if run is not None and run.finished and run.config.digest == config.digest else None


def finished_runs(configs: Iterable[RunConfig], folder: Path) -> list[Run]:
    """The finished runs of some configurations, in their order, as `train_all` leaves them in a folder."""
    runs = (finished(config, folder / config.digest) for config in configs)
    return [run for run in runs if run is not None]


def steps_per_epoch(config: RunConfig) -> int:
    """Updates in which every training example is seen once."""
    n_train = len(config.task.build().indices("train"))
    return math.ceil(n_train / (config.batch_size or n_train))


def measured(run: Run, measures: Sequence[str | Function], name: str, *, progress_bar: bool = False) -> Report:
    """Measures of every checkpoint of a run; kept in its folder, and opened there as long as nothing that they depend on has changed.

    They depend on the run's configuration and checkpoints, and on the names and the code of the measures.

    Args:
        run: finished.
        measures: as `analyze` takes them.
        name: of the file, without its ending.
        progress_bar: show one while measuring.
    """
    kept, key = run.path / f"{name}.nc", _depends_on(run, measures)
    if kept.exists():
        report = Report.load(kept)
        if report.dataset.attrs.get(DEPENDS_ON) == key:
            return report
    report = analyze(run, measures, progress_bar=progress_bar)
    report.dataset.attrs[DEPENDS_ON] = key
    report.save(kept)
    return report


def _depends_on(run: Run, measures: Sequence[str | Function]) -> str:
    named = {measure if isinstance(measure, str) else getattr(measure, "__name__", repr(measure)): measure for measure in measures}
    code = {name: _code(MEASURES[measure] if isinstance(measure, str) else measure) for name, measure in named.items()}
    facts = {"config": run.config.digest, "steps": list(run.steps), "measures": code}
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _code(measure: Any) -> str:
    """The source of the module that a measure is defined in."""
    function = inspect.unwrap(getattr(measure, "function", measure))
    return inspect.getsource(inspect.getmodule(function) or type(function))


def side_by_side(function: Callable[..., Result], arguments: Mapping[str, tuple[Any, ...]], workers: int | None) -> dict[str, Result]:
    """A function of each of several arguments, by name, with one torch thread each.

    Args:
        function: what other processes call.
        arguments: its arguments by name.
        workers: processes; None for as many as cores, 0 for this one, with its own number of threads.
    """
    if workers == 0 or not arguments:
        return {name: function(*each) for name, each in arguments.items()}
    calls = {name: (function, each) for name, each in arguments.items()}
    with tqdm(total=len(calls), unit="run", disable=None) as bar:
        return executors.side_by_side(calls, workers or default_workers("cpu"), done=lambda name: bar.update())
