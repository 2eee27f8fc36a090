"""The trainings of arXiv 2606.12966 and what is read off them: events, forks, Table 5, ablations, significance.

No claims here; `paper` sets the numbers beside the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from grokinterp import presets
from grokinterp.analysis import analyze
from grokinterp.interventions import MeanPool, NoAttention
from grokinterp.laws import onset
from grokinterp.measures.fsd import IRREP_TOPS, RANK_SHARES, TOPS, fsd, neuron_shuffle_test, permutation_test, signals, spectrum
from grokinterp.measures.measure import Function
from grokinterp.papers import training
from grokinterp.papers.claims import Budget
from grokinterp.papers.tables import NOTHING, RUN, Tables, known
from grokinterp.papers.training import finished, measured, side_by_side, train_all
from grokinterp.reports.report import Report
from grokinterp.snapshot import Snapshot
from grokinterp.tasks import TaskConfig
from grokinterp.training.config import RunConfig
from grokinterp.training.fork import children
from grokinterp.training.runs import Run
from grokinterp.training.train import train

S5_SEEDS = (0, 1, 42, 2, 7, 123)
S5_SYNC = 0.50
MAIN = ((97, 42), (97, 123), (97, 0), (97, 1), (97, 2), (53, 42), (71, 42), (113, 42), (131, 42))
FORKED = (53, 97, 131)  # primes of the fork law, at seed 42
SYNC, GROK, NATS = 0.80, 0.95, 0.5
PERSISTENCE = 2  # evaluations in a row (chosen here: training has spikes)
FORKS = [RUN, "p", "fork_at", "top", "weight_decay", "seed", "delay", "censored", "norm"]
EARLY = 500  # the first step of the paper's grid
ABLATED = {
    "none": None,
    "block-0 MLP": "blocks.0.hook_mlp_out",
    "block-1 MLP": "blocks.1.hook_mlp_out",
    "block-0 attention": "blocks.0.hook_attn_out",
    "block-1 attention": "blocks.1.hook_attn_out",
}


@dataclass(frozen=True)
class Plan(training.Plan):
    """What a budget runs.

    Attributes:
        main: the configurations that the mean lead is taken over, by name; those that keep their moments are forked.
        variants: other operations and architectures, by name.
        s5: runs on permutations of five letters, by name.
        decays: λ after a fork.
        draws: seeds of the minibatches after a fork.
        horizon: a fork is followed for horizon/λ + horizon/6 steps.
        permutations: draws of the significance test.
    """

    main: Mapping[str, RunConfig]
    variants: Mapping[str, RunConfig] = field(default_factory=dict)
    s5: Mapping[str, RunConfig] = field(default_factory=dict)
    decays: Sequence[float] = (1.0, 2.0, 3.0, 5.0)
    draws: Sequence[int] = (1, 2, 3)
    horizon: int = 6_000
    permutations: int = 1_000


def plan(budget: Budget) -> Plan:
    """The trainings of a budget: one small model, or the nine configurations with all variants and fewer or more draws."""
    if budget == "smoke":
        return Plan({"p31-s0": _tiny()}, decays=(1.0, 3.0), draws=(1,), horizon=600, permutations=100, workers=0)
    main = {f"p{p}-s{s}": presets.fsd2026(p=p, seed=s).with_(**{"checkpoints.moments": s == 42 and p in FORKED}) for p, s in MAIN}
    # A negative lead shows only in runs that go on after grokking.
    architectures = {
        "one_layer": presets.fsd2026(n_layers=1, steps=8_000).with_(stop=None),
        "attention_only": presets.fsd2026().with_(d_mlp=0),
        "mlp_only": presets.fsd2026(steps=15_000).with_(interventions=(NoAttention(),), **{"checkpoints.every": 1_000}),
        "mlp_only_pooled": presets.fsd2026(steps=15_000).with_(interventions=(NoAttention(), MeanPool())),
    }
    operations = {f"subtraction-s{seed}": presets.fsd2026(seed=seed, operation="subtraction") for seed in (42, 123)}
    operations["multiplication"] = presets.fsd2026(operation="multiplication", steps=20_000).with_(stop=None)
    s5 = {f"s5-s{seed}": _s5(seed) for seed in S5_SEEDS}
    if budget == "cpu":
        return Plan(main, architectures | operations, dict(list(s5.items())[:3]))
    return Plan(main, architectures | operations, s5, draws=(1, 2, 3, 4, 5))


def _s5(seed: int) -> RunConfig:
    """The paper's model on the 14,400 products of S5, 70 % of them to train on."""
    return presets.fsd2026(seed=seed).with_(task=TaskConfig("permutations", {"n": 5}, train_fraction=0.7, split_seed=seed))


