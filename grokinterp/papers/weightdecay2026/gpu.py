"""The paper's own size on one GPU: the canonical sweep, its replication on addition, and the interventions, as one queue of trainings.

Addition of the replication and of the canonical sweep are the same trainings, and so are the parents of the interventions: each is trained
once, for as long as the one of them that follows it longest. Others end when they grok. Readings are taken at every evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from grokinterp import presets
from grokinterp.files import replacing
from grokinterp.interventions import attention_norm
from grokinterp.measures.heads import BATCH, head_entropy, head_similarity
from grokinterp.models.adapter import layer_of_heads
from grokinterp.models.initial import initial_weights
from grokinterp.models.transformers import ModelConfig
from grokinterp.papers.tables import RUN, Tables
from grokinterp.papers.training import steps_per_epoch
from grokinterp.papers.weightdecay2026.claims import BINS, MULTITASK_DECAYS, tag
from grokinterp.papers.weightdecay2026.fits import ARMS
from grokinterp.papers.weightdecay2026.rows import EARLY, GROK, pair_row, run_row
from grokinterp.papers.weightdecay2026.runs import SEEDS, edits
from grokinterp.training.config import RunConfig
from grokinterp.training.engine.engine import tensor_cores
from grokinterp.training.slots import Job, Slots, load_jobs

PLACES = 64  # measured on an H100: 5,500 epochs of so many runs take nine minutes with TF32
STOP = f"test_accuracy >= {GROK}"
HEADS = ("head_similarity", "entropy_spread")


@dataclass(frozen=True)
class Grid:
    """What is trained, in epochs.

    Attributes:
        base: of every run; λ, seed and operation are set for each.
        decays: λ of the canonical sweep, for all `seeds`, until a run groks or `horizon`.
        fewer: at some λ, the number of seeds instead of all.
        replicated: λ of the replication, for the first `n_replicated` seeds, until a run groks or twice `horizon`.
        operations: of the replication.
        intervened: λ whose runs are followed for `horizon`, and forked where σ_H was largest after epoch `early`, for `window`.
        collapsing: λ whose runs are followed for a tenth of `horizon`.
        example: λ and epochs for which the run of seed 42 is followed at least.
    """

    base: RunConfig
    decays: Sequence[float]
    seeds: Sequence[int]
    horizon: int
    replicated: Sequence[float] = ()
    n_replicated: int = 5
    operations: Sequence[str] = ("addition",)
    intervened: Sequence[float] = ()
    window: int = 500
    early: int = EARLY
    collapsing: Sequence[float] = ()
    example: tuple[float, int] = (1.0, 1_200)
    fewer: Mapping[float, int] = field(default_factory=dict)

    def seeds_at(self, decay: float) -> Sequence[int]:
        """Of the canonical sweep."""
        return self.seeds[: self.fewer.get(decay)]


def published(operations: Sequence[str] = ()) -> Grid:
    """The small model at the paper's λ and seeds; five of them at λ = 0.001, where none groks, and the replication of some operations."""
    decays = BINS["weight_decay"].to_list()
    wanted: dict[str, Any] = {"intervened": (0.05, 0.015), "collapsing": (10.0,), "fewer": {0.001: 5}}
    return Grid(presets.weightdecay2026(), decays, SEEDS, 5_000, MULTITASK_DECAYS, 5, operations, **wanted)


