"""The fork law: the time that is left to grokking after the weight decay is changed, Δt = C/λ."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from grokinterp.chance import Rng, generator
from grokinterp.errors import GrokinterpError
from grokinterp.laws.drawing import draw, line, points
from grokinterp.laws.numerics import Objective, columns, flags, labels, log_survival, minimise, r_squared, require, resample
from grokinterp.laws.results import Estimate, Result, bootstrap_interval
from grokinterp.laws.subjects import GROKS, forks_of, is_subject
from grokinterp.plots.lazy import go

ESTIMATORS = ("least_squares", "mean_product", "censored")
LEAST_NOISE, MOST_NOISE = 1e-4, 20.0


@dataclass(frozen=True)
class ForkFit:
    """The law Δt = C/λ in one group of draws; no intervals where no λ has two draws.

    Attributes:
        least_squares: C = Σ(Δt/λ)/Σ(1/λ²), least squares of Δt on 1/λ through the origin, over the draws that grok.
        mean_product: C = mean(λΔt) over the same draws, as published.
        censored: C as the median of λΔt under log-normal noise, by maximum likelihood with the other draws as right-censored.
        noise: standard deviation of log(λΔt) in that fit.
        r2: for each of the three, 1 − Σ(Δt − C/λ)²/Σ(Δt − mean)² over the draws that grok.
        r2_of_means: the same over the mean Δt of each λ; with the mean product this is the published R².
        trend: Jonckheere and Terpstra's count of pairs of draws in which the larger λ groks sooner, less those in which it groks later;
            pairs that censoring leaves open count nothing.
        p_trend: one-sided p-value of the trend, by permuting λ over draws.
        n_draws: all of them.
        n_never: draws that do not grok while they are followed.
    """

    least_squares: Estimate
    mean_product: Estimate
    censored: Estimate
    noise: float
    r2: dict[str, float]
    r2_of_means: dict[str, float]
    trend: int
    p_trend: float
    n_draws: int
    n_never: int


@dataclass(frozen=True, eq=False, kw_only=True)
class ForkLaw(Result):
    """The fork law in each group.

    Attributes:
        groups: the fit of each group, such as of each prime.
        draws: ``weight_decay``, ``delay``, ``censored``, ``group`` of each draw.
    """

    groups: dict[Hashable, ForkFit]
    draws: pd.DataFrame = field(repr=False)

    def table(self) -> pd.DataFrame:
        """A row for each group and estimator: C with its interval, both R², and the group's trend and counts."""
        rows = []
        for group, fit in self.groups.items():
            for name in ESTIMATORS:
                constant = getattr(fit, name)
                row = {"group": group, "estimator": name, "C": constant.value, "low": constant.low, "high": constant.high}
                row |= {"r2": fit.r2[name], "r2_of_means": fit.r2_of_means[name], "noise": fit.noise}
                rows.append(row | {"trend": fit.trend, "p_trend": fit.p_trend, "n_draws": fit.n_draws, "n_never": fit.n_never})
        return pd.DataFrame(rows)

    def figure(self) -> go.Figure:
        """Time left against weight decay, both logarithmic, draws that never grok as open triangles where they were given up."""
        traces = []
        for i, (group, fit) in enumerate(self.groups.items()):
            draws = self.draws[self.draws["group"] == group]
            for censored, symbol, what in ((False, "circle", ""), (True, "triangle-up-open", ", never")):
                chosen = draws[draws["censored"] == censored]
                if len(chosen):
                    x, y = chosen["weight_decay"].to_numpy(), chosen["delay"].to_numpy()
                    traces.append(points(x, y, f"{group}{what}", i, symbol))
            ends = np.array([draws["weight_decay"].min(), draws["weight_decay"].max()])
            traces.append(line(ends, fit.least_squares.value / ends, f"{group}: {fit.least_squares.value:,.0f}/λ", i))
        caption = "Each dot is a draw; the law is a line of slope −1. Open triangles did not grok for as long as they were followed."
        return draw("Time left to grokking after the fork", caption, traces, "weight decay λ", "time from fork to grokking", log_x=True, log_y=True)

    def __str__(self) -> str:
        fits = (
            f"{group}: C = {fit.least_squares}, censored {fit.censored}, {fit.n_never} of {fit.n_draws} never, trend p = {fit.p_trend:.2g}"
            for group, fit in self.groups.items()
        )
        return "Δt = C/λ by least squares; " + "; ".join(fits)


