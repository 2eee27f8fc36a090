"""Scoring predictors of grokking: direction and threshold from one half of the runs, everything else from the other.

The rules are those of `paper`. Arrays only: [run, evaluation], NaN where a run has ended or a quantity does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from grokinterp.errors import GrokinterpError
from grokinterp.laws import Detection, Discrimination, Estimate, alarm_threshold, detection, discrimination

Values = np.ndarray
"""What a predictor says, [run, evaluation], in its own unit."""


@dataclass(frozen=True, eq=False)
class Contest:
    """The runs and the quantities that compete.

    Attributes:
        names: of the runs.
        strata: what each run was set up to do and did, [run]; random halves hold half of each.
        steps: of the evaluations, ascending, [evaluation].
        grok: step at which each run grokked, NaN for never, [run].
        series: each quantity, [run, evaluation].
        false_alarm_rate: α, the expected share of new runs with a false alarm.
        within: a run is about to grok if it does so in at most so many steps.
        persistence: evaluations in a row that raise an alarm.
    """

    names: Sequence[str]
    strata: np.ndarray
    steps: np.ndarray
    grok: np.ndarray
    series: Mapping[str, Values]
    false_alarm_rate: float
    within: float
    persistence: int = 2

    @property
    def groks(self) -> np.ndarray:
        """Whether each run groks within the horizon, [run]."""
        return ~np.isnan(self.grok)

    @property
    def soon(self) -> np.ndarray:
        """1 where grokking follows within `within` steps, 0 where it does not; NaN from grokking on, and where the horizon hides it."""
        until = self.grok[:, None] - self.steps[None]
        hidden = ~self.groks[:, None] & (self.steps[None] > self.steps[-1] - self.within)
        return np.where((until <= 0) | hidden, np.nan, (until <= self.within).astype(float))

    def combined(self, quantities: Sequence[str], calibration: np.ndarray) -> Values:
        """Log odds of grokking soon from several quantities at once: a ridge logistic regression fitted to the calibration runs."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        features = np.stack([self.series[name] for name in quantities], axis=-1)  # [run, evaluation, quantity]
        finite, soon = np.isfinite(features).all(-1), self.soon
        used = finite & ~np.isnan(soon) & calibration[:, None]
        fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)).fit(features[used], soon[used])
        values = np.full(soon.shape, np.nan)
        values[finite] = fitted.decision_function(features[finite])
        return values


class Rule(NamedTuple):
    """When a predictor raises its alarm: ``sign`` × value at or above `threshold`; and its mean relative lead on the runs that set it."""

    sign: int
    threshold: float
    relative_lead: float

    @property
    def direction(self) -> str:
        """Which way past the threshold."""
        return "up" if self.sign > 0 else "down"


def alarm_scores(values: Values, sign: int, persistence: int) -> Values:
    """The lowest of the last `persistence` values of ``sign`` × value: at or above a threshold when all of them are."""
    windows = np.lib.stride_tricks.sliding_window_view(sign * values, persistence, axis=1)
    too_early = np.full((len(values), persistence - 1), np.nan)
    return np.concatenate([too_early, windows.min(-1)], axis=1)


def allowed_rate(false_alarm_rate: float, n: int) -> float:
    """The share of n calibration runs that may raise an alarm so that a new run does so with a probability of at most α: (⌊α(n + 1)⌋ − 1)/n.

    Raises:
        GrokinterpError: fewer runs than 1/α − 1, with which no threshold keeps α.
    """
    allowed = int(np.floor(false_alarm_rate * (n + 1) + 1e-9)) - 1
    if allowed < 0:
        needed = int(np.ceil(1 / false_alarm_rate)) - 1
        raise GrokinterpError(f"a false-alarm rate of {false_alarm_rate} takes {needed} calibration runs that never grok; got {n}, so add runs")
    return allowed / n


def rule(contest: Contest, values: Values, calibration: np.ndarray) -> Rule:
    """Direction and threshold from the calibration runs alone.

    The direction is the way the quantity goes before grokking: up if it is higher at most `within` steps before than at other evaluations, that is,
    if their AUC is 0.5 or more. The threshold is the lowest in that direction that keeps α over the runs that never grok.

    Raises:
        GrokinterpError: no calibration run that groks, or too few that never do.
    """
    never, groks = calibration & ~contest.groks, calibration & contest.groks
    if not groks.any():
        raise GrokinterpError(f"the calibration half has {never.sum()} runs that never grok and none that does; add runs or watch them for longer")
    soon = discrimination(values[calibration], contest.soon[calibration], rng=np.random.default_rng(0), n_bootstrap=1)
    sign = 1 if soon.auc.value >= 0.5 else -1
    scores = alarm_scores(values, sign, contest.persistence)
    threshold = alarm_threshold(list(scores[never]), allowed_rate(contest.false_alarm_rate, int(never.sum())))
    return Rule(sign, threshold, float(relative_leads(contest, values, sign, threshold)[groks].mean()))


