"""How grokking times scale: power laws, above a boundary too, and the time as a function of the prime."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import linregress, t

from grokinterp.chance import Rng, generator
from grokinterp.errors import GrokinterpError
from grokinterp.laws.drawing import draw, line, points
from grokinterp.laws.numerics import columns, minimise, r_squared, require, resample
from grokinterp.laws.results import Estimate, Result, bootstrap_interval, check_level
from grokinterp.plots.lazy import go

NO_BETTER = 1e-3  # of the sum of squares: a fit that gains less on its limit does not determine two parameters (chosen here)


@dataclass(frozen=True, eq=False, kw_only=True)
class PowerLaw(Result):
    """The law y = prefactor · (x − offset)^exponent.

    Attributes:
        exponent: with its interval from Student's t.
        prefactor: y at x − offset = 1.
        offset: as given; the intervals take it as known.
        r2: share of the variance of log y explained.
        n_runs: that the fit used.
        n_never: runs left out because y never happened, NaN; where these are many, the fit is of the lucky ones.
        runs: x and y of the runs used, under the names of the arguments.
    """

    exponent: Estimate
    prefactor: Estimate
    offset: float
    r2: float
    n_runs: int
    n_never: int
    runs: pd.DataFrame = field(repr=False)

    @property
    def nu(self) -> Estimate:
        """ν = −exponent, as critical exponents are quoted."""
        return Estimate(-self.exponent.value, -self.exponent.high, -self.exponent.low)

    def figure(self) -> go.Figure:
        """y against x − offset, both logarithmic, and the law."""
        x, y = self.runs.iloc[:, 0].to_numpy() - self.offset, self.runs.iloc[:, 1].to_numpy()
        ends = np.array([x.min(), x.max()])
        fit = line(ends, self.prefactor.value * ends**self.exponent.value, f"exponent {self.exponent.value:.3g}", 1)
        caption = "Each dot is a run; on these scales a power law is a straight line, whose slope is the exponent."
        return draw("Power law", caption, [points(x, y, "runs"), fit], self._base, self.runs.columns[1], log_x=True, log_y=True)

    @property
    def _base(self) -> str:
        name = str(self.runs.columns[0])
        return f"({name} − {self.offset:.4g})" if self.offset else name

    def __str__(self) -> str:
        return f"{self.runs.columns[1]} ∝ {self._base}^a with a = {self.exponent}, R² = {self.r2:.3f} ({self.n_runs} runs, {self.n_never} never)"


def power_law(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> PowerLaw:
    """The exponent and prefactor of y ∝ x^exponent, by ordinary least squares of log y on log x.

    Args:
        x: such as the weight decay of each run, positive.
        y: such as its grokking time, positive; NaN for runs that never grok, which are left out and counted.
        level: of the intervals.

    Raises:
        GrokinterpError: values that are not positive, fewer than 3 runs or 2 different x.

    Source: arXiv 2602.22600, τ ∝ λ^−1.02; arXiv 2605.20441, exponent.
    """
    return _power_law(x, y, 0.0, ("x", "y"), level)


def power_law_above(weight_decay: ArrayLike, time: ArrayLike, boundary: float, *, level: float = 0.95) -> PowerLaw:
    """The exponent of t ∝ (λ − λ_c)^−ν, by ordinary least squares of log t on log(λ − λ_c) over the runs that grok.

    Args:
        weight_decay: λ of each run.
        time: of grokking; NaN for runs that never grok, which are left out and counted.
        boundary: λ_c, taken as known, such as the value of `logistic_boundary`.
        level: of the intervals, which do not contain the doubt about λ_c.

    Returns:
        The law with exponent −ν; its property `nu` is ν.

    Raises:
        GrokinterpError: a run that groks at λ ≤ λ_c, times that are not positive, fewer than 3 runs or 2 different λ.

    Source: arXiv 2605.20441, exponent (ν = 0.757, prefactor 135.5, n = 140).
    """
    return _power_law(weight_decay, time, boundary, ("weight_decay", "time"), level)


def _power_law(x: ArrayLike, y: ArrayLike, offset: float, names: tuple[str, str], level: float) -> PowerLaw:
    check_level(level)
    all_runs = columns(names[1:], **dict(zip(names, (x, y)))).set_axis(["x", "y"], axis=1)
    happened = all_runs["y"].notna()
    rule = "the logarithm needs positive values" if not offset else f"it has to lie above the boundary {offset:g}: leave such runs out, or lower it"
    require(~happened | (all_runs["x"] > offset), all_runs["x"], names[0], rule)
    require(~happened | (all_runs["y"] > 0), all_runs["y"], names[1], "the logarithm needs positive values; give NaN for never")
    runs = all_runs[happened].reset_index(drop=True)
    if len(runs) < 3 or runs["x"].nunique() < 2:
        raise GrokinterpError(
            f"a power law needs at least 3 runs at 2 different {names[0]}; got {len(runs)} at {runs['x'].nunique()}, "
            f"with {len(all_runs) - len(runs)} more whose {names[1]} is NaN"
        )
    fit = linregress(np.log(runs["x"] - offset), np.log(runs["y"]))
    wide = float(t.ppf((1 + level) / 2, len(runs) - 2))
    slope, reach = float(fit.slope), wide * float(fit.stderr)
    prefactor, factor = np.exp(fit.intercept), np.exp(wide * fit.intercept_stderr)
    return PowerLaw(
        exponent=Estimate(slope, slope - reach, slope + reach),
        prefactor=Estimate(float(prefactor), float(prefactor / factor), float(prefactor * factor)),
        offset=offset,
        r2=float(fit.rvalue**2),
        n_runs=len(runs),
        n_never=len(all_runs) - len(runs),
        runs=runs.set_axis(list(names), axis=1),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class GrokkingTimeInP(Result):
    """The law τ = −Ω ln(1 − p_crit/p).

    Attributes:
        omega: Ω, in the unit of τ; its interval reaches ∞ where resampled runs are as well described by τ ∝ 1/p, the limit p_crit → 0.
        p_crit: at and below which the law has no grokking.
        r2: share of the variance of τ explained, over runs.
        r2_of_means: the same over the mean τ of each p.
        n_runs: that the fit used.
        n_never: runs left out because they never grok.
        runs: ``p``, ``time`` of the runs used.
    """

    omega: Estimate
    p_crit: Estimate
    r2: float
    r2_of_means: float
    n_runs: int
    n_never: int
    runs: pd.DataFrame = field(repr=False)

    def figure(self) -> go.Figure:
        """Grokking time against p, and the law."""
        dense = np.linspace(self.runs["p"].min(), self.runs["p"].max(), 200)
        fit = line(dense, -self.omega.value * np.log1p(-self.p_crit.value / dense), "−Ω ln(1 − p_crit/p)", 1)
        caption = "Each dot is a run. The law diverges at p_crit: with fewer data the penalty on the weights never wins."
        return draw(
            "Grokking time and p", caption, [points(self.runs["p"].to_numpy(), self.runs["time"].to_numpy(), "runs"), fit], "p", "grokking time τ"
        )

    def __str__(self) -> str:
        return f"τ = −Ω ln(1 − p_crit/p) with Ω = {self.omega}, p_crit = {self.p_crit}, R² = {self.r2:.3f} ({self.n_runs} runs, {self.n_never} never)"


def grokking_time_in_p(p: ArrayLike, time: ArrayLike, *, rng: Rng = 0, n_bootstrap: int = 1000, level: float = 0.95) -> GrokkingTimeInP:
    """The law τ = −Ω ln(1 − p_crit/p) of grokking time in the prime, by least squares of τ over runs.

    Args:
        p: of each run.
        time: τ, from memorising to grokking; NaN for runs that never grok, which are left out and counted.
        rng: seed or generator that draws the bootstrap, which resamples runs over all p (so that one run at each p is enough).
        n_bootstrap: resamples; one with a single p determines no law and counts for neither interval.
        level: of the intervals.

    Raises:
        GrokinterpError: values that are not positive, fewer than 3 different p with a run that groks.

    Source: arXiv 2602.22600, grokking time (Ω ≈ 2,770, p_crit ≈ 23, R² > .99). It does not say how it was fitted; chosen here.
    """
    rng = generator(rng)
    all_runs = columns(("time",), p=p, time=time)
    require(all_runs["p"] > 0, all_runs["p"], "p", "a modulus is positive")
    require(~(all_runs["time"] <= 0), all_runs["time"], "time", "grokking comes after memorising; give NaN for never")
    runs = all_runs.dropna().reset_index(drop=True)
    if runs["p"].nunique() < 3:
        raise GrokinterpError(f"two parameters need runs that grok at 3 different p at least; got {runs['p'].nunique()}, so run more p")
    moduli, taus = runs["p"].to_numpy(), runs["time"].to_numpy()
    counts = resample(rng, np.zeros(len(runs)), n_bootstrap)
    several = (counts @ pd.get_dummies(runs["p"]).to_numpy(float) > 0).sum(1) > 1
    omega, p_crit = _fit_in_p(moduli, taus, counts[several])
    predicted = -omega[0] * np.log1p(-p_crit[0] / moduli)
    means = runs.assign(predicted=predicted).groupby("p").mean()
    return GrokkingTimeInP(
        omega=bootstrap_interval(omega, level),
        p_crit=bootstrap_interval(p_crit, level),
        r2=r_squared(taus, predicted),
        r2_of_means=r_squared(means["time"].to_numpy(), means["predicted"].to_numpy()),
        n_runs=len(runs),
        n_never=len(all_runs) - len(runs),
        runs=runs,
    )


def _fit_in_p(p: np.ndarray, tau: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ω and p_crit for each row of `counts` [fit, run], by least squares of τ in units of its mean.

    As p_crit → 0 the law becomes τ = Ω p_crit/p. Where that limit fits a resample as well, its runs do not tell Ω from ∞, and the row is (∞, 0);
    the first row, of the runs themselves, stays as it is.
    """
    scale, smallest = tau.mean(), np.where(counts > 0, p, np.inf).min(1)

    def shape(theta: np.ndarray, fits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """−ln(1 − p_crit/p) and its derivative in p_crit/p_min; runs that were not drawn may lie below p_crit, and count nothing."""
        share = np.minimum(theta[:, 1:] * smallest[fits, None] / p, 1 - 1e-9)
        return -np.log1p(-share), smallest[fits, None] / p / (1 - share)

    def objective(theta: np.ndarray, fits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        curve, slope = shape(theta, fits)
        omega = np.exp(theta[:, :1])
        off = counts[fits] * (omega * curve - tau / scale)
        value = (off * (omega * curve - tau / scale)).sum(1)
        return value, 2 * np.stack([(off * omega * curve).sum(1), (off * omega * slope).sum(1)], axis=1)

    every, tried, errors = np.arange(len(counts)), [], []
    for share in (0.02, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95, 0.99):
        curve, _ = shape(np.full((len(counts), 2), share), every)
        omega = (counts * curve * tau / scale).sum(1) / (counts * curve**2).sum(1)
        tried.append(np.stack([np.log(omega), np.full(len(counts), share)], axis=1))
        errors.append(objective(tried[-1], every)[0])
    start = np.stack(tried)[np.argmin(errors, axis=0), every]
    theta, _ = minimise(objective, start, np.array([-20, 1e-4]), np.array([20, 1 - 1e-6]))
    inverse = (counts * tau / scale / p).sum(1) / (counts / p**2).sum(1)
    limit = (counts * (inverse[:, None] / p - tau / scale) ** 2).sum(1)
    bounded = objective(theta, every)[0] < limit * (1 - NO_BETTER)
    bounded[0] = True
    return np.where(bounded, scale * np.exp(theta[:, 0]), np.inf), np.where(bounded, theta[:, 1] * smallest, 0.0)
