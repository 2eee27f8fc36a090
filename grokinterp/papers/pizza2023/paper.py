"""The Clock and the Pizza (arXiv 2306.17844): claims beside measurements.

Under "cpu" runs end after 2,000 epochs, not 20,000: a pilot's numbers moved by less than 0.03 in the 400 epochs after that, and its embedding had
become circular. Runs that do not answer every pair at the end are left out, as in the paper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pandas as pd

from grokinterp.measures.verdicts import CIRCULAR, SYMMETRIC
from grokinterp.papers.claims import Budget, Measurement, averaged, share
from grokinterp.papers.pizza2023 import figures
from grokinterp.papers.pizza2023.claims import CPU_RATES, FALLS_BELOW, RISES_ABOVE, tag
from grokinterp.papers.pizza2023.plans import plan
from grokinterp.papers.pizza2023.runs import alpha_of, read
from grokinterp.papers.reproduction import Reproduction
from grokinterp.papers.tables import NOTHING, Tables, merged, not_known
from grokinterp.papers.training import train_all

SOURCES = {"runs": (0,), "curves": (0,)}
FIGURES = ("by_rate", "in_plane", "over_training")


def reproduce(budget: Budget, folder: Path, known: Tables = NOTHING, train: bool = True) -> Reproduction:
    """Train what is not known of a budget, and read all that is finished."""
    planned = plan(budget)
    if train:
        train_all(not_known(planned.runs, known.get("runs")), folder, **planned.how)
    return from_tables(budget, merged(known, read(planned.runs, folder)))


def from_tables(budget: Budget, tables: Tables) -> Reproduction:
    """What tables of finished runs say: ``runs`` and ``curves`` as `runs.read` gives them."""
    if "runs" not in tables:
        return Reproduction.from_measurements("pizza2023", budget, {})
    runs, curves = tables["runs"], tables["curves"]
    answering = runs[runs["right_answers"] == 1]
    planned = Counter(alpha_of(config) for config in plan(budget).runs)
    found = {**measure_means(answering, planned), **measure_kinds(answering), **measure_causes(answering), **measure_training(runs, answering)}
    drawn = {"by_rate": figures.by_rate(runs), "in_plane": figures.in_plane(runs), "over_training": figures.over_training(curves)}
    derived = {"runs": runs, "curves": curves, "rates": by_rate(runs)}
    return Reproduction.from_measurements("pizza2023", budget, found, drawn, derived, FIGURES)


def by_rate(runs: pd.DataFrame) -> pd.DataFrame:
    """Means by attention rate: how many runs, how many circular, both measures, and the loss recovered."""
    names = ["gradient_symmetricity", "distance_irrelevance", "distance_irrelevance_wrong", "recovered_clock", "recovered_pizza", "recovered_hybrid"]
    grouped = runs.groupby("alpha")
    means = grouped[names].mean()
    means.insert(0, "runs", grouped.size())
    means.insert(1, "circular", grouped["circularity"].apply(lambda values: int((values >= CIRCULAR).sum())))
    return means


def measure_means(runs: pd.DataFrame, planned: Mapping[float, int]) -> dict[str, Measurement]:
    """Both measures by rate, with how many of the planned runs are there, the rates of the transitions, and the fall of symmetricity."""
    found = {}
    for alpha in CPU_RATES:
        own = runs[runs["alpha"] == alpha]
        if len(own):
            note = f"{len(own)} of {planned[alpha]} runs" if len(own) < planned[alpha] else ""
            found[f"symmetricity_{tag(alpha)}"] = averaged(own["gradient_symmetricity"], note)
            found[f"irrelevance_{tag(alpha)}"] = averaged(own["distance_irrelevance_wrong"], note)
    first, last = (found.get(f"symmetricity_{tag(alpha)}") for alpha in (0.0, 1.0))
    if first is not None and last is not None:
        found["symmetricity_falls"] = Measurement(first.value - last.value, n=first.n + last.n)
    crossed = {"symmetricity": runs["gradient_symmetricity"] < FALLS_BELOW, "irrelevance": runs["distance_irrelevance_wrong"] > RISES_ABOVE}
    for name, over in crossed.items() if len(runs) else ():
        at = half_way(over.astype(float).groupby(runs["alpha"]).mean())
        note = "the share does not rise through one half just once" if pd.isna(at) else "between neighbouring rates, on a straight line"
        found[f"transition_{name}"] = Measurement(at, n=len(runs), note=note)
    return found


def half_way(shares: pd.Series) -> float:
    """The rate at which the share of runs rises through one half, on a straight line between neighbouring rates; NaN where it does not once.

    Args:
        shares: by attention rate, ascending.
    """
    steps = list(zip(map(float, shares.index), map(float, shares), strict=True))
    rising = [((a, low), (b, high)) for (a, low), (b, high) in pairwise(steps) if low < 0.5 <= high]
    if len(rising) != 1:
        return float("nan")
    (a, low), (b, high) = rising[0]
    return a + (b - a) * (0.5 - low) / (high - low)


def measure_kinds(runs: pd.DataFrame) -> dict[str, Measurement]:
    """What circular runs read as at both ends, how many are circular, and what a circle alone computes at rate 0."""
    circular = runs[runs["circularity"] >= CIRCULAR]
    pizzas, clocks = (circular[circular["alpha"] == alpha] for alpha in (0.0, 1.0))
    found = {}
    if len(runs):
        found["circular"] = share(runs["circularity"] >= CIRCULAR, f"after {runs['epochs'].max():,} epochs")
    if len(pizzas):
        found["pizza_at_0"] = share(pizzas["verdict"] == "pizza")
        found |= {f"isolated_{form}": averaged(pizzas[f"isolated_{form}"]) for form in ("pizza", "clock")}
    if len(clocks):
        found["clock_at_1"] = share(clocks["verdict"] == "clock")
        found["symmetric_at_1"] = share(clocks["gradient_symmetricity"] > SYMMETRIC)
    return found


def measure_causes(runs: pd.DataFrame) -> dict[str, Measurement]:
    """How much of the loss each algorithm recovers at the neurons' inputs."""
    ends = {alpha: runs[runs["alpha"] == alpha] for alpha in (0.0, 1.0)}
    claimed = ((0.0, "pizza"), (1.0, "clock"), (1.0, "pizza"), (1.0, "hybrid"))
    return {f"recovered_{name}_{tag(alpha)}": averaged(ends[alpha][f"recovered_{name}"]) for alpha, name in claimed if len(ends[alpha])}


def measure_training(runs: pd.DataFrame, answering: pd.DataFrame) -> dict[str, Measurement]:
    """When runs read as what they are, whether any turned, and what calibrates our training."""
    found = {"answers": share(runs["right_answers"] == 1), "turned": share(runs["turned"])}
    circular = answering[answering["circularity"] >= CIRCULAR]
    if len(circular):
        found["reads_from"] = averaged(circular["reads_from"].astype(float))
    for alpha in (0.0, 1.0):
        own = answering[answering["alpha"] == alpha]
        if len(own):
            found |= {f"{name}_{tag(alpha)}": averaged(own[name]) for name in ("norm", "loss")}
    return found