def _tiny() -> RunConfig:
    """A model that synchronises and groks within 500 steps (chosen here)."""
    return presets.fsd2026(p=31, seed=0, weight_decay=2.0, steps=700).with_(
        **{
            "task.train_fraction": 0.7,
            "model.d_model": 32,
            "model.d_mlp": 64,
            "optimizer.lr": 3e-3,
            "batch_size": 256,
            "eval_every": 25,
            "checkpoints.every": 25,
            "checkpoints.moments": True,
            "stop": f"test_accuracy >= {GROK} for 6",
        }
    )


# --- reading -----------------------------------------------------------------------------------------------------------------------


def read_all(plan: Plan, folder: Path, tables: Tables = NOTHING, train: bool = True) -> dict[str, Report]:
    """Train and read every configuration of a plan that no table knows, by name; what is finished already is opened."""
    there = known(tables.get("configurations")) | known(tables.get("s5"))
    everything = {**plan.main, **plan.variants, **plan.s5}
    arguments = {
        name: (config, folder / name, plan.workers == 0)
        for name, config in everything.items()
        if (train and config.digest not in there) or finished(config, folder / name) is not None
    }
    return side_by_side(read, arguments, plan.workers)


def read(config: RunConfig, folder: Path, progress_bar: bool = True) -> Report:
    """Train one configuration and read every checkpoint; the report is kept in the run's folder, and opened there the next time."""
    run = train(config, folder, progress_bar=progress_bar)
    measures: list[str | Function] = ["fsd"] if config.task.name == "permutations" else ["fsd", "filtered_loss", "progress"]
    if "multiplication" in config.task.name:
        measures.append(fsd_over_residues)
    return measured(run, measures, "fsd2026", progress_bar=progress_bar)


def fsd_over_residues(snapshot: Snapshot) -> xr.Dataset:
    """FSD with signals over the answers as they are, as the paper seems to do for multiplication."""
    return fsd(snapshot, order="residue")[["fsd"]].rename(fsd="fsd_over_residues")


# --- events ------------------------------------------------------------------------------------------------------------------------


def first(values: xr.DataArray | None, threshold: float, direction: str = ">=") -> float:
    """The first step past a threshold that holds for two evaluations; NaN for never, or where there is no such measure."""
    if values is None:
        return math.nan
    return onset(values[values.dims[0]], values, threshold, direction, PERSISTENCE, interpolate=False)


