"""Conditions: the language, the entries of variables, and one meaning of "first" for everyone who asks, against a slow obvious search."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from grokinterp import MEASURES, GrokinterpError, Run, RunConfig, Snapshot, analyze, when
from grokinterp.conditions import Condition, Stretch, first_stretch
from grokinterp.laws import onset
from grokinterp.training.runs import first_step
from grokinterp.training.train import _Member

COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
VALUES = st.lists(st.sampled_from([0.0, 0.5, 1.0, math.nan, math.inf, -math.inf]), min_size=1, max_size=25)  # spikes and plateaus are frequent


def slowly(steps: list[int], values: list[float], comparison: str, threshold: float, times: int) -> Stretch | None:
    """Look at every stretch of so many evaluations, from the first on."""
    for i in range(len(values) - times + 1):
        if all(COMPARISONS[comparison](value, threshold) for value in values[i : i + times]):
            return Stretch(steps[i], steps[i + times - 1])
    return None


# --- the language -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("fsd>=0.8", Condition("fsd", ">=", 0.8)),
        ("fsd[3] >= 0.8 for 2", Condition("fsd", ">=", 0.8, 2, ("3",))),
        ("restricted_loss[test] < 0.5", Condition("restricted_loss", "<", 0.5, 1, ("test",))),
        ("head_similarity > .9", Condition("head_similarity", ">", 0.9)),
        ("test_accuracy >= 0.99 for 3", Condition("test_accuracy", ">=", 0.99, 3)),
        (" gini [W_E] [components] <= -1e-3 ", Condition("gini", "<=", -1e-3, 1, ("W_E", "components"))),
        ("gini[W_E, components] <= -1.e-3", Condition("gini", "<=", -1e-3, 1, ("W_E", "components"))),
        ("participation[(4,1)] > 3", Condition("participation", ">", 3, 1, ("(4,1)",))),
        ("logit_component_norm[cos 1, sin 2] > 3", Condition("logit_component_norm", ">", 3, 1, ("cos 1", "sin 2"))),
        ("parameter_squares[blocks.0.attn.W_Q] > 3", Condition("parameter_squares", ">", 3, 1, ("blocks.0.attn.W_Q",))),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, condition: Condition) -> None:
    assert Condition.parse(text) == condition
    assert Condition.parse(str(condition)) == condition


@pytest.mark.parametrize(
    "text",
    [
        *("", "loss", "loss low", "loss < ", "loss < many", "loss < 1e", "loss == 1", "< 1", "loss < nan", "1loss < 1", "loss < 1 or loss > 2"),
        *("loss < 1 for", "loss < 1 for two", "loss < 1 for 2.5", "loss < 1 for -1"),
        *("fsd[] > 1", "fsd[1 > 1", "fsd1] > 1", "fsd[[1]] > 1", "fsd[1,] > 1"),
    ],
)
def test_what_cannot_be_read_is_quoted(text: str) -> None:
    with pytest.raises(GrokinterpError, match="cannot read the condition") as caught:
        Condition.parse(text)
    assert repr(text) in str(caught.value)


def test_a_stretch_has_at_least_one_evaluation() -> None:
    with pytest.raises(GrokinterpError, match="at least 1; got 0"):
        Condition.parse("loss < 1 for 0")
    with pytest.raises(GrokinterpError, match="unknown comparison '=='"):
        Condition("loss", "==", 1.0)
    with pytest.raises(GrokinterpError, match=r"threshold of fsd\[3\] is NaN"):
        Condition("fsd", "<", math.nan, 1, ("3",))


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(list(COMPARISONS)), st.integers(1, 99))
def test_text_loses_nothing(value: float, comparison: str, times: int) -> None:
    condition = Condition("restricted_loss", comparison, value, times, ("test", "0.85"))
    assert Condition.parse(str(condition)) == condition


# --- one meaning for everyone ---------------------------------------------------------------------------------------------------------


@given(VALUES, st.sampled_from(list(COMPARISONS)), st.integers(1, 4), st.integers(1, 50), st.integers(0, 25))
def test_everyone_finds_the_stretch_that_a_slow_search_finds(values: list[float], comparison: str, times: int, every: int, cut: int) -> None:
    steps = [every * i for i in range(len(values))]
    expected = slowly(steps, values, comparison, 0.5, times)
    text = f"fsd {comparison} 0.5 for {times}"
    rows = [{"step": step, "fsd": value, "train_loss": 1.0} for step, value in zip(steps, values, strict=True)]

    assert Condition.parse(text).first(steps, values) == expected
    assert Condition.parse(text).first(np.array(steps), iter(values)) == expected
    assert first_step(rows, text) == (None if expected is None else expected.onset)
    step = onset(steps, values, 0.5, comparison, times, interpolate=False)
    assert step == expected.onset if expected else math.isnan(step)
    assert stop(rows, text, cut=min(cut, 0 if expected is None else steps.index(expected.end))) == (None if expected is None else expected.end)


def stop(rows: list[dict[str, float]], text: str, cut: int) -> float | None:
    """The step at which training ends on a condition, in a run that was killed and resumed behind so many rows."""
    writer: Any = SimpleNamespace(rows=rows[:cut], append=lambda row: None)  # what a writer hands over after it has cut a run back
    member = _Member(RunConfig(stop=text), None, writer, None)  # type: ignore[arg-type]
    for row in rows[cut:]:
        member.record(int(row["step"]), {name: value for name, value in row.items() if name != "step"})
        if member.reason_to_end(int(row["step"])):
            return row["step"]
    return None


def test_an_onset_comes_before_the_stop() -> None:
    found = Condition.parse("test_accuracy >= 0.99 for 3").first([0, 100, 200, 300, 400, 500], [1, 0, 1, 1, 1, 1])
    assert found == Stretch(onset=200, end=400)


def test_values_behind_the_stretch_are_not_computed() -> None:
    def values() -> Any:
        yield from (0.0, 1.0, 1.0)
        raise AssertionError("read too far")

    assert Condition("fsd", ">=", 0.8, 2).first([0, 1, 2, 3, 4], values()) == Stretch(1, 2)
    with pytest.raises(ValueError, match="zip"):
        Condition("fsd", ">=", 0.8, 2).first([0, 1, 2, 3], [0.0, 0.0])


@given(st.lists(st.integers(0, 8), min_size=2, max_size=8))
def test_steps_that_do_not_ascend_are_refused(steps: list[int]) -> None:
    rows = [{"step": step, "loss": 0.0} for step in steps]
    if all(before < after for before, after in pairwise(steps)):
        assert first_stretch(steps, [True] * len(steps)) == Stretch(steps[0], steps[0])
        return
    for ask in (lambda: first_stretch(steps, [True] * len(steps)), lambda: onset(steps, rows_of(rows), 1, "<"), lambda: first_step(rows, "loss < 1")):
        with pytest.raises(GrokinterpError, match=r"steps\[\d\] is \d; sort the evaluations"):
            ask()


def rows_of(rows: list[dict[str, float]]) -> list[float]:
    return [row["loss"] for row in rows]


def test_a_metric_that_is_not_recorded_is_named(tiny_run: Run) -> None:
    for text, name in (("test_los < 1", "test_los"), ("test_loss[1] < 1", r"test_loss\[1\]"), ("step > 1", "step")):
        with pytest.raises(GrokinterpError, match=f"names '{name}', but the metrics are train_loss, "):
            tiny_run.first(text)


# --- entries of variables -------------------------------------------------------------------------------------------------------------

VARIABLES = xr.Dataset(
    {
        "fsd": (("top",), [0.1, 0.3, 0.5]),
        "gini": (("matrix", "kind"), [[0.1, 0.2], [0.3, 0.4]]),
        "above": (("threshold",), [5, 3]),
        "by_neuron": (("neuron",), [7.0, 8.0, 9.0]),
        "single": (("layer", "kind"), [[0.1, 0.2]]),
        "alone": (("layer",), [0.6]),
        "similarity": ((), 0.9),
        "participation": (("irrep",), [2, 4]),
        "many": (("unit",), np.arange(100.0)),
        "empty": (("nothing",), []),
        "dominant": ((), "(4,1)"),
        "yes": ((), True),
    },
    coords={"top": [1, 3, 5], "matrix": ["W_E", "W_L"], "kind": ["components", "frequencies"], "threshold": [0.85, 0.9], "irrep": ["(4,1)", "(3,2)"]},
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fsd[3]", 0.3),
        ("fsd[3.0]", 0.3),
        ("gini[W_L][components]", 0.3),
        ("gini[W_L, components]", 0.3),
        ("above[0.9]", 3),
        ("above[.90]", 3),
        ("by_neuron[0]", 7),
        ("single[frequencies]", 0.2),
        ("single[0][frequencies]", 0.2),
        ("alone", 0.6),
        ("alone[0]", 0.6),
        ("similarity", 0.9),
        ("participation[(3,2)]", 4),
        ("yes", 1),
    ],
)
def test_labels_choose_an_entry(name: str, value: float) -> None:
    condition = Condition.parse(f"{name} > 0")
    assert condition.entry(VARIABLES[condition.quantity]) == value


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fsd", r"^fsd has 3 entries; choose one of fsd\[1\], fsd\[3\], fsd\[5\]$"),
        ("fsd[2]", r"^fsd has no entry fsd\[2\]; choose one of fsd\[1\], fsd\[3\], fsd\[5\]$"),
        ("fsd[3][1]", r"no entry fsd\[3\]\[1\]; choose one of fsd\[1\]"),
        ("gini", r"4 entries; choose one of gini\[W_E\]\[components\], gini\[W_E\]\[frequencies\], gini\[W_L\]\[components\], "),
        ("gini[W_E]", r"no entry gini\[W_E\]; choose one of gini\[W_E\]\[components\]"),
        ("gini[components][W_E]", r"no entry gini\[components\]\[W_E\]"),
        ("by_neuron[3]", r"choose one of by_neuron\[0\], by_neuron\[1\], by_neuron\[2\]"),
        ("similarity[1]", r"no entry similarity\[1\]; choose one of similarity$"),
        ("many", r"100 entries; choose one of many\[0\], .*many\[11\], …$"),
        ("empty", "0 entries"),
        ("dominant", r"dominant is '\(4,1\)', which no threshold applies to"),
    ],
)
def test_no_entry_is_chosen_silently(name: str, message: str) -> None:
    condition = Condition.parse(f"{name} > 0")
    with pytest.raises(GrokinterpError, match=message):
        condition.entry(VARIABLES[condition.quantity])


# --- checkpoints ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tiny_run: Run) -> xr.Dataset:
    return analyze(tiny_run, ["progress", "fsd", "heads"], progress_bar=False).dataset


@pytest.mark.parametrize("name", ["fsd[1]", "fsd_set[2]", "restricted_loss[test]", "head_similarity", "gini[W_E][components]", "neurons_above[0.85]"])
def test_when_finds_the_checkpoint_that_the_report_shows(tiny_run: Run, measured: xr.Dataset, name: str) -> None:
    """The variable need not have the name of its measure, and its values need not be monotone."""
    condition = Condition.parse(f"{name} > 0")
    values = [condition.entry(measured[condition.quantity].isel(step=i)) for i in range(len(tiny_run.steps))]
    for threshold in sorted(set(values)):
        for times in (1, 2):
            expected = slowly(tiny_run.steps, values, ">=", threshold, times)
            assert when(f"{name} >= {threshold!r} for {times}")(tiny_run) == (None if expected is None else expected.onset)


@pytest.fixture
def open_measures() -> Iterator[Any]:
    """The mapping of measures, which is as before afterwards, in the same order."""
    kept = dict(MEASURES)
    yield MEASURES
    MEASURES.clear()
    MEASURES.update(kept)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("fsd >= 0.8", r"fsd has \d entries; choose one of fsd\[1\]"),
        ("progress > 0", "progress is a measure with several variables; name one of them: loss, accuracy, unseen_loss"),
        ("restricted_los[test] < 1", "unknown variable of a measure 'restricted_los'; did you mean restricted_loss"),
        ("test_accuracy > 0.5", "unknown variable of a measure 'test_accuracy'"),
    ],
)
def test_when_says_what_to_write(tiny_run: Run, condition: str, message: str, open_measures: Any) -> None:
    del open_measures["ace"]
    with pytest.raises(GrokinterpError, match=message):
        when(condition)(tiny_run)


def test_a_measure_of_ones_own_and_one_that_does_not_apply(tiny_run: Run, open_measures: Any) -> None:
    def own(snapshot: Snapshot) -> dict[str, float]:
        return {"at": float(snapshot.step or 0)}

    def never(snapshot: Snapshot) -> dict[str, float]:
        raise GrokinterpError("never applies here")

    open_measures.clear()
    open_measures["never"], open_measures["own"] = never, own
    assert when("at > 30")(tiny_run) == 40
    with pytest.raises(GrokinterpError, match="never applies here"):
        when("never > 30")(tiny_run)
