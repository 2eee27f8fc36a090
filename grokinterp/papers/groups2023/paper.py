"""A Toy Model of Universality (arXiv 2302.03025), and what its successor reads off such models (arXiv 2312.06581): configurations and claims.

The cpu budget trains one MLP of each of three groups: A_5 as published, down to the seed; D_29 in place of D_59, and S_5, each with more pairs to
train on than published, without which S_5 takes 90,000 epochs (chosen here).

The papers train for 250,000 epochs. First runs of ours stopped once test accuracy had been 0.999 for 2,000 epochs, when coset neurons still grew. The
horizon is now three times the epoch at which each of these grokked, fixed before the longer runs were made; what a claim accepts stayed as it was.
Claims are read off the longest run of each group, and the shorter ones stay in the tables.

Accepted is the range over the published models, no wider; it was entered when ours had been measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from grokinterp.analysis import analyze
from grokinterp.group_presets import groups2023
from grokinterp.interventions import Cosets
from grokinterp.laws import onset
from grokinterp.measures.equivalent import loss_recovered
from grokinterp.measures.measure import Function
from grokinterp.measures.representations import representations
from grokinterp.papers.claims import TIMES, Budget, averaged, read_claims
from grokinterp.papers.reproduction import NO_FIGURES, Reproduction
from grokinterp.papers.tables import NOTHING, RUN, Tables, merged, not_known
from grokinterp.papers.training import finished_runs, train_all
from grokinterp.plots.lazy import go
from grokinterp.reports.report import Report
from grokinterp.reports.words import Phases
from grokinterp.snapshot import Snapshot
from grokinterp.training.config import RunConfig
from grokinterp.training.runs import Run

SOURCES = {"runs": (0,), "curves": (0,)}
FIGURES = ("representation_losses", "representation_spectrum", "coset_neurons", "coset_maps", "synchronization")
MEASURES: list[str | Function] = [partial(representations, rule="published"), "cosets", "fsd"]
PHASE_CURVES = ("step", "train_loss", "test_loss", "restricted_loss", "excluded_loss")
PHASE_ENDS = ("memorization_end", "circuit_end", "cleanup_end")
GROWING = ("concentrated", "cosets", "recovered")
AT_MOST = 40  # checkpoints of a run that are read, evenly spaced, and the last


def configurations(budget: Budget) -> list[RunConfig]:
    """The runs of a budget: D_7 in a minute; S_5, A_5 and D_29 in about 45 minutes of one core; or the published settings and times."""
    if budget == "smoke":
        small = {"model.d_model": 32, "model.d_hidden": 48, "checkpoints.every": 500}
        return [groups2023("D_7", train_fraction=0.7, steps=1_500).with_(**small, stop="test_accuracy >= 0.99 for 5")]
    if budget == "full":
        return [groups2023(group, seed) for group in ("S_5", "A_5", "D_59", "S_6") for seed in range(1, 5)]
    plan = (("S_5", 2, 0.7, 15_000, 500), ("A_5", 2, None, 100_000, 2_000), ("D_29", 0, 0.5, 20_000, 500))
    return [groups2023(group, seed, share, steps).with_(**{"checkpoints.every": every}) for group, seed, share, steps, every in plan]


def reproduce(budget: Budget, folder: Path, known: Tables = NOTHING, train: bool = True) -> Reproduction:
    """Train and read the runs of a budget that are not known."""
    rows: list[dict[str, Any]] = []
    curves: list[pd.DataFrame] = []
    drawn: dict[str, go.Figure] = {}
    missing = not_known(configurations(budget), known.get("runs"))
    if train:
        train_all(missing, folder, workers=0 if budget == "smoke" else None)
    for run in finished_runs(missing, folder):
        steps = sorted({*run.steps[:: max(1, len(run.steps) // AT_MOST)], run.steps[-1]})
        report = analyze(run, MEASURES, steps=steps)
        about = {RUN: run.config.digest, "group": str(run.config.task.args["group"])}
        rows.append({**about, **_row(run, report)})
        curves.append(_curves(report).assign(**about))
        drawn = drawn or {name: report.figures[name] for name in FIGURES if name in report.figures}
    fresh = {"runs": pd.DataFrame(rows), "curves": pd.concat(curves) if curves else pd.DataFrame()}
    return from_tables(budget, merged(known, fresh), drawn)


def from_tables(budget: Budget, tables: Tables, drawn: Mapping[str, go.Figure] = NO_FIGURES) -> Reproduction:
    """What tables of finished runs say: ``runs`` has a column for each claim but the phases, NaN where a run has no such number.

    ``curves`` gives the phases and how long each run trained. Of runs on one group the longest count.
    """
    if "runs" not in tables:
        return Reproduction.from_measurements("groups2023", budget, {}, drawn, tables, FIGURES)
    curves = tables["curves"].reset_index()
    runs = tables["runs"].assign(epochs=tables["runs"][RUN].map(curves.groupby(RUN)["step"].max()))
    longest = runs[runs["epochs"] == runs.groupby("group")["epochs"].transform("max")]
    ends = longest[["group", RUN]].join(_phases(curves), on=RUN)
    known = [claim for claim in read_claims("groups2023") if claim.id in runs and (claim.unit in TIMES or runs[claim.id].notna().any())]
    found = {claim.id: averaged(longest[claim.id], _when(claim.id, runs, longest)) for claim in known}
    found |= {name: averaged(ends[name], _by_group(ends, name)) for name in ("phases", *PHASE_ENDS)}
    return Reproduction.from_measurements("groups2023", budget, found, drawn, tables, FIGURES)


def _phases(curves: pd.DataFrame) -> pd.DataFrame:
    """A row a run: when each phase ends, NaN for never, and whether they follow each other."""
    found = {run: Phases.from_curves(*(curve[name].to_numpy() for name in PHASE_CURVES)) for run, curve in curves.groupby(RUN)}
    return pd.DataFrame({run: {"phases": phases.in_order, **vars(phases)} for run, phases in found.items()}, dtype=float).T


def _by_group(ends: pd.DataFrame, name: str) -> str:
    """A phase's end in each group, or whether phases follow each other."""

    def in_words(value: float) -> str:
        if math.isnan(value):
            return "none"
        return f"{value:,.0f}" if name in PHASE_ENDS else "yes" if value else "no"

    return ", ".join(f"{group} {in_words(value)}" for group, value in zip(ends["group"], ends[name]))


