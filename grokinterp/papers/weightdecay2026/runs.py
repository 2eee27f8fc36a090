"""The trainings of arXiv 2605.20441 and what is read off them: regimes, grokking times, diagnostics, arms of the intervention.

No claims here; `paper` sets the numbers beside the paper's. Times are epochs, as in the paper, unless they are called steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from grokinterp import presets
from grokinterp.analysis import analyze
from grokinterp.errors import GrokinterpError
from grokinterp.interventions import ClipNorm, ReinitialiseHeads, ResetHeadMoments, attention_norm
from grokinterp.interventions.events import Event
from grokinterp.papers import training
from grokinterp.papers.claims import Budget
from grokinterp.papers.tables import NOTHING, RUN, Tables, known
from grokinterp.papers.training import finished, finished_runs, steps_per_epoch, train_all
from grokinterp.papers.weightdecay2026 import baselines
from grokinterp.papers.weightdecay2026.claims import BINS, INTERVENED, MULTITASK, MULTITASK_DECAYS, tag
from grokinterp.papers.weightdecay2026.rows import EARLY, GROK, pair_row, run_row
from grokinterp.training.config import CheckpointSchedule, RunConfig
from grokinterp.training.fork import children
from grokinterp.training.runs import Run
from grokinterp.training.sweep import grid

SEEDS = (7, 11, 31, 42, 73, 97, 123, 199, 401, 977)  # the paper's
N_HEADS = 2  # of 8, drawn again in every layer
HORIZONS, MULTITASK_HORIZONS = (1_000, 2_000, 3_500, 5_000), (5_000, 10_000)  # epochs, of the paper's grid and of its replication
DIAGNOSTICS = ["head_similarity", "entropy_spread", "participation_ratio"]


@dataclass(frozen=True)
class Boundary:
    """A grid of λ and seeds, followed until the last of some horizons (epochs)."""

    configs: Sequence[RunConfig]
    horizons: Sequence[float]


@dataclass(frozen=True)
class Paired:
    """Parents that keep their moments, one a seed; for how many epochs their forks are followed; after which epoch a peak of σ_H counts."""

    parents: Sequence[RunConfig]
    window: int
    after: int = EARLY


@dataclass(frozen=True)
class Plan(training.Plan):
    """What a budget runs.

    Attributes:
        smaller: the boundary on a model and horizon of our own.
        collapsing: runs of the same model at λ = 10.
        pairs: interventions by name, "near" and "above" on our own model, else λ as in the paper.
        calibration: the paper's model at λ = 1, seed 42.
        canonical: the paper's main sweep.
        multitask: its replication, by size and operation.
        baselines: smaller models without attention, by architecture.
        published_baselines: those of the paper.
        n_bootstrap: resamples of the survival fit.
        ensemble: as in every plan; these models are small enough for it on a CPU too.
    """

    smaller: Boundary
    collapsing: Sequence[RunConfig]
    pairs: Mapping[str, Paired]
    calibration: RunConfig | None = None
    canonical: Boundary | None = None
    multitask: Mapping[tuple[presets.Size, str], Boundary] = field(default_factory=dict)
    baselines: Mapping[str, Sequence[RunConfig]] = field(default_factory=dict)
    published_baselines: Mapping[str, Sequence[RunConfig]] = field(default_factory=dict)
    n_bootstrap: int = 500
    ensemble: int | None = field(default=len(SEEDS), kw_only=True)

    @property
    def configs(self) -> Iterator[RunConfig]:
        """Everything that is trained from the start; what takes longest comes first."""
        yield from [self.calibration] if self.calibration else []
        boundaries = [self.canonical] if self.canonical else []
        for boundary in (*boundaries, *self.multitask.values(), self.smaller):
            yield from boundary.configs
        for paired in self.pairs.values():
            yield from paired.parents
        yield from self.collapsing
        for configs in (*self.baselines.values(), *self.published_baselines.values()):
            yield from configs


def plan(budget: Budget) -> Plan:
    """The trainings of a budget: a tiny model, a smaller one with the paper's calibration run, or these and the paper's own grid."""
    if budget == "smoke":
        return _tiny()
    base = smaller()
    own: dict[str, Any] = {
        "smaller": Boundary(grid(base, {"weight_decay": [0.1, 0.2, 0.3, 0.4, 0.6, 1.0, 1.5], "seed": list(SEEDS)}), (400, 500, 600, 800)),
        "collapsing": grid(base.with_(steps=200 * steps_per_epoch(base)), {"weight_decay": 10.0, "seed": list(SEEDS[:3])}),
        "baselines": baselines.smaller(budget, SEEDS),
    }
    pairs = {"near": Paired(_parents(base, 0.3), 100), "above": Paired(_parents(base, 1.0), 100)}
    if budget == "cpu":
        return Plan(**own, pairs=pairs, calibration=_calibration(200))
    decays = [*BINS["weight_decay"], 10.0]
    canonical = Boundary(grid(presets.weightdecay2026(), {"weight_decay": decays, "seed": list(SEEDS)}), HORIZONS)
    multitask = {key: _multitask(*key) for key in MULTITASK}
    pairs |= {tag(decay): Paired(_parents(presets.weightdecay2026(), decay, every=100), 500) for decay in INTERVENED}
    grids: dict[str, Any] = {"canonical": canonical, "multitask": multitask, "published_baselines": baselines.as_published(SEEDS)}
    return Plan(**own, **grids, pairs=pairs, calibration=_calibration(1_200), **{"ensemble": None, **training.on_a_gpu()})


def smaller(epochs: int = 800) -> RunConfig:
    """One layer of 64 dimensions and 8 heads on addition mod 53 in batches of 141, so that an epoch has 10 steps as in the paper (chosen here)."""
    config = presets.weightdecay2026(p=53).with_(**{"model.n_layers": 1, "model.d_model": 64, "model.d_mlp": 256, "batch_size": 141})
    return _timed(config, epochs, checkpoint_every=EARLY).with_(stop=f"test_accuracy >= {GROK}")


def _tiny() -> Plan:
    """A model that groks within 100 epochs at λ = 1 and 2 (chosen here)."""
    changes = {"task.train_fraction": 0.7, "model.n_layers": 1, "model.d_model": 32, "model.d_mlp": 64, "optimizer.lr": 3e-3, "batch_size": 90}
    base = presets.weightdecay2026(p=31).with_(**changes)
    followed = _timed(base, 100, checkpoint_every=100).with_(stop=f"test_accuracy >= {GROK}")
    boundary = grid(followed, {"weight_decay": [0.03, 1.0, 2.0], "seed": list(SEEDS[:2])})
    collapsing = grid(_timed(base, 20), {"weight_decay": 10.0, "seed": list(SEEDS[:1])})
    pairs = {"near": Paired(_parents(_timed(base, 40), 1.0, SEEDS[:2]), 20, after=10)}
    return Plan(Boundary(boundary, (50, 100)), collapsing, pairs, baselines=baselines.smaller("smoke", SEEDS), n_bootstrap=50, workers=0)


def _timed(config: RunConfig, epochs: int, checkpoint_every: int = 10) -> RunConfig:
    """With times in epochs of its own data and batches."""
    epoch = steps_per_epoch(config)
    return config.with_(steps=epochs * epoch, eval_every=10 * epoch, checkpoints=CheckpointSchedule(every=checkpoint_every * epoch))


def _parents(config: RunConfig, decay: float, seeds: Sequence[int] = SEEDS, every: int = 10) -> list[RunConfig]:
    schedule = CheckpointSchedule(every=every * steps_per_epoch(config), moments=True)
    return grid(config.with_(stop=None, checkpoints=schedule), {"weight_decay": decay, "seed": list(seeds)})


def _calibration(epochs: int) -> RunConfig:
    config = presets.weightdecay2026(seed=42, epochs=epochs)
    epoch = steps_per_epoch(config)
    return config.with_(checkpoints=CheckpointSchedule(every=10 * epoch, dense_every=epoch, dense_until=epoch))


def _multitask(size: presets.Size, operation: str) -> Boundary:
    config = presets.weightdecay2026(size, operation, epochs=10_000).with_(stop=f"test_accuracy >= {GROK}")
    return Boundary(grid(config, {"weight_decay": list(MULTITASK_DECAYS), "seed": list(SEEDS[:5])}), MULTITASK_HORIZONS)


# --- one run -----------------------------------------------------------------------------------------------------------------------


def diagnostics(run: Run, steps: Sequence[int] | None = None) -> pd.DataFrame:
    """s̄, σ_H and participation ratio on 512 fixed test examples at kept steps, one row a step."""
    return analyze(run, ["heads"], steps=steps, progress_bar=False).dataset[DIAGNOSTICS].to_dataframe()[DIAGNOSTICS]


def evaluations(run: Run, steps: Iterable[int] | None = None) -> pd.DataFrame:
    """What was recorded of a run by epoch, with its diagnostics at some of the kept steps, or at all; NaN where one of both is missing."""
    chosen = None if steps is None else [step for step in steps if step in run.steps]
    table = run.metrics.set_index("step").join(diagnostics(run, chosen), how="outer")
    return table.set_axis(table.index / steps_per_epoch(run.config)).rename_axis("epoch")


def read_runs(configs: Sequence[RunConfig], folder: Path) -> pd.DataFrame:
    """A `run_row` each finished run.

    A run that ends when it groks says nothing about retaining it; those of `run_pairs` and of the paper's own grid go on.
    """
    runs = finished_runs(configs, folder)
    return pd.DataFrame([run_row(run.config, evaluations(run, {EARLY * steps_per_epoch(run.config), run.steps[-1]})) for run in runs])


# --- forks -------------------------------------------------------------------------------------------------------------------------


class Peak(NamedTuple):
    """The largest σ_H (nats) and its step."""

    step: int
    value: float


def peak(spread: pd.Series, after: int) -> Peak:
    """The largest σ_H at the steps later than one.

    Raises:
        GrokinterpError: none is later.
    """
    later = spread[spread.index > after]
    if later.empty:
        raise GrokinterpError(f"σ_H was read at no step after {after}, so it has no peak there; follow the run for longer")
    top = int(later.to_numpy().argmax())
    return Peak(int(later.index.to_numpy()[top]), float(later.iloc[top]))


def edits(seed: int, median: float) -> dict[str, Event | None]:
    """What is done to a run at a fork, by arm.

    "reinit" draws 2 heads of every layer again, with their Adam moments at 0; "sham" resets the moments of the same heads and changes no
    weight; "clip" scales the attention weights down to `median`, that of their norms up to that step, if they are above it.
    """
    return {"control": None, "sham": ResetHeadMoments(N_HEADS, seed), "reinit": ReinitialiseHeads(N_HEADS, seed), "clip": ClipNorm(median)}


def arms(run: Run, at: int, window: int) -> dict[str, RunConfig]:
    """The forks of a run at a step, by arm, all followed for the same steps."""
    median = float(np.median([attention_norm(run.weights(step)) for step in run.steps if step <= at]))
    settings: dict[str, Any] = {"steps": at + window, "checkpoints.every": run.config.eval_every, "checkpoints.moments": False}
    return {arm: next(iter(children(run, at, edit=edit, **settings).values())) for arm, edit in edits(run.config.seed, median).items()}


def run_pairs(plan: Plan, folder: Path, train: bool = True) -> dict[str, pd.DataFrame]:
    """Fork every finished parent where its σ_H is largest, and read the same window off every arm.

    Returns:
        By name of the intervention, a `pair_row` each seed whose arms have all ended.
    """
    planned: dict[str, list[tuple[Run, Peak, dict[str, RunConfig]]]] = {}
    for name, paired in plan.pairs.items():
        for run in finished_runs(paired.parents, folder):
            epoch = steps_per_epoch(run.config)
            top = peak(diagnostics(run)["entropy_spread"], paired.after * epoch)
            planned.setdefault(name, []).append((run, top, arms(run, top.step, paired.window * epoch)))
    out = folder / "forks"
    if train:
        train_all([config for rows in planned.values() for _, _, forks in rows for config in forks.values()], out, **plan.how)
    ended = {name: [row for row in rows if len(finished_runs(row[2].values(), out)) == len(row[2])] for name, rows in planned.items()}
    return {name: pd.DataFrame([_paired_row(*row, out) for row in rows]) for name, rows in ended.items()}


def _paired_row(run: Run, top: Peak, forks: Mapping[str, RunConfig], out: Path) -> dict[str, Any]:
    peaks = {arm: peak(diagnostics(Run(out / config.digest))["entropy_spread"], top.step).value for arm, config in forks.items()}
    clip = forks["clip"].parent
    assert clip is not None  # `arms` made it so
    assert isinstance(clip.edit, ClipNorm)
    clipped = attention_norm(run.weights(top.step)) > clip.edit.norm
    return pair_row(run.config, top.step, top.value, peaks, clipped, run.metrics)


# --- all together ------------------------------------------------------------------------------------------------------------------


def read_all(plan: Plan, folder: Path, tables: Tables = NOTHING, train: bool = True) -> dict[str, pd.DataFrame]:
    """Train what no table knows of a plan, and read all that is finished: see `read_runs`, `run_pairs`, `evaluations` and `baselines.read`.

    Returns:
        ``runs``, ``collapse``, ``canonical-runs``, ``multitask-runs`` (with ``size`` and ``operation``), ``pairs-NAME``, ``diagnostics``,
        ``baselines`` and ``published-baselines``; without rows where nothing is finished.
    """
    if train:
        there = set().union(*(known(table) for table in tables.values()))
        train_all([config for config in plan.configs if config.digest not in there], folder, **plan.how)
    grids = {"runs": plan.smaller.configs, "collapse": plan.collapsing, "canonical-runs": plan.canonical.configs if plan.canonical else ()}
    found = {name: read_runs(configs, folder) for name, configs in grids.items()}
    tasks = [read_runs(grid.configs, folder).assign(size=size, operation=operation) for (size, operation), grid in plan.multitask.items()]
    found["multitask-runs"] = pd.concat(tasks) if tasks else pd.DataFrame()
    found |= {f"pairs-{name}": table for name, table in run_pairs(plan, folder, train).items()}
    example = plan.calibration or plan.pairs["near"].parents[0]
    if (run := finished(example, folder / example.digest)) is not None:
        found["diagnostics"] = evaluations(run)[[*DIAGNOSTICS, "test_accuracy"]].dropna(subset=DIAGNOSTICS[:1]).assign(**{RUN: example.digest})
    grids_of_baselines = {"baselines": plan.baselines, "published-baselines": plan.published_baselines}
    return found | {name: baselines.read(configs, folder) for name, configs in grids_of_baselines.items()}
