"""Medians and pairs of onsets against brute force: whatever happened after a run was given up changes nothing that is claimed."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from grokinterp import GrokinterpError, laws
from grokinterp.laws.printing import words
from grokinterp.laws.results import Result
from grokinterp.laws.waiting import _median

TIMES = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=9)


@given(TIMES)
def test_the_median_without_censoring_is_the_lower_median(runs: list[tuple[int, int]]) -> None:
    times = np.array([time for time, _ in runs], dtype=float)
    assert _median(times, np.ones(len(times), dtype=bool), np.ones(len(times))) == np.sort(times)[(len(times) + 1) // 2 - 1]


@given(TIMES)
def test_the_median_is_kaplan_and_meiers(runs: list[tuple[int, int]]) -> None:
    """Against redistribution to the right (Efron 1967): a censored run hands its weight to those that outlast it."""
    truth, end = np.array(runs, dtype=float).T
    met, times = truth <= end, np.minimum(truth, end)
    order = np.lexsort((~met, times))  # deaths before losses at one time
    weight = np.full(len(times), 1 / len(times))
    for place, i in enumerate(order):
        if not met[i]:
            after = order[place + 1 :]
            weight[after] += weight[i] / max(len(after), 1)
            weight[i] = 0 if len(after) else weight[i]
    reached = np.cumsum([weight[i] if met[i] else 0 for i in order])
    found = [times[i] for i, share in zip(order, reached) if share >= 0.5 - 1e-9 and met[i]]
    assert _median(times, met, np.ones(len(times))) == (found[0] if found else np.inf)


PAIRS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


@given(PAIRS)
def test_pairs_are_decided_by_what_was_seen_alone(pairs: list[tuple[int, int, int, int]]) -> None:
    true_a, true_b, end_a, end_b = np.array(pairs, dtype=float).T
    a, b = np.where(true_a <= end_a, true_a, np.nan), np.where(true_b <= end_b, true_b, np.nan)
    try:
        found = laws.paired_onsets(a, b, end_a, end_b)
    except GrokinterpError:
        assert not (np.isfinite(a) & np.isfinite(b)).any()
        return
    difference = true_a - true_b
    table = found.pairs
    assert (table["least"] <= difference).all()
    assert (difference <= table["largest"]).all()
    assert found.n_a_first <= (difference < 0).sum()
    assert found.n_b_first <= (difference > 0).sum()
    assert found.n_a_first + found.n_b_first + found.n_tied + found.n_undecided == found.n_pairs == len(pairs)
    assert found.median_between.low <= np.median(difference) <= found.median_between.high
    decided = found.n_a_first + found.n_b_first
    expected = binomtest(found.n_a_first, decided).pvalue if decided else 1.0
    assert found.p_two_sided == pytest.approx(expected)


def test_never_by_1500_is_later_than_500_and_no_number() -> None:
    found = laws.paired_onsets([500, 1200, 700, 800], [np.nan, np.nan, 900, np.nan], [1500] * 4, [1500, 1000, 1500, 1500])
    assert (found.n_a_first, found.n_b_first, found.n_undecided) == (3, 0, 1)
    assert found.pairs["largest"].tolist() == [-1000, 200, -200, -700]
    assert (found.n_never_a, found.n_never_b) == (0, 3)
    assert np.isnan(found.median.value)
    assert (found.median_between.low, found.median_between.high) == (-np.inf, -450)
    assert "median a − b between -inf and -450" in str(found)
    assert found.figure().data
    with pytest.raises(GrokinterpError, match="none of 1 pairs is decided"):
        laws.paired_onsets([1200], [np.nan], [1500], [1000])


def test_a_result_prints_as_a_paper_would() -> None:
    found = laws.paired_onsets([500, 700], [600, 900], [1500] * 2, [1500] * 2)
    text = found.to_latex("Onsets in 100 % of pairs", "tab:onsets")
    assert r"\caption{Onsets in 100 \% of pairs}" in text
    assert r"median & $-150$ [$-\infty$, $\infty$] \\" in text
    assert r"pairs & 2 \\" in text
    assert r"p (two-sided) & 0.5 \\" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


def test_a_paper_prints_every_number_of_a_law_in_words(tmp_path: Path) -> None:
    found = laws.logistic_boundary(np.repeat([0.1, 0.3, 1.0], 4), [0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1], n_bootstrap=20)
    text = found.to_latex()
    assert "runs left out & 0" in text
    assert "resamples outside the $\\lambda$ that were run" in text
    assert "n_left_out" in pd.read_csv(found.to_csv(tmp_path / "boundary.csv"))["quantity"].tolist()
    numbers = ("Estimate", "Estimate | None", "int", "float", "float | None")
    classes = [each for each in Result.__subclasses__() if each.__module__.startswith("grokinterp.laws.")]
    printed = {field.name for each in classes for field in fields(each) if field.type in numbers}
    assert {"n_grok_never", "p_wilcoxon", "auc_same_time"} <= printed
    assert not [name for name in printed if words(name).startswith(("n ", "p ")) and "(" not in words(name)]
    assert not [name for name in printed if "_" in words(name)]
    assert words("optimizer.weight_decay") == "weight decay"
