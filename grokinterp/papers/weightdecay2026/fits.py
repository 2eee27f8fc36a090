"""What the runs of arXiv 2605.20441 say together: boundaries by horizon, paired arms, held-out prediction, and their figures.

Frames and arrays only; `runs` trains and reads the runs. Times are epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from grokinterp.errors import GrokinterpError
from grokinterp.laws import (
    LogisticBoundary,
    PowerLaw,
    SurvivalBoundary,
    logistic_boundary,
    paired_difference,
    power_law_above,
    survival_boundary,
)
from grokinterp.laws.drawing import draw, line, points
from grokinterp.papers.claims import Measurement
from grokinterp.plots.lazy import go

ARMS = ("control", "sham", "reinit", "clip")
COMPARED = {
    "reinit": ("reinit", "control"),
    "reinit_sham": ("reinit", "sham"),
    "clip": ("clip", "control"),
    "sham": ("sham", "control"),
    "whole_run": ("whole_reinit", "whole_control"),
}
PLAIN, ATTENTION = ("early_train_loss", "early_weight_norm"), ("early_head_similarity", "early_entropy_spread")

Law = TypeVar("Law")


# --- the boundary --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fits:
    """What a grid of runs says about the boundary.

    Attributes:
        runs: a row each, as `boundary` takes them.
        by_horizon: ``grokked`` of ``runs``; ``logistic`` and ``survival``, λ_c with its interval; ``reason`` where there is no logistic one;
            ``leaves_runs``, whose interval leaves the λ that were run.
        logistic: at the longest horizon, or why there is none.
        survival: of the times, with runs that never grok as right-censored, or why there is none.
        power: ν above the logistic λ_c, or why there is none.
        n_below: runs that grok at or below λ_c, which ν leaves out.
    """

    runs: pd.DataFrame
    by_horizon: pd.DataFrame
    logistic: LogisticBoundary | str
    survival: SurvivalBoundary | str
    power: PowerLaw | str
    n_below: int

    @property
    def rates(self) -> dict[float, float]:
        """Share of runs that grok at each λ, ascending."""
        shares = self.runs["grok"].notna().groupby(self.runs["weight_decay"]).mean()
        return dict(zip(shares.index.to_list(), shares.to_list(), strict=True))


def boundary(runs: pd.DataFrame, horizons: Sequence[float], n_bootstrap: int = 500) -> Fits:
    """Fit λ_c at every horizon, by the paper's logistic and by survival, and ν above it.

    Args:
        runs: ``weight_decay``, ``grok`` (epochs, NaN for never) and ``followed`` (epochs) of each run.
        horizons: epochs, ascending; runs were followed until the last of them or until they grokked.
        n_bootstrap: resamples of the survival fit.
    """
    decay, grok = runs["weight_decay"], runs["grok"]
    never = grok.isna()
    times = grok.fillna(runs["followed"])
    survival = attempt(lambda: survival_boundary(decay, times, never, horizons, rng=np.random.default_rng(0), n_bootstrap=n_bootstrap))
    logistic = [_logistic(decay, grok, horizon) for horizon in horizons]
    rows, run = [], (float(decay.min()), float(decay.max()))
    for horizon, law in zip(horizons, logistic, strict=True):
        row: dict[str, Any] = {"horizon": horizon, "runs": len(runs), "grokked": int((grok <= horizon).sum())}
        row |= _spread_out("logistic", None if isinstance(law, str) else law.boundary)
        row |= _spread_out("survival", None if isinstance(survival, str) else survival.at(horizon))
        leaves = [name for name in ("logistic", "survival") if row[f"{name}_low"] < run[0] or row[f"{name}_high"] > run[1]]
        rows.append(row | {"reason": law if isinstance(law, str) else "", "leaves_runs": " and ".join(leaves)})
    last = logistic[-1]
    centre = math.inf if isinstance(last, str) else last.boundary.value
    above = decay > centre
    power = attempt(lambda: power_law_above(decay[above], grok[above], centre)) if above.any() else "there is no run above λ_c"
    return Fits(runs, pd.DataFrame(rows).set_index("horizon"), last, survival, power, int((~above & ~never).sum()))


def attempt(fit: Callable[[], Law]) -> Law | str:
    """What a fit gives, or why it does not."""
    try:
        return fit()
    except GrokinterpError as error:
        return str(error)


def _logistic(decay: pd.Series, grok: pd.Series, horizon: float) -> LogisticBoundary | str:
    return attempt(lambda: logistic_boundary(decay, grok <= horizon, horizon, rng=np.random.default_rng(0)))


def _spread_out(name: str, estimate: tuple[float, float, float] | None) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), estimate or (math.nan,) * 3, strict=True))


def located(law: LogisticBoundary | str, n: int, note: str = "") -> Measurement:
    """λ_c as a measurement, marked where its interval leaves the λ that were run; no number, with the reason, where there is none."""
    if isinstance(law, str):
        return Measurement(math.nan, n=n, note=law)
    words = f"the interval {law.outside}" if law.outside else ""
    return Measurement(*law.boundary, n=n, note="; ".join(filter(None, [note, words])))


def fit_counts(decays: Sequence[float], n: Sequence[int], grokked: Sequence[int]) -> LogisticBoundary:
    """The paper's logistic through published counts."""
    outcomes = [np.arange(total) < count for total, count in zip(n, grokked, strict=True)]
    return logistic_boundary(np.repeat(decays, n), np.concatenate(outcomes), rng=np.random.default_rng(0))


