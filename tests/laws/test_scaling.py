"""Power laws against scipy.stats.linregress, the law of the prime against scipy's curve_fit, both on known truths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit
from scipy.stats import linregress

from grokinterp import GrokinterpError
from grokinterp.laws import grokking_time_in_p, power_law, power_law_above

PRIMES = np.repeat([31, 43, 53, 61, 79, 89, 101], 12)  # arXiv 2602.22600, 12 seeds each


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def in_p(p: np.ndarray, omega: float, p_crit: float) -> np.ndarray:
    return -omega * np.log(1 - p_crit / p)


@given(st.floats(-3, 3), st.floats(0.1, 1e4))
def test_an_exact_power_law_is_recovered(exponent: float, prefactor: float) -> None:
    x = np.array([0.3, 0.5, 1, 1.5, 2, 3])
    law = power_law(x, prefactor * x**exponent)  # also the constant, exponent 0
    assert law.exponent.value == pytest.approx(exponent, abs=1e-9)
    assert law.prefactor.value == pytest.approx(prefactor)


def test_the_power_law_is_scipys_regression_of_logarithms() -> None:
    x = np.repeat([0.3, 0.5, 1, 1.5, 2, 3], 12)
    y = 1500 * x**-1.02 * np.exp(0.2 * rng().standard_normal(len(x)))
    law, reference = power_law(x, y, level=0.6826894921370859), linregress(np.log(x), np.log(y))
    assert law.exponent.value == pytest.approx(reference.slope)
    assert law.r2 == pytest.approx(reference.rvalue**2)
    # One standard error of Student's t with 70 degrees of freedom is 0.7 % more than that of the normal.
    assert law.exponent.high - law.exponent.value == pytest.approx(reference.stderr, rel=0.02)
    assert np.log(law.prefactor.high / law.prefactor.value) == pytest.approx(reference.intercept_stderr, rel=0.02)


def test_the_exponent_lies_in_its_interval_as_often_as_it_should() -> None:
    x = np.repeat([0.3, 0.5, 1, 1.5, 2, 3], 5)
    laws = [power_law(x, x**-1.02 * np.exp(0.3 * rng(seed).standard_normal(30)), level=0.9) for seed in range(300)]
    assert np.mean([law.exponent.low <= -1.02 <= law.exponent.high for law in laws]) == pytest.approx(0.9, abs=0.05)


def test_above_a_boundary_the_exponent_is_that_of_the_distance() -> None:
    decay = np.repeat([0.02, 0.03, 0.05, 0.1, 0.3, 1.0], 25)
    time = 135.5 * (decay - 0.0158) ** -0.757 * np.exp(0.3 * rng().standard_normal(150))
    law = power_law_above(decay, time, 0.0158)
    reference = linregress(np.log(decay - 0.0158), np.log(time))
    assert law.exponent.value == pytest.approx(reference.slope)
    assert law.nu.low < 0.757 < law.nu.high
    assert law.nu.low < law.nu.value < law.nu.high
    assert law.prefactor.low < 135.5 < law.prefactor.high
    shifted = power_law(decay - 0.0158, time)
    np.testing.assert_allclose(law.exponent, shifted.exponent)


def test_runs_that_never_grok_are_counted_wherever_they_lie() -> None:
    law = power_law_above([0.001, 0.02, 0.05, 0.1, 1], [np.nan, 900, 500, np.nan, 120], 0.0158)
    assert (law.n_runs, law.n_never) == (3, 2)


@pytest.mark.parametrize(
    ("decay", "time", "boundary", "message"),
    [
        ([0.01, 0.1, 1], [9, 8, 7], 0.0158, r"weight_decay\[0\] is 0.01; it has to lie above the boundary 0.0158"),
        ([0.02, 0.1, 1], [9, 0, 7], 0.0158, r"time\[1\] is 0"),
        ([0.02, 0.1, 1], [np.nan] * 3, 0.0158, "at least 3 runs .*got 0 at 0, with 3 more whose time is NaN"),
        ([0.1, 0.1, 0.1], [9, 8, 7], 0.0158, "2 different weight_decay; got 3 at 1"),
        ([0.0, 0.1, 1], [9, 8, 7], 0.0, r"weight_decay\[0\] is 0; the logarithm"),
    ],
)
def test_what_the_power_law_refuses(decay: list[float], time: list[float], boundary: float, message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        power_law_above(decay, time, boundary)


def test_the_published_law_of_the_prime_is_recovered_from_its_own_curve() -> None:
    primes = np.unique(PRIMES)
    law = grokking_time_in_p(primes, in_p(primes, 2770, 23), rng=rng(), n_bootstrap=50)
    assert law.omega.value == pytest.approx(2770, rel=1e-5)
    assert law.p_crit.value == pytest.approx(23, rel=1e-5)
    assert law.r2 == law.r2_of_means == pytest.approx(1)


def test_the_law_of_the_prime_is_scipys_fit() -> None:
    time = in_p(PRIMES, 2770, 23) * np.exp(0.15 * rng().standard_normal(len(PRIMES)))
    law = grokking_time_in_p(PRIMES, time, rng=rng(), n_bootstrap=10)
    (omega, p_crit), _ = curve_fit(in_p, PRIMES, time, p0=[2000, 20], bounds=([0, 1], [1e5, 30.9]), xtol=1e-12, ftol=1e-12)
    assert law.omega.value == pytest.approx(omega, rel=1e-4)
    assert law.p_crit.value == pytest.approx(p_crit, rel=1e-4)
    residual = time - in_p(PRIMES, omega, p_crit)
    assert law.r2 == pytest.approx(1 - residual.var() / time.var(), abs=1e-3)
    assert law.r2_of_means > law.r2


def test_the_parameters_of_the_law_lie_in_their_intervals() -> None:
    laws = []
    for seed in range(25):
        time = in_p(PRIMES, 2770, 23) * np.exp(0.15 * rng(seed).standard_normal(len(PRIMES)) - 0.15**2 / 2)
        laws.append(grokking_time_in_p(PRIMES, time, rng=rng(seed), n_bootstrap=100))
    assert np.mean([law.omega.low <= 2770 <= law.omega.high for law in laws]) >= 0.8
    assert np.mean([law.p_crit.low <= 23 <= law.p_crit.high for law in laws]) >= 0.8


def test_never_grokking_runs_of_the_law_are_counted() -> None:
    law = grokking_time_in_p([23, 31, 53, 97], [np.nan, 3700, 1600, 750], rng=rng(), n_bootstrap=20)
    assert (law.n_runs, law.n_never) == (3, 1)


@pytest.mark.parametrize(
    ("p", "time", "message"),
    [
        ([31, 53], [3, 2], "3 different p at least; got 2"),
        ([31, 53, 97], [3, np.nan, 1], "3 different p at least; got 2"),
        ([31, 53, 0], [3, 2, 1], r"p\[2\] is 0"),
        ([31, 53, 97], [3, 2, -1], r"time\[2\] is -1"),
    ],
)
def test_what_the_law_of_the_prime_refuses(p: list[float], time: list[float], message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        grokking_time_in_p(p, time, rng=rng())


def test_runs_that_do_not_tell_omega_from_infinity_say_so() -> None:
    """τ ∝ 1/p is the limit of the law for p_crit → 0, so with noise about half of all resamples have no finite Ω."""
    time = 80_000 / PRIMES * np.exp(0.05 * rng().standard_normal(len(PRIMES)))
    law = grokking_time_in_p(PRIMES, time, rng=rng(), n_bootstrap=200)
    assert np.isinf(law.omega.high)
    assert law.p_crit.low == 0
    assert np.isfinite([law.omega.value, law.omega.low, law.p_crit.high, law.r2]).all()
