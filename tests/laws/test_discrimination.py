"""Discrimination of evaluations: against scikit-learn, against normal theory, and what time alone is worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from grokinterp import GrokinterpError
from grokinterp.laws import discrimination


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def labels_of(n_runs: int, n_times: int = 10, within: int = 3) -> np.ndarray:
    """Half of the runs have the event at time 6 to 9 and are not asked afterwards; the last evaluations of the others are not known."""
    times, events = np.arange(n_times), np.where(np.arange(n_runs) < n_runs // 2, 6.0 + np.arange(n_runs) % 4, np.inf)
    labels = (events[:, None] - times <= within).astype(float)
    labels[(times >= events[:, None]) | (np.isinf(events)[:, None] & (times > n_times - 1 - within))] = np.nan
    return labels


@settings(max_examples=25)
@given(st.integers(0, 1000), st.booleans())
def test_it_is_the_area_of_scikit_learn(seed: int, tied: bool) -> None:
    labels, scores = labels_of(8), rng(seed).standard_normal((8, 10))
    scores = scores.round() if tied else scores
    result, known = discrimination(scores, labels, rng=rng(), n_bootstrap=5), ~np.isnan(labels)
    assert result.auc.value == pytest.approx(roc_auc_score(labels[known], scores[known]))
    assert trapezoid(result.roc[1], result.roc[0]) == pytest.approx(result.auc.value)
    by_time, weights = [], []
    for of, score in zip(labels.T, scores.T):
        if len(np.unique(of[~np.isnan(of)])) == 2:
            by_time.append(roc_auc_score(of[~np.isnan(of)], score[~np.isnan(of)]))
            weights.append((of == 1).sum() * (of == 0).sum())
    assert result.auc_same_time.value == pytest.approx(np.average(by_time, weights=weights))
    assert (result.n_before, result.n_other, result.n_runs) == ((labels == 1).sum(), (labels == 0).sum(), 8)


def test_time_alone_is_worth_something_over_all_times_and_nothing_at_one() -> None:
    labels = labels_of(20)
    clock = discrimination(np.tile(np.arange(10.0), (20, 1)), labels, rng=rng(), n_bootstrap=50)
    assert clock.auc.low > 0.6
    assert clock.auc_same_time == (0.5, 0.5, 0.5)


def test_intervals_hold_the_truth_when_evaluations_of_a_run_go_together() -> None:
    """The score is one normal draw a run, moved by 1 where the event will come; resampling evaluations instead would be far too sure."""
    labels = labels_of(60)
    before, other = (labels == 1).sum(0), (labels == 0)
    # At one time the others are runs without the event, which lie 1 lower, and runs whose event comes later, which do not.
    pairs = np.array([before @ other[30:].sum(0), before @ other[:30].sum(0)])
    truth = pairs @ [norm.cdf(1 / np.sqrt(2)), 0.5] / pairs.sum()
    levels = [rng(seed).standard_normal(60) + (np.arange(60) < 30) for seed in range(40)]
    results = [discrimination(np.tile(level[:, None], 10), labels, rng=rng(seed), n_bootstrap=200) for seed, level in enumerate(levels)]
    held = np.mean([result.auc_same_time.low <= truth <= result.auc_same_time.high for result in results])
    assert held >= 0.85
    assert np.mean([result.auc_same_time.value for result in results]) == pytest.approx(truth, abs=0.02)


def test_the_gain_over_a_baseline_pairs_the_resamples() -> None:
    labels = labels_of(20)
    noise = rng(1).standard_normal((20, 10))
    strong, weak = np.nan_to_num(labels) + 0.1 * noise, np.nan_to_num(labels) + 2 * noise
    gained = discrimination(strong, labels, rng=rng(), baseline=weak, n_bootstrap=200)
    alone = discrimination(weak, labels, rng=rng(), n_bootstrap=200)
    assert gained.gain is not None
    assert alone.gain is None
    assert gained.gain.value == pytest.approx(gained.auc.value - alone.auc.value)
    assert gained.gain.low > 0
    none = discrimination(np.exp(weak), labels, rng=rng(), baseline=weak, n_bootstrap=50)
    assert none.gain == (0, 0, 0)
    assert "above the baseline" in str(none)


def test_a_missing_score_is_the_lowest() -> None:
    labels = np.array([[1.0, 0], [0, 0]])
    assert discrimination(np.array([[0, np.nan], [np.nan, -5]]), labels, rng=rng(), n_bootstrap=5).auc.value == 1
    assert discrimination(np.array([[np.nan, np.nan], [0, 0]]), labels, rng=rng(), n_bootstrap=5).auc.value == pytest.approx(0.5 / 3)


def test_figure_and_table() -> None:
    result = discrimination(rng().standard_normal((8, 10)), labels_of(8), rng=rng(), n_bootstrap=20)
    assert result.table()["quantity"].tolist() == ["auc", "auc_same_time", "n_before", "n_other", "n_runs"]
    assert len(result.figure().data) == 2


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([[1.0, 2]], [[1, 0, 0]], r"got the shape \(1, 2\)"),
        ([[np.inf, 2]], [[1, 0]], "finite or NaN"),
        ([[1.0, 2]], [[1, 2]], "before holds 0, 1 and NaN"),
        ([[1.0, 2]], [[1, np.nan]], "got 1 and 0"),
    ],
)
def test_what_it_refuses(scores: list[list[float]], labels: list[list[float]], message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        discrimination(scores, labels, rng=rng())
