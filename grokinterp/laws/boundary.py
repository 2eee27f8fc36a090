"""The weight decay at which runs begin to grok, as a logistic curve through the share of runs that do."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, log_expit
from scipy.stats import binomtest

from grokinterp.chance import Rng, generator
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.laws.drawing import draw, line, points
from grokinterp.laws.numerics import Objective, columns, flags, minimise, require, resample
from grokinterp.laws.results import Estimate, Result, bootstrap_interval
from grokinterp.laws.subjects import column, times_in_sweep
from grokinterp.plots.lazy import go

STEEPNESS = (0.5, 200.0)
"""Slopes that a fit may have, in logits per decade of λ: beyond the second a curve rises from 1 % to 99 % in a twentieth of a decade."""
REACH = 0.5
"""Decades of λ beyond those that were run in which a boundary is still looked for; arXiv 2605.20441 has one at .0028, run from .003 on."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LogisticBoundary(Result):
    """The weight decay at which half of the runs grok within a horizon.

    Attributes:
        boundary: λ_c, where the curve passes 1/2; no interval where no λ has two runs.
        steepness: k of P(grok) = 1/(1 + exp(−k·(log10 λ − log10 λ_c))).
        n_runs: runs that the fit used.
        n_grokked: of these.
        n_left_out: runs with λ outside (0, `weight_decay_max`].
        n_open: runs of a sweep's table that had neither grokked nor come to their end or to the horizon; left out.
        n_outside: resamples with λ_c outside the λ that were run, and at most half a decade outside: where these are many, the interval
            ends where the runs do.
        n_jumps: resamples whose rates jump from 0 to 1 between two λ: λ_c could be anywhere between these, and is put half-way.
        horizon: until when runs had to grok; None if not said.
        method: "least squares" or "maximum likelihood".
        rates: ``weight_decay``, ``n``, ``grokked``, ``rate`` for each λ, the rate as it was fitted.
    """

    boundary: Estimate
    steepness: Estimate
    n_runs: int
    n_grokked: int
    n_left_out: int
    n_open: int
    n_outside: int
    n_jumps: int
    horizon: float | None
    method: str
    rates: pd.DataFrame = field(repr=False)

    def figure(self) -> go.Figure:
        """Share of runs that grok at each weight decay, with exact binomial intervals, and the fitted curve."""
        decay, n, grokked = (self.rates[name].to_numpy() for name in ("weight_decay", "n", "grokked"))
        exact = np.array([binomtest(int(x), int(m)).proportion_ci() for x, m in zip(grokked, n)]).T
        share = grokked / n
        dense = np.geomspace(decay.min(), decay.max(), 300)
        curve = expit(self.steepness.value * np.log10(dense / self.boundary.value))
        ends = np.array([self.boundary.low, self.boundary.high])
        caption = "Dots are shares of runs that grok, bars exact binomial intervals. The boundary is where the curve passes one half."
        caption += f" Its interval {self.outside}." if self.outside else ""
        traces = [
            points(decay, share, "runs", 0, error=np.array([share - exact[0], exact[1] - share])),
            line(dense, curve, "logistic fit", 1),
            line(ends, np.full(2, 0.5), "interval of the boundary", 2),
        ]
        return draw(f"Boundary of grokking{self._within}", caption, traces, "weight decay λ", "share of runs that grok", log_x=True)

    @property
    def outside(self) -> str:
        """Which λ were run, in words, where the boundary or its interval leaves them: there the fit extrapolates; else empty."""
        lowest, highest = self.rates["weight_decay"].min(), self.rates["weight_decay"].max()
        beyond = [end for end in self.boundary if not np.isnan(end) and not lowest * (1 - 1e-9) <= end <= highest * (1 + 1e-9)]
        return f"leaves the λ that were run, {lowest:g} … {highest:g}" if beyond else ""

    @property
    def _within(self) -> str:
        return "" if self.horizon is None else f" within {self.horizon:,g}"

    def __str__(self) -> str:
        marked = f" ({self.outside})" if self.outside else ""
        return f"λ_c = {self.boundary}{marked}{self._within}, steepness {self.steepness} ({self.method}, {self.n_grokked} of {self.n_runs} runs grok)"


