"""A contest of grokking predictors: a threshold set on runs that never grok, scored on other runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from grokinterp.chance import Rng, generator
from grokinterp.errors import GrokinterpError
from grokinterp.laws.drawing import draw, line
from grokinterp.laws.numerics import check_bootstrap, columns, flags, require
from grokinterp.laws.results import Estimate, Result, bootstrap_interval
from grokinterp.plots.lazy import go


def alarm_threshold(scores_of_negative_runs: Sequence[ArrayLike], false_alarm_rate: float) -> float:
    """The lowest threshold at which no more than a given share of runs that never grok raise an alarm.

    A run raises an alarm when its score is at or above the threshold at any time, so only its largest score matters.

    Args:
        scores_of_negative_runs: a series for each run, or [run, evaluation]; higher is more like grokking to come, NaN no alarm.
        false_alarm_rate: share of runs, at least 0 and below 1.

    Raises:
        GrokinterpError: no runs, a rate outside [0, 1), infinite scores.

    Source: chosen here.
    """
    if not len(scores_of_negative_runs):
        raise GrokinterpError("an alarm threshold needs runs that never grok; got none, so add some, such as runs with weight decay 0")
    largest = np.array([_scores(i, scores).max(initial=-np.inf) for i, scores in enumerate(scores_of_negative_runs)])
    return float(_thresholds(largest[None], false_alarm_rate)[0])


def _scores(i: int, scores: ArrayLike) -> np.ndarray:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1 or np.isinf(array).any():
        raise GrokinterpError(f"scores[{i}] has to be one row of finite numbers, NaN where there is none; its shape is {array.shape}")
    return np.where(np.isnan(array), -np.inf, array)


def _thresholds(largest: np.ndarray, rate: float) -> np.ndarray:
    """The threshold for each row of largest scores [resample, run]."""
    if not 0 <= rate < 1:
        raise GrokinterpError(f"a false-alarm rate is a share of runs, at least 0 and below 1; got {rate}, so take 0.05")
    allowed = int(np.floor(rate * largest.shape[1] + 1e-9))
    # Just above the first score that must not raise an alarm.
    return np.asarray(np.nextafter(np.sort(largest, axis=1)[:, -1 - allowed], np.inf))


@dataclass(frozen=True, eq=False, kw_only=True)
class Detection(Result):
    """How well a score foretells grokking, on runs that had no part in setting its threshold.

    Attributes:
        detection_rate: share of the grokking runs with an alarm before grokking.
        median_lead: from alarm to grokking, over the runs detected; NaN if there are none. Runs missed have no lead, so compare
            predictors at the same detection rate, by the figure, or by `relative_lead`.
        relative_lead: lead as a share of the time from the start of training to grokking, mean over all grokking runs; a run missed counts 0.
        false_alarm_rate: attained, share of the runs that never grok with an alarm.
        nominal_rate: the false-alarm rate at which the threshold was set.
        threshold: of the score.
        n_calibration: runs that never grok that set it.
        n_grok: grokking runs scored.
        n_never: runs that never grok scored.
        runs: ``grok_time``, ``calibration``, ``alarm`` (NaN for none) and ``lead`` (NaN unless before grokking) for each run.
    """

    detection_rate: Estimate
    median_lead: Estimate
    relative_lead: Estimate
    false_alarm_rate: Estimate
    nominal_rate: float
    threshold: float
    n_calibration: int
    n_grok: int
    n_never: int
    runs: pd.DataFrame = field(repr=False)

    def figure(self) -> go.Figure:
        """Share of grokking runs with an alarm at least so long before grokking."""
        leads = np.sort(self.runs.loc[~self.runs["calibration"], "lead"].dropna())[::-1]
        ends = np.concatenate([leads[:1], leads, [0.0]])
        share = np.minimum(np.arange(len(ends)), len(leads)) / self.n_grok
        caption = "How many of the runs that grok had raised an alarm this long before; the line ends at the detection rate."
        curve = line(ends, share, "held-out runs", shape="hv")
        return draw("Warning before grokking", caption, [curve], "time before grokking", "share of grokking runs with an alarm")

    def __str__(self) -> str:
        return (
            f"detects {self.detection_rate} of {self.n_grok} runs, median lead {self.median_lead}, "
            f"false alarms {self.false_alarm_rate} of {self.n_never} (set at {self.nominal_rate:g} on {self.n_calibration})"
        )


def detection(
    scores: Sequence[ArrayLike],
    steps: Sequence[ArrayLike],
    grok_time: ArrayLike,
    false_alarm_rate: float = 0.05,
    *,
    rng: Rng = 0,
    calibration: ArrayLike | None = None,
    n_bootstrap: int = 1000,
    level: float = 0.95,
) -> Detection:
    """Detection rate, lead and false alarms of a predictor on one half of the runs, its threshold set on the other half.

    The intervals resample the runs of both halves, so they hold the doubt about the threshold. Predictors are compared fairly with the same
    `calibration`, or the same seed, which draws the same halves and resamples.

    Args:
        scores: a series for each run, or [run, evaluation]; higher is more like grokking to come, NaN no alarm.
        steps: of the evaluations, ascending: one row for all runs, or one for each.
        grok_time: of each run, counted from the start of training, NaN for never.
        false_alarm_rate: share of calibration runs that never grok allowed to raise an alarm at any time.
        rng: seed or generator that draws the halves and the bootstrap.
        calibration: which runs set the threshold, such as those that a predictor was trained on; drawn, half of each kind, if not given.
        n_bootstrap: resamples.
        level: of the intervals.

    Raises:
        GrokinterpError: lengths that differ, steps that do not ascend, a grok time that is not above 0, a half without a run that
            never groks, no grokking run to score.

    Source: chosen here, as a fair test of the diagnostics of arXiv 2605.20441 and 2606.12966 against clock, loss and weight norm.
    """
    rng = generator(rng)
    check_bootstrap(n_bootstrap)
    runs = columns(("grok_time",), grok_time=grok_time)
    times = runs["grok_time"].to_numpy()
    require(~(times <= 0), times, "grok_time", "times count from the start of training, so they are above 0, and NaN for never")
    at, highest = _running_maxima(scores, steps, len(runs))
    groks = ~np.isnan(times)
    chosen = _halves(groks, rng) if calibration is None else flags("calibration", calibration, len(runs))
    setting, never, grokking = (np.flatnonzero(kind) for kind in (chosen & ~groks, ~chosen & ~groks, ~chosen & groks))
    if not (len(setting) and len(never) and len(grokking)):
        found = f"{len(setting)} never-grokking runs to set the threshold, {len(never)} never-grokking and {len(grokking)} grokking ones to score"
        raise GrokinterpError(f"each needs at least one run: {found}; add runs, such as some with weight decay 0")

    largest = np.array([row.max(initial=-np.inf) for row in highest])
    sizes = (len(setting), len(never), len(grokking))
    drawn = [np.concatenate([np.arange(n)[None], rng.integers(n, size=(n_bootstrap, n))]) for n in sizes]  # all, then each resample
    thresholds = _thresholds(largest[setting][drawn[0]], false_alarm_rate)
    false_alarms = (largest[never][drawn[1]] >= thresholds[:, None]).mean(1)
    alarms = np.stack([_first_alarm(at[run], highest[run], thresholds) for run in range(len(runs))], axis=1)  # [resample, run]
    leads = times - alarms
    leads[~(leads > 0)] = np.nan
    drawn_leads = np.take_along_axis(leads[:, grokking], drawn[2], axis=1)
    rates, medians = (~np.isnan(drawn_leads)).mean(1), pd.DataFrame(drawn_leads).median(axis=1).to_numpy()
    relative = np.nan_to_num(drawn_leads / times[grokking][drawn[2]]).mean(1)
    return Detection(
        detection_rate=bootstrap_interval(rates, level),
        median_lead=bootstrap_interval(medians, level),
        relative_lead=bootstrap_interval(relative, level),
        false_alarm_rate=bootstrap_interval(false_alarms, level),
        nominal_rate=false_alarm_rate,
        threshold=float(thresholds[0]),
        n_calibration=len(setting),
        n_grok=len(grokking),
        n_never=len(never),
        runs=runs.assign(calibration=chosen, alarm=alarms[0], lead=leads[0]),
    )


def _running_maxima(scores: Sequence[ArrayLike], steps: Sequence[ArrayLike], n_runs: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Steps and the largest score so far, for each run."""
    if len(scores) != n_runs:
        raise GrokinterpError(f"one series of scores for each run is needed; got {len(scores)} series and {n_runs} grok times")
    series = [_scores(i, row) for i, row in enumerate(scores)]
    rows: list[ArrayLike] = list(steps) if len(steps) and np.ndim(steps[0]) else [np.asarray(steps)] * n_runs
    if len(rows) != n_runs:
        raise GrokinterpError(f"steps are one row for all runs or one for each; got {len(rows)} rows for {n_runs} runs")
    at = [columns(steps=row)["steps"].to_numpy() for row in rows]
    for i, (step, row) in enumerate(zip(at, series)):
        if len(step) != len(row):
            raise GrokinterpError(f"one score for each step is needed; run {i} has {len(row)} scores and {len(step)} steps")
        require(np.diff(step, prepend=-np.inf) > 0, step, f"steps of run {i}: steps", "sort the evaluations so that steps ascend")
    return at, [np.maximum.accumulate(row) for row in series]


def _halves(groks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    chosen = np.zeros(len(groks), dtype=bool)
    for kind in (groks, ~groks):
        members = np.flatnonzero(kind)
        chosen[rng.permutation(members)[: len(members) // 2]] = True
    return chosen


def _first_alarm(steps: np.ndarray, highest: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The step at which the running maximum reaches each threshold; NaN where it never does."""
    first = np.searchsorted(highest, thresholds)
    return np.append(steps, np.nan)[first]