def plan(grid: Grid) -> list[Job]:
    """One job for each training, those that are followed longest first."""
    epoch = steps_per_epoch(grid.base)
    jobs: dict[str, Job] = {}

    def want(operation: str, decay: float, seed: int, most: int, least: int = 0) -> None:
        name = f"{operation}-{tag(decay)}-{seed}"
        task = {"task.name": f"modular_{operation}", "task.split_seed": seed}
        config = grid.base.with_(**task, **{"optimizer.weight_decay": decay, "seed": seed, "steps": most * epoch}, stop=STOP)
        job = jobs.setdefault(name, Job(name, config))
        job.config = job.config.with_(steps=max(job.config.steps, most * epoch))
        job.least = max(job.least, least * epoch)

    for seed in grid.seeds:
        for decay in grid.decays:
            if seed in grid.seeds_at(decay):
                want("addition", decay, seed, grid.horizon)
        for decay in grid.intervened:
            want("addition", decay, seed, grid.horizon, grid.horizon)
            jobs[f"addition-{tag(decay)}-{seed}"].notes["forks"] = True
        for decay in grid.collapsing:
            want("addition", decay, seed, grid.horizon // 10, grid.horizon // 10)
    for operation in grid.operations:
        for decay in grid.replicated:
            for seed in grid.seeds[: grid.n_replicated]:
                want(operation, decay, seed, 2 * grid.horizon)
    decay, epochs = grid.example
    want("addition", decay, 42, grid.horizon, min(epochs, grid.horizon))
    return sorted(jobs.values(), key=lambda job: -_expected(job))


def _expected(job: Job) -> float:
    """Steps that a run may take: the paper's law of grokking times, three times over, within what it may and must."""
    decay = job.config.optimizer.weight_decay
    groks = 3_000 * max(decay - 0.01, 1e-9) ** -0.75
    return float(max(min(groks, job.config.steps), job.least * (1.2 if "forks" in job.notes else 1)))


class Sweep(Slots):
    """The queue, with head diagnostics at every evaluation and forks of the runs that are intervened in."""

    def __init__(self, grid: Grid, jobs: Sequence[Job], places: int, device: str = "cpu", *, compiled: bool = False) -> None:
        super().__init__(jobs, places, device, compiled=compiled)
        self._grid, self._epoch = grid, steps_per_epoch(grid.base)
        self._batches: dict[str, torch.Tensor] = {}

    def measure(self) -> list[Mapping[str, float]]:
        """s̄, σ_H and the norm of the attention weights."""
        first = next(job for job in self.members if job is not None)
        batches = torch.stack([self._fixed_batch(job or first) for job in self.members])
        patterns = self.engine.patterns(batches)
        similarity, entropy = head_similarity(patterns).mean(-1), head_entropy(patterns)
        spread = entropy.std(-1, correction=0).mean(-1)
        norm = self.engine.norm(lambda name: layer_of_heads(name) is not None and ".W_" in name)
        return [dict(zip((*HEADS, "attention_norm"), row, strict=True)) for row in torch.stack([similarity, spread, norm], 1).tolist()]

    def _fixed_batch(self, job: Job) -> torch.Tensor:
        key = str(job.config.to_dict()["task"])
        if key not in self._batches:
            self._batches[key] = self._task(job.config).fixed_batch(BATCH)
        return self._batches[key]

    def seen(self, member: int, job: Job) -> None:
        """Mark the largest σ_H so far, within the horizon."""
        if "forks" not in job.notes or not self._grid.early * self._epoch < job.step <= self._grid.horizon * self._epoch:
            return
        if (spread := job.rows[-1]["entropy_spread"]) > job.notes.get("peak", -math.inf):
            job.notes["peak"] = spread
            self.mark(member, job)

    def follow(self, job: Job) -> Iterable[Job]:
        """The arms of a run that is intervened in."""
        if "forks" not in job.notes or job.marked is None:
            return
        at = int(job.notes["marked"])
        weights, moments = ({name: value.cpu() for name, value in each.items()} for each in job.marked())
        seed, median = job.config.seed, float(np.median([row["attention_norm"] for row in job.rows if row["step"] <= at]))
        planned, clipped, until = edits(seed, median), attention_norm(weights) > median, at + self._grid.window * self._epoch
        if until <= job.step:
            del planned["control"]  # the run itself has gone on for the whole window
        for arm, edit in planned.items():
            state = (weights, moments) if edit is None else edit.apply(weights, moments, lambda seed: self._draw(job.config, seed))
            config = job.config.with_(steps=until, stop=None)
            yield Job(f"{job.name}-{arm}", config, step=at, state=state, notes={"parent": job.name, "arm": arm, "clipped": clipped, "at": at})

    def _draw(self, config: RunConfig, seed: int) -> Mapping[str, torch.Tensor]:
        assert isinstance(config.model, ModelConfig)  # an engine has no other
        return initial_weights(config.model, self._task(config), seed)


def train(
    grid: Grid, folder: Path, *, seconds: float = math.inf, places: int = PLACES, tf32: bool = False, compiled: bool | None = None
) -> list[Job]:
    """Train what `folder` does not hold yet, on the GPU if there is one; every job, whether it has ended or not.

    Args:
        grid: what to train.
        folder: of what is needed to go on; a second call goes on from there.
        seconds: after which to stop; 0 only reads.
        places: trainings at once.
        tf32: let matrix products on a GPU round their inputs to TF32.
        compiled: see `Engine`; by default on a GPU alone.
    """
    jobs, device = load_jobs(folder, plan(grid)), "cuda" if torch.cuda.is_available() else "cpu"
    if seconds <= 0 or all(job.reason for job in jobs):
        return jobs
    how = "CPU" if device == "cpu" else f"{torch.cuda.get_device_name()}, {'TF32' if tf32 else 'float32'}"
    for job in jobs:
        job.notes |= {} if job.reason else {"how": how}
    with tensor_cores(tf32):
        sweep = Sweep(grid, jobs, places, device, compiled=device != "cpu" if compiled is None else compiled)

        def report() -> None:
            print(sweep, flush=True)
            sweep.save(folder, states=False)

        sweep.run(seconds, report)
        print(sweep, flush=True)
        sweep.save(folder)
    return list(sweep.jobs.values())


# --- what is read off it -----------------------------------------------------------------------------------------------------------


def run_table(jobs: Iterable[Job], early: int = EARLY) -> pd.DataFrame:
    """A `run_row` each run that is no fork, with its operation, s̄ and σ_H at the end, why it ended, and on what it was trained."""
    rows = []
    for job in jobs:
        if "arm" in job.notes or not job.rows:
            continue
        evaluated, config = _evaluated(job), _on_disk(job)
        last = evaluated.iloc[-1]
        heads = {name: float(last[name]) for name in HEADS}
        run = {"operation": config.task.name.removeprefix("modular_"), "ended": job.reason, "how": job.notes.get("how", "")}
        rows.append({**run_row(config, evaluated, early), **run, **heads})
    found = pd.DataFrame(rows)
    return found.sort_values(["operation", "weight_decay", "seed"], ignore_index=True) if rows else found


def _evaluated(job: Job) -> pd.DataFrame:
    """What was recorded of a training, by epoch."""
    table = pd.DataFrame(job.rows)
    return table.set_axis(pd.Index(table["step"] / steps_per_epoch(job.config), name="epoch"))


def _on_disk(job: Job) -> RunConfig:
    """The configuration of the same training in a run folder."""
    return job.config.with_(stop=None)


def pair_tables(jobs: Sequence[Job]) -> dict[str, pd.DataFrame]:
    """By λ a `pair_row` each seed whose four arms have ended; the control arm is the run itself where it went on for the window."""
    by_name = {job.name: job for job in jobs}
    rows: dict[str, list[dict[str, Any]]] = {}
    for job in jobs:
        if (sham := by_name.get(f"{job.name}-sham")) is None:
            continue
        at, last = sham.notes["at"], sham.config.steps
        windows = {arm: [row for row in by_name.get(f"{job.name}-{arm}", job).rows if at < row["step"] <= last] for arm in ARMS}
        if any(not window or window[-1]["step"] < last for window in windows.values()):
            continue
        peaks = {arm: max(row["entropy_spread"] for row in window) for arm, window in windows.items()}
        top = next(row["entropy_spread"] for row in job.rows if row["step"] == at)
        row = pair_row(_on_disk(job), at, top, peaks, sham.notes["clipped"], pd.DataFrame(job.rows))
        rows.setdefault(tag(job.config.optimizer.weight_decay), []).append(row | {"how": job.notes.get("how", "")})
    return {name: pd.DataFrame(each) for name, each in sorted(rows.items())}


def example_table(jobs: Iterable[Job], decay: float) -> pd.DataFrame:
    """Test accuracy, s̄ and σ_H of the run of seed 42 by epoch; empty where it has not begun."""
    job = next(job for job in jobs if job.name == f"addition-{tag(decay)}-42")
    if not job.rows:
        return pd.DataFrame()
    return _evaluated(job)[[*HEADS, "test_accuracy"]].assign(**{RUN: _on_disk(job).digest, "how": job.notes.get("how", "")})


def decided(table: pd.DataFrame, operation: str, seeds_at: Mapping[float, Sequence[int]], horizon: float) -> pd.DataFrame:
    """The runs of a grid as they stood at a horizon, of those λ alone at which every run has grokked or was followed until then."""
    kept = []
    for decay, seeds in seeds_at.items():
        own = table[(table["operation"] == operation) & (table["weight_decay"] == decay) & table["seed"].isin(list(seeds))]
        late = own["grok"] > horizon
        own = own.assign(grok=own["grok"].mask(late), followed=own["followed"].clip(upper=horizon))
        if len(own) == len(seeds) and (own["grok"].notna() | (own["followed"] >= horizon)).all():
            kept.append(own.assign(name=own["name"].mask(late, "memorization")))
    return pd.concat(kept, ignore_index=True) if kept else table.iloc[:0]


def tables(jobs: Sequence[Job], grid: Grid) -> dict[str, pd.DataFrame]:
    """What the paper's numbers are read off, by the names that `runs.read_all` gives these tables.

    The runs are those of the canonical sweep and of the replication that are decided; ``how`` says on what they were trained, and ``run`` is the
    digest of the same training in a run folder, which is not trained again where the tables are known.
    """
    everything = run_table(jobs, grid.early)
    if everything.empty:
        return {}
    canonical = decided(everything, "addition", {decay: grid.seeds_at(decay) for decay in grid.decays}, grid.horizon)
    collapsed = decided(everything, "addition", dict.fromkeys(grid.collapsing, grid.seeds), grid.horizon // 10)
    found = {"canonical-runs": pd.concat([each for each in (canonical, collapsed) if len(each)] or [everything.iloc[:0]], ignore_index=True)}
    seeds = dict.fromkeys(grid.replicated, grid.seeds[: grid.n_replicated])
    replicated = [decided(everything, operation, seeds, 2 * grid.horizon) for operation in grid.operations]
    whole = [own.assign(size="small") for own in replicated if set(own["weight_decay"]) == set(grid.replicated)]
    found |= {"multitask-runs": pd.concat(whole, ignore_index=True)} if whole else {}
    found |= {f"pairs-{name}": table for name, table in pair_tables(jobs).items()} | {"diagnostics-gpu": example_table(jobs, grid.example[0])}
    return {name: table for name, table in found.items() if len(table)}


def write_tables(tables: Tables, folder: Path) -> None:
    """One CSV a table, named as `papers.tables.read_tables` looks for it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        with replacing(folder / f"weightdecay2026-{name}.csv") as temporary:
            temporary.write_text(table.to_csv())
