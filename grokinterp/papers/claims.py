"""A claim is a sentence of a paper with its number; a measurement of ours stands beside it, and one word between them.

What no paper says is a finding, and what only calibrates our set-up a calibration; neither counts as reproduced.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from grokinterp.errors import GrokinterpError
from grokinterp.papers.numbers import interval_in_words, written

Kind = Literal["claim", "finding", "calibration"]
Verdict = Literal["reproduced", "differs", "finding", "calibration", "not run"]
Budget = Literal["smoke", "cpu", "full", "gpu"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
TIMES = ("steps", "epochs")  # units in which no number means never


@dataclass(frozen=True)
class Claim:
    """What a paper says, as data.

    Attributes:
        id: a short name, unique within the paper.
        sentence: what is claimed, in our words.
        paper: the paper's number, as it prints it; of a finding what it says instead.
        accept: our value must lie in this closed interval to count as reproduced; chosen before measuring. Of a finding or a calibration: what
            was expected, with no say in the verdict.
        unit: of both numbers.
        budgets: the budgets under which it is measured at the size that it is about; under no other is it measured.
        kind: "claim" of the paper; "finding", which the paper does not say; "calibration" of our own set-up.
        needs: what it takes to measure it, where that is more than a budget.
    """

    id: str
    sentence: str
    paper: str
    accept: tuple[float, float]
    unit: str = ""
    budgets: tuple[Budget, ...] = ("cpu", "full")
    kind: Kind = "claim"
    needs: str = ""

    @property
    def accepted(self) -> str:
        """The interval in words."""
        return interval_in_words(*self.accept)

    @property
    def missing(self) -> str:
        """What it needs to be run, where it is not."""
        if self.needs:
            return self.needs
        if not self.budgets:
            return "more than any budget has"
        return "runs of the cpu budget that are not finished" if "cpu" in self.budgets else "the runs of the full budget"


@dataclass(frozen=True)
class Measurement:
    """Our number for a claim, with an interval where there is one, from `n` runs; NaN where there is none, with the reason in the note."""

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 1
    note: str = ""

    @classmethod
    def over_runs(cls, values: ArrayLike, note: str = "") -> Measurement:
        """The mean over runs with their range, which a single run does not have.

        Args:
            values: one a run, at least one.
            note: to go with it.
        """
        each = np.asarray(values, dtype=float)
        low, high = (each.min(), each.max()) if len(each) > 1 else (math.nan, math.nan)
        return cls(float(each.mean()), float(low), float(high), len(each), note)

    def __str__(self) -> str:
        return self.in_unit("")

    def in_unit(self, unit: str) -> str:
        """The number as tables have it: "7,594 [6,800, 8,510] epochs"; a time that does not exist is "never"."""
        if math.isnan(self.value):
            return "never" if unit in TIMES else "none"
        limits = "" if math.isnan(self.low) else f" [{written(self.low)}, {written(self.high)}]"
        return f"{written(self.value)}{limits} {unit}".rstrip()


def paper_file(paper: str, name: str) -> Any:
    """A file that lies with a paper in the package: ``claims.csv``, ``opening.csv`` or ``about.md``."""
    return files("grokinterp.papers") / paper / name


def paper_rows(paper: str, name: str) -> Iterator[dict[str, Any]]:
    """The rows of such a table, values by column."""
    return csv.DictReader(paper_file(paper, name).read_text(encoding="utf-8").splitlines())


def read_claims(paper: str) -> tuple[Claim, ...]:
    """The claims of a paper, a row each of its ``claims.csv``.

    Its columns are the attributes of `Claim`. ``accept`` is an interval, "0.7 … 1"; one number, "3"; a number within a factor, "800 within 1.5";
    or the exact 95 % interval of a share that the paper gives as a count of runs, "8 of 10".
    """
    rows = paper_rows(paper, "claims.csv")
    return tuple(Claim(**{**row, "accept": _accepted(row["accept"]), "budgets": tuple(row["budgets"].split())}) for row in rows)


def _accepted(text: str) -> tuple[float, float]:
    numbers = [float(part) for part in re.split(r" (?:…|within|of) ", text)]
    if " of " in text:
        exact = binomtest(int(numbers[0]), int(numbers[1])).proportion_ci()
        return float(exact.low), float(exact.high)
    if " within " in text:
        value, factor = numbers
        low, high = sorted((value / factor, value * factor))
        return low, high
    return numbers[0], numbers[-1]


def averaged(values: pd.Series, note: str = "") -> Measurement:
    """Mean and range over the runs that have a value; the others are counted."""
    known = values.dropna()
    if known.empty:
        return Measurement(math.nan, n=0, note=f"missing in all {len(values)} runs")
    missing = len(values) - len(known)
    words = [note, "range over runs" if len(known) > 1 else "", f"missing in {missing} of {len(values)}" if missing else ""]
    return Measurement.over_runs(known, "; ".join(filter(None, words)))


def extreme(values: pd.Series, which: Literal["min", "max"], note: str = "") -> Measurement:
    """The smallest or largest value over runs, NaN where one is missing."""
    value = values.min(skipna=False) if which == "min" else values.max(skipna=False)
    return Measurement(float(value), n=len(values), note=note)


def share(holds: pd.Series, note: str = "") -> Measurement:
    """The share of runs of which something holds."""
    return Measurement(float(holds.mean()), n=len(holds), note=note)


def within_budget(found: Mapping[str, Measurement], claims: Sequence[Claim], budget: Budget) -> dict[str, Measurement]:
    """What was measured at the size that its claim is about: under "smoke", whose models are tiny, what holds at any size.

    Raises:
        GrokinterpError: a measurement without a claim.
    """
    by_id = {claim.id: claim for claim in claims}
    if strangers := found.keys() - by_id.keys():
        raise GrokinterpError(f"measurements without a claim: {', '.join(sorted(strangers))}")
    return {name: measurement for name, measurement in found.items() if budget != "smoke" or "smoke" in by_id[name].budgets}


def verdict(claim: Claim, measurement: Measurement | None) -> Verdict:
    """Whether our number lies where the claim accepts it; of what no paper says, what it is instead."""
    if measurement is None:
        return "not run"
    if claim.kind != "claim":
        return claim.kind
    return "reproduced" if claim.accept[0] <= measurement.value <= claim.accept[1] else "differs"