# --- paired arms ---------------------------------------------------------------------------------------------------------------------


class Comparison(NamedTuple):
    """A paired difference of peaks of σ_H (nats); p, d and the interval are NaN with a reason where they do not exist."""

    intervention: str
    comparison: str
    difference: str
    n: int
    mean: float
    smallest: float
    largest: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    d: float = math.nan
    p_wilcoxon: float = math.nan
    reason: str = ""


def compare(pairs: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], Comparison]:
    """Every comparison of `COMPARED` in every intervention, by (intervention, comparison).

    Args:
        pairs: by intervention a row a seed, with a column an arm and ``whole_control`` and ``whole_reinit``.
    """
    return {(name, kind): _comparison(name, kind, table) for name, table in pairs.items() for kind in COMPARED}


def _comparison(name: str, kind: str, table: pd.DataFrame) -> Comparison:
    treated, other = COMPARED[kind]
    moved = table[treated] - table[other]
    law = attempt(lambda: paired_difference(table[treated], table[other]))
    plain = Comparison(name, kind, f"{treated} − {other}", len(table), float(moved.mean()), float(moved.min()), float(moved.max()))
    if isinstance(law, str):
        return plain._replace(reason=law)
    return plain._replace(low=law.mean.low, high=law.mean.high, p=law.p_t, d=law.cohens_d, p_wilcoxon=law.p_wilcoxon)


# --- prediction ----------------------------------------------------------------------------------------------------------------------


class Gain(NamedTuple):
    """Held-out R² of log grokking time with and without the attention readouts; NaN where too few runs have all that is needed."""

    with_attention: float
    without: float
    n: int


def readout_gain(runs: pd.DataFrame) -> Gain:
    """What s̄ and σ_H at one early epoch add to train loss and weight norm at that epoch in predicting the logarithm of the grokking time.

    Linear least squares, each seed predicted from the others; the clock, the third plain predictor, is the same for all runs.

    Args:
        runs: ``grok`` (epochs, NaN for never), ``seed``, and the columns of `PLAIN` and `ATTENTION`, NaN for runs that have ended by then.
    """
    usable = runs.dropna(subset=["grok", *PLAIN, *ATTENTION])
    if len(usable) < 10 or usable["seed"].nunique() < 3:
        return Gain(math.nan, math.nan, len(usable))
    target, seeds = np.log(usable["grok"].to_numpy()), usable["seed"].to_numpy()
    plain = np.log(usable[list(PLAIN)].to_numpy())
    both = np.hstack([plain, usable[list(ATTENTION)].to_numpy()])
    return Gain(_held_out_r2(both, target, seeds), _held_out_r2(plain, target, seeds), len(usable))