def logistic_boundary(
    weight_decay: ArrayLike | pd.DataFrame,
    grokked: ArrayLike | None = None,
    horizon: float | None = None,
    *,
    rng: Rng = 0,
    n_bootstrap: int = 1500,
    method: str = "least squares",
    smooth: bool = False,
    weight_decay_max: float = 5.0,
    level: float = 0.95,
) -> LogisticBoundary:
    """The weight decay at which half of the runs grok: a two-parameter logistic in log10 λ through the grok rates.

    The boundary depends on the horizon: a run that would have grokked later counts as one that does not. `survival_boundary` takes that
    into account.

    Args:
        weight_decay: λ of each run; or the table of a sweep, as `sweep` and `results` give it, which says the rest.
        grokked: whether each run grokked within the horizon; None with a table.
        horizon: until when runs were followed, in steps or epochs; named in the result and its figure. With a table, until when they count.
        rng: seed or generator that draws the bootstrap, which resamples runs within each λ.
        n_bootstrap: resamples.
        method: "least squares" gives every λ the same weight, whatever its number of runs; "maximum likelihood" every run.
        smooth: take rates as (x + ½)/(n + 1), for few runs at each λ.
        weight_decay_max: runs with larger λ, or with λ = 0, are left out and counted.
        level: of the intervals.

    Raises:
        GrokinterpError: a table without λ, or beside `grokked`; a λ below 0, fewer than two λ, all or no runs that grok, rates that do not cross
            ½ within half a decade of the λ that were run.

    Source: arXiv 2605.20441, boundary fit (least squares, 1,500 run-level resamples, 0 < λ ≤ 5, smoothing for its Mamba runs); maximum
    likelihood and the box of steepness are chosen here.
    """
    rng = generator(rng)
    if method not in _OBJECTIVES:
        raise unknown_name("method", method, _OBJECTIVES)
    if isinstance(weight_decay, pd.DataFrame) != (grokked is None):
        given = f"{type(weight_decay).__name__} as weight_decay and {type(grokked).__name__} as grokked"
        raise GrokinterpError(f"give a sweep's table alone, or λ and whether each run grokked; got {given}")
    n_open, bar = 0, ""
    if isinstance(weight_decay, pd.DataFrame):
        bar = ", or give the λ of each run and whether it groks by a measure of yours: a table's runs grok where its grokked_at has a step"
        table = times_in_sweep(weight_decay, horizon)
        n_open, table = int(table["open"].sum()), table[~table["open"]]
        weight_decay, grokked = table[column(table, "weight_decay")].to_numpy(float), table["grokked"].to_numpy()
    assert grokked is not None
    runs = columns(weight_decay=weight_decay)
    runs["grokked"] = flags("grokked", grokked, len(runs))
    require(runs["weight_decay"] >= 0, runs["weight_decay"], "weight_decay", "weight decay is not negative")
    used = runs[(runs["weight_decay"] > 0) & (runs["weight_decay"] <= weight_decay_max)]
    rates = used.groupby("weight_decay")["grokked"].agg(n="size", grokked="sum").reset_index()
    n, x = rates["n"].to_numpy(), rates["grokked"].to_numpy(float)
    if len(rates) < 2 or x.sum() in (0, n.sum()):
        found = f"{x.sum():g} of {n.sum()} runs grok at {len(rates)} values of λ in (0, {weight_decay_max:g}]"
        raise GrokinterpError(f"no boundary to fit: {found}; run several λ on both sides of it{bar}")

    decays = used["weight_decay"].to_numpy()
    groks_at = used["grokked"].to_numpy()[:, None] * (decays[:, None] == rates["weight_decay"].to_numpy())  # [run, λ]
    drawn = resample(rng, decays, n_bootstrap) @ groks_at
    half = 0.5 if smooth else 0.0
    log_decay = np.log10(rates["weight_decay"].to_numpy())
    centre, steepness = _fit(log_decay, drawn + half, n + 2 * half, method)
    half_way, jumps = _jumps(log_decay, (drawn + half) / (n + 2 * half))
    centre = np.where(jumps, half_way, centre)
    if not log_decay[0] - REACH < centre[0] < log_decay[-1] + REACH:
        ends = f"λ = {10 ** log_decay[0]:g} and {10 ** log_decay[-1]:g}"
        raise GrokinterpError(f"the grok rates do not rise through 1/2 in or near the runs, between {ends}; run λ further out")
    outside = (centre < log_decay[0]) | (centre > log_decay[-1])
    return LogisticBoundary(
        boundary=bootstrap_interval(10**centre, level),
        steepness=bootstrap_interval(steepness, level),
        n_runs=int(n.sum()),
        n_grokked=int(x.sum()),
        n_left_out=len(runs) - len(used),
        n_open=n_open,
        n_outside=int(outside[1:].sum()),
        n_jumps=int(jumps[1:].sum()),
        horizon=horizon,
        method=method,
        rates=rates.assign(rate=(x + half) / (n + 2 * half)),
    )