def events(dataset: xr.Dataset, p: int) -> dict[str, float]:
    """When things happen in a run and what its block-0 neurons look like then; NaN for never, or for no such measure.

    Args:
        dataset: of a report with fsd, and filtered loss and progress where they apply.
        p: the modulus.

    Returns:
        In steps: ``grok``; ``sync_K`` and ``lead_K`` = grok − sync for K = 1, 3, 5 (``residue_sync_K`` and so on over residues);
        ``filtered`` and ``restricted``, the first loss below 0.5 nats; ``excluded``, the first excluded loss on the training
        pairs above ln p after they have been learned. ``peak_K``, the largest FSD until grokking; ``rank_50_early`` (step 500),
        ``rank_50_grok`` and so on, and ``k``, the dominant frequency at grokking.
    """
    grok = first(dataset["metric_test_accuracy"], GROK)
    found = {"grok": grok}
    for prefix, name in (("", "fsd"), ("residue_", "fsd_over_residues")):
        for top in TOPS if name in dataset else ():
            degree = dataset[name].sel(top=top)
            sync = first(degree, SYNC)
            until = degree if math.isnan(grok) else degree.sel(step=slice(None, grok))
            found |= {f"{prefix}sync_{top}": sync, f"{prefix}lead_{top}": grok - sync, f"{prefix}peak_{top}": float(until.max())}
    learned = first(dataset["metric_train_accuracy"], GROK)
    excluded = _in_split(dataset, "excluded_loss", "train")
    found |= {
        "filtered": first(dataset.get("filtered_loss"), NATS, "<"),
        "restricted": first(_in_split(dataset, "restricted_loss", "all"), NATS, "<"),
        "excluded": first(None if excluded is None else excluded.where(excluded["step"] >= learned), math.log(p), ">"),
    }
    for share in RANK_SHARES:
        rank = dataset["fourier_rank"].sel(variance_share=share)
        found |= {f"rank_{100 * share:.0f}_early": _at(rank, EARLY), f"rank_{100 * share:.0f}_grok": _at(rank, grok)}
    return found | {"k": _at(dataset["dominant_frequency"], grok)}


def s5_events(dataset: xr.Dataset) -> dict[str, float | str]:
    """When things happen in a run on S5, in steps, NaN for never: as in `events`, from FSD 0.50 on.

    Args:
        dataset: of a report with fsd over irreducible representations.

    Returns:
        ``grok``; ``sync_K`` and ``lead_K`` for K = 1, 2, 3; ``start_K``, FSD before training; ``irrep``, the one that dominates at grokking.
    """
    grok = first(dataset["metric_test_accuracy"], GROK)
    found: dict[str, float | str] = {"grok": grok}
    for top in IRREP_TOPS:
        degree = dataset["fsd"].sel(top=top)
        sync = first(degree, S5_SYNC)
        found |= {f"sync_{top}": sync, f"lead_{top}": grok - sync, f"start_{top}": float(degree[0])}
    return found | {"irrep": "" if math.isnan(grok) else str(dataset["dominant_irrep"].sel(step=grok, method="ffill").item())}


def _in_split(dataset: xr.Dataset, name: str, split: str) -> xr.DataArray | None:
    return dataset[name].sel(split=split) if name in dataset else None


def _at(values: xr.DataArray, step: float) -> float:
    """The value at a step, or at the last one before it."""
    return math.nan if math.isnan(step) else float(values.sel(step=step, method="ffill"))


# --- forks -------------------------------------------------------------------------------------------------------------------------


def fork_draws(plan: Plan, folder: Path, found: pd.DataFrame) -> pd.DataFrame:
    """Fork the main runs in the folder that kept their moments where they synchronise, and time each child to grokking.

    Args:
        plan: what to run.
        folder: of the runs.
        found: the events of each run in the folder, by name.

    Returns:
        A row each draw: ``run``, the parent's digest, ``p``, ``fork_at``, ``top`` (the K whose FSD chose the fork, 0 for `halfway`),
        ``weight_decay``, ``seed``, ``delay`` in steps, or for how long a draw was followed that is ``censored``, and ``norm`` at grokking.

    Raises:
        GrokinterpError: a fork fails.
    """
    parents = [name for name, config in plan.main.items() if config.checkpoints.moments and name in found.index]
    planned = [draw for name in parents for draw in _forks_of(Run(folder / name), plan, found.loc[name])]
    out = folder / "forks"
    forks = train_all([draw["config"] for draw in planned], out, **plan.how)
    rows = [draw | _timed(fork) for draw, fork in zip(planned, forks, strict=True)]
    return pd.DataFrame(rows, columns=FORKS)


def fork_point(row: pd.Series) -> tuple[int, int] | None:
    """Where a run is forked, and by which K: its synchronisation at K = 1, else at K = 5; None if neither comes before grokking."""
    return next(((int(row[f"sync_{top}"]), top) for top in (1, 5) if row[f"lead_{top}"] > 0), None)


