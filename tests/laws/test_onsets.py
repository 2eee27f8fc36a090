"""Onsets against a plain loop, leads against the published table and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from grokinterp import GrokinterpError
from grokinterp.laws import lead_times, onset

# arXiv 2606.12966, table of configurations: p, grok, FSD sync.
PUBLISHED = np.array(
    [
        (97, 4000, 1500),
        (97, 3000, 1000),
        (97, 4000, 1000),
        (97, 3000, 2500),
        (97, 3000, 2500),
        (53, 5000, 2000),
        (71, 3500, 2000),
        (113, 2500, 1500),
        (131, 2500, 1000),
    ]
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_onset_is_on_the_line_between_two_evaluations() -> None:
    assert onset([0, 100, 200], [0.0, 0.6, 1.0], 0.8) == pytest.approx(150)
    assert onset([0, 100, 200], [0.0, 0.6, 1.0], 0.8, interpolate=False) == 200
    assert onset([0, 100, 200], [4.0, 2.0, 0.0], 0.5, "<=") == pytest.approx(175)


def test_a_spike_is_no_onset_when_it_has_to_persist() -> None:
    steps, values = np.arange(7) * 10, [0, 1, 0, 0, 1, 1, 1]
    assert onset(steps, values, 0.5) == pytest.approx(5)
    assert onset(steps, values, 0.5, persistence=2) == pytest.approx(35)
    assert onset(steps, values, 0.5, persistence=3, interpolate=False) == 40
    assert math.isnan(onset(steps, values, 0.5, persistence=4))
    assert math.isnan(onset(steps, values, 0.5, persistence=9))


def test_the_threshold_itself_counts_only_when_asked() -> None:
    assert onset([0, 1, 2], [0, 1, 2], 1, ">=") == 1
    assert onset([0, 1, 2], [0, 1, 2], 1, ">", interpolate=False) == 2
    assert onset([0, 1, 2], [2, 1, 0], 1, "<=") == 1
    assert onset([0, 1, 2], [2, 1, 0], 1, "<", interpolate=False) == 2


def test_missing_and_infinite_evaluations() -> None:
    assert onset([0, 1, 2, 3], [0, np.nan, 1, 1], 0.5) == 2  # no line from a missing value
    assert onset([0, 1, 2, 3], [1, np.nan, 1, 1], 0.5, persistence=2) == 2
    assert onset([0, 1], [np.inf, 0.1], 0.5, "<=") == 1
    assert onset([5, 6], [1, 1], 0.5) == 5
    assert math.isnan(onset([0, 1], [np.nan, np.nan], 0.5))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(-5, 5), st.integers(1, 4))
def test_onset_is_the_first_stretch_that_a_plain_loop_finds(values: list[float], threshold: float, persistence: int) -> None:
    steps = np.arange(len(values)) * 10.0
    first = next((i for i in range(len(values) - persistence + 1) if all(v >= threshold for v in values[i : i + persistence])), None)
    found = onset(steps, values, threshold, persistence=persistence, interpolate=False)
    between = onset(steps, values, threshold, persistence=persistence)
    if first is None:
        assert math.isnan(found)
        assert math.isnan(between)
    else:
        assert found == steps[first]
        assert steps[max(first - 1, 0)] <= between <= steps[first]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(-5, 5))
def test_turning_the_values_round_turns_the_direction_round(values: list[float], threshold: float) -> None:
    steps = np.arange(len(values))
    np.testing.assert_equal(onset(steps, values, threshold, ">"), onset(steps, [-v for v in values], -threshold, "<"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0, 1], 0.5, "=>"), "unknown comparison '=>'"),
        (([0, 1], [0, 1], 0.5, ">=", 0), "evaluations in a row, so at least 1; got 0"),
        (([0, 0], [0, 1], 0.5), r"steps\[1\] is 0; sort"),
        (([0, 1], [0, 1, 2], 0.5), r"2 steps and values of shape \(3,\)"),
        (([0, 1], [0, 1], np.nan), "threshold of values is NaN"),
    ],
)
def test_what_onset_refuses(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        onset(*arguments)  # type: ignore[arg-type]


def test_published_leads() -> None:
    result = lead_times(PUBLISHED[:, 2], PUBLISHED[:, 1], rng=rng())
    assert result.mean.value == pytest.approx(1722, abs=0.5)
    assert result.p_two_sided == pytest.approx(0.004, abs=1e-4)
    assert result.p_one_sided == result.p_two_sided / 2
    assert (result.n_positive, result.n_negative, result.n_ties) == (9, 0, 0)
    assert math.isnan(result.p_two_sided_clustered)


def test_five_primes_cannot_be_as_significant_as_nine_runs() -> None:
    result = lead_times(PUBLISHED[:, 2], PUBLISHED[:, 1], PUBLISHED[:, 0], rng=rng())
    assert result.p_two_sided_clustered == pytest.approx(2 / 2**5)
    assert result.p_one_sided_clustered == pytest.approx(1 / 2**5)
    singles = lead_times(PUBLISHED[:, 2], PUBLISHED[:, 1], np.arange(9), rng=rng())
    assert singles.p_two_sided_clustered == singles.p_two_sided
    assert singles.mean == lead_times(PUBLISHED[:, 2], PUBLISHED[:, 1], rng=rng()).mean


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    lead = rng(3).exponential(1000, 40)
    mean = lead_times(np.zeros(40), lead, rng=rng(), n_bootstrap=20_000).mean
    reference = bootstrap((lead,), np.mean, method="percentile", n_resamples=20_000, rng=rng(1), vectorized=True).confidence_interval
    np.testing.assert_allclose(mean[1:], reference, rtol=0.01)


def test_clusters_that_differ_widen_the_interval() -> None:
    cluster = np.repeat(np.arange(8), 10)
    lead = 500 + 400 * rng(4).standard_normal(8)[cluster] + 20 * rng(5).standard_normal(80)
    clustered, plain = (lead_times(np.zeros(80), lead, of, rng=rng()).mean for of in (cluster, None))
    assert clustered.value == plain.value
    # The standard error of a mean of 8 independent values, against that of 80.
    assert (clustered.high - clustered.low) / (plain.high - plain.low) == pytest.approx(np.sqrt(10), rel=0.25)


def test_nothing_is_dropped_silently() -> None:
    never = np.nan
    result = lead_times([1, 5, 3, never, 2, never, never], [4, 2, 3, 5, never, never, 9], rng=rng())
    assert (result.n_positive, result.n_negative, result.n_ties) == (1, 1, 1)
    assert (result.n_measure_never, result.n_grok_never, result.n_neither) == (2, 1, 1)
    assert result.p_two_sided == binomtest(1, 2).pvalue
    assert len(result.runs) == 7
    assert result.median == 0


def test_leads_need_two_runs_with_both_onsets() -> None:
    with pytest.raises(GrokinterpError, match="at least 2 runs with both onsets; got 1 of 2"):
        lead_times([1, np.nan], [2, 3], rng=rng())
    with pytest.raises(GrokinterpError, match="at least 2 clusters with both onsets; got 1 of 2"):
        lead_times([1, 1], [2, 3], [53, 53], rng=rng())
    with pytest.raises(GrokinterpError, match="2 of onset_of_measure, 3 of onset_of_grok"):
        lead_times([1, 1], [2, 3, 4], rng=rng())
