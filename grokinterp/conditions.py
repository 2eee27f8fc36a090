"""Conditions: the one meaning of "the first step where …", and the language in which it is written.

    test_loss < 1e-3                     a recorded metric
    test_accuracy >= 0.99 for 3          the same at three evaluations in a row
    fsd[3] >= 0.8 for 2                  the entry of a variable whose coordinate is 3: FSD with K = 3
    restricted_loss[test] < 0.5          a split
    gini[W_E][components] > .5           one label for each dimension, in their order; [W_E, components] says the same

`stop`, `fork`, `when`, `Run.first`, `laws.onset` and the command line all ask `first_stretch`, so they cannot disagree.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, product
from typing import TYPE_CHECKING, NamedTuple

from grokinterp.errors import GrokinterpError, unknown_name

if TYPE_CHECKING:
    import xarray as xr

_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_CONDITION = re.compile(rf"\s*([A-Za-z_]\w*)\s*((?:\[[^\[\]]*\]\s*)*)(>=|<=|>|<)\s*({_NUMBER})\s*(?:for\s+(\d+))?\s*")
_COMMA = re.compile(r",(?![^()]*\))")  # not one inside parentheses, which belongs to a label like (4,1)
_LISTED = 12  # entries that an error names


class Stretch(NamedTuple):
    """Evaluations in a row that satisfy a condition, as many as it asks for.

    Attributes:
        onset: step of the first of them.
        end: step of the last of them, the earliest at which the stretch is known to be long enough.
    """

    onset: float
    end: float


def first_stretch(steps: Sequence[float], holds: Iterable[bool], times: int = 1) -> Stretch | None:
    """The first stretch of `times` evaluations in a row that satisfy a condition, or None.

    "The first step where" is the stretch's onset for everyone who looks back: `Run.first`, `when`, `fork`, `laws.onset`. A run that ends
    on a condition cannot look ahead, so its ``stop`` fires at the end of the same stretch, `times` − 1 evaluations later. With
    p marking an evaluation that satisfies "… for 3" and . one that does not, at steps 0, 100, …:

        step   0 100 200 300 400 500
               p   .   p   p   p   p      onset 200, end 400

    Args:
        steps: of the evaluations, ascending.
        holds: whether each satisfies the condition; read no further than the stretch's end.
        times: evaluations in a row. A stretch that the last evaluation cuts short does not count.

    Raises:
        GrokinterpError: steps that do not ascend.
    """
    for i, (before, step) in enumerate(pairwise(steps), 1):
        if not before < step:
            raise GrokinterpError(f"steps[{i}] is {step:g}; sort the evaluations so that steps ascend, one value each")
    length, onset = 0, math.nan
    for step, satisfied in zip(steps, holds, strict=True):
        length = length + 1 if satisfied else 0
        onset = step if length == 1 else onset
        if length == times:
            return Stretch(onset, step)
    return None


@dataclass(frozen=True)
class Condition:
    """A threshold on one number that is followed over steps; the module's docstring shows how it is written.

    Attributes:
        quantity: name of a recorded metric, or of a measure's variable.
        comparison: ">=", "<=", ">" or "<".
        value: the threshold, in the quantity's unit. NaN never satisfies a condition.
        times: evaluations (or checkpoints) in a row; see `first_stretch`.
        labels: which entry of a variable is meant, a coordinate label for each dimension.
    """

    quantity: str
    comparison: str
    value: float
    times: int = 1
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.comparison not in _OPERATORS:
            raise unknown_name("comparison", self.comparison, _OPERATORS)
        if self.times < 1:
            raise GrokinterpError(f"a condition counts evaluations in a row, so at least 1; got {self.times}")
        if math.isnan(self.value):
            raise GrokinterpError(f"the threshold of {self.name} is NaN, which nothing is above or below; give a number")

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition from text.

        Raises:
            GrokinterpError: the text is not "<quantity>[<label>] <comparison> <number> for <times>", where label and times may be left out.
        """
        match = _CONDITION.fullmatch(text)
        labels = re.findall(r"\[([^\[\]]*)\]", match[2]) if match else []
        each = tuple(label.strip() for bracket in labels for label in _COMMA.split(bracket))
        if match is None or not all(each):
            raise GrokinterpError(
                f"cannot read the condition {text!r}; write it like 'test_loss < 1e-3', 'test_accuracy >= 0.99 for 3' or 'fsd[1] >= 0.8 for 2'"
            )
        return cls(match[1], match[3], float(match[4]), int(match[5] or 1), each)

    def __str__(self) -> str:
        return f"{self.name} {self.comparison} {self.value!r}" + (f" for {self.times}" if self.times > 1 else "")

    @property
    def name(self) -> str:
        """The quantity with its labels, as the condition has it: "restricted_loss[test]"."""
        return self.quantity + "".join(f"[{label}]" for label in self.labels)

    def holds(self, value: float) -> bool:
        """Whether a single evaluation satisfies the condition; NaN does not."""
        return bool(_OPERATORS[self.comparison](value, self.value))

    def first(self, steps: Sequence[float], values: Iterable[float]) -> Stretch | None:
        """The first stretch of values, one for each step, that satisfies the condition; see `first_stretch`."""
        return first_stretch(steps, map(self.holds, values), self.times)

    def first_in(self, rows: Sequence[Mapping[str, float]]) -> Stretch | None:
        """The same over rows of recorded metrics, each with its ``step``.

        Raises:
            GrokinterpError: rows that do not have the metric, or whose steps do not ascend.
        """

        def recorded(row: Mapping[str, float]) -> float:
            self.require(row)
            return row[self.quantity]

        return self.first([row["step"] for row in rows], map(recorded, rows))

    def first_of(self, dataset: xr.Dataset) -> Stretch | None:
        """The same in the dataset of a report: over ``eval_step`` for a metric recorded while training, else over ``step`` for a variable.

        Raises:
            GrokinterpError: the dataset lacks the quantity, or the labels leave several of its entries.
        """
        steps, values = self.series(dataset)
        return self.first(steps, values)

    def series(self, dataset: xr.Dataset) -> tuple[list[float], list[float]]:
        """The steps of a report's dataset at which the quantity stands, and its value at each; errors are those of `first_of`.

        Raises:
            GrokinterpError: see `first_of`.
        """
        recorded = f"metric_{self.quantity}"
        if recorded in dataset and not self.labels:
            return dataset["eval_step"].to_numpy().tolist(), dataset[recorded].to_numpy().tolist()
        if self.quantity not in dataset or "step" not in dataset[self.quantity].dims:
            known = [str(name).removeprefix("metric_") for name, array in dataset.data_vars.items() if {"step", "eval_step"} & set(array.dims)]
            raise unknown_name("quantity over steps", self.quantity, known)
        variable = dataset[self.quantity]
        return variable["step"].to_numpy().tolist(), [self.entry(variable.isel(step=i)) for i in range(variable.sizes["step"])]

    def require(self, metrics: Iterable[str]) -> None:
        """Raise a GrokinterpError unless the condition is one on a recorded metric.

        Args:
            metrics: the names that are recorded.
        """
        known = [name for name in metrics if name != "step"]
        if self.name not in known:
            raise GrokinterpError(f"the condition '{self}' names {self.name!r}, but the metrics are {', '.join(known)}")

    def entry(self, variable: xr.DataArray) -> float:
        """The number in a variable that the labels mean.

        A label is compared with the coordinate of its dimension, as a number where that holds numbers (``fsd[3]`` is K = 3, not the fourth
        entry), or with the position where a dimension has no coordinate. Dimensions with one entry may be left out.

        Args:
            variable: of a measure's result.

        Raises:
            GrokinterpError: labels that do not leave exactly one entry (those that there are get listed), or one that is not a number.
        """
        several = [name for name in variable.dims if variable.sizes[name] != 1]
        dimensions = list(variable.dims) if len(self.labels) == variable.ndim else several
        matches = [_positions(variable, name, label) for name, label in zip(dimensions, self.labels, strict=False)]
        if len(self.labels) != len(dimensions) or any(len(found) != 1 for found in matches):
            wrong = f"no entry {self.name}" if self.labels else f"{variable.size} entries"
            raise GrokinterpError(f"{self.quantity} has {wrong}; choose one of {self._listed(variable, several)}")
        chosen = variable.isel(dict.fromkeys(variable.dims, 0) | {name: found[0] for name, found in zip(dimensions, matches, strict=True)})
        try:
            return float(chosen)
        except (TypeError, ValueError):
            raise GrokinterpError(f"{self.name} is {chosen.item()!r}, which no threshold applies to; choose a variable that holds numbers") from None

    def _listed(self, variable: xr.DataArray, several: Sequence[object]) -> str:
        each = islice(product(*(_labels(variable, name) for name in several)), _LISTED)
        entries = [self.quantity + "".join(f"[{label}]" for label in labels) for labels in each]
        return ", ".join(entries) + (", …" if variable.size > len(entries) else "")


def _labels(variable: xr.DataArray, dimension: object) -> list[object]:
    """Coordinate labels of a dimension; positions where it has none."""
    labels: list[object] = variable[dimension].to_numpy().tolist()
    return labels


def _positions(variable: xr.DataArray, dimension: object, label: str) -> list[int]:
    """Where a dimension has a label."""
    labels = _labels(variable, dimension)
    number = float(label) if re.fullmatch(_NUMBER, label) else math.nan
    return [i for i, own in enumerate(labels) if str(own) == label or (isinstance(own, int | float) and own == number)]