def _held_out_r2(features: np.ndarray, target: np.ndarray, group: np.ndarray) -> float:
    """1 − Σ(error²)/Σ(deviation from the mean²), every group predicted by a linear fit to the others."""
    design = np.column_stack([np.ones(len(target)), features])
    predicted = np.empty_like(target)
    for held in np.unique(group):
        rest = group != held
        predicted[~rest] = design[~rest] @ np.linalg.lstsq(design[rest], target[rest])[0]
    return float(1 - np.square(target - predicted).sum() / np.square(target - target.mean()).sum())


# --- figures -------------------------------------------------------------------------------------------------------------------------


def figures(fits: Fits | None, pairs: Mapping[str, pd.DataFrame], example: pd.DataFrame | None) -> dict[str, go.Figure]:
    """The boundary with its fit, λ_c by horizon, diagnostics along one run, and the arms of every intervention; what there is of these."""
    drawn = {f"pairs-{name}": paired_arms(name, table) for name, table in pairs.items()}
    if example is not None:
        drawn["diagnostics"] = along_training(example)
    if fits is None:
        return drawn
    if not isinstance(fits.logistic, str):
        drawn["boundary"] = fits.logistic.figure()
    if not isinstance(fits.survival, str):
        drawn["horizon"] = by_horizon(fits.survival, fits.by_horizon)
    return drawn


def by_horizon(law: SurvivalBoundary, table: pd.DataFrame) -> go.Figure:
    """λ_c against the horizon: the survival fit with its interval, and the paper's logistic fit at each horizon."""
    value = table["logistic"].to_numpy()
    error = np.stack([value - table["logistic_low"].to_numpy(), table["logistic_high"].to_numpy() - value])
    dots = points(table.index.to_numpy(dtype=float), value, "logistic fit", 2, error=error)
    return law.figure().add_trace(dots).update_xaxes(title="horizon (epochs)")


def along_training(table: pd.DataFrame) -> go.Figure:
    """s̄, σ_H and test accuracy of one run over epochs."""
    epochs, evaluated = table.index.to_numpy(dtype=float), table["test_accuracy"].dropna()
    lines = [
        line(epochs, table["head_similarity"].to_numpy(), "head similarity s̄", 0),
        line(epochs, 10 * table["entropy_spread"].to_numpy(), "10 × entropy spread σ_H (nats)", 1),
        line(evaluated.index.to_numpy(dtype=float), evaluated.to_numpy(), "test accuracy", 2),
    ]
    caption = "Head similarity and entropy spread of the attention patterns on 512 fixed test examples, beside the accuracy that they are to track."
    return draw("Attention diagnostics along training", caption, lines, "epoch", "s̄, 10 σ_H, accuracy")


def paired_arms(name: str, table: pd.DataFrame) -> go.Figure:
    """The peak of σ_H in the window after the intervention, an arm each column, a seed each line."""
    labels = np.array(["control", "sham", "re-initialised", "clipped"])
    peaks = table[list(ARMS)].to_numpy(dtype=float)
    lines = [line(labels, row, "a seed", 0, "dot").update(legendgroup="seeds", showlegend=i == 0) for i, row in enumerate(peaks)]
    caption = "All arms of a seed go on from the same checkpoint, at its peak of σ_H, and are read in the same window after it."
    dots = points(labels, peaks.mean(0), "mean", 1, "diamond")
    where = f"at λ = {name.replace('_', '.')}" if name[0].isdigit() else f"{name} the boundary"
    return draw(f"Head re-initialisation {where}", caption, [*lines, dots], "arm", "peak of σ_H (nats)")
