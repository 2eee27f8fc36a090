"""The trainings of arXiv 2603.05228 and what is read off them: onsets, peaks, curves, and how far runs depart from what the architecture holds fixed.

No claims here; `paper` sets the numbers beside the paper's. Training is on the full batch, so steps are epochs. Any part of a plan
can be trained, in any order; what is finished is read, the rest is "not run".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from grokinterp.interventions import CosineUnembed, Sphere, UniformAttention
from grokinterp.laws import onset
from grokinterp.papers import training
from grokinterp.papers.claims import Budget
from grokinterp.papers.geometric2026.arms import ARMS, SEEDS
from grokinterp.papers.geometric2026.claims import FREE_AT, GRID
from grokinterp.papers.tables import RUN
from grokinterp.papers.training import finished_runs
from grokinterp.tasks import TaskConfig
from grokinterp.training.config import RunConfig
from grokinterp.training.optimizers import AdamW
from grokinterp.training.runs import Run

GROK, GROK_S5 = (0.95, ">"), (0.99, ">=")
PERSISTENCE = 2  # evaluations in a row (chosen here: training has spikes)
PLACES = [f"blocks.0.hook_resid_{place}" for place in ("pre", "mid", "post")]
SETTINGS = ["arm", "seed", "weight_decay", "lr", "beta2", "temperature", "horizon"]
OUTCOMES = ["onset", "onset_on_grid", "followed", "train_peak", "test_peak", f"test_at_{FREE_AT}"]
COLUMNS = [RUN, *SETTINGS, *OUTCOMES, "off_sphere", "off_thirds"]


@dataclass(frozen=True)
class Plan(training.Plan):
    """What a budget runs.

    Attributes:
        arms: configurations by arm, one a seed.
    """

    arms: Mapping[str, Sequence[RunConfig]]

    @property
    def configs(self) -> list[RunConfig]:
        """All of them, arm by arm."""
        return [config for configs in self.arms.values() for config in configs]


def plan(budget: Budget) -> Plan:
    """The trainings of a budget: tiny models, a few seeds of most arms, or ten of all."""
    if budget == "smoke":
        return Plan(_tiny(), workers=0)
    if budget == "cpu":
        return Plan({name: arm.configs(SEEDS[: arm.n_cpu], arm.horizon_cpu) for name, arm in ARMS.items() if arm.n_cpu})
    return Plan({name: arm.configs(SEEDS) for name, arm in ARMS.items()}, **training.on_a_gpu())


def _tiny() -> dict[str, list[RunConfig]]:
    """Models that grok within 400 epochs at λ = 1 and not at 0, and two that only begin to train (chosen here)."""
    changes = {"task.train_fraction": 0.7, "model.d_model": 32, "model.d_mlp": 64, "optimizer.lr": 1e-2}
    seeds = {"sphere-1-6e-4": 2, "sphere-0-6e-4": 1, "layer-1-6e-4": 1, "layer-0-6e-4": 1, "uniform-sphere-1-b98": 1, "s5-sphere-0": 1}
    arms = {name: [config.with_(**changes) for config in ARMS[name].configs(SEEDS[:n], 400)] for name, n in seeds.items()}
    addition, s4 = TaskConfig("modular_addition", {"p": 31}, 0.7), TaskConfig("permutations", {"n": 4}, 0.7)
    tasks = {name: s4 if ARMS[name].s5 else addition for name in arms}
    short = dict.fromkeys(("uniform-sphere-1-b98", "s5-sphere-0"), 50)
    return {
        name: [config.with_(task=replace(tasks[name], split_seed=config.seed), steps=short.get(name, config.steps)) for config in configs]
        for name, configs in arms.items()
    }


# --- reading -----------------------------------------------------------------------------------------------------------------------


def read_runs(plan: Plan, folder: Path) -> pd.DataFrame:
    """One row a finished run: those of a plan, and any other run of an arm that is in the folder.

    Returns:
        ``run``, its digest; ``arm`` and the settings in which arms differ (``temperature`` is NaN for a free W_U); ``horizon``, epochs at most;
        ``onset``, the first epoch of two evaluations in a row with a test accuracy above 0.95 (S5: of 0.99 or more), NaN for never;
        ``onset_on_grid``, the next one that the paper evaluates; ``followed``, the last epoch; ``train_peak`` and ``test_peak``, the largest
        accuracies; ``test_at_2400``, test accuracy at epoch 2,400, or at the end of a run that ends earlier; ``off_sphere`` and ``off_thirds``,
        see `departures`.
    """
    planned = {config.digest: (name, config) for name, configs in plan.arms.items() for config in configs}
    rows = []
    for name, config in {**planned, **_further(folder)}.values():
        for run in finished_runs([config], folder):
            rows.append({RUN: config.digest, "arm": name, **_settings(config), **_outcome(run.metrics, config), **departures(run)})
    return pd.DataFrame(rows, columns=COLUMNS)


def sorted_runs(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of `ARMS`, horizons and seeds."""
    place = {name: i for i, name in enumerate(ARMS)}
    by = ["arm", "horizon", "seed"]
    return table.sort_values(by, key=lambda column: column.map(place) if column.name == "arm" else column, ignore_index=True)


