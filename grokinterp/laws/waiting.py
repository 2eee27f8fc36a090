"""How long runs take to meet a condition, where some do not meet it while they are followed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binom

from grokinterp.chance import Rng, generator
from grokinterp.conditions import Condition
from grokinterp.errors import GrokinterpError
from grokinterp.laws.drawing import draw, points
from grokinterp.laws.numerics import columns, resample, sign_flip_p
from grokinterp.laws.results import Estimate, Result, bootstrap_interval, check_level
from grokinterp.laws.subjects import onsets_of
from grokinterp.plots import GREY
from grokinterp.plots.lazy import go


@dataclass(frozen=True, eq=False, kw_only=True)
class Onsets(Result):
    """When each of several runs first meets a condition.

    Attributes:
        median: step by which half of the runs have met it, by Kaplan and Meier, so that a run that was given up counts for as long as it was
            followed; infinite where fewer than half ever do. Interval by bootstrap over runs.
        n_runs: all of them.
        n_reached: runs that meet the condition.
        n_censored: runs that do not while they are followed.
        condition: what is waited for.
        runs: a row a run: the settings that differ, ``onset`` (NaN for never) and ``followed``.
    """

    median: Estimate
    n_runs: int
    n_reached: int
    n_censored: int
    condition: str
    runs: pd.DataFrame = field(repr=False)

    def table(self) -> pd.DataFrame:
        """The runs, a row each, with the steps as ``onset`` (NaN for never) and ``followed``; then "median" with its limits ``low``, ``high``."""
        runs = self.runs.rename_axis("run").reset_index()
        runs.insert(runs.columns.get_loc("onset") + 1, "low", np.nan)
        runs.insert(runs.columns.get_loc("low") + 1, "high", np.nan)
        median = {"run": "median", "onset": self.median.value, "low": self.median.low, "high": self.median.high}
        return pd.DataFrame([*runs.to_dict("records"), median], columns=runs.columns)

    def figure(self) -> go.Figure:
        """The onset of each run, by label; an open triangle where a run was given up before."""
        from grokinterp.reports.several import onset_figure

        return onset_figure(self.runs[["onset", "followed"]].rename(columns={"onset": self.condition}))

    def __str__(self) -> str:
        return f"{self.condition}: {self.n_reached} of {self.n_runs} runs, median step {self.median}; {self.n_censored} not while they were followed"


def onsets(runs: Any, condition: str, *, rng: Rng = 0, n_bootstrap: int = 1000, level: float = 0.95) -> Onsets:
    """When each of several runs first meets a condition, and the median step; runs that never do are right-censored.

    Args:
        runs: a `Comparison`, reports, runs, their folders, or a folder of runs such as a sweep's.
        condition: like "test_accuracy >= 0.95"; of reports also on what was measured, like "fsd[1] >= 0.8 for 2".
        rng: seed or generator that draws the bootstrap.
        n_bootstrap: resamples.
        level: of the interval.

    Raises:
        GrokinterpError: a condition that cannot be read, or on a quantity that a run lacks.

    Source: Kaplan and Meier 1958 for the median; its use here is chosen here.
    """
    rng = generator(rng)
    found = onsets_of(runs, condition)
    met = found["onset"].notna().to_numpy()
    times = found["onset"].fillna(found["followed"]).to_numpy(dtype=float)
    medians = np.array([_median(times, met, weights) for weights in resample(rng, np.zeros(len(found)), n_bootstrap)])
    return Onsets(
        median=bootstrap_interval(medians, level),
        n_runs=len(found),
        n_reached=int(met.sum()),
        n_censored=int((~met).sum()),
        condition=str(Condition.parse(condition)),
        runs=found,
    )


def _median(times: np.ndarray, met: np.ndarray, weights: np.ndarray) -> float:
    """Kaplan and Meier's median: the first time at which no more than half are still waiting."""
    waiting = 1.0
    for time in np.unique(times[met & (weights > 0)]):
        waiting *= 1 - weights[met & (times == time)].sum() / weights[times >= time].sum()
        if waiting <= 0.5 + 1e-12:
            return float(time)
    return float("inf")