def alarms(contest: Contest, values: Values, sign: int, threshold: float) -> np.ndarray:
    """The step at which each run raises its alarm, NaN for never, [run]."""
    past = alarm_scores(values, sign, contest.persistence) >= threshold
    return np.where(past.any(1), contest.steps[past.argmax(1)], np.nan)


def relative_leads(contest: Contest, values: Values, sign: int, threshold: float) -> np.ndarray:
    """Lead as a share of the time to grokking, 0 for a run missed, NaN for one that never groks, [run]."""
    return np.nan_to_num(np.maximum(contest.grok - alarms(contest, values, sign, threshold), 0)) / contest.grok


# --- the leaderboard ---------------------------------------------------------------------------------------------------------------


class Score(NamedTuple):
    """A predictor on the runs that had no part in its rule."""

    rule: Rule
    detection: Detection
    discrimination: Discrimination


def score(contest: Contest, values: Values, calibration: np.ndarray, resamples: int) -> Score:
    """A predictor's alarms and discrimination on the runs outside the calibration half; every predictor meets the same resamples.

    Args:
        contest: the runs.
        values: what it says.
        calibration: the half that sets its rule, [run].
        resamples: of the bootstrap.
    """
    own, rest = rule(contest, values, calibration), ~calibration
    rate = allowed_rate(contest.false_alarm_rate, int((calibration & ~contest.groks).sum()))
    scores = list(alarm_scores(values, own.sign, contest.persistence))
    rng = np.random.default_rng
    found = detection(scores, list(contest.steps), contest.grok, rate, calibration=calibration, rng=rng(0), n_bootstrap=resamples)
    soon = discrimination(own.sign * values[rest], contest.soon[rest], rng=rng(0), n_bootstrap=resamples)
    return Score(own, found, soon)


def gain(contest: Contest, base: Sequence[str], more: Sequence[str], calibration: np.ndarray, resamples: int) -> Estimate:
    """What further quantities add to the AUC of a base, both combined on the calibration runs and scored on the others."""
    alone, together = (contest.combined(quantities, calibration)[~calibration] for quantities in (base, (*base, *more)))
    found = discrimination(together, contest.soon[~calibration], baseline=alone, rng=np.random.default_rng(0), n_bootstrap=resamples)
    assert found.gain is not None  # a baseline was given
    return found.gain


def point_scores(contest: Contest, values: Values, calibration: np.ndarray) -> tuple[float, float, float]:
    """Detection rate, mean relative lead and false-alarm rate on the other half, without intervals."""
    own, rest = rule(contest, values, calibration), ~calibration
    lead = relative_leads(contest, values, own.sign, own.threshold)[rest & contest.groks]
    raised = alarms(contest, values, own.sign, own.threshold)[rest & ~contest.groks]
    return float((lead > 0).mean()), float(lead.mean()), float((~np.isnan(raised)).mean())


def halves(contest: Contest, n: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Random halves of the runs, half of each stratum; of an odd number, the larger half in turn."""
    for turn in range(n):
        chosen = np.zeros(len(contest.strata), dtype=bool)
        for stratum in np.unique(contest.strata):
            members = np.flatnonzero(contest.strata == stratum)
            chosen[rng.permutation(members)[: (len(members) + turn % 2) // 2]] = True
        yield chosen


def over_splits(contest: Contest, predictors: Mapping[str, Sequence[str]], n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Detection rate, relative lead and false-alarm rate of every predictor over random halvings, each scored both ways.

    Args:
        contest: the runs.
        predictors: the quantities behind each, by name; several are combined anew on every half.
        n: halvings.
        rng: draws them.

    Returns:
        A row each predictor: mean over halvings and standard deviation (``_sd``) between them, which is no standard error: halvings share runs.
    """
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in predictors}
    for half in halves(contest, n, rng):
        for name, quantities in predictors.items():
            both = [point_scores(contest, values_of(contest, quantities, calibration), calibration) for calibration in (half, ~half)]
            drawn[name].append(np.mean(both, axis=0))
    columns = ["split_detection", "split_relative_lead", "split_false_alarms"]
    means = pd.DataFrame({name: np.mean(rows, axis=0) for name, rows in drawn.items()}, index=columns).T
    spreads = pd.DataFrame({name: np.std(rows, axis=0) for name, rows in drawn.items()}, index=columns).T
    return means.join(spreads.add_suffix("_sd"))


def values_of(contest: Contest, quantities: Sequence[str], calibration: np.ndarray) -> Values:
    """One quantity as it is, several combined on the calibration runs."""
    return contest.series[quantities[0]] if len(quantities) == 1 else contest.combined(quantities, calibration)
