"""The logistic boundary against the published bins, scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit
from sklearn.linear_model import LogisticRegression

from grokinterp import GrokinterpError
from grokinterp.laws import logistic_boundary

# arXiv 2605.20441, canonical sweep: λ, runs, share that groks.
DECAYS = [0.001, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.3, 0.5, 0.7, 1, 2]
N = [10, 30, 10, 10, 10, 10, 30, 10, 10, 10, 10, 30, 10]
RATES = [0, 0.067, 0.8, 1, 1, 1, 0.967, 1, 1, 1, 0.8, 0.833, 1]

# The same, replication over tasks: of 5 runs at each λ, and λ_c.
SEVEN = [0.003, 0.006, 0.015, 0.02, 0.03, 0.05, 0.07]
REPLICATION = {
    "small +": ([1, 4, 5, 5, 5, 5, 5], 0.0042),
    "small −": ([0, 0, 1, 2, 5, 5, 5], 0.0205),
    "small ×": ([2, 4, 5, 5, 5, 5, 5], 0.0035),
    "small ÷": ([0, 0, 4, 4, 5, 5, 5], 0.0118),
    "medium +": ([0, 2, 3, 3, 4, 4, 5], 0.0119),
    "medium −": ([0, 1, 0, 3, 2, 5, 5], 0.0254),
    "medium ×": ([2, 1, 2, 3, 1, 4, 5], 0.0189),
    "medium ÷": ([2, 4, 5, 3, 3, 5, 5], 0.0028),
}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def runs(decays: list[float], n: list[int], grokked: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(decays, n), np.concatenate([np.arange(m) < x for m, x in zip(n, grokked)])


CANONICAL = runs(DECAYS, N, [round(rate * n) for rate, n in zip(RATES, N)])


def logistic(log_decay: np.ndarray, centre: float, steepness: float) -> np.ndarray:
    return 1 / (1 + np.exp(-steepness * (log_decay - centre)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_published_boundary(seed: int) -> None:
    fit = logistic_boundary(*CANONICAL, rng=rng(seed))
    assert fit.boundary.value == pytest.approx(0.01577, abs=1e-4)
    assert fit.steepness.value == pytest.approx(13.71, abs=0.01)
    assert fit.boundary.low == pytest.approx(0.0109, abs=5e-4)
    assert fit.boundary.high == pytest.approx(0.0199, abs=5e-4)
    assert (fit.n_runs, fit.n_grokked, fit.n_left_out, fit.n_outside) == (190, 142, 0, 0)


@pytest.mark.parametrize("task", REPLICATION)
def test_published_replication(task: str) -> None:
    grokked, boundary = REPLICATION[task]
    fit = logistic_boundary(*runs(SEVEN, [5] * 7, grokked), rng=rng(), n_bootstrap=20)
    assert fit.boundary.value == pytest.approx(boundary, abs=5.1e-5)


@pytest.mark.parametrize("smooth", [False, True])
def test_least_squares_is_scipys_curve_fit(smooth: bool) -> None:
    fit = logistic_boundary(*CANONICAL, rng=rng(), n_bootstrap=10, smooth=smooth)
    rates = fit.rates["rate"].to_numpy()
    if smooth:
        np.testing.assert_allclose(rates, (fit.rates["grokked"] + 0.5) / (fit.rates["n"] + 1))
    (centre, steepness), _ = curve_fit(logistic, np.log10(DECAYS), rates, p0=[-2, 5])
    assert fit.boundary.value == pytest.approx(10**centre, rel=1e-5)
    assert fit.steepness.value == pytest.approx(steepness, rel=1e-5)


def test_maximum_likelihood_is_scikit_learns_logistic_regression() -> None:
    fit = logistic_boundary(*CANONICAL, rng=rng(), n_bootstrap=10, method="maximum likelihood")
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(np.log10(CANONICAL[0])[:, None], CANONICAL[1])
    steepness = reference.coef_[0, 0]
    assert fit.steepness.value == pytest.approx(steepness, rel=1e-4)
    assert fit.boundary.value == pytest.approx(10 ** (-reference.intercept_[0] / steepness), rel=1e-4)


@pytest.mark.parametrize("method", ["least squares", "maximum likelihood"])
def test_the_true_boundary_lies_in_the_interval(method: str) -> None:
    decays = np.repeat(np.geomspace(0.003, 0.3, 9), 12)
    share = logistic(np.log10(decays), np.log10(0.02), 4.0)
    fits = [logistic_boundary(decays, rng(seed).random(len(decays)) < share, rng=rng(seed), n_bootstrap=200, method=method) for seed in range(40)]
    assert np.mean([fit.boundary.value for fit in fits]) == pytest.approx(0.02, rel=0.07)
    assert np.mean([fit.boundary.low <= 0.02 <= fit.boundary.high for fit in fits]) >= 0.85
    assert np.mean([fit.steepness.low <= 4 <= fit.steepness.high for fit in fits]) >= 0.8


def test_a_jump_puts_the_boundary_half_way_and_says_so() -> None:
    fit = logistic_boundary(*runs([0.001, 0.01, 0.1, 1.0], [5] * 4, [0, 0, 5, 5]), rng=rng(), n_bootstrap=30)
    assert fit.boundary == pytest.approx((np.sqrt(0.01 * 0.1),) * 3)
    assert fit.n_jumps == 30


def test_runs_outside_the_range_are_left_out_and_counted() -> None:
    decay, grokked = np.append(CANONICAL[0], [0, 0, 10]), np.append(CANONICAL[1], [True, False, False])
    fit = logistic_boundary(decay, grokked, rng=rng(), n_bootstrap=10)
    assert fit.n_left_out == 3
    assert fit.boundary.value == logistic_boundary(*CANONICAL, rng=rng(), n_bootstrap=10).boundary.value


def test_one_run_at_each_decay_has_no_interval() -> None:
    fit = logistic_boundary([0.001, 0.01, 0.1, 1], [0, 0, 1, 1], rng=rng())
    assert np.isnan(fit.boundary[1:]).all()


def test_the_horizon_is_named() -> None:
    fit = logistic_boundary(*CANONICAL, 5000, rng=rng(), n_bootstrap=10)
    assert "within 5,000" in str(fit)
    assert "within 5,000" in fit.figure().layout.title.text


@pytest.mark.parametrize(
    ("decay", "grokked", "message"),
    [
        ([0.1, 1], [0, 0], "0 of 2 runs grok"),
        ([0.1, 1], [1, 1], "2 of 2 runs grok"),
        ([0.1, 0.1], [0, 1], "1 values of λ"),
        ([0.1, -1], [0, 1], r"weight_decay\[1\] is -1"),
        ([0.01, 0.1, 1], [1, 0, 0], "do not rise through 1/2 .* between λ = 0.01 and 1"),
        ([0.1, 1], [0, 1, 1], r"2 runs is needed; grokked has the shape \(3,\)"),
    ],
)
def test_what_the_boundary_refuses(decay: list[float], grokked: list[int], message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        logistic_boundary(decay, grokked, rng=rng(), n_bootstrap=10)


def test_an_unknown_method_is_answered_with_the_nearest() -> None:
    with pytest.raises(GrokinterpError, match="did you mean least squares"):
        logistic_boundary(*CANONICAL, rng=rng(), method="leastsquares")
