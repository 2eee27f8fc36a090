"""The trainings of the contest of grokking predictors, half of which never grok, and the measures read off every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xarray as xr

from grokinterp import presets
from grokinterp.ace import extract
from grokinterp.errors import GrokinterpError
from grokinterp.measures.measure import Function
from grokinterp.measures.progress import key_frequencies, progress
from grokinterp.models.adapter import Adapter
from grokinterp.papers import training
from grokinterp.papers.claims import Budget
from grokinterp.papers.training import measured, side_by_side, train_all
from grokinterp.snapshot import Snapshot
from grokinterp.training.config import RunConfig
from grokinterp.training.runs import Run

GROK, PERSISTENCE = 0.95, 2  # test accuracy, for so many evaluations in a row
TINY_GROK = 0.6  # of the smoke budget, whose runs would take too long to get further; those that never grok stay below 0.35
JACOBIANS = 64  # examples behind the core; its rank moves little with more


@dataclass(frozen=True)
class Setting:
    """One kind of runs: its name and how it departs from the contest's own configuration.

    Attributes:
        kind: "groks", or why it should not.
        weight_decays: λ, in turn.
        runs: how many; even, so that either half gets as many of each λ.
        random_answers: nothing to generalise from.
        train_fraction: share of the pairs trained on; None for the contest's own.
    """

    kind: str
    weight_decays: tuple[float, ...]
    runs: int
    random_answers: bool = False
    train_fraction: float | None = None


@dataclass(frozen=True)
class Plan(training.Plan):
    """What a budget runs.

    Attributes:
        runs: kind and configuration of each run, by name.
        grok: test accuracy that counts as grokking.
        false_alarm_rate: α, see `paper`.
        within: steps before grokking that count as "soon".
        splits: random halvings beside the main one.
        resamples: of the bootstrap.
        ensemble: as in every plan; these models are small enough for it on a CPU too.
    """

    runs: Mapping[str, tuple[str, RunConfig]]
    grok: float = GROK
    false_alarm_rate: float = 0.1
    within: int = 1_000
    splits: int = 100
    resamples: int = 1_000
    ensemble: int | None = field(default=4, kw_only=True)


def plan(budget: Budget) -> Plan:
    """The trainings of a budget: 8 tiny runs, 36 small ones at p = 53, or 124 of the size of arXiv 2606.12966 at p = 97 and 113."""
    if budget == "smoke":
        tiny = _contest_of(presets.fsd2026(p=23, steps=300), 0.8, 32, batch_size=256, every=50, grok=TINY_GROK)
        tiny = tiny.with_(lr=4e-3, d_mlp=64)
        settings = [Setting("groks", (1.5, 2.0), 4), Setting("no decay", (0.0,), 2), Setting("random answers", (2.0,), 2, random_answers=True)]
        return Plan(_runs([tiny], settings), TINY_GROK, false_alarm_rate=0.34, within=100, splits=2, resamples=200, workers=0, ensemble=8)
    if budget == "cpu":
        small = _contest_of(presets.fsd2026(p=53, steps=3_600), 0.5, 64, batch_size=256)
        return Plan(_runs([small], _settings((1.0, 1.5, 2.0, 3.0), 0.2, (16, 6, 6, 4, 4))), within=500)
    own = [_contest_of(presets.fsd2026(p=p, steps=10_000)) for p in (97, 113)]
    return Plan(_runs(own, _settings((0.5, 1.0, 1.5, 2.0, 3.0), 0.1, (24, 10, 10, 10, 8))))


def _settings(decays: tuple[float, ...], few: float, runs: Sequence[int]) -> list[Setting]:
    """The kinds of runs, and how many of each."""
    groks, none, little, random, scarce = runs
    return [
        Setting("groks", decays, groks),
        Setting("no decay", (0.0,), none),
        Setting("little decay", (0.03, 0.1), little),
        Setting("random answers", decays, random, random_answers=True),
        Setting("few pairs", decays, scarce, train_fraction=few),
    ]


def _contest_of(
    config: RunConfig, train_fraction: float = 0.3, d_model: int = 128, batch_size: int = 512, every: int = 100, grok: float = GROK
) -> RunConfig:
    """A configuration that is evaluated and kept every `every` steps and ends when it has grokked, since nothing is left to announce then."""
    return config.with_(
        **{
            "task.train_fraction": train_fraction,
            "model.d_model": d_model,
            "model.d_mlp": 4 * d_model,
            "batch_size": batch_size,
            "eval_every": every,
            "checkpoints.every": every,
            "stop": f"test_accuracy >= {grok} for {PERSISTENCE}",
        }
    )


def _runs(bases: Sequence[RunConfig], settings: Sequence[Setting]) -> dict[str, tuple[str, RunConfig]]:
    """Every run with a seed of its own, for weights, split, minibatches and random answers, so that no two share anything."""
    runs: dict[str, tuple[str, RunConfig]] = {}
    for base in bases:
        for setting in settings:
            for i in range(setting.runs):
                seed = len(runs)
                changes = {
                    "seed": seed,
                    "task.split_seed": seed,
                    "task.answer_seed": seed if setting.random_answers else None,
                    "task.train_fraction": setting.train_fraction or base.task.train_fraction,
                    # Neighbours, one of each half, share λ.
                    "optimizer.weight_decay": setting.weight_decays[i // 2 % len(setting.weight_decays)],
                }
                runs[f"{setting.kind.replace(' ', '-')}-s{seed}"] = (setting.kind, base.with_(**changes))
    return runs


# --- reading -----------------------------------------------------------------------------------------------------------------------


def circuit_now(snapshot: Snapshot) -> dict[str, float]:
    """Restricted loss (all pairs) and excluded loss (training pairs) by the key frequencies of this very moment.

    `progress` takes those of the run's last checkpoint, which are unknown while a run is going.
    """
    found = progress(snapshot, key_frequencies(snapshot).tolist())
    return {
        "restricted_loss_now": float(found["restricted_loss"].sel(split="all")),
        "excluded_loss_now": float(found["excluded_loss"].sel(split="train")),
    }


def core(snapshot: Snapshot) -> dict[str, float]:
    """Rank of the algorithmic core behind the last block, at the read-out position."""
    hook = Adapter(snapshot.model).residual_hooks()[-1]
    return {"core_rank": float(extract(snapshot.model, snapshot.task, hook, positions=snapshot.task.readout, n_jacobians=JACOBIANS).rank)}


MEASURES: tuple[str | Function, ...] = ("fsd", "filtered_loss", "heads", "progress", circuit_now, core)


def read_all(plan: Plan, folder: Path) -> dict[str, xr.Dataset]:
    """Train and read every run of a plan: measures and recorded metrics by step, by name; what is finished already is opened.

    Raises:
        GrokinterpError: a run fails.
    """
    configs = [config for _, config in plan.runs.values()]
    train_all(configs, folder, **plan.how)
    return side_by_side(read, {name: (folder / config.digest,) for name, (_, config) in plan.runs.items()}, plan.workers)


def read(folder: Path) -> xr.Dataset:
    """Every measure of a run by step, with the metrics recorded at these steps; kept in the run's folder, and opened there the next time.

    Raises:
        GrokinterpError: a measure does not apply.
    """
    report = measured(Run(folder), MEASURES, "predictors")
    if report.failures:
        raise GrokinterpError(f"{folder}: {'; '.join(report.failures.values())}")
    metrics = [str(name) for name in report.dataset.data_vars if str(name).startswith("metric_")]
    at_steps = report.dataset[metrics].sel(eval_step=report["step"].to_numpy()).rename(eval_step="step")
    return report.dataset.drop_vars(metrics).drop_dims("eval_step", errors="ignore").merge(at_steps)