def _when(name: str, runs: pd.DataFrame, longest: pd.DataFrame) -> str:
    """What coset neurons, which go on growing, depend on: how long each run trained, and what shorter ones on its group had."""
    if name not in GROWING:
        return ""
    known = runs[runs[name].notna()]
    words = []
    for group, epochs in longest.loc[longest[name].notna(), ["group", "epochs"]].itertuples(index=False):
        shorter = known[(known["group"] == group) & (known["epochs"] < epochs)]
        before = "".join(f" ({value:.3f} after {own:,.0f})" for value, own in zip(shorter[name], shorter["epochs"]))
        words.append(f"{group} after {epochs:,.0f}{before}")
    return f"{', '.join(words)} of the published 250,000 epochs"


def _curves(report: Report) -> pd.DataFrame:
    """Losses, coset neurons and synchronization by step."""
    dataset = report.dataset
    each = {
        "train_loss": dataset["pairs_loss"].sel(split="train"),
        "test_loss": dataset["pairs_loss"].sel(split="test"),
        "restricted_loss": dataset["restricted_loss_keys"].sel(split="all"),
        "excluded_loss": dataset["excluded_loss_keys"].sel(split="train"),
        "restricted_loss_lookup": dataset["restricted_loss_keys_lookup"].sel(split="all"),
        "coset_neurons": dataset["coset_neurons"],
        "fsd": dataset["fsd"].sel(top=1),
    }
    columns: dict[str, np.ndarray] = {name: values.to_numpy() for name, values in each.items()}
    return pd.DataFrame(columns, index=pd.Index(dataset["step"].to_numpy(), name="step"))


def _row(run: Run, report: Report) -> dict[str, float]:
    """One run's number for every claim; NaN where it has none."""
    dataset, group = report.dataset, str(run.config.task.args["group"])
    last = dataset.isel(step=-1)
    keys = [str(key) for key in last["key_irrep"].values]
    live = float(last["live_neurons"])
    accurate = {split: _first(dataset["eval_step"], dataset[f"metric_{split}_accuracy"], 0.99) for split in ("train", "test")}
    synchronized = _first(dataset["step"], dataset["fsd"].sel(top=1), 0.5)
    weights = last["weight_key_share"]
    return {
        "groks": float(accurate["test"] > accurate["train"]),
        "grokking_epoch": accurate["test"],
        "restricted": float(last["restricted_loss_keys"].sel(split="all") / last["pairs_loss"].sel(split="test")),
        "excluded": float(last["excluded_loss_keys"].sel(split="train")) / math.log(run.task.n_classes),
        "operands": float(weights.sel(matrix=["W_a", "W_b"]).mean()),
        "unembedding": float(weights.sel(matrix="W_U")),
        "neurons": float(last["neuron_fve"]),
        "product": float(last["neuron_key_share"].sel(part="ab")),
        "similar": float(last["logit_irreps_fve"]),
        "n_keys": float(len(keys)),
        "a5_keys": float(len(keys)) if group == "A_5" else math.nan,
        "s5_sign": float("(1,1,1,1,1)" in keys) if group == "S_5" else math.nan,
        "concentrated": float((last["coset_concentration"] < 1).all("operand").sum()) / live if group == "S_5" else math.nan,
        "cosets": float(last["coset_neurons"]) / live,
        "recovered": loss_recovered(Snapshot(run.model(), run.task), Cosets()).recovered,
        "fsd": float(dataset["fsd"].sel(top=1).max()),
        "fsd_lead": accurate["test"] - synchronized,
    }


def _first(steps: xr.DataArray, values: xr.DataArray, threshold: float) -> float:
    """The first step with a value of at least the threshold; NaN where there is none."""
    return onset(np.asarray(steps), np.asarray(values), threshold, interpolate=False)
