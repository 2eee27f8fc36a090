"""The boundary of grokking as a function of the horizon, from grokking times of which some are right-censored.

The model is an accelerated failure time with a threshold and a share of runs that never grok at any weight decay:

    log t = a − ν log(λ − λ_0) + σ·ε,  ε standard normal, λ > λ_0;    P(a run can grok at all) = π.

Why this one: it is the published power law above a boundary with the scatter between seeds written out, so that both are estimated from
the same runs; a run stopped at its horizon counts for what is known of it instead of as one that never groks; λ_0 is where grokking
stops for any horizon, while λ_c(T), where half of the runs grok by T, falls towards it as T grows; and π keeps runs that fail well
above the boundary, as 5 of 30 do at λ = 1 in arXiv 2605.20441, from being read as slow ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtri

from grokinterp.chance import Rng, generator
from grokinterp.errors import GrokinterpError
from grokinterp.laws.drawing import band, draw, line
from grokinterp.laws.numerics import columns, flags, log_survival, minimise, require, resample
from grokinterp.laws.results import Estimate, Result, bootstrap_interval, tabulate
from grokinterp.laws.subjects import GROKS, column, times_in_sweep
from grokinterp.plots import GREY
from grokinterp.plots.lazy import go

LOWER = np.array([-60.0, 0.02, 0.0, np.log(0.01), 0.02])
UPPER = np.array([60.0, 15.0, 1 - 1e-4, np.log(10.0), 1.0])
"""The box of a, ν, λ_0 over the smallest λ that groks, log σ and π."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SurvivalBoundary(Result):
    """The weight decay at which half of the runs grok, for any horizon; no intervals where no λ has two runs.

    Attributes:
        asymptote: λ_0, below which no run groks however long it is followed; where the interval reaches 0, the data show no such λ.
        exponent: ν.
        prefactor: e^a, the median time at λ − λ_0 = 1.
        spread: σ, of log time between seeds.
        share_that_can: π, the share of runs that would grok at large λ.
        n_runs: all of them.
        n_censored: runs that were given up before they grokked.
        n_left_out: runs of a sweep's table without any step yet, of which nothing is known.
        followed: the longest that a run was followed; boundaries at longer horizons are extrapolated.
        horizons: the horizons asked for.
        level: of the intervals.
        fits: the parameters [resample, parameter], the data's own first.
    """

    asymptote: Estimate
    exponent: Estimate
    prefactor: Estimate
    spread: Estimate
    share_that_can: Estimate
    n_runs: int
    n_censored: int
    n_left_out: int
    followed: float
    horizons: tuple[float, ...]
    level: float
    fits: np.ndarray = field(repr=False)

    def at(self, horizon: float) -> Estimate:
        """λ_c at a horizon, where half of the runs grok by then; infinite if at no λ so many do.

        Raises:
            GrokinterpError: a horizon that is not positive.
        """
        if not 0 < horizon < np.inf:
            raise GrokinterpError(f"a horizon is a positive time in the unit of the runs; got {horizon}")
        return bootstrap_interval(_boundaries(self.fits, horizon), self.level)

    def table(self) -> pd.DataFrame:
        """The parameters and counts, then a row for λ_c at each horizon."""
        return pd.concat([super().table(), tabulate({f"boundary at {horizon:g}": self.at(horizon) for horizon in self.horizons})], ignore_index=True)

    def figure(self) -> go.Figure:
        """λ_c against the horizon, with its interval, the asymptote, and how far runs were followed."""
        dense = np.geomspace(min(*self.horizons, self.followed) / 2, 2 * max(*self.horizons, self.followed), 80)
        value, low, high = np.array([self.at(horizon) for horizon in dense]).T
        traces = [
            band(dense, low, high, "interval", 0),
            line(dense, value, "λ_c", 0),
            line(dense, np.full(len(dense), self.asymptote.value), "λ_0", 1, "dash"),
        ]
        caption = (
            "The weight decay at which half of the runs grok falls with the time that they are given. Right of the grey line it is extrapolated."
        )
        figure = draw("Boundary of grokking by horizon", caption, traces, "horizon", "weight decay λ", log_x=True)
        return figure.add_vline(x=self.followed, line={"color": GREY, "dash": "dot"})

    def __str__(self) -> str:
        boundaries = ", ".join(f"λ_c({horizon:g}) = {self.at(horizon)}" for horizon in self.horizons)
        return f"{boundaries}; λ_0 = {self.asymptote}, ν = {self.exponent} ({self.n_censored} of {self.n_runs} runs censored)"


