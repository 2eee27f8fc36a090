"""Progress measures for grokking via mechanistic interpretability (arXiv 2301.05217): configurations and claims.

The paper's main run is one training, whose seed is not given; ours are `presets.nanda2023` at seed 0 (and 1–4 under "full").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import xarray as xr

from grokinterp import presets
from grokinterp.analysis import analyze
from grokinterp.laws import onset
from grokinterp.papers.claims import Budget, averaged, read_claims
from grokinterp.papers.reproduction import NO_FIGURES, Reproduction
from grokinterp.papers.tables import NOTHING, RUN, Tables, merged, not_known
from grokinterp.papers.training import finished
from grokinterp.plots.lazy import go
from grokinterp.reports.report import Report
from grokinterp.training.config import RunConfig
from grokinterp.training.train import train as train_run

SOURCES = {"runs": (0,), "curves": (0,)}
FIGURES = ("progress", "losses", "embedding_spectrum", "neurons")
QUANTITIES = [claim.id for claim in read_claims("nanda2023")]


def configurations(budget: Budget) -> list[RunConfig]:
    """The runs of a budget: a small model of p = 31 in some 20 seconds, p = 113 for 20,000 epochs, or five seeds for the paper's 40,000."""
    if budget == "smoke":
        small = presets.nanda2023(p=31, seed=0, train_fraction=0.6, steps=4_000).with_(d_model=64, d_mlp=256, lr=2e-3)
        return [small.with_(stop="test_loss < 1e-3")]
    if budget == "cpu":
        return [presets.nanda2023(p=113, seed=0, steps=20_000)]
    return [presets.nanda2023(p=113, seed=seed) for seed in range(5)]


def reproduce(budget: Budget, folder: Path, known: Tables = NOTHING, train: bool = True) -> Reproduction:
    """Train and read the runs of a budget that are not known."""
    reports = {}
    for config in not_known(configurations(budget), known.get("runs")):
        path = folder / f"seed{config.seed}"
        if train or finished(config, path) is not None:
            reports[config.digest] = analyze(train_run(config, path), ["progress", "spectrum"])
    fresh, drawn = {"runs": pd.DataFrame([{RUN: digest, **_row(report)} for digest, report in reports.items()])}, {}
    for digest, report in list(reports.items())[:1]:  # one run is drawn
        fresh |= {} if "curves" in known else {"curves": _curves(report).assign(**{RUN: digest})}
        drawn = {name: report.figures[name] for name in FIGURES}
    return from_tables(budget, merged(known, fresh), drawn)


def from_tables(budget: Budget, tables: Tables, drawn: Mapping[str, go.Figure] = NO_FIGURES) -> Reproduction:
    """What tables of finished runs say: ``runs`` has a column for each claim, NaN for a phase that has no end."""
    runs = tables.get("runs", pd.DataFrame())
    found = {name: averaged(runs[name]) for name in QUANTITIES if name in runs}
    return Reproduction.from_measurements("nanda2023", budget, found, drawn, tables, FIGURES)


def _curves(report: Report) -> pd.DataFrame:
    """Losses and accuracies by step."""
    columns = [f"{name}[{split}]" for name in ("loss", "accuracy", "restricted_loss", "excluded_loss") for split in ("train", "test", "all")]
    return report.to_dataframe()[[*columns, "sum_of_squares"]]


def _row(report: Report) -> dict[str, float]:
    """One run's number for every claim; NaN for a phase that has no end."""
    dataset, phases = report.dataset, report.phases
    assert phases is not None  # progress over several steps has them
    last = dataset.isel(step=-1)
    ends = {name: math.nan if end is None else float(end) for name, end in vars(phases).items()}
    return ends | {
        "groks": float(_first(dataset, "test") > _first(dataset, "train")),
        "phases": float(phases.in_order),
        "key_frequencies": float(last.sizes["key_frequency"]),
        "fve": float(last["fve"].sel(form="raw")),
        "neurons": float(last["neurons_above"].sel(threshold=0.85)) / last.sizes["neuron"],
        "restricted": float(last["restricted_loss"].sel(split="all") / last["loss"].sel(split="test")),
        "excluded": float(last["excluded_loss"].sel(split="train")) / math.log(2 * last.sizes["frequency"] + 1),
        "test_loss": float(last["loss"].sel(split="test")),
    }


def _first(dataset: xr.Dataset, split: str) -> float:
    """The first evaluated step with an accuracy of 0.99; NaN, which compares as false, where there is none."""
    return onset(dataset["eval_step"], dataset[f"metric_{split}_accuracy"], 0.99, interpolate=False)
