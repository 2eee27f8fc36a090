"""How numbers are written in tables of claims: one format for all of them, in text as in cells of their own."""

from __future__ import annotations

import math
import re

DIGITS = 4
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_POWER = re.compile(r"(?<![\w.-])([−-]?\d+(?:\.\d+)?)e([+-]?\d+)\b")
_MINUS = re.compile(r"(?<![\w.])-(?=\d)")


def written(number: float) -> str:
    """A number with four digits, or with all that stand before the point; whole ones in full, small ones as powers of ten, NaN as "none"."""
    if math.isnan(number):
        return "none"
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    if float(number).is_integer() or abs(number) >= 10 ** (DIGITS - 1):
        return typeset(f"{number:,.0f}") if abs(number) < 1e15 else typeset(f"{number:.{DIGITS}g}")
    return typeset(f"{number:.{DIGITS}g}")


def typeset(text: str) -> str:
    """Text with its minus signs and powers of ten as they are printed: "-0.5, 1.8e-06" is "−0.5, 1.8 × 10⁻⁶".

    Names that hold such signs, like ``lr1e-3-t30``, stay as they are.
    """
    return _MINUS.sub("−", _POWER.sub(lambda found: f"{found[1]} × 10{str(int(found[2])).translate(_SUPERSCRIPTS)}", text))


def interval_in_words(low: float, high: float) -> str:
    """A closed interval in words: "3", "0.7 … 1", "at most 5", "at least 2"; a hair's breadth off a round number is an open end, "above 0"."""
    if low == high:
        return written(low)
    (least, above), (most, below) = _end(low, 1), _end(high, -1)
    if math.isinf(low) and math.isinf(high):
        return "any"
    if math.isinf(low):
        return f"{'below' if below else 'at most'} {most}"
    if math.isinf(high):
        return f"{'above' if above else 'at least'} {least}"
    if above or below:
        return f"{'above' if above else 'from'} {least} {'to below' if below else 'to'} {most}"
    return f"{least} … {most}"


def _end(value: float, inwards: int) -> tuple[str, bool]:
    """An end of an interval as it is written, and whether the interval stops just short of it."""
    if math.isinf(value):
        return written(value), False
    round_number = round(value, 6) + 0.0  # no minus sign on a zero
    short = 1e-10 < inwards * (value - round_number) < 2e-9  # a hair's breadth, and not a rounding error
    return written(round_number if short else value), short