@dataclass(frozen=True, eq=False, kw_only=True)
class PairedOnsets(Result):
    """Which of two arms comes first, pair by pair, where some runs never arrive.

    Attributes:
        median: of a − b over all pairs, with the interval of the sign test; NaN where censoring leaves it open. Of a pair of which one never
            arrives, a − b is known only to lie beyond a bound, so that limits may be infinite.
        median_between: the least and the largest that the median can be, given what was censored.
        p_two_sided: exact sign test over the pairs that are decided.
        n_pairs: all of them.
        n_a_first: pairs in which a comes first, also where b never does while it is followed for at least as long.
        n_b_first: the reverse.
        n_tied: pairs that arrive at the same step.
        n_undecided: pairs of which neither arrives, or one was given up before the other arrived.
        n_never_a: runs of a that never arrive.
        n_never_b: runs of b that never arrive.
        pairs: ``a``, ``b``, ``followed_a``, ``followed_b``, and ``least`` and ``largest``, between which a − b lies.
    """

    median: Estimate
    median_between: Estimate
    p_two_sided: float
    n_pairs: int
    n_a_first: int
    n_b_first: int
    n_tied: int
    n_undecided: int
    n_never_a: int
    n_never_b: int
    pairs: pd.DataFrame = field(repr=False)

    def figure(self) -> go.Figure:
        """Onset in b against onset in a; a run that never arrives as an open triangle where it was given up."""
        x, y = (self.pairs[name].fillna(self.pairs[f"followed_{name}"]).to_numpy() for name in ("a", "b"))
        never = self.pairs[["a", "b"]].isna()
        kinds = {
            "both arrive": (~never["a"] & ~never["b"], "circle"),
            "a never by then": (never["a"] & ~never["b"], "triangle-right-open"),
            "b never by then": (~never["a"] & never["b"], "triangle-up-open"),
            "neither": (never["a"] & never["b"], "x-thin-open"),
        }
        dots = [points(x[own], y[own], name, i, symbol) for i, (name, (own, symbol)) in enumerate(kinds.items()) if own.any()]
        caption = "Each dot is a pair. Above the diagonal a comes first. An open triangle lies where the run that never arrived was given up."
        figure = draw("Onsets of two arms", caption, dots, "onset in a", "onset in b")
        end = float(np.nanmax([x, y]))
        return figure.add_shape(type="line", x0=0, y0=0, x1=end, y1=end, line={"color": GREY, "dash": "dot", "width": 1}, layer="below")

    def __str__(self) -> str:
        decided = f"a first in {self.n_a_first}, b first in {self.n_b_first}, {self.n_tied} tied, {self.n_undecided} undecided"
        never = f"never: {self.n_never_a} of a, {self.n_never_b} of b"
        low, high = self.median_between.low, self.median_between.high
        median = str(self.median) if low == high else f"between {low:.4g} and {high:.4g}"
        return f"{decided} of {self.n_pairs} pairs (sign test p = {self.p_two_sided:.2g}); median a − b {median}; {never}"


def paired_onsets(a: ArrayLike, b: ArrayLike, followed_a: ArrayLike, followed_b: ArrayLike, *, level: float = 0.95) -> PairedOnsets:
    """Which of two arms that share their seeds comes first; a run that never arrives is right-censored.

    "500 against never by 1,500" is a pair in which a comes first by at least 1,000 steps; "1,200 against never by 1,000" says nothing. A
    paired t-test would leave out both, and with them the very runs that differ most.

    Args:
        a: onset in the first arm, one for each pair, NaN for never.
        b: the same in the second arm, in the same order.
        followed_a: until when each run of a was followed.
        followed_b: the same of b.
        level: of the median's interval.

    Raises:
        GrokinterpError: arrays of different lengths, or no pair that is decided.

    Source: chosen here; the interval of the median is that of the exact sign test, on the bounds that censoring leaves.
    """
    check_level(level)
    pairs = columns(("a", "b"), a=a, b=b, followed_a=followed_a, followed_b=followed_b)
    first, second, end_a, end_b = (pairs[name].to_numpy() for name in ("a", "b", "followed_a", "followed_b"))
    never_a, never_b = np.isnan(first), np.isnan(second)
    least = np.where(never_a & ~never_b, end_a - second, np.where(never_b, -np.inf, first - second))
    largest = np.where(never_b & ~never_a, first - end_b, np.where(never_a, np.inf, first - second))
    a_first = (largest < 0) | (never_b & ~never_a & (largest <= 0))
    b_first = (least > 0) | (never_a & ~never_b & (least >= 0))
    tied = (least == 0) & (largest == 0)
    undecided = ~(a_first | b_first | tied)
    if not (a_first | b_first | tied).any():
        raise GrokinterpError(f"none of {len(pairs)} pairs is decided: in each, neither run arrives, or one was given up before the other arrived")
    low, high = np.sort(least), np.sort(largest)
    n = len(pairs)
    k = int(binom.ppf((1 - level) / 2, n, 0.5))
    ends = (float(low[k - 1]), float(high[n - k])) if k >= 1 else (-np.inf, np.inf)
    lower, upper = _middle(low), _middle(high)
    between = Estimate(_between(lower, upper), lower, upper)
    return PairedOnsets(
        median=Estimate(between.value, *ends),
        median_between=between,
        p_two_sided=sign_flip_p(np.where(a_first, -1.0, np.where(b_first, 1.0, 0.0))[~undecided])[0],
        n_pairs=n,
        n_a_first=int(a_first.sum()),
        n_b_first=int(b_first.sum()),
        n_tied=int(tied.sum()),
        n_undecided=int(undecided.sum()),
        n_never_a=int(never_a.sum()),
        n_never_b=int(never_b.sum()),
        pairs=pairs.assign(least=least, largest=largest),
    )


def _middle(ordered: np.ndarray) -> float:
    """The median of sorted values, of which some may be infinite."""
    left, right = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(left if left == right else (left + right) / 2)


def _between(lower: float, upper: float) -> float:
    """The one value between two bounds where they meet, NaN where they leave it open."""
    return lower if lower == upper else float("nan")
