"""Sentences that quote measurements: the words are written by hand, the numbers are filled in, and what does not hold is not said."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from string import Formatter

from grokinterp.papers.claims import Claim, Measurement, paper_rows
from grokinterp.papers.numbers import typeset, written

_COMPARISONS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt}
_COMPARISON = re.compile(" (<=|>=|==|<|>) ")


@dataclass(frozen=True)
class Sentence:
    """Words with the ids of measurements in braces.

    Attributes:
        words: "LayerNorm groks after {onset_layer} epochs ({onset_layer.n} runs)"; also ``.low``, ``.high``, and a format like ``{rate:.0%}``.
        holds: what has to be true of our values for the words to be: nothing, or comparisons and accepted claims with commas between them, like
            "onset_layer accepted, rate < 1".
    """

    words: str
    holds: str = ""

    @property
    def quoted(self) -> set[str]:
        """The ids of the measurements that it quotes."""
        return {name.split(".")[0] for _, name, _, _ in Formatter().parse(self.words) if name}

    def filled(self, found: Mapping[str, Measurement], claims: Iterable[Claim] = ()) -> str | None:
        """The words with their numbers; None where a number is missing or none, or where they are not true."""
        quoted = {name: found[name] for name in self.quoted if name in found and not math.isnan(found[name].value)}
        if len(quoted) < len(self.quoted) or not self._true({name: each.value for name, each in found.items()}, claims):
            return None
        return self.words.format_map({name: _Quoted(measurement) for name, measurement in quoted.items()})

    def _true(self, values: Mapping[str, float], claims: Iterable[Claim]) -> bool:
        accepted = {claim.id: claim.accept for claim in claims}
        return all(_is_true(test, values, accepted) for test in self.holds.split(", ") if test)


def _is_true(test: str, values: Mapping[str, float], accepted: Mapping[str, tuple[float, float]]) -> bool:
    """Whether a comparison like "0.5 < rate <= other" holds, or an accepted claim; a value that is missing makes it false."""
    if test.endswith(" accepted"):
        name = test.removesuffix(" accepted")
        return accepted[name][0] <= values.get(name, math.nan) <= accepted[name][1]
    terms = _COMPARISON.split(test)
    numbers = [values.get(term, math.nan) if term[0].isalpha() else float(term) for term in terms[::2]]
    return all(_COMPARISONS[sign](left, right) for sign, left, right in zip(terms[1::2], numbers, numbers[1:]))


class _Quoted:
    """A measurement inside a format string."""

    def __init__(self, measurement: Measurement) -> None:
        self.n, self.low, self.high = measurement.n, written(measurement.low), written(measurement.high)
        self._value = measurement.value

    def __format__(self, form: str) -> str:
        return typeset(format(self._value, form)).replace("%", " %") if form else written(self._value)


def sentences_that_hold(alternatives: Iterable[Sequence[Sentence]], found: Mapping[str, Measurement], claims: Sequence[Claim] = ()) -> list[str]:
    """Of each group of alternatives the first sentence that can be said; nothing where none can."""
    filled = (next((words for sentence in group if (words := sentence.filled(found, claims)) is not None), None) for group in alternatives)
    return [words for words in filled if words is not None]


def opening(paper: str, found: Mapping[str, Measurement], claims: Sequence[Claim]) -> list[str]:
    """What the reproduction of a paper found, by its ``opening.csv``: rows of one place are alternatives."""
    places = groupby(paper_rows(paper, "opening.csv"), lambda row: row["place"])
    return sentences_that_hold([[Sentence(row["words"], row["holds"]) for row in rows] for _, rows in places], found, claims)
