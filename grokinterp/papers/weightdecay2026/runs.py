"""The trainings of arXiv 2605.20441 and what is read off them: regimes, grokking times, diagnostics, arms of the intervention.

No claims here; `weightdecay2026` sets the numbers beside the paper's. Times are epochs, as in the paper, unless they are called steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from grokinterp import presets
from grokinterp.analysis import analyze
from grokinterp.errors import GrokinterpError
from grokinterp.interventions import ClipNorm, ReinitialiseHeads, ResetHeadMoments, attention_norm
from grokinterp.laws import onset
from grokinterp.papers import training
from grokinterp.papers.claims import Budget
from grokinterp.papers.tables import NOTHING, RUN, Tables, known, merged
from grokinterp.papers.training import finished, train_all
from grokinterp.papers.weightdecay2026 import baselines
from grokinterp.papers.weightdecay2026.baselines import BaselineGrid
from grokinterp.papers.weightdecay2026.claims import BINS, INTERVENED, MULTITASK, MULTITASK_DECAYS, tag
from grokinterp.papers.weightdecay2026.fits import GROK, regime
from grokinterp.training.config import CheckpointSchedule, RunConfig
from grokinterp.training.fork import children
from grokinterp.training.runs import Run
from grokinterp.training.sweep import grid

SEEDS = (7, 11, 31, 42, 73, 97, 123, 199, 401, 977)  # the paper's
EARLY = 100  # epochs, after which the peak of σ_H counts as the Phase-2 amplitude
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
    baselines: Mapping[str, BaselineGrid] = field(default_factory=dict)
    published_baselines: Mapping[str, BaselineGrid] = field(default_factory=dict)
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
        for each in (*self.baselines.values(), *self.published_baselines.values()):
            yield from each.configs


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
    device = "cuda" if torch.cuda.is_available() else "cpu"
    grids: dict[str, Any] = {"canonical": canonical, "multitask": multitask, "published_baselines": baselines.as_published(SEEDS)}
    return Plan(**own, **grids, pairs=pairs, calibration=_calibration(1_200), ensemble=None, device=device)


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


def steps_per_epoch(config: RunConfig) -> int:
    """Updates in which every training example is seen once."""
    n_train = len(config.task.build().indices("train"))
    return math.ceil(n_train / (config.batch_size or n_train))


# --- one run -----------------------------------------------------------------------------------------------------------------------


def diagnostics(run: Run, steps: Sequence[int] | None = None) -> pd.DataFrame:
    """s̄, σ_H and participation ratio on 512 fixed test examples at kept steps, one row a step."""
    found = analyze(run, ["heads"], steps=steps, progress_bar=False).dataset[DIAGNOSTICS]
    return found.to_dataframe()[DIAGNOSTICS]


def read_runs(configs: Sequence[RunConfig], folder: Path, table: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a finished run, and those that a table knows: λ, seed, `regime`, how long it was followed, and what it was like at epoch 100.

    A run that ends when it groks says nothing about retaining it; those of `run_pairs` and of the paper's own grid go on.
    """
    rows = []
    for config in configs:
        if (run := finished(config, folder)) is None:
            continue
        metrics, epoch = run.metrics, steps_per_epoch(config)
        last = diagnostics(run, [run.steps[-1]]).iloc[-1]
        epochs = metrics["step"] / epoch
        what = regime(epochs, metrics["train_accuracy"], metrics["test_accuracy"], last["head_similarity"], last["entropy_spread"])
        followed = float(epochs.iloc[-1])
        settings = {RUN: config.digest, "weight_decay": config.optimizer.weight_decay, "seed": config.seed}
        rows.append({**settings, **what._asdict(), "followed": followed} | _early(run, epoch))
    return merged(table, pd.DataFrame(rows))


def _early(run: Run, epoch: int) -> dict[str, float]:
    """Train loss, norm of the weights, s̄ and σ_H at epoch 100; NaN where the run has ended or kept nothing by then."""
    names, step = ["train_loss", "weight_norm", *DIAGNOSTICS[:2]], EARLY * epoch
    if step not in run.steps:
        return dict.fromkeys((f"early_{name}" for name in names), math.nan)
    metrics = run.metrics.set_index("step").loc[step]
    values = pd.concat([metrics, diagnostics(run, [step]).loc[step]])
    return {f"early_{name}": float(values[name]) for name in names}


def diagnostics_over_training(config: RunConfig, folder: Path) -> pd.DataFrame:
    """Test accuracy, s̄ and σ_H of a run at each kept epoch; accuracy is NaN where it was not evaluated."""
    run, epoch = Run(folder / config.digest), steps_per_epoch(config)
    table: pd.DataFrame = diagnostics(run).join(run.metrics.set_index("step")[["test_accuracy"]]).assign(**{RUN: config.digest})
    table.index = pd.Index(table.index / epoch, name="epoch")
    return table


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


