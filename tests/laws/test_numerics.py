"""What the laws share: the batched minimiser against scipy, exact tests against scipy, and how bad input is answered."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, rosen, rosen_der
from scipy.stats import binomtest, norm, wilcoxon

from grokinterp import GrokinterpError, laws
from grokinterp.laws.numerics import log_survival, minimise, resample, sign_flip_p


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rosenbrock(theta: np.ndarray, fits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.array([rosen(row) for row in theta]), np.array([rosen_der(row) for row in theta])


def test_minimise_finds_the_minimum_of_rosenbrocks_valley_from_many_starts() -> None:
    theta, value = minimise(rosenbrock, rng().uniform(-2, 2, (50, 2)), np.full(2, -3.0), np.full(2, 3.0))
    np.testing.assert_allclose(theta, 1, atol=1e-6)
    np.testing.assert_allclose(value, 0, atol=1e-12)


def test_minimise_stops_at_the_walls_where_scipy_does() -> None:
    upper = np.array([0.5, 3.0])
    theta, value = minimise(rosenbrock, rng().uniform(-0.5, 0.5, (20, 2)), np.full(2, -3.0), upper)
    reference = minimize(rosen, [0.0, 0.0], jac=rosen_der, bounds=[(-3, 0.5), (-3, 3)], method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
    np.testing.assert_allclose(theta, np.tile(reference.x, (20, 1)), atol=1e-5)
    np.testing.assert_allclose(value, reference.fun, rtol=1e-8)


def test_a_fit_does_not_depend_on_the_others_in_its_batch() -> None:
    starts = rng().uniform(-2, 2, (5, 2))
    together = minimise(rosenbrock, starts, np.full(2, -3.0), np.full(2, 3.0))[0]
    alone = [minimise(rosenbrock, start[None], np.full(2, -3.0), np.full(2, 3.0))[0][0] for start in starts]
    np.testing.assert_array_equal(together, alone)


def test_log_survival_and_hazard_are_those_of_the_normal() -> None:
    z = np.array([-30.0, -2.0, 0.0, 1.5, 8.0, 25.0])
    survived, hazard = log_survival(z)
    np.testing.assert_allclose(survived, norm.logsf(z), rtol=1e-12)
    np.testing.assert_allclose(hazard, np.exp(norm.logpdf(z) - norm.logsf(z)), rtol=1e-9, atol=1e-300)


@given(st.integers(0, 25), st.integers(0, 25))
def test_sign_flips_of_ones_are_the_sign_test(n_positive: int, n_negative: int) -> None:
    signs = np.repeat([1, -1, 0], [n_positive, n_negative, 3])
    two_sided, one_sided = sign_flip_p(signs)
    n = n_positive + n_negative
    assert two_sided == pytest.approx(binomtest(n_positive, n).pvalue if n else 1)
    assert one_sided == pytest.approx(binomtest(n_positive, n, alternative="greater").pvalue if n else 1)


def test_sign_flips_of_ranks_are_wilcoxons_test() -> None:
    difference = rng().normal(0.4, 1, 14)
    ranks = np.argsort(np.argsort(np.abs(difference))) + 1
    two_sided, one_sided = sign_flip_p(ranks * np.sign(difference))
    assert two_sided == pytest.approx(wilcoxon(difference, method="exact").pvalue)
    assert one_sided == pytest.approx(wilcoxon(difference, method="exact", alternative="greater").pvalue)


def test_resampling_keeps_the_number_of_runs_in_each_stratum() -> None:
    strata = np.array([1, 1, 2, 1, 3, 2])
    counts = resample(rng(), strata, 200)
    assert counts.shape == (201, 6)
    assert counts[0].tolist() == [1.0] * 6  # the data themselves
    for stratum in (1, 2, 3):
        assert (counts[:, strata == stratum].sum(1) == (strata == stratum).sum()).all()
    assert resample(rng(), np.arange(6), 200).tolist() == [[1.0] * 6]  # nothing to draw: no interval of width 0


DECAY, TIME = np.repeat([0.01, 0.1, 1.0], 4), np.repeat([4000.0, 400.0, 40.0], 4) * np.tile([0.9, 1, 1.1, 1.2], 3)
GROKS = np.array([0, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1])
RESULTS: dict[str, Any] = {
    "lead_times": lambda: laws.lead_times([1.0, 2, 3, np.nan], [2.0, 5, 3, 9], rng=rng()),
    "lead_times clustered": lambda: laws.lead_times([1.0, 2, 3], [2.0, 5, 3], [53, 53, 97], rng=rng()),
    "fork_law": lambda: laws.fork_law(DECAY, TIME, censored=TIME > 4500, rng=rng(), n_bootstrap=50, n_permutations=50),
    "logistic_boundary": lambda: laws.logistic_boundary(DECAY, GROKS, 5000, rng=rng(), n_bootstrap=50),
    "survival_boundary": lambda: laws.survival_boundary(DECAY, TIME, TIME > 4500, [5000, 50000], rng=rng(), n_bootstrap=20),
    "power_law": lambda: laws.power_law(DECAY, TIME),
    "power_law_above": lambda: laws.power_law_above(DECAY, TIME, 0.005),
    "grokking_time_in_p": lambda: laws.grokking_time_in_p([31, 53, 97, 113], [3700.0, 1600, 750, 630], rng=rng(), n_bootstrap=50),
    "paired_difference": lambda: laws.paired_difference([1.0, 2, 4], [0.5, 2.5, 1]),
    "detection": lambda: laws.detection(rng().random((12, 5)), np.arange(5), [4.0] * 6 + [np.nan] * 6, rng=rng(), n_bootstrap=50),
}


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_gives_a_table_a_figure_and_a_line(name: str) -> None:
    result = RESULTS[name]()
    table, figure = result.table(), result.figure()
    assert len(table)
    assert isinstance(figure, go.Figure)
    assert all(len(trace.x) == len(trace.y) for trace in figure.data)
    layout = figure.layout
    assert all([layout.title.text, layout.xaxis.title.text, layout.yaxis.title.text, layout.meta["caption"]])
    assert len(str(result).splitlines()) == 1
    with pytest.raises(AttributeError):
        result.runs = None


def test_a_table_has_every_estimate_with_its_limits() -> None:
    result = RESULTS["power_law_above"]()
    table = result.table().set_index("quantity")
    assert tuple(table.loc["exponent"]) == result.exponent
    assert table.loc["n_runs", "estimate"] == 12
    assert np.isnan(table.loc["n_runs", "low"])


@pytest.mark.parametrize("name", [name for name in RESULTS if name not in ("power_law", "power_law_above", "paired_difference")])
def test_the_same_seed_gives_the_same_intervals(name: str) -> None:
    assert RESULTS[name]().table().equals(RESULTS[name]().table())


BAD = {
    "lengths": (lambda: laws.power_law([1, 2, 3], [1, 2]), "3 of x, 2 of y"),
    "NaN": (lambda: laws.power_law([1, np.nan, 3], [1, 2, 3]), r"x\[1\] is nan.*leave that run out"),
    "infinite": (lambda: laws.power_law([1, 2, 3], [1, np.inf, 3]), r"y\[1\] is inf.*NaN where it never happened"),
    "table": (lambda: laws.power_law(np.ones((2, 2)), np.ones(4)), r"shape \(2, 2\)"),
    "words": (lambda: laws.power_law(["a", "b"], [1, 2]), "x has to hold numbers"),
    "no runs": (lambda: laws.power_law([], []), "no runs"),
    "generator": (lambda: laws.logistic_boundary(DECAY, GROKS, rng="0"), "default_rng"),  # type: ignore[arg-type]
    "no resamples": (lambda: laws.logistic_boundary(DECAY, GROKS, rng=rng(), n_bootstrap=0), "n_bootstrap.*got 0"),
    "level": (lambda: laws.logistic_boundary(DECAY, GROKS, rng=rng(), level=95), "between 0 and 1; got 95"),
    "flags": (lambda: laws.logistic_boundary(DECAY, 2 * GROKS, rng=rng()), r"grokked holds yes or no.*got 2 at \[2\]"),
    "missing label": (lambda: laws.lead_times([1, 2], [3, 4], [53, None], rng=rng()), r"cluster\[1\] is missing"),
    "labels": (lambda: laws.lead_times([1, 2], [3, 4], [53], rng=rng()), r"2 runs is needed; cluster has the shape \(1,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_with_the_remedy(case: str) -> None:
    call, message = BAD[case]
    with pytest.raises(GrokinterpError, match=message):
        call()


def test_the_room_knows_no_models_and_draws_only_when_asked() -> None:
    code = "import sys, grokinterp.laws; assert not {'torch', 'plotly', 'transformer_lens'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
