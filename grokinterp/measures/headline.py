"""Rows of a report's headline: the numbers of the last step that one quotes. Each measure brings its own."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import NamedTuple

import xarray as xr


class Number(NamedTuple):
    """One number of a report; what is said only aside is folded away on the page."""

    quantity: str
    value: str
    meaning: str = ""
    aside: bool = False


Text = str | Callable[["xr.Dataset"], str]


@dataclass(frozen=True)
class Row:
    """What a measure adds to the headline of every report that holds the variables.

    Attributes:
        quantity: what the row is called; like the others a text, or a function of the dataset's last step.
        variables: what it reads; a report without one of them has no such row.
        value: the number, or several.
        meaning: a few words beside it.
        aside: whether one quotes it only aside: the page folds it away.
        over_steps: it reads the whole dataset, with its dimension ``step``, in place of the last step.
    """

    quantity: Text
    variables: Set[str]
    value: Text
    meaning: Text = ""
    aside: bool = False
    over_steps: bool = False

    def read(self, last: xr.Dataset) -> Number:
        """The row of a step that has the variables, or of all steps where it is over steps."""
        quantity, value, meaning = (text if isinstance(text, str) else text(last) for text in (self.quantity, self.value, self.meaning))
        return Number(quantity, value, meaning, self.aside)


def row_of(quantity: Text, name: str, spec: str = ".4g", meaning: Text = "", /, *, aside: bool = False, **labels: object) -> Row:
    """A row that shows one variable: its number, or its entries at some labels side by side.

    Args:
        quantity: what the row is called.
        name: of the variable.
        spec: of each number, as `format` takes it.
        meaning: a few words beside it.
        aside: see `Row`.
        labels: by dimension one label, or a tuple of which each is shown.
    """

    def value(last: xr.Dataset) -> str:
        array = last[name]
        several: tuple[object, ...] = ()
        for dimension, label in labels.items():
            if isinstance(label, tuple):
                several, of_several = label, dimension
            else:
                array = array.sel({dimension: label})
        entries = [array.sel({of_several: label}) for label in several] if several else [array]
        return " / ".join(format(float(entry), spec) for entry in entries)

    return Row(quantity, {name}, value, meaning, aside)
