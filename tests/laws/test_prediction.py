"""The contest of predictors: thresholds by counting, scores whose power is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from grokinterp import GrokinterpError
from grokinterp.laws import alarm_threshold, detection, onset

STEPS = np.arange(20) * 100.0


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=40), st.floats(0, 0.99))
def test_the_threshold_is_the_lowest_that_keeps_the_rate(largest: list[int], rate: float) -> None:
    threshold = alarm_threshold([[-100, score, -50] for score in largest], rate)
    scores = np.array(largest, dtype=float)
    assert (scores >= threshold).mean() <= rate + 1e-9
    assert (scores >= np.nextafter(threshold, -np.inf)).mean() > rate - 1e-9  # any lower, and one run too many raises an alarm


def test_a_missing_score_raises_no_alarm() -> None:
    assert alarm_threshold([[np.nan, 1.0], [0.5, np.nan]], 0) == pytest.approx(1, abs=1e-12)
    assert alarm_threshold([[np.nan, 1.0], [0.5, np.nan]], 0.5) == pytest.approx(0.5, abs=1e-12)


def contest(seed: int, shift: float, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs whose score is one normal draw from step 500 on, moved by `shift` in the half that groks at step 1500."""
    groks = np.arange(n) < n // 2
    level = rng(seed).standard_normal(n) + shift * groks
    return np.where(STEPS >= 500, level[:, None], -10.0), STEPS, np.where(groks, 1500.0, np.nan)


@pytest.mark.parametrize("shift", [0.0, 1.5, 3.0])
def test_the_power_is_that_of_two_normals(shift: float) -> None:
    results = [detection(*contest(seed, shift), 0.1, rng=rng(seed), n_bootstrap=100) for seed in range(10)]
    power = norm.sf(norm.isf(0.1) - shift)
    assert np.mean([result.detection_rate.value for result in results]) == pytest.approx(power, abs=0.05)
    assert np.mean([result.false_alarm_rate.value for result in results]) == pytest.approx(0.1, abs=0.03)
    assert np.mean([result.detection_rate.low <= power <= result.detection_rate.high for result in results]) >= 0.8
    assert all(result.median_lead == (1000, 1000, 1000) for result in results)
    # 1,000 of 1,500 steps where it is detected, 0 where it is missed.
    assert np.mean([result.relative_lead.value for result in results]) == pytest.approx(power * 2 / 3, abs=0.035)
    assert np.mean([result.relative_lead.low <= power * 2 / 3 <= result.relative_lead.high for result in results]) >= 0.8


def test_the_threshold_comes_from_one_half_and_the_score_from_the_other() -> None:
    scores, steps, grok_time = contest(0, 2.0)
    calibration = np.arange(400) % 2 == 0
    result = detection(scores, steps, grok_time, 0.1, rng=rng(), calibration=calibration)
    assert result.threshold == alarm_threshold(list(scores[calibration & np.isnan(grok_time)]), 0.1)
    alarm = np.array([onset(steps, row, result.threshold, interpolate=False) for row in scores])
    np.testing.assert_array_equal(result.runs["alarm"], alarm)
    held_out = ~calibration & ~np.isnan(grok_time)
    assert result.detection_rate.value == (alarm[held_out] < 1500).mean()
    assert (result.n_calibration, result.n_grok, result.n_never) == (100, 100, 100)


def test_halves_drawn_hold_half_of_each_kind_and_come_from_the_seed() -> None:
    first, second, other = (detection(*contest(0, 1.0, 40), 0.1, rng=rng(seed), n_bootstrap=10).runs["calibration"] for seed in (0, 0, 1))
    assert first[:20].sum() == first[20:].sum() == 10
    assert first.equals(second)
    assert not first.equals(other)


def test_an_alarm_at_or_after_grokking_is_none() -> None:
    never, late, at, early = [0.0, 0, 0], [0.0, 0, 1], [0.0, 1, 1], [1.0, 1, 1]
    scores, grok_time = [never, never, late, at, early], [np.nan, np.nan, 10, 10, 10]
    result = detection(scores, [0, 10, 20], grok_time, rng=rng(), calibration=[1, 0, 0, 0, 0], n_bootstrap=20)
    assert result.detection_rate.value == pytest.approx(1 / 3)
    assert result.median_lead.value == 10
    assert result.relative_lead.value == pytest.approx(1 / 3)
    assert result.false_alarm_rate.value == 0


def test_a_predictor_that_detects_nothing_has_no_lead() -> None:
    result = detection(np.zeros((8, 3)), [0, 1, 2], [2.0] * 4 + [np.nan] * 4, rng=rng(), n_bootstrap=20)
    assert result.detection_rate == result.relative_lead == (0, 0, 0)
    assert np.isnan(result.median_lead).all()
    assert "median lead nan" in str(result)


def test_runs_may_have_their_own_steps() -> None:
    scores, steps, grok_time = contest(0, 1.0, 40)
    together = detection(scores, steps, grok_time, rng=rng(), n_bootstrap=10)
    apart = detection([row[5:] for row in scores], [steps[5:]] * 40, grok_time, rng=rng(), n_bootstrap=10)
    assert together.table().equals(apart.table())


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_only_the_order_of_scores_matters(seed: int) -> None:
    scores, steps, grok_time = contest(seed, 1.0, 40)
    plain, stretched = (detection(each, steps, grok_time, 0.1, rng=rng(), n_bootstrap=10) for each in (scores, np.exp(scores)))
    assert plain.detection_rate == stretched.detection_rate
    assert plain.runs["alarm"].equals(stretched.runs["alarm"])


def two_and_two(scores: object = None, steps: object = (0, 1), grok_time: object = (1, 1, np.nan, np.nan), **more: object) -> object:
    return detection(np.zeros((4, 2)) if scores is None else scores, steps, grok_time, rng=rng(), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": np.zeros((3, 2))}, "got 3 series and 4 grok times"),
        ({"scores": np.full((4, 2), np.inf)}, r"scores\[0\]"),
        ({"steps": (0, 1, 2)}, "run 0 has 2 scores and 3 steps"),
        ({"steps": (1, 0)}, r"steps\[1\] is 0; sort"),
        ({"steps": [(0, 1)]}, "got 1 rows for 4 runs"),
        ({"grok_time": (1, 0, np.nan, np.nan)}, r"grok_time\[1\] is 0; times count from the start"),
        ({"grok_time": (1, 1, 1, 1)}, "0 never-grokking runs to set the threshold"),
        ({"calibration": (0, 0, 1, 1)}, "0 never-grokking and 2 grokking ones"),
        ({"false_alarm_rate": 1.0}, "got 1.0, so take 0.05"),
    ],
)
def test_what_the_contest_refuses(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        two_and_two(**arguments)
    with pytest.raises(GrokinterpError, match="needs runs that never grok"):
        alarm_threshold([], 0.05)
