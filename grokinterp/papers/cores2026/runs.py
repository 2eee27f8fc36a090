"""The trainings of arXiv 2602.22600, and grokking times read off them; cores are read in `chains` and `growth`.

No claims here; `paper` sets the numbers beside the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from grokinterp import presets
from grokinterp.papers import training
from grokinterp.papers.claims import Budget
from grokinterp.papers.cores2026.claims import DECAYS, PRIMES, SEEDS, P, published_time
from grokinterp.papers.tables import RUN, not_known
from grokinterp.papers.training import finished_runs, train_all
from grokinterp.training.config import RunConfig
from grokinterp.training.runs import Run

GROKKED, LEARNED = "test_accuracy >= 0.99", "train_accuracy >= 0.99"


class Chain(NamedTuple):
    """Which Markov model: normalisation, learning rate and seed."""

    normalization: str
    lr: float
    seed: int


@dataclass(frozen=True)
class Plan(training.Plan):
    """What a budget runs.

    Attributes:
        chains: the Markov models.
        modular: the models of modular addition; each is forked with and without weight decay once it has grokked.
        long: those that are followed for the paper's 20,000 epochs.
        settled: when these have grokked and are forked (chosen here; the paper's branch begins 100 epochs after grokking).
        in_decay: trainings whose grokking time is a law of λ.
        in_p: the same for p.
    """

    chains: Mapping[Chain, RunConfig]
    modular: Sequence[RunConfig]
    long: Sequence[RunConfig]
    in_decay: Sequence[RunConfig]
    in_p: Sequence[RunConfig]
    settled: str = f"{GROKKED} for 5"


def plan(budget: Budget) -> Plan:
    """The trainings of a budget: tiny ones, the paper's sizes for fewer epochs and seeds, or the paper's own.

    A grokking time is followed for four times what the paper's law says. All models are post-LN, but for one arm of the Markov models.
    """
    if budget == "smoke":
        return _tiny()
    full = budget == "full"
    rates = (1e-3, 1e-4) if full else (1e-3,)  # the text's, and the code's
    chains = [Chain(normalization, lr, seed) for normalization in ("post", "pre") for lr in rates for seed in SEEDS]
    return Plan(
        {chain: presets.cores2026_markov(chain.seed, "post" if chain.normalization == "post" else "pre", chain.lr) for chain in chains},
        [presets.cores2026_modular(P, seed, epochs=4_000) for seed in range(3)],
        [presets.cores2026_modular(P, seed) for seed in range(3 if full else 1)],
        [_timed(P, decay, seed, 512, 1 if full else 10) for decay in DECAYS for seed in range(12 if full else 4)],
        [_timed(p, 1.0, seed, None, 1 if full else 20) for p in PRIMES for seed in range(12 if full else 3)],
    )


def _timed(p: int, decay: float, seed: int, batch_size: int | None, every: int) -> RunConfig:
    steps = round(4 * published_time(p) / decay)
    return presets.cores2026_grokking_time(p, decay, seed, batch_size, steps=steps, eval_every=every)


def _tiny() -> Plan:
    """Models that learn within some hundred steps (chosen here)."""
    few = {"n_sequences": 400, "length": 16, "seed": 0, "test_seed": 999}
    chains = {
        Chain(normalization, 3e-3, seed): presets.cores2026_markov(seed, "post" if normalization == "post" else "pre", 3e-3).with_(
            args=few, d_model=32, d_mlp=64, steps=140, eval_every=70, **{"checkpoints.every": 140}
        )
        for normalization in ("post", "pre")
        for seed in SEEDS[:2]
    }
    small = {"model.d_model": 32, "model.d_mlp": 64, "task.train_fraction": 0.85, "optimizer.lr": 5e-3, "eval_every": 5}
    modular = presets.cores2026_modular(23, weight_decay=2.0).with_(**small, steps=525, batch_size=None, **{"checkpoints.every": 25})

    def timed(p: int, decay: float, seed: int) -> RunConfig:
        return presets.cores2026_grokking_time(p, decay, seed, batch_size=None, steps=900).with_(**small)

    in_decay, in_p = [timed(23, decay, seed=1) for decay in (1.25, 1.5, 2.0)], [timed(p, 1.5, seed=0) for p in (19, 23, 29)]
    return Plan(chains, [modular], [], in_decay, in_p, settled=GROKKED, workers=0)


def times(configs: Sequence[RunConfig], folder: Path, workers: int | None, table: pd.DataFrame | None = None, train: bool = True) -> pd.DataFrame:
    """Train what a table does not know, and time grokking in what is finished.

    Returns:
        A row each run in the folder: ``run``, ``p``, ``weight_decay``, ``seed``; ``learned`` and ``grokked``, the first
        evaluated steps with a train and a test accuracy of 0.99, and ``time`` between them; NaN for a run that does not grok within its
        ``followed`` steps.
    """
    if train:
        train_all(not_known(configs, table), folder, workers=workers)
    rows = []
    for run in finished_runs(configs, folder):
        config, learned, grokked = run.config, first(run, LEARNED), first(run, GROKKED)
        settings = {RUN: config.digest, "p": config.task.args["p"], "weight_decay": config.optimizer.weight_decay, "seed": config.seed}
        rows.append({**settings, "learned": learned, "grokked": grokked, "time": grokked - learned, "followed": config.steps})
    return pd.DataFrame(rows)


def first(run: Run, condition: str) -> float:
    """The first evaluated step at which a condition holds, NaN for never."""
    step = run.first(condition)
    return math.nan if step is None else float(step)
