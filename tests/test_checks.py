"""Numbers from outside: what is one, in whatever type, and what is none."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from grokinterp.checks import real, shown, whole
from grokinterp.errors import GrokinterpError

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3), np.array(3)], ids=repr)
def test_whole_numbers_of_any_type(value: Any) -> None:
    assert whole("n", value, 3, 3) == 3
    assert type(whole("n", value, 0, 5)) is int
    assert real("x", value, 0, 5) == 3


@pytest.mark.parametrize("value", [0.5, np.float16(0.5), np.float32(0.5), torch.tensor(0.5), Fraction(1, 2)], ids=repr)
def test_numbers_of_any_type(value: Any) -> None:
    assert real("x", value, 0, 1) == 0.5
    with pytest.raises(GrokinterpError, match="n is a whole number, 0 … 1; got "):
        whole("n", value, 0, 1)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        "3",
        b"3",
        [],
        [3, 4],
        {},
        NAN,
        INF,
        -INF,
        10**5_000,
        4,
        -1,
        np.bool_(True),
        torch.tensor(True),
        np.arange(2),
        torch.ones(2),
        3j,
    ],
    ids=lambda value: shown(value),
)
def test_everything_else_is_refused_by_its_value(value: Any) -> None:
    for check in (whole, real):
        with pytest.raises(GrokinterpError) as caught:
            check("n", value, 0, 3)
        assert str(caught.value).startswith("n is a ")
        assert str(caught.value).endswith(f"; got {shown(value)}")


def test_open_ranges_say_what_they_ask_for() -> None:
    with pytest.raises(GrokinterpError, match="lr is a number of at least 0; got -1"):
        real("lr", -1, 0, INF)
    with pytest.raises(GrokinterpError, match="x is a number that is finite; got inf"):
        real("x", INF, -INF, INF)


def test_values_are_shown_on_one_short_line() -> None:
    assert shown("a\nb") == r"'a\nb'"
    assert len(shown("x" * 1_000)) == 60
    assert shown(10**5_000) == "a int of 16,610 bits"
    assert shown([10**5_000]) == "a list"
