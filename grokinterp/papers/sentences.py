"""Sentences that quote measurements: the words are written by hand, the numbers are filled in, and what does not hold is not said."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

from grokinterp.papers.claims import Claim, Measurement
from grokinterp.papers.numbers import typeset, written

Values = Mapping[str, float]


def always(values: Values) -> bool:
    """For sentences that hold whatever their numbers are."""
    return True


def accepted(claims: Iterable[Claim], *names: str) -> Callable[[Values], bool]:
    """For sentences that hold where our values lie in the intervals that these claims accept."""
    limits = {claim.id: claim.accept for claim in claims if claim.id in names}
    return lambda values: all(low <= values.get(name, math.nan) <= high for name, (low, high) in limits.items())


@dataclass(frozen=True)
class Sentence:
    """Words with the ids of measurements in braces.

    Attributes:
        words: "LayerNorm groks after {onset_layer} epochs ({onset_layer.n} runs)"; also ``.low``, ``.high``, and a format like ``{rate:.0%}``.
        holds: whether the words are true of these values, which are all there.
    """

    words: str
    holds: Callable[[Values], bool] = always

    @property
    def quoted(self) -> set[str]:
        """The ids of the measurements that it quotes."""
        return {name.split(".")[0] for _, name, _, _ in Formatter().parse(self.words) if name}

    def filled(self, found: Mapping[str, Measurement]) -> str | None:
        """The words with their numbers; None where a number is missing or none, or where they are not true."""
        quoted = {name: found[name] for name in self.quoted if name in found and not math.isnan(found[name].value)}
        if len(quoted) < len(self.quoted) or not self.holds({name: measurement.value for name, measurement in found.items()}):
            return None
        return self.words.format_map({name: _Quoted(measurement) for name, measurement in quoted.items()})


class _Quoted:
    """A measurement inside a format string."""

    def __init__(self, measurement: Measurement) -> None:
        self.n, self.low, self.high = measurement.n, written(measurement.low), written(measurement.high)
        self._value = measurement.value

    def __format__(self, form: str) -> str:
        return typeset(format(self._value, form)).replace("%", " %") if form else written(self._value)


def told(alternatives: Iterable[Sequence[Sentence]], found: Mapping[str, Measurement]) -> list[str]:
    """Of each group of alternatives the first sentence that can be said; nothing where none can."""
    said = (next((words for sentence in group if (words := sentence.filled(found)) is not None), None) for group in alternatives)
    return [words for words in said if words is not None]