def arms(run: Run, at: int, window: int) -> dict[str, RunConfig]:
    """The forks of a run at a step, by arm: control, sham, re-initialised and clipped, all followed for the same steps.

    "reinit" draws 2 heads of every layer again, with their Adam moments at 0; "sham" resets the moments of the same heads and changes no
    weight; "clip" scales the attention weights down to the median norm of the run's checkpoints up to that step, if they are above it.
    """
    seed, median = run.config.seed, float(np.median([attention_norm(run.weights(step)) for step in run.steps if step <= at]))
    edits = {"control": None, "sham": ResetHeadMoments(N_HEADS, seed), "reinit": ReinitialiseHeads(N_HEADS, seed), "clip": ClipNorm(median)}
    settings: dict[str, Any] = {"steps": at + window, "checkpoints.every": run.config.eval_every, "checkpoints.moments": False}
    return {arm: next(iter(children(run, at, edit=edit, **settings).values())) for arm, edit in edits.items()}


def run_pairs(plan: Plan, folder: Path, tables: Tables = NOTHING, train: bool = True) -> dict[str, pd.DataFrame]:
    """Fork every finished parent where its σ_H is largest, and read the same window off every arm; pairs that tables know are theirs.

    Returns:
        By name of the intervention, one row a seed: ``at`` (epochs); ``control``, ``sham``, ``reinit``, ``clip``, the peaks of σ_H (nats)
        in the window after it; ``whole_control`` and ``whole_reinit``, the peaks over the whole run; ``clipped``, whether clipping did anything;
        ``grok`` (epochs) and ``retained`` of the parent, which was followed to its end.
    """
    planned: dict[str, list[tuple[Run, Peak, dict[str, RunConfig]]]] = {}
    for name, paired in plan.pairs.items():
        for config in paired.parents:
            if (run := finished(config, folder)) is None:
                continue
            epoch = steps_per_epoch(config)
            top = peak(diagnostics(run)["entropy_spread"], paired.after * epoch)
            planned.setdefault(name, []).append((run, top, arms(run, top.step, paired.window * epoch)))
    out = folder / "forks"
    if train:
        train_all([config for rows in planned.values() for _, _, forks in rows for config in forks.values()], out, **plan.how)
    found: dict[str, pd.DataFrame] = {}
    for name in plan.pairs:
        ended = [row for row in planned.get(name, []) if all(finished(config, out) is not None for config in row[2].values())]
        table = merged(tables.get(f"pairs-{name}"), pd.DataFrame([_paired_row(*row, out) for row in ended]))
        found |= {name: table} if len(table) else {}
    return found


def read_all(plan: Plan, folder: Path, tables: Tables = NOTHING, train: bool = True) -> dict[str, pd.DataFrame]:
    """Train what no table knows of a plan, and give every table that has rows: see `read_runs`, `run_pairs`, `along` and `baselines.read`.

    Returns:
        ``runs``, ``collapse``, ``canonical-runs``, ``multitask-runs`` (with ``size`` and ``operation``), ``pairs-NAME``, ``diagnostics``,
        ``baselines`` and ``published-baselines``.
    """
    if train:
        there = set().union(*(known(table) for table in tables.values()))
        train_all([config for config in plan.configs if config.digest not in there], folder, **plan.how)
    grids = {"runs": plan.smaller.configs, "collapse": plan.collapsing, "canonical-runs": plan.canonical.configs if plan.canonical else ()}
    found = {name: read_runs(configs, folder, tables.get(name)) for name, configs in grids.items()}
    tasks = [read_runs(grid.configs, folder).assign(size=size, operation=operation) for (size, operation), grid in plan.multitask.items()]
    found["multitask-runs"] = merged(tables.get("multitask-runs"), pd.concat(tasks) if tasks else pd.DataFrame())
    found |= {f"pairs-{name}": table for name, table in run_pairs(plan, folder, tables, train).items()}
    example = plan.calibration or plan.pairs["near"].parents[0]
    read = finished(example, folder) is not None
    found["diagnostics"] = merged(tables.get("diagnostics"), diagnostics_over_training(example, folder) if read else pd.DataFrame())
    for name, baseline_grids in (("baselines", plan.baselines), ("published-baselines", plan.published_baselines)):
        found[name] = baselines.read(baseline_grids, folder, tables.get(name))
    return {name: table for name, table in found.items() if len(table)}


def _paired_row(run: Run, top: Peak, forks: Mapping[str, RunConfig], out: Path) -> dict[str, Any]:
    peaks = {arm: peak(diagnostics(Run(out / config.digest))["entropy_spread"], top.step).value for arm, config in forks.items()}
    clip = forks["clip"].parent
    assert clip is not None  # `arms` made it so
    assert isinstance(clip.edit, ClipNorm)
    epoch, metrics = steps_per_epoch(run.config), run.metrics
    return {
        RUN: run.config.digest,
        "weight_decay": run.config.optimizer.weight_decay,
        "seed": run.config.seed,
        "at": top.step / epoch,
        **peaks,
        **{f"whole_{arm}": max(top.value, peaks[arm]) for arm in ("control", "reinit")},
        "clipped": attention_norm(run.weights(top.step)) > clip.edit.norm,
        "grok": onset(metrics["step"] / epoch, metrics["test_accuracy"], GROK, interpolate=False),
        "retained": bool(metrics["test_accuracy"].iloc[-1] >= GROK),
    }