def fork_law(
    weight_decay: ArrayLike | Any,
    delay: ArrayLike | None = None,
    group: ArrayLike | None = None,
    censored: ArrayLike | None = None,
    *,
    condition: str = GROKS,
    rng: Rng = 0,
    n_bootstrap: int = 2000,
    n_permutations: int = 2000,
    level: float = 0.95,
) -> ForkLaw:
    """The constant C of Δt = C/λ, the time from a fork of the weight decay to grokking, in each group, three ways.

    Args:
        weight_decay: λ of each draw after the fork, positive; or the forked runs themselves, as `fork` returns them, or their folder, which
            say the rest: a group is then a parent.
        delay: Δt of each draw; of one that never groks, for how long it was followed, 0 if that is not known. None with runs.
        group: what has a C of its own, such as the prime; by default all draws share one.
        censored: which draws never grok; by default none.
        condition: of runs, what counts as grokking.
        rng: seed or generator that draws the bootstrap, within each λ, and the permutations of the trend test.
        n_bootstrap: resamples.
        n_permutations: of the trend test.
        level: of the intervals.

    Raises:
        GrokinterpError: runs that are no forks, or beside other arguments; λ or Δt that are not positive, arrays of different lengths, a group
            with draws that grok at fewer than two λ.

    Source: arXiv 2606.12966, fork law; its C is `mean_product`, its R² that of `mean_product` over means. Intervals, censoring and the
    trend test are chosen here.
    """
    rng, criterion = generator(rng), "; add draws at more λ, or follow those for longer"
    if is_subject(weight_decay):
        if not (delay is None and group is None and censored is None):
            raise GrokinterpError(f"forked runs say λ, delay, group and what is censored; leave out what is beside the {type(weight_decay).__name__}")
        weight_decay, delay, censored, group = forks_of(weight_decay, condition).values()
        criterion = f" by {condition!r}; fork at more λ, follow the forks for longer, or give another condition"
    elif delay is None:
        raise GrokinterpError(f"a fork law needs the delay of each draw, or the forked runs; got a {type(weight_decay).__name__} alone")
    draws = columns(weight_decay=weight_decay, delay=delay)
    draws["censored"] = False if censored is None else flags("censored", censored, len(draws))
    draws["group"] = "all" if group is None else labels("group", group, len(draws))
    require(draws["weight_decay"] > 0, draws["weight_decay"], "weight_decay", "C/λ needs λ above 0; leave that draw out")
    require((draws["delay"] > 0) | draws["censored"], draws["delay"], "delay", "a draw that groks does so after the fork; mark others as censored")
    require(draws["delay"] >= 0, draws["delay"], "delay", "a draw cannot be followed for less than no time; give 0 if it is not known")
    groups = draws.groupby("group", sort=False)
    return ForkLaw(groups={name: _fit(name, own, criterion, rng, n_bootstrap, n_permutations, level) for name, own in groups}, draws=draws)


def _fit(
    name: Hashable, draws: pd.DataFrame, criterion: str, rng: np.random.Generator, n_bootstrap: int, n_permutations: int, level: float
) -> ForkFit:
    decay, delay, censored = (draws[column].to_numpy() for column in ("weight_decay", "delay", "censored"))
    groks = ~censored
    if len(np.unique(decay[groks])) < 2:
        found = f"{groks.sum()} of {len(draws)} draws grok{criterion}"
        raise GrokinterpError(f"group {name}: a law in λ needs draws that grok at 2 different λ at least; {found}")
    counts = resample(rng, decay, n_bootstrap)
    with np.errstate(invalid="ignore"):  # a resample in which nothing groks has no C: NaN
        grokking = counts * groks
        constants = {
            "least_squares": grokking @ (delay / decay) / (grokking @ decay**-2),
            "mean_product": grokking @ (decay * delay) / grokking.sum(1),
        }
    constants["censored"], noise = _censored_median(decay * delay, censored, counts)
    estimates = {key: bootstrap_interval(value, level) for key, value in constants.items()}
    means = draws[groks].groupby("weight_decay")["delay"].mean()
    trend, p_trend = _trend(decay, delay, censored, rng, n_permutations)
    return ForkFit(
        **estimates,
        noise=float(noise[0]),
        r2={key: r_squared(delay[groks], value[0] / decay[groks]) for key, value in constants.items()},
        r2_of_means={key: r_squared(means.to_numpy(), value[0] / means.index.to_numpy()) for key, value in constants.items()},
        trend=trend,
        p_trend=p_trend,
        n_draws=len(draws),
        n_never=int(censored.sum()),
    )


def _censored_median(values: np.ndarray, censored: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and log standard deviation of right-censored log-normal values, [fit], for the draws in each row of `counts`."""
    y = np.log(np.maximum(values, 1e-300))  # followed for no time: known to lie above nothing

    def negative_log_likelihood(theta: np.ndarray, fits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sigma = np.exp(theta[:, 1:])
        z = (y - theta[:, :1]) / sigma
        survived, hazard = log_survival(z)
        value = np.where(censored, -survived, theta[:, 1:] + z**2 / 2)
        slope = np.where(censored, hazard, z)
        gradients = -slope / sigma, np.where(censored, 0, 1) - slope * z
        return (counts[fits] * value).sum(1), np.stack([(counts[fits] * gradient).sum(1) for gradient in gradients], axis=1)

    seen = y[~censored]
    start = np.tile([seen.mean(), np.log(max(seen.std(), LEAST_NOISE))], (len(counts), 1))
    lower, upper = np.array([[seen.min() - 20, np.log(LEAST_NOISE)], [seen.max() + 20, np.log(MOST_NOISE)]])
    objective: Objective = negative_log_likelihood
    theta, _ = minimise(objective, start, lower, upper)
    determined = (counts @ ~censored) > 0
    return np.where(determined, np.exp(theta[:, 0]), np.nan), np.exp(theta[:, 1])


def _trend(decay: np.ndarray, delay: np.ndarray, censored: np.ndarray, rng: np.random.Generator, n_permutations: int) -> tuple[int, float]:
    outlasted = np.where(censored[:, None], delay[:, None] >= delay, delay[:, None] > delay)
    later = outlasted & ~censored  # what is censored groks later than no one knows
    order = later.astype(int) - later.T  # [i, j]: +1 where i is known to grok later than j
    slower = np.sign(decay[None, :] - decay[:, None])  # +1 where i has the smaller λ

    def statistic(relabelled: np.ndarray) -> int:
        return int((order * slower[np.ix_(relabelled, relabelled)]).sum()) // 2

    observed = statistic(np.arange(len(decay)))
    null = np.array([statistic(rng.permutation(len(decay))) for _ in range(n_permutations)])
    return observed, float((1 + (null >= observed).sum()) / (1 + n_permutations))