def halfway(run: Run, row: pd.Series) -> tuple[int, int] | None:
    """The last checkpoint in the first half of the time to grokking, where no K chooses (so 0 in its place); None if it never groks.

    Chosen here, so that Δt ∝ 1/λ can be tested in a run that does not synchronise before it groks.
    """
    return None if math.isnan(row["grok"]) else (max(step for step in run.steps if step <= row["grok"] / 2), 0)


def _forks_of(run: Run, plan: Plan, row: pd.Series) -> list[dict[str, Any]]:
    point = fork_point(row) or halfway(run, row)
    if point is None:
        return []
    settings: dict[str, Any] = {"stop": f"test_accuracy >= {GROK} for {PERSISTENCE}", "checkpoints.every": 1_000, "checkpoints.moments": False}
    return [
        {
            RUN: run.config.digest,
            "p": run.config.task.args["p"],
            "fork_at": point[0],
            "top": point[1],
            "weight_decay": decay,
            "seed": config.seed,
            "config": config,
        }
        for decay in plan.decays
        for config in children(
            run, point[0], weight_decay=decay, seed=list(plan.draws), steps=point[0] + round(plan.horizon / decay + plan.horizon / 6), **settings
        ).values()
    ]


def _timed(run: Run) -> dict[str, float | bool]:
    """Time from a fork to grokking and the norm of the weights then."""
    metrics = run.metrics
    steps = metrics["step"].to_numpy()
    grok = onset(steps, metrics["test_accuracy"], GROK, persistence=PERSISTENCE, interpolate=False)
    norm = metrics["weight_norm"].to_numpy()[steps == grok]
    never = math.isnan(grok)
    return {"delay": float((steps[-1] if never else grok) - steps[0]), "censored": never, "norm": math.nan if never else float(norm[0])}


# --- Table 5, ablation, significance -----------------------------------------------------------------------------------------------


def at_steps(run: Run, report: Report, steps: Sequence[int]) -> pd.DataFrame:
    """Accuracy, median rank at both thresholds and norm of the weights at chosen steps, past the end of the run as well."""
    last, dataset = run.steps[-1], report.dataset
    if later := [step for step in steps if step > last]:
        (config,) = children(run, last, stop=None, steps=max(steps)).values()
        further = analyze(train(config, run.path.with_name(f"{run.path.name}-on")), ["fsd"], steps=later).dataset
    rows = []
    for step in steps:
        here = dataset if step <= last else further
        rank = here["fourier_rank"].sel(step=step)
        accuracy, norm = (float(here[f"metric_{name}"].sel(eval_step=step)) for name in ("test_accuracy", "weight_norm"))
        ranks = {f"rank_{100 * share:.0f}": float(rank.sel(variance_share=share)) for share in RANK_SHARES}
        rows.append({"accuracy": accuracy, "norm": norm, **ranks})
    return pd.DataFrame(rows, index=pd.Index(steps, name="step"))


def zero_ablation(run: Run, step: int) -> dict[str, float]:
    """Accuracy on all pairs, in percent, with the output of one MLP or attention layer set to zero, by `ABLATED`."""
    model, task = run.model(step), run.task

    def zero(value: Tensor, hook: Any) -> Tensor:
        return torch.zeros_like(value)

    accuracies = {}
    with torch.no_grad():
        for name, site in ABLATED.items():
            logits = model.run_with_hooks(task.tokens, fwd_hooks=[] if site is None else [(site, zero)])
            right = logits[:, task.readout, : task.n_classes].argmax(-1) == task.answers
            accuracies[name] = 100 * float(right.double().mean())
    return accuracies


def significance(run: Run, step: int, draws: int) -> dict[str, float]:
    """FSD at a step with its p-values: by permuting each neuron's signal, and by the paper's shuffle of neurons."""
    phi = signals(Snapshot(run.model(step), run.task, step))
    permuted = permutation_test(phi, np.random.default_rng(0), draws)
    shuffled = neuron_shuffle_test(spectrum(phi)[0], np.random.default_rng(0), draws)
    return {"step": step, "fsd": permuted.observed, "p_permutation": permuted.p_value, "p_shuffle": shuffled.p_value}