def _jumps(log_decay: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle between the last rate of 0 and the first of 1, and whether rates [fit, λ] jump there without any in between."""
    n_zeros = (rates == 0).sum(1)
    jumps = (np.sort(rates, axis=1) == rates).all(1) & ((rates == 0) | (rates == 1)).all(1) & (n_zeros > 0) & (n_zeros < len(log_decay))
    middles = (log_decay[1:] + log_decay[:-1]) / 2
    return middles[np.clip(n_zeros - 1, 0, len(middles) - 1)], jumps


def _fit(log_decay: np.ndarray, x: np.ndarray, n: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Centre and steepness, [fit], for counts [fit, λ]: the best of a grid, then Newton."""
    reach = log_decay[0] - REACH, log_decay[-1] + REACH
    centres = np.linspace(*reach, 121)[1:-1]
    log_steepness = np.log(np.geomspace(*STEEPNESS, 25))
    grid = np.stack(np.meshgrid(centres, log_steepness, indexing="ij"), axis=-1).reshape(-1, 2)
    eta = np.exp(grid[:, 1:]) * (log_decay - grid[:, :1])
    # Both criteria are linear in the counts, so that one matrix product tries the whole grid on all resamples.
    if method == "least squares":
        tried = (expit(eta) ** 2).sum(1) - 2 * (x / n) @ expit(eta).T
    else:
        tried = -(x @ log_expit(eta).T + (n - x) @ log_expit(-eta).T)
    lower, upper = np.array([reach, log_steepness[[0, -1]]]).T
    theta, _ = minimise(_OBJECTIVES[method](log_decay, x, n), grid[tried.argmin(1)], lower, upper)
    return theta[:, 0], np.exp(theta[:, 1])


def _least_squares(log_decay: np.ndarray, x: np.ndarray, n: np.ndarray) -> Objective:
    def objective(theta: np.ndarray, fits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        eta, d_eta = _linear(log_decay, theta)
        p = expit(eta)
        off = p - x[fits] / n
        return (off**2).sum(1), np.einsum("fl,fli->fi", 2 * off * p * (1 - p), d_eta)

    return objective


def _negative_log_likelihood(log_decay: np.ndarray, x: np.ndarray, n: np.ndarray) -> Objective:
    def objective(theta: np.ndarray, fits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        eta, d_eta = _linear(log_decay, theta)
        value = -(x[fits] * log_expit(eta) + (n - x[fits]) * log_expit(-eta)).sum(1)
        return value, np.einsum("fl,fli->fi", n * expit(eta) - x[fits], d_eta)

    return objective


def _linear(log_decay: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The logit k·(log10 λ − centre), [fit, λ], and its derivative in centre and log k, [fit, λ, 2]."""
    steepness = np.exp(theta[:, 1:])
    eta = steepness * (log_decay - theta[:, :1])
    return eta, np.stack([np.broadcast_to(-steepness, eta.shape), eta], axis=-1)


_OBJECTIVES = {"least squares": _least_squares, "maximum likelihood": _negative_log_likelihood}
