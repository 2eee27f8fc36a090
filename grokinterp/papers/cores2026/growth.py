"""The core of models of modular addition over training (arXiv 2602.22600): until they grok, and long after, with weight decay and without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from grokinterp.papers.cores2026.runs import GROKKED, LEARNED, Plan, first
from grokinterp.papers.tables import RUN, not_known
from grokinterp.papers.training import finished_runs, measured, side_by_side, steps_per_epoch, train_all
from grokinterp.reports.report import Report
from grokinterp.training.config import RunConfig
from grokinterp.training.fork import children
from grokinterp.training.runs import Run

LAST = 5  # checkpoints whose median is the end of a run (chosen here: training has spikes)
EPOCH_2000 = 2_000
RIGHT = 0.99


@dataclass(frozen=True, eq=False)
class Grown:
    """The core of one model of modular addition over training: until it has grokked, and from there with λ = 1 and with none.

    Attributes:
        run: until grokking.
        until: its cores.
        decayed: those of the fork that goes on; None where the run groks too late for one.
        free: those of the fork without weight decay.
    """

    run: Run
    until: Report
    decayed: Report | None
    free: Report | None

    @property
    def grok(self) -> float:
        """Step at which test accuracy reaches 0.99, NaN for never."""
        return first(self.run, GROKKED)

    @property
    def size(self) -> xr.DataArray:
        """``core_size`` with weight decay throughout, by step and rank."""
        parts = [self.until["core_size"]] if self.decayed is None else [self.until["core_size"][:-1], self.decayed["core_size"]]
        return xr.concat(parts, "step")


def grow(
    configs: Sequence[RunConfig], plan: Plan, folder: Path, table: pd.DataFrame | None = None, train: bool = True
) -> tuple[list[Grown], pd.DataFrame]:
    """Train models of modular addition until they have grokked, fork them with λ = 1 and λ = 0, and read the core off every checkpoint.

    Args:
        configs: of a plan, one a seed.
        plan: says when a model has grokked, and how many processes there are.
        folder: of the runs.
        table: of models that are known, which are not trained again.
        train: False to read what is finished.

    Returns:
        The models whose runs are in the folder, and a row for each: ``run`` and `numbers`.
    """
    settled = [config.with_(stop=plan.settled) for config in configs]
    if train:
        train_all(not_known(settled, table), folder, **plan.how)
    runs = finished_runs(settled, folder)
    forks = [_forks(run) for run in runs]
    if train:
        train_all([fork for pair in forks for fork in pair], folder / "forks", **plan.how)
    forked = finished_runs((fork for pair in forks for fork in pair), folder / "forks")
    reports = side_by_side(read, {run.config.digest: (run.path,) for run in (*runs, *forked)}, plan.workers)
    models = []
    for run, pair in zip(runs, forks, strict=True):
        decayed, free = [reports.get(fork.digest) for fork in pair] or [None, None]
        models.append(Grown(run, reports[run.config.digest], decayed, free))
    return models, pd.DataFrame([{RUN: model.run.config.digest, **numbers(model)} for model in models])


def _forks(run: Run) -> list[RunConfig]:
    """The configs that go on from the last checkpoint of a run with its λ and with none; neither where too few checkpoints are left."""
    steps = run.config.steps
    if run.steps[-1] + LAST * run.config.checkpoints.every > steps:
        return []
    return list(children(run, run.steps[-1], weight_decay=[run.config.optimizer.weight_decay, 0.0], stop=None, steps=steps).values())


def read(folder: Path) -> Report:
    """The core over the checkpoints of one run."""
    return measured(Run(folder), ["ace"], "cores2026")


def numbers(model: Grown) -> dict[str, float]:
    """How the core of one run grows; NaN for what never happens or lies outside the run.

    Returns:
        ``seed``; ``grok``, ``fork`` and ``end`` in epochs. Sizes ``reported``, ``necessary``, ``sufficient``, ``energy`` and ``modes``,
        ``modes_null`` (with shuffled answers), each ``_grok`` (first checkpoint from grokking on with an accuracy of 0.99 on all pairs, which
        spikes can spoil), ``_2000`` (epoch), ``_end`` (median of the last checkpoints) and ``_free`` (the same with λ = 0). Accuracies at the
        reported size, ``base_grok``, ``keep_grok``, ``remove_grok``. R² of the operator: ``r2_start``, fitted; ``held_out_before`` (first
        checkpoint with the training pairs learned) and ``held_out_grok``; ``null_grok``, held out with shuffled answers, the largest.
    """
    data, an_epoch = model.until.dataset, steps_per_epoch(model.run.config)
    later = [report.dataset for report in (model.until, model.decayed) if report is not None]
    right = data.isel(step=np.flatnonzero(data["core_accuracy"].sel(edit="none") >= RIGHT))
    at = {"grok": _from([right], model.grok), "2000": _from(later, EPOCH_2000 * an_epoch), "end": _end(model.decayed), "free": _end(model.free)}
    found: dict[str, float] = {"seed": model.run.config.seed, "grok": model.grok / an_epoch, "fork": model.run.steps[-1] / an_epoch}
    found["end"] = math.nan if model.decayed is None else float(model.decayed.dataset["step"][-1]) / an_epoch
    for when, there in at.items():
        found |= {f"{size}_{when}": _value(there, "core_size", rank=size) for size in ("reported", "necessary", "sufficient", "energy")}
        found |= {f"{name}_{when}": _value(there, f"core_{name}") for name in ("modes", "modes_null")}
    size = found["reported_grok"]
    for edit, name in (("none", "base"), ("keep", "keep"), ("remove", "remove")):
        found[f"{name}_grok"] = _value(at["grok"], "core_accuracy_by_rank", edit=edit, core_direction=size)
    return found | {
        "r2_start": _value(data.isel(step=0), "core_r2", fit="fitted"),
        "held_out_before": _value(_from([data], first(model.run, LEARNED)), "core_r2", fit="held_out"),
        "held_out_grok": _value(at["grok"], "core_r2", fit="held_out"),
        "null_grok": _value(at["grok"], "core_r2", fit="null_max"),
    }


def _from(datasets: Sequence[xr.Dataset], step: float) -> xr.Dataset | None:
    """The first checkpoint at or after a step, or None."""
    later = (data.isel(step=i) for data in datasets for i in np.flatnonzero(data["step"].to_numpy() >= step)[:1])
    return next(later, None)


def _end(report: Report | None) -> xr.Dataset | None:
    return None if report is None else report.dataset.isel(step=slice(-LAST, None)).median("step")


def _value(found: xr.Dataset | None, name: str, **at: Any) -> float:
    return math.nan if found is None else float(found[name].sel(**at))
