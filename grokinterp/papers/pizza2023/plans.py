"""The trainings of arXiv 2306.17844 by budget: one model an attention rate and a seed, a seed of every rate before the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grokinterp import presets
from grokinterp.papers import training
from grokinterp.papers.claims import Budget
from grokinterp.training.config import CheckpointSchedule, RunConfig

RATES = (0.0, 1.0, 0.5, 0.25, 0.75)  # `CPU_RATES`, the ends and the middle first
SETTLED = 2_000  # epochs after which a pilot's numbers moved by less than the published spread over runs (chosen here)
PUBLISHED_EPOCHS = 20_000
FULL_RATES = tuple(step / 20 for step in range(21))


@dataclass(frozen=True)
class Plan(training.Plan):
    """What a budget runs.

    Attributes:
        runs: configurations, a seed of every rate before the next.
    """

    runs: Sequence[RunConfig]


def plan(budget: Budget) -> Plan:
    """The trainings of a budget: tiny models, five rates with five seeds for 2,000 epochs, or 21 rates with ten seeds for the published 20,000."""
    if budget == "smoke":
        return Plan(_tiny(), workers=0)
    if budget == "cpu":
        return Plan(_grid(RATES, range(5), SETTLED, every=100))
    return Plan(_grid(FULL_RATES, range(10), PUBLISHED_EPOCHS, every=500), **training.on_a_gpu())


def _grid(rates: Sequence[float], seeds: Sequence[int], epochs: int, every: int) -> list[RunConfig]:
    kept = CheckpointSchedule(every=every)
    return [presets.pizza2023(alpha, seed=seed, steps=epochs).with_(checkpoints=kept) for seed in seeds for alpha in rates]


def _tiny() -> list[RunConfig]:
    """A model of constant and one of ordinary attention that answer all pairs of p = 23 within seconds (chosen here)."""
    changes = {"optimizer.lr": 3e-3, "checkpoints.every": 100}
    return [presets.pizza2023(alpha, p=23, d_model=64, steps=400).with_(**changes) for alpha in (0.0, 1.0)]