def survival_boundary(
    weight_decay: ArrayLike | pd.DataFrame,
    time: ArrayLike | None = None,
    censored: ArrayLike | None = None,
    horizon: float | ArrayLike | None = None,
    *,
    rng: Rng = 0,
    n_bootstrap: int = 500,
    all_can: bool = False,
    level: float = 0.95,
) -> SurvivalBoundary:
    """The weight decay at which half of the runs grok as a function of the horizon, by maximum likelihood with right-censoring.

    With 10 runs at each of 10 λ, intervals of 95 % held the truth in 87 to 95 % of 60 simulated data sets, at and beyond the horizon.

    Args:
        weight_decay: λ of each run, 0 allowed for runs that never grok; or the table of a sweep, as `sweep` and `results` give it, which says when
            each run groks by its ``grokked_at``, a test accuracy of 0.99, and how far the others were followed.
        time: of grokking, positive; of a censored run, for how long it was followed; None with a table.
        censored: which runs did not grok while they were followed; None with a table.
        horizon: one or more times at which to state λ_c; None for the longest that a run was followed; `SurvivalBoundary.at` gives any other.
        rng: seed or generator that draws the bootstrap, which resamples runs within each λ.
        n_bootstrap: resamples; one that groks at fewer than 3 λ determines no law and counts for no interval.
        all_can: hold π at 1, for data in which every run well above the boundary groks.
        level: of the intervals.

    Raises:
        GrokinterpError: a table beside times, or λ without them; times or horizons that are not positive, a negative λ, runs
            that grok at fewer than 3 λ, a run that groks at λ = 0.

    Source: chosen here; the module says why. The power law is that of arXiv 2605.20441.
    """
    rng = generator(rng)
    n_left_out, bar = 0, ""
    if isinstance(weight_decay, pd.DataFrame) and time is None and censored is None:
        bar = f", or give the λ, time and censored of each run by a measure of yours: a table's runs grok by {GROKS}, where its grokked_at has a step"
        table = times_in_sweep(weight_decay)
        seen = table[table["grokked"] | (table["step"].fillna(0) > 0)]
        n_left_out = len(table) - len(seen)
        weight_decay, time, censored = seen[column(table, "weight_decay")].to_numpy(float), seen["time"].to_numpy(), ~seen["grokked"].to_numpy()
    if isinstance(weight_decay, pd.DataFrame) or time is None or censored is None:
        given = f"{type(weight_decay).__name__} as weight_decay, {type(time).__name__} as time and {type(censored).__name__} as censored"
        raise GrokinterpError(f"give a sweep's table without time and censored, or λ, time and censored of each run; got {given}")
    runs = columns(weight_decay=weight_decay, time=time)
    stopped = flags("censored", censored, len(runs))
    decay, times = runs["weight_decay"].to_numpy(), runs["time"].to_numpy()
    horizons = columns(horizon=np.atleast_1d(np.asarray(times.max() if horizon is None else horizon, dtype=np.float64)))["horizon"].to_numpy()
    require(decay >= 0, decay, "weight_decay", "weight decay is not negative")
    require(stopped | (decay > 0), decay, "weight_decay", "a power law of λ cannot have a run that groks at λ = 0; leave it out and say so")
    require(times > 0, times, "time", "times are positive: when a run grokked, or for how long it was followed")
    require(horizons > 0, horizons, "horizon", "a horizon is a positive time in the unit of the runs")
    n_decays = len(np.unique(decay[~stopped]))
    if n_decays < 3:
        raise GrokinterpError(f"a boundary and an exponent need runs that grok at 3 different λ at least; got {n_decays}, so run more λ{bar}")

    counts = resample(rng, decay, n_bootstrap)
    determined = (counts @ (~stopped[:, None] * (decay[:, None] == np.unique(decay))) > 0).sum(1) > 2
    fits = _fit(decay, np.log(times), stopped, counts[determined], all_can)
    quantities = {
        "asymptote": fits[:, 2],
        "exponent": fits[:, 1],
        "prefactor": np.exp(fits[:, 0]),
        "spread": fits[:, 3],
        "share_that_can": fits[:, 4],
    }
    return SurvivalBoundary(
        **{name: bootstrap_interval(value, level) for name, value in quantities.items()},
        n_runs=len(runs),
        n_censored=int(stopped.sum()),
        n_left_out=n_left_out,
        followed=float(times.max()),
        horizons=tuple(float(each) for each in horizons),
        level=level,
        fits=fits,
    )