def _further(folder: Path) -> dict[str, tuple[str, RunConfig]]:
    """The runs of a folder that are those of an arm, whichever seed and horizon, by digest."""
    return {config.digest: (name, config) for path in folder.glob("*/config.json") for name, config in _arms_of(Run(path.parent).config)}


def _arms_of(config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    """The arm that a configuration belongs to, none if to none."""
    for name, arm in ARMS.items():
        if arm.configs([config.seed], config.steps)[0].digest == config.digest:
            yield name, config


def _settings(config: RunConfig) -> dict[str, Any]:
    assert isinstance(config.optimizer, AdamW)  # of every arm
    cosine = config.model.intervention(CosineUnembed)
    return {
        "seed": config.seed,
        "weight_decay": config.optimizer.weight_decay,
        "lr": config.optimizer.lr,
        "beta2": config.optimizer.betas[1],
        "temperature": math.nan if cosine is None else cosine.temperature,
        "horizon": config.steps,
    }


def _outcome(metrics: pd.DataFrame, config: RunConfig) -> dict[str, float]:
    threshold, direction = GROK_S5 if config.task.name == "permutations" else GROK
    grok = onset(metrics["step"], metrics["test_accuracy"], threshold, direction, PERSISTENCE, interpolate=False)
    return {
        "onset": grok,
        "onset_on_grid": grok if math.isnan(grok) else float(GRID * math.ceil(grok / GRID)),
        "followed": float(metrics["step"].iloc[-1]),
        "train_peak": float(metrics["train_accuracy"].max()),
        "test_peak": float(metrics["test_accuracy"].max()),
        f"test_at_{FREE_AT}": float(metrics.loc[metrics["step"] <= FREE_AT, "test_accuracy"].iloc[-1]),
    }


def curves(plan: Plan, folder: Path) -> dict[str, pd.Series]:
    """Test accuracy over epochs of the first seed of each arm in which that is finished, by arm."""
    runs = {name: run for name, configs in plan.arms.items() for run in finished_runs(configs[:1], folder)}
    return {name: run.metrics.set_index("step")["test_accuracy"] for name, run in runs.items()}


def departures(run: Run) -> dict[str, float]:
    """How far a run is from what its architecture holds fixed, at worst over its checkpoints.

    Returns:
        ``off_sphere``, the largest deviation of the norm of a residual vector from 1 at the three places, and ``off_thirds``, that of an
        attention weight from 1/3, over 512 test examples; NaN where the architecture holds no such thing fixed.
    """
    kinds = {type(intervention) for intervention in run.config.model.interventions}
    found = {"off_sphere": math.nan, "off_thirds": math.nan}
    if kinds & {Sphere, UniformAttention}:
        off = pd.DataFrame([_deviations(run, step) for step in run.steps]).max()
        found |= {name: float(off[name]) for name, kind in (("off_sphere", Sphere), ("off_thirds", UniformAttention)) if kind in kinds}
    return found


def _deviations(run: Run, step: int) -> dict[str, float]:
    tokens, pattern = run.task.tokens[run.task.fixed_batch(512)], "blocks.0.attn.hook_pattern"
    with torch.no_grad():
        _, cache = run.model(step).run_with_cache(tokens, names_filter=[*PLACES, pattern])
    norms = torch.stack([cache[place].double().norm(dim=-1) for place in PLACES])
    third = torch.full_like(cache[pattern], 1 / 3)
    return {"off_sphere": float((norms - 1).abs().max()), "off_thirds": float((cache[pattern] - third).abs().max())}
