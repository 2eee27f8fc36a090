"""The difference between two arms that share their seeds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata, t

from grokinterp.errors import GrokinterpError
from grokinterp.laws.drawing import draw, line, points
from grokinterp.laws.numerics import columns, sign_flip_p
from grokinterp.laws.results import Estimate, Result, check_level
from grokinterp.plots.lazy import go


@dataclass(frozen=True, eq=False, kw_only=True)
class PairedDifference(Result):
    """How much a differs from b, pair by pair.

    Attributes:
        mean: of a − b, with the interval of Student's t.
        t: statistic of the paired t-test.
        p_t: its two-sided p-value.
        cohens_d: mean of the differences over their standard deviation.
        p_wilcoxon: exact two-sided signed-rank test; pairs without a difference left out, tied ranks averaged.
        n_pairs: pairs with both values.
        n_incomplete: pairs with a NaN, left out.
        pairs: ``a``, ``b``, ``difference`` of the pairs used.
    """

    mean: Estimate
    t: float
    p_t: float
    cohens_d: float
    p_wilcoxon: float
    n_pairs: int
    n_incomplete: int
    pairs: pd.DataFrame = field(repr=False)

    def figure(self) -> go.Figure:
        """The difference of each pair, sorted, with the mean and its interval."""
        difference = np.sort(self.pairs["difference"])
        order = np.arange(1, len(difference) + 1)
        ends = np.array([order[0], order[-1]])
        levels = [("mean", self.mean.value, "solid"), ("low", self.mean.low, "dot"), ("high", self.mean.high, "dot")]
        lines = [line(ends, np.full(2, value), name, 1, dash) for name, value, dash in levels]
        caption = "Each dot is a pair, sorted. The arms differ where the dotted interval of the mean leaves out zero."
        return draw("Paired differences", caption, [points(order, difference, "pairs"), *lines], "pair", "a − b")

    def __str__(self) -> str:
        tests = f"p = {self.p_t:.2g} (t), {self.p_wilcoxon:.2g} (Wilcoxon)"
        return f"a − b = {self.mean}, d = {self.cohens_d:.3g}, {tests}; {self.n_pairs} pairs, {self.n_incomplete} incomplete"


def paired_difference(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> PairedDifference:
    """The mean of a − b over pairs, with t-test, Cohen's d for pairs and the exact signed-rank test.

    Args:
        a: one value for each pair, such as the treated run of each seed; NaN where it is missing.
        b: the same of the other arm, in the same order.
        level: of the interval of the mean.

    Raises:
        GrokinterpError: arrays of different lengths, fewer than 2 complete pairs, differences that are all equal.

    Source: arXiv 2605.20441, intervention (B − A and C − A, paired by seed, d = mean/SD of the differences).
    """
    check_level(level)
    pairs = columns(("a", "b"), a=a, b=b).assign(difference=lambda arms: arms["a"] - arms["b"])
    complete = pairs.dropna().reset_index(drop=True)
    difference, n = complete["difference"].to_numpy(), len(complete)
    if n < 2:
        raise GrokinterpError(f"a paired test needs at least 2 complete pairs; got {n} of {len(pairs)}")
    if np.ptp(difference) == 0:
        raise GrokinterpError(f"all {n} differences equal {difference[0]:g}, so that t and d do not exist; check that the arms are different runs")
    mean, deviation = difference.mean(), difference.std(ddof=1)
    statistic, reach = mean / deviation * np.sqrt(n), t.ppf((1 + level) / 2, n - 1) * deviation / np.sqrt(n)
    moved = difference[difference != 0]
    # Twice the ranks, so that averaged ones are integers.
    signed_ranks = np.rint(2 * rankdata(np.abs(moved)) * np.sign(moved))
    return PairedDifference(
        mean=Estimate(float(mean), float(mean - reach), float(mean + reach)),
        t=float(statistic),
        p_t=float(2 * t.sf(abs(statistic), n - 1)),
        cohens_d=float(mean / deviation),
        p_wilcoxon=sign_flip_p(signed_ranks)[0],
        n_pairs=n,
        n_incomplete=len(pairs) - n,
        pairs=complete,
    )
