"""Values from outside, checked where they enter: types and ranges, and how an error shows what it got."""

from __future__ import annotations

import math
import operator
from typing import Any

from grokinterp.errors import GrokinterpError


def whole(where: str, value: Any, low: int, high: int) -> int:
    """A whole number in [low, high], of Python, NumPy or torch; True and False are none.

    Args:
        where: what an error calls it.
        value: from outside.
        low: least value.
        high: greatest value.

    Raises:
        GrokinterpError: another type or value.
    """
    try:
        number = None if _is_bool(value) else operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # the last two from a tensor of several elements or of floats
        number = None
    if number is None or not low <= number <= high:
        raise GrokinterpError(f"{where} is a whole number, {low:,} … {high:,}; got {shown(value)}")
    return number


def real(where: str, value: Any, low: float, high: float) -> float:
    """A finite number in [low, high], of Python, NumPy or torch; True, False and text are none.

    Args:
        where: what an error calls it.
        value: from outside.
        low: least value; -inf for none.
        high: greatest value; inf for none.

    Raises:
        GrokinterpError: another type or value, NaN and infinity among them.
    """
    try:
        number = math.nan if _is_bool(value) or isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = math.nan
    if not (math.isfinite(number) and low <= number <= high):
        limits = f"in {low:g} … {high:g}" if math.isfinite(high) else f"of at least {low:g}" if math.isfinite(low) else "that is finite"
        raise GrokinterpError(f"{where} is a number {limits}; got {shown(value)}")
    return number


def shown(value: Any) -> str:
    """A value as an error shows it: on one line, of at most 60 characters."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not write numbers of more than 4,300 digits
        text = f"a {type(value).__name__} of {value.bit_length():,} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:59]}…"


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).removeprefix("torch.") == "bool"
