"""What the laws share: checked columns, resampled runs, exact sign flips, and many small fits at once."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import log_ndtr

from grokinterp.errors import GrokinterpError

ITERATIONS, TOLERANCE = 200, 1e-8  # at most; of the gradient, relative to 1 + |value|

Objective = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Parameters [fit, parameter] and the numbers of these fits -> values [fit] and gradients [fit, parameter]."""


def columns(may_be_nan: Collection[str] = (), **values: ArrayLike) -> pd.DataFrame:
    """One row a run from arrays of the same length, as float64.

    Args:
        may_be_nan: the columns in which NaN says "never".
        **values: the arrays by name; the errors use the names.

    Raises:
        GrokinterpError: an array that is not one row of numbers, lengths that differ, no runs, infinite or missing values.
    """
    arrays = {name: _numbers(name, value, name in may_be_nan) for name, value in values.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise GrokinterpError(f"one value for each run is needed in every array; got {', '.join(f'{n} of {name}' for name, n in lengths.items())}")
    if not max(lengths.values()):
        raise GrokinterpError(f"no runs: {', '.join(lengths)} hold no values; give at least one run")
    return pd.DataFrame(arrays)


def _numbers(name: str, values: ArrayLike, may_be_nan: bool) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise GrokinterpError(f"{name} has to hold numbers; got {str(values)[:60]!r}") from None
    if array.ndim != 1:
        raise GrokinterpError(f"{name} has to be one row of numbers, one for each run; got an array of shape {array.shape}")
    for i in np.flatnonzero(~np.isfinite(array)):
        if np.isinf(array[i]) or not may_be_nan:
            remedy = "give NaN where it never happened" if may_be_nan else "leave that run out"
            raise GrokinterpError(f"{name}[{i}] is {array[i]}, which is not a finite number; {remedy}")
    return array


def flags(name: str, values: ArrayLike, n_runs: int) -> np.ndarray:
    """Booleans, [run], from booleans or from 0 and 1.

    Raises:
        GrokinterpError: any other value, or not one for each run.
    """
    array = _numbers(name, values, may_be_nan=False)
    _check_length(name, array, n_runs)
    bad = np.flatnonzero((array != 0) & (array != 1))
    if len(bad):
        raise GrokinterpError(f"{name} holds yes or no for each run; got {array[bad[0]]:g} at [{bad[0]}], so give True or False (1 or 0)")
    return array.astype(bool)


def labels(name: str, values: ArrayLike, n_runs: int) -> np.ndarray:
    """What each run belongs to, [run], any kind of label.

    Raises:
        GrokinterpError: not one for each run, or a missing one.
    """
    array = np.asarray(values)
    _check_length(name, array, n_runs)
    missing = np.flatnonzero(pd.isna(array))
    if len(missing):
        raise GrokinterpError(f"{name}[{missing[0]}] is missing; every run needs one, or leave that run out")
    return array


def _check_length(name: str, array: np.ndarray, n_runs: int) -> None:
    if array.shape != (n_runs,):
        raise GrokinterpError(f"one value for each of {n_runs} runs is needed; {name} has the shape {array.shape}")


def require(holds: ArrayLike, values: ArrayLike, name: str, rule: str) -> None:
    """Raise a GrokinterpError that names the first value that breaks a rule.

    Args:
        holds: [run].
        values: [run].
        name: of the values.
        rule: what has to hold, and the remedy.
    """
    bad = np.flatnonzero(~np.asarray(holds))
    if len(bad):
        raise GrokinterpError(f"{name}[{bad[0]}] is {np.asarray(values)[bad[0]]:g}; {rule}")


def check_bootstrap(n_bootstrap: int) -> None:
    """Raise a GrokinterpError for fewer than one resample."""
    if n_bootstrap < 1:
        raise GrokinterpError(f"n_bootstrap counts resamples, so at least 1, better 1,000; got {n_bootstrap}")


def resample(rng: np.random.Generator, strata: np.ndarray, n_bootstrap: int) -> np.ndarray:
    """How often each run counts: once in the data, which come first, then as often as it is drawn in each resample, [1 + resample, run].

    Runs are drawn with replacement within each stratum. Where every run is alone in its stratum there are no resamples at all: each would repeat
    the data, and the interval have no width.

    Raises:
        GrokinterpError: fewer than one resample.
    """
    check_bootstrap(n_bootstrap)
    if len(pd.unique(strata)) == len(strata):
        return np.ones((1, len(strata)))
    counts = np.ones((1 + n_bootstrap, len(strata)))
    for stratum in pd.unique(strata):
        members = np.flatnonzero(strata == stratum)
        counts[1:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), n_bootstrap)
    return counts


