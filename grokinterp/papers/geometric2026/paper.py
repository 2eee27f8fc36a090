"""The Geometric Inductive Bias of Grokking (arXiv 2603.05228): claims beside measurements.

Times are epochs of full-batch training, evaluated every 10; an onset has to hold for two evaluations. Means are compared within two standard errors
of the difference from the paper's mean over ten seeds, and 200 epochs less, since its grid rounds up. A run that ends without an onset counts with
the time for which it was followed, and the number says that it is a bound. Under "cpu" S5 is followed for 4,000 of 100,000 epochs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from grokinterp.papers.claims import Budget, Measurement, share
from grokinterp.papers.geometric2026 import runs
from grokinterp.papers.geometric2026.arms import ARMS
from grokinterp.papers.geometric2026.claims import FREE_AT, MULTIPLICATION, ONSETS, PERFECT, S5, S5_ONSETS, S5_UNIFORM, TRIALS, tag
from grokinterp.papers.geometric2026.fits import DRAWN, accuracy_figure, onset_figure, ratios, runs_of, summary, times, without_weight_decay
from grokinterp.papers.reproduction import NO_FIGURES, Reproduction
from grokinterp.papers.tables import NOTHING, Tables, merged, not_known
from grokinterp.papers.training import train_all
from grokinterp.plots.lazy import go

SOURCES = {"runs": (0,)}
FIGURES = ("onsets", "accuracy")


def reproduce(budget: Budget, folder: Path, known: Tables = NOTHING, train: bool = True) -> Reproduction:
    """Train what is not known of a budget, and read all that is finished; arms without a finished run are not run."""
    plan, trained = runs.plan(budget), folder / "runs"
    if train:
        train_all(not_known(plan.configs, known.get("runs")), trained, **plan.how)
    fresh = runs.read_runs(plan, trained)
    table = runs.sorted_runs(merged(known, {"runs": fresh}).get("runs", fresh))
    curves = runs.curves(plan, trained)
    drawn = {"accuracy": accuracy_figure(curves)} if curves.keys() >= {*DRAWN} & {*table["arm"]} and len(curves) else {}
    return from_tables(budget, {"runs": table}, drawn)


def from_tables(budget: Budget, tables: Tables, drawn: Mapping[str, go.Figure] = NO_FIGURES) -> Reproduction:
    """What a table of finished runs says.

    Args:
        budget: says how many runs are planned.
        tables: ``runs``, as `runs.read_runs` gives it.
        drawn: figures that need more than the table.
    """
    table = tables["runs"]
    planned = {name: len(configs) for name, configs in runs.plan(budget).arms.items()}
    planned |= {name: max(planned.get(name, 0), len(runs_of(table, name))) for name in table["arm"].unique()}
    found = {
        **measure_onsets(table, planned),
        **measure_ratios(table),
        **measure_accuracies(table),
        **measure_trials(table),
        **measure_departures(table),
    }
    derived = {"runs": table, "arms": summary(table, planned), "ratios": ratios(table)}
    figures = {} if table.empty else {"onsets": onset_figure(table), **drawn}
    return Reproduction.from_measurements("geometric2026", budget, found, figures, derived, () if table.empty else FIGURES)


# --- onsets and ratios -------------------------------------------------------------------------------------------------------------


def measure_onsets(table: pd.DataFrame, planned: Mapping[str, int]) -> dict[str, Measurement]:
    """Mean onsets of every published arm, and how many runs get there."""
    found = {}
    for arm in (*ONSETS, *MULTIPLICATION, *PERFECT):
        if len(own := runs_of(table, arm)):
            found[f"onset_{tag(arm)}"] = mean_onset(own, planned[arm])
    published = table[table["arm"].isin(list(ONSETS))]
    if len(published):
        missing = [arm for arm in ONSETS if not len(runs_of(table, arm))]
        found["no_failures"] = share(published["onset"].notna(), f"without {', '.join(missing)}" if missing else "")
    if len(own := runs_of(table, "layer-0-6e-4")):
        found["layer_without_decay"] = share(own["onset"].notna(), without_weight_decay(table))
    return found


def mean_onset(own: pd.DataFrame, planned: int) -> Measurement:
    """Mean and range over seeds; a lower bound where a run has no onset, no number where none has."""
    reached, n, epochs = own["onset"].dropna(), len(own), times(own)
    words = [f"{n} of {planned} runs finished"] if n < planned else []
    if reached.empty:
        return Measurement(math.nan, n=n, note="; ".join([f"none of {n} within {own['followed'].max():,.0f} epochs", *words]))
    if len(reached) < n:
        words.append(f"at least: {n - len(reached)} of {n} not within {own['horizon'].max():,} epochs")
    words.append(f"range over runs; sd {epochs.std(ddof=1):,.0f}" if n > 1 else "one run")
    words.append(f"{own['onset_on_grid'].mean():,.0f} on the paper's grid of 200")
    return Measurement.over_runs(epochs, "; ".join(words))


def measure_ratios(table: pd.DataFrame) -> dict[str, Measurement]:
    """Every claimed ratio of which both arms have a finished run."""
    found = {}
    for name, row in ratios(table).iterrows():
        words = f"{row['bound']}; " if row["bound"] else ""
        words += f"{row['slow_mean']:,.0f} (n = {row['n_slow']}) over {row['fast_mean']:,.0f} (n = {row['n_fast']})"
        if row["bound"] == "no bound":
            words = "no ratio: runs of both arms end without an onset"
        found[str(name)] = Measurement(row["ratio"], row["low"], row["high"], n=row["n_slow"] + row["n_fast"], note=words)
    return found


# --- accuracies, trial runs, departures ----------------------------------------------------------------------------------------------


def measure_accuracies(table: pd.DataFrame) -> dict[str, Measurement]:
    """Peaks with uniform attention, and S5; what the paper says of 100,000 epochs is measured on runs that were followed as long."""
    found = {}
    for arm in PERFECT:
        if len(own := runs_of(table, arm)):
            found[f"perfect_{tag(arm)}"] = share(own["test_peak"] == 1)
    if len(own := runs_of(table, "uniform-sphere-1-b98")):
        found["peak_uniform_sphere_1_b98"] = percent(own["test_peak"])
    whole = table[table["horizon"] == ARMS["s5-layer-1"].horizon]
    for arm in S5:
        if len(own := runs_of(whole, arm)):
            failed = own["onset"].isna()
            found[f"fails_{tag(arm)}"] = share(failed)
            if arm in S5_ONSETS:
                found[f"onset_{tag(arm)}"] = Measurement(float(own["onset"].mean()), n=int((~failed).sum()), note=f"{failed.sum()} fail")
    for arm in S5_UNIFORM:
        if len(own := runs_of(whole, arm)):
            found[f"peak_{tag(arm)}"] = percent(own["test_peak"])
    return found | _measure_s5_sweep(table)


def _measure_s5_sweep(table: pd.DataFrame) -> dict[str, Measurement]:
    on_s5 = table[table["arm"].str.startswith("s5-") & ~table["arm"].str.contains("uniform")]
    spheres, published = on_s5[on_s5["arm"].str.contains("sphere")], on_s5[on_s5["arm"].isin(["s5-sphere-0", "s5-sphere-1"])]
    found = {}
    if len(published):
        found["s5_train"] = Measurement(float(100 * published["train_peak"].min()), n=len(published), note=f"within {_horizon(published)}")
    if len(spheres):
        peaks = on_s5.groupby("arm", sort=False)["test_peak"].mean()
        each = ", ".join(f"{arm}: {100 * peak:.1f}" for arm, peak in peaks.items())
        found["s5_sweep"] = Measurement(float(100 * spheres["test_peak"].max()), n=len(spheres), note=f"within {_horizon(spheres)}; {each}")
    return found


def _horizon(own: pd.DataFrame) -> str:
    longest, whole = own["horizon"].max(), ARMS["s5-layer-1"].horizon
    return f"{longest:,} epochs" + ("" if longest == whole else f", not {whole:,}, so what comes later is not known")


def percent(peaks: pd.Series) -> Measurement:
    """Mean and range of accuracies, in percent."""
    return Measurement.over_runs(100 * peaks, "range over runs" if len(peaks) > 1 else "")


def measure_trials(table: pd.DataFrame) -> dict[str, Measurement]:
    """What was trained before, apart from the paper."""
    found = {f"trial_{tag(arm)}": mean_onset(own, len(own)) for arm in TRIALS if len(own := runs_of(table, arm))}
    if len(free := runs_of(table, "free-1-6e-4")):
        n_ended = int((free["followed"] < FREE_AT).sum())
        note = f"range over runs; {n_ended} of {len(free)} end earlier, above 0.95"
        found["trial_free"] = Measurement.over_runs(free[f"test_at_{FREE_AT}"], note)
    return found


def measure_departures(table: pd.DataFrame) -> dict[str, Measurement]:
    """The largest deviations over runs and kept checkpoints."""
    found = {}
    for name, column in (("on_the_sphere", "off_sphere"), ("thirds", "off_thirds")):
        values = table[column].dropna()
        if len(values):
            found[name] = Measurement(float(values.max()), n=len(values))
    return found
