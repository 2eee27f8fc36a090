"""Values from outside, checked where they enter: numbers in ranges, the fields of configs against their types, and how an error shows what it got.

NaN, inf or text in a number's place never reach a training.
"""

from __future__ import annotations

import inspect
import math
import operator
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import fields
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

from grokinterp.errors import GrokinterpError, unknown_name

LARGEST = 2**63 - 1  # what whole numbers of torch and NumPy hold


def whole(where: str, value: Any, low: int, high: int) -> int:
    """A whole number in [low, high], of Python, NumPy or torch; True and False are refused.

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
    """A finite number in [low, high], of Python, NumPy or torch; True, False and text are refused.

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


# --- fields of configs ----------------------------------------------------------------------------------------------------


def check_fields(config: Any) -> None:
    """Check every field of a frozen dataclass against its type; NumPy's numbers become Python's, lists become tuples where it says so.

    Call it first in ``__post_init__``. Fields that hold other dataclasses check themselves.

    Raises:
        GrokinterpError: naming the field and its value.
    """
    hints = _hints(config.__class__)
    for field in fields(config):
        value = getattr(config, field.name)
        found = conformed(hints[field.name], value, f"{type(config).__name__}.{field.name}")
        if found is not value:
            object.__setattr__(config, field.name, found)


@lru_cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def conformed(hint: Any, value: Any, where: str) -> Any:
    """A value as its type declares it: whole numbers below 2⁶³, finite numbers, text that UTF-8 can write, plain JSON values inside a Mapping.

    Args:
        hint: int, float, bool, str, a Literal of texts, tuple or Mapping, another class, one of these or None, or a union of classes.
        value: what was given.
        where: what an error calls it.

    Raises:
        GrokinterpError: a value of another type or outside a Literal, NaN, inf, or a whole number that no tensor holds.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        arms = tuple(arm for arm in arguments if arm is not type(None))
        if value is None and len(arms) < len(arguments):
            return None
        if len(arms) == 1:
            return conformed(arms[0], value, where)
        return value if isinstance(value, arms) else _raise(_wrong(where, " or ".join(arm.__name__ for arm in arms), value))
    if origin is tuple:
        value = value.tolist() if hasattr(value, "tolist") else value
        if not isinstance(value, list | tuple | range):
            raise _wrong(where, "a list", value)
        hints = (arguments[0],) * len(value) if len(arguments) == 2 and arguments[1] is ... else arguments
        if len(hints) != len(value):
            raise _wrong(where, f"{len(hints)} values", value)
        items = tuple(conformed(each, item, f"{where}[{i}]") for i, (each, item) in enumerate(zip(hints, value, strict=True)))
        return value if isinstance(value, tuple) and all(new is old for new, old in zip(items, value, strict=True)) else items
    if origin is Mapping or hint is Mapping:
        return _plain(value, where) if isinstance(value, Mapping) else _raise(_wrong(where, "an object with named fields", value))
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise _wrong(where, "float", value)
        if (isinstance(value, int) and abs(value) > 10**300) or not math.isfinite(value):
            raise _wrong(where, "finite", value)
        return value if isinstance(value, int | float) else float(value)
    if hint is int:
        if isinstance(value, bool) or not isinstance(value, Integral) or abs(int(value)) > LARGEST:
            raise _wrong(where, "int", value)
        return value if isinstance(value, int) else int(value)
    kind = str if origin is typing.Literal else hint
    if isinstance(kind, type) and not isinstance(value, kind):
        found = subclasses(kind) if inspect.isabstract(kind) else []
        raise _wrong(where, " or ".join(each.__name__ for each in found) or kind.__name__, value)
    if origin is typing.Literal and value not in arguments:
        raise unknown_name(where.rpartition(".")[2], value, arguments)
    return _text(value, where) if isinstance(value, str) else value


def subclasses(cls: type) -> list[type]:
    """Every class that derives from one and can be made, in the order in which they were defined."""
    found: list[type] = []
    sub: type
    for sub in cls.__subclasses__():
        found += [] if getattr(sub, "__abstractmethods__", ()) else [sub]
        found += subclasses(sub)
    return found


def _text(value: str, where: str) -> str:
    """Text that a config.json can hold; a path that is not UTF-8 is refused, since it could not be read back."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _wrong(where, "text that UTF-8 can write", value) from None
    return value


def _plain(value: Any, where: str) -> Any:
    """A value that JSON can hold, NumPy's numbers as Python's."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, Mapping):
        return {
            _text(name, where) if isinstance(name, str) else _raise(_wrong(where, "named by text", name)): _plain(item, f"{where}.{name}")
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_plain(item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(value, Real):
        return conformed(int if isinstance(value, Integral) else float, value, where)
    raise _wrong(where, "a number, text, list or object", value)


def _wrong(where: str, wanted: str, value: Any) -> GrokinterpError:
    shown = f"{value:.3e}" if isinstance(value, int) and abs(value) > LARGEST and abs(value) < 10**300 else repr(value)
    return GrokinterpError(f"{where} must be {wanted}; got {shown if len(shown) < 80 else shown[:79] + '…'}")


def _raise(error: GrokinterpError) -> Any:
    raise error