def _boundaries(fits: np.ndarray, horizon: float) -> np.ndarray:
    """λ_c of each fit: where π·Φ((log T − a + ν log(λ − λ_0))/σ) = 1/2."""
    a, nu, asymptote, sigma, share = fits.T
    quantile = ndtri(np.minimum(0.5 / share, 1.0))  # infinite where π ≤ 1/2
    with np.errstate(over="ignore"):
        return asymptote + np.exp((a + sigma * quantile - np.log(horizon)) / nu)


def _fit(decay: np.ndarray, log_time: np.ndarray, stopped: np.ndarray, counts: np.ndarray, all_can: bool) -> np.ndarray:
    """a, ν, λ_0, σ and π for each row of `counts`, [fit, 5]."""
    smallest = np.where((counts > 0) & ~stopped, decay, np.inf).min(1)
    unit = np.exp(np.log(decay[~stopped]).mean())  # log(λ − λ_0) counts from here in the fit, so that a and ν do not pull together
    lower = LOWER if not all_can else np.where(np.arange(5) == 4, 1.0, LOWER)

    def objective(theta: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, nu, edge, log_sigma, share = (theta[:, i : i + 1] for i in range(5))
        sigma = np.exp(log_sigma)
        above = decay - edge * smallest[rows, None]
        can = above > 0  # at or below λ_0 survival is certain
        distance = np.where(can, above, 1.0)
        log_distance = np.log(distance / unit)
        z = (log_time - a + nu * log_distance) / sigma
        survived, hazard = log_survival(z)
        with np.errstate(divide="ignore"):  # π = 1
            still = np.logaddexp(np.log1p(-share), np.log(share) + survived)
        value = np.where(stopped, -still, z**2 / 2 + log_sigma - np.log(share))
        d_z = np.where(stopped, hazard * share * np.exp(survived - still), z)
        d_log_distance = d_z * nu / sigma
        gradients = (
            -d_z / sigma,
            d_z * log_distance / sigma,
            -d_log_distance * smallest[rows, None] / distance,
            np.where(stopped, 0, 1) - d_z * z,
            np.where(stopped, -np.expm1(survived) * np.exp(np.minimum(-still, 30)), -1 / share),  # far too large is large enough
        )
        weight = counts[rows] * can
        return (weight * value).sum(1), np.stack([(weight * gradient).sum(1) for gradient in gradients], axis=1)

    one = np.zeros(1, dtype=int)
    starts = _starts(log_time[~stopped], decay[~stopped], unit)
    tried, value = minimise(lambda theta, rows: objective(theta, one.repeat(len(rows))), starts, lower, UPPER)
    best = tried[value.argmin()]
    # Two starts for each resample: near the data's own fit, and with λ_0 close under the smallest λ that groks in it.
    second = np.where(np.arange(5) == 2, 0.95, best)
    fits = [minimise(objective, np.tile(start, (len(counts), 1)), lower, UPPER) for start in (best, second)]
    chosen = np.where((fits[0][1] <= fits[1][1])[:, None], fits[0][0], fits[1][0])
    a, nu, edge, log_sigma, share = chosen.T
    return np.stack([a + nu * np.log(unit), nu, edge * smallest, np.exp(log_sigma), share], axis=1)


def _starts(log_time: np.ndarray, decay: np.ndarray, unit: float) -> np.ndarray:
    """Starts over ν, λ_0 and π, with a and σ from the runs that grok."""
    grid = np.stack(np.meshgrid([0.3, 1.0, 2.5], [0.0, 0.5, 0.9, 0.99], [0.8, 0.99], indexing="ij"), axis=-1).reshape(-1, 3)
    starts = []
    for nu, edge, share in grid:
        level = log_time + nu * np.log((decay - edge * decay.min()) / unit)
        starts.append([level.mean(), nu, edge, np.log(max(level.std(), 0.05)), share])
    return np.array(starts)