def sign_flip_p(values: np.ndarray) -> tuple[float, float]:
    """Exact p-values of a sum of integers when each sign is a fair coin: two-sided, and one-sided for a positive sum.

    With values of ±1 this is the sign test, with signed ranks Wilcoxon's test.

    Args:
        values: integers with their observed signs.
    """
    weights = np.abs(values).astype(int)
    total, observed = weights.sum(), int(values.sum())
    chance = np.ones(1)  # of each value of (sum + total) / 2, the sum of the weights with a positive sign
    for weight in weights[weights > 0]:
        shifted = np.zeros(len(chance) + weight)
        shifted[: len(chance)] += chance / 2
        shifted[weight:] += chance / 2
        chance = shifted
    sums = 2 * np.arange(len(chance)) - total
    return min(1.0, float(chance[np.abs(sums) >= abs(observed)].sum())), min(1.0, float(chance[sums >= observed].sum()))


def r_squared(observed: np.ndarray, predicted: np.ndarray) -> float:
    """Share of variance explained, 1 − Σ(y − ŷ)²/Σ(y − ȳ)², about the mean also for laws through the origin; NaN if y is constant."""
    total = np.sum((observed - observed.mean()) ** 2)
    return float(1 - np.sum((observed - predicted) ** 2) / total) if total > 0 else np.nan


def minimise(objective: Objective, start: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Local minima of many small smooth functions at once, inside a box, by damped Newton steps.

    Hessians are differences of gradients with the signs of their eigenvalues dropped, so that steps lead away from saddles; parameters
    that a step would push through a wall are held there. A fit stops when its gradient or its steps vanish.

    Args:
        objective: values and gradients of some of the fits.
        start: [fit, parameter].
        lower: the box, [parameter] or [fit, parameter].
        upper: as `lower`.

    Returns:
        Parameters [fit, parameter] and values [fit].
    """
    lower, upper = np.broadcast_to(lower, start.shape), np.broadcast_to(upper, start.shape)
    theta = np.clip(start, lower, upper)
    rows = np.arange(len(theta))
    value, gradient = objective(theta, rows)
    damping = np.full(len(theta), 1e-3)
    for _ in range(ITERATIONS):
        held = ((theta <= lower) & (gradient > 0)) | ((theta >= upper) & (gradient < 0))
        slope = np.where(held, 0, gradient)
        rows = np.flatnonzero((np.abs(slope).max(1) > TOLERANCE * (1 + np.abs(value))) & (damping < 1e8))
        if not len(rows):
            break
        step = _newton_step(objective, theta[rows], slope[rows], gradient[rows], held[rows], damping[rows], upper[rows], rows)
        trial = np.clip(theta[rows] + step, lower[rows], upper[rows])
        new_value, new_gradient = objective(trial, rows)
        better = new_value < value[rows]
        damping[rows] *= np.where(better, 0.2, 8)
        taken = rows[better]
        theta[taken], value[taken], gradient[taken] = trial[better], new_value[better], new_gradient[better]
    return theta, value


def _newton_step(
    objective: Objective,
    theta: np.ndarray,
    slope: np.ndarray,
    gradient: np.ndarray,
    held: np.ndarray,
    damping: np.ndarray,
    upper: np.ndarray,
    rows: np.ndarray,
) -> np.ndarray:
    n_parameters = theta.shape[1]
    hessian = np.empty((len(theta), n_parameters, n_parameters))
    for j in range(n_parameters):
        h = 1e-6 * (1 + np.abs(theta[:, j]))
        moved = theta.copy()
        moved[:, j] += np.where(moved[:, j] + h > upper[:, j], -h, h)  # the difference stays inside the box
        hessian[:, j] = (objective(moved, rows)[1] - gradient) / (moved[:, j] - theta[:, j])[:, None]
    free = ~held
    hessian = (hessian + hessian.transpose(0, 2, 1)) / 2 * (free[:, :, None] & free[:, None, :])
    curvature, axes = np.linalg.eigh(hessian)
    size = np.abs(curvature)
    projected = np.einsum("fpa,fp->fa", axes, slope) / (size + damping[:, None] * size.max(1, keepdims=True) + 1e-300)
    return -np.einsum("fpa,fa->fp", axes, projected)


def log_survival(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of the standard normal survival function, and its hazard (minus the derivative of that logarithm)."""
    survived = log_ndtr(-z)
    return survived, np.exp(-(z**2) / 2 - survived) / np.sqrt(2 * np.pi)
