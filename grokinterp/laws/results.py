"""What a law returns: estimates with intervals, that give a table, a figure and a line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from grokinterp.errors import GrokinterpError
from grokinterp.laws.printing import latex
from grokinterp.notebook import html_table
from grokinterp.outputs import TEXT, output
from grokinterp.plots.lazy import go


class Estimate(NamedTuple):
    """A number with its confidence interval, whose limits are NaN where there is none."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g}" + ("" if np.isnan(self.low) else f" [{self.low:.4g}, {self.high:.4g}]")


@dataclass(frozen=True, eq=False, kw_only=True)
class Result(ABC):
    """Estimates as a `table`, the runs with the fit as a `figure`, and the gist as one line, ``str(result)``."""

    def table(self) -> pd.DataFrame:
        """One row for each estimate and count: ``quantity``, ``estimate``, ``low``, ``high``; NaN limits where there is no interval."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return tabulate({name: value for name, value in held.items() if isinstance(value, Estimate | int | float)})

    def to_latex(self, caption: str = "", label: str = "") -> str:
        """The table as a paper prints it: LaTeX with booktabs, names in words, intervals in brackets, "--" for what does not exist.

        Args:
            caption: of the table; none for a bare tabular.
            label: to refer to it.
        """
        return latex(self.table(), caption, label)

    def to_csv(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the table as CSV, in full precision and with the attributes' own names.

        Args:
            path: the file; a text that stands there is replaced.
            force: replace a file of another kind, too.

        Raises:
            GrokinterpError: nothing may or can be written there.
        """
        path = Path(path)
        with output(path, TEXT, force=force) as temporary:
            temporary.write_bytes(self.table().to_csv(index=False).encode())
        return path

    @abstractmethod
    def figure(self) -> go.Figure:
        """The runs and the fit, with how to read them in ``figure.layout.meta["caption"]``."""

    def _repr_html_(self) -> str:
        table = self.table()
        rows = [[f"{value:.4g}" if isinstance(value, float) else value for value in row] for row in table.to_numpy().tolist()]
        return html_table(type(self).__name__, rows, header=list(table.columns), paragraphs=[str(self)])

    @abstractmethod
    def __str__(self) -> str: ...


def tabulate(values: dict[str, Estimate | int | float]) -> pd.DataFrame:
    """Estimates and bare numbers as a table, ``quantity``, ``estimate``, ``low``, ``high``."""
    rows = [(name, *(value if isinstance(value, Estimate) else (float(value), np.nan, np.nan))) for name, value in values.items()]
    return pd.DataFrame(rows, columns=["quantity", "estimate", "low", "high"])


def bootstrap_interval(draws: np.ndarray, level: float) -> Estimate:
    """A value with the percentile interval of its bootstrap draws; NaN limits without resamples.

    Args:
        draws: the value itself, then that of each resample, as `resample` orders them; NaN, where the quantity does not exist, is left out.
        level: of the interval.

    Raises:
        GrokinterpError: a level outside (0, 1).
    """
    check_level(level)
    value, kept = float(draws[0]), draws[1:][~np.isnan(draws[1:])]
    if not len(kept):
        return Estimate(value, np.nan, np.nan)
    # Without interpolation, so that an infinite draw stays one.
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Estimate(value, float(low), float(high))


def check_level(level: float) -> None:
    """Raise a GrokinterpError for a confidence level outside (0, 1)."""
    if not 0 < level < 1:
        raise GrokinterpError(f"a confidence level lies between 0 and 1; got {level}, so take 0.95")
