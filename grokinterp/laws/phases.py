"""Where runs grok: two settings across, how many runs and how soon."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from grokinterp.errors import GrokinterpError
from grokinterp.laws.results import Result, check_level
from grokinterp.laws.subjects import GROKS, column, times_in_sweep
from grokinterp.plots import heat_map
from grokinterp.plots.lazy import go


@dataclass(frozen=True, eq=False, kw_only=True)
class PhaseDiagram(Result):
    """How many runs grok, and how soon, at each pair of two settings.

    Attributes:
        x: name of the first setting.
        y: name of the second.
        n_runs: runs that are counted.
        n_open: runs that had neither grokked nor come to their end or to the horizon; left out.
        horizon: until when runs had to grok; None for as long as each was followed.
        criterion: what counts as grokking, in words.
        cells: a row for each pair: both settings as ``x`` and ``y``, ``n``, ``grokked``, ``rate`` with its exact binomial limits ``low`` and
            ``high``, and ``median_step``, by which half of the cell's runs have grokked, NaN where fewer do or only outcomes were given.
    """

    x: str
    y: str
    n_runs: int
    n_open: int
    horizon: float | None
    criterion: str
    cells: pd.DataFrame = field(repr=False)

    def table(self) -> pd.DataFrame:
        """The cells, a row each, with the settings by their names."""
        return self.cells.rename(columns={"x": self.x, "y": self.y})

    def figure(self) -> go.Figure:
        """The share of runs that grok as colour, with counts and median steps written in; cells without runs stay empty."""
        wide = self.cells.pivot(index="y", columns="x", values="rate")
        texts = self.cells.assign(text=[self._words(row) for _, row in self.cells.iterrows()]).pivot(index="y", columns="x", values="text")
        when = ", and the step by which half of them have" if self.cells["median_step"].notna().any() else ""
        caption = f"Each cell is a pair of settings: how many of its runs grok{when}. Empty cells have no runs. A run groks by {self.criterion}."
        within = "" if self.horizon is None else f" within {self.horizon:,g} steps"
        x, y = ([f"{value:g}" if isinstance(value, float) else str(value) for value in axis] for axis in (wide.columns, wide.index))
        words = texts.fillna("").to_numpy()
        return heat_map(f"Where runs grok{within}", caption, wide.to_numpy(float), x, y, (self.x, self.y), "share that groks", (0, 1), words)

    @staticmethod
    def _words(row: pd.Series[float]) -> str:
        when = "" if np.isnan(row["median_step"]) else f"<br>{row['median_step']:,.0f}"
        return f"{row['grokked']:.0f}/{row['n']:.0f}{when}"

    def __str__(self) -> str:
        all_, none = int((self.cells["rate"] == 1).sum()), int((self.cells["rate"] == 0).sum())
        left_out = f"; {self.n_open} left out, not at their end" if self.n_open else ""
        return (
            f"{len(self.cells)} pairs of {self.x} and {self.y}, {self.n_runs} runs: in {all_} all grok, in {none} none, by {self.criterion}{left_out}"
        )


def phase_diagram(
    table: pd.DataFrame,
    x: str = "weight_decay",
    y: str = "lr",
    horizon: float | None = None,
    *,
    grokked: ArrayLike | None = None,
    level: float = 0.95,
) -> PhaseDiagram:
    """How many runs of a sweep grok, and how soon, at each pair of two settings.

    Args:
        table: as `sweep` and `results` give it.
        x: a setting by short or full name, like "weight_decay".
        y: another, like "lr" or "train_fraction".
        horizon: until when runs count; None for as long as each was followed.
        grokked: whether each run of the table groks within the horizon, by a measure of yours, like ``table["test_accuracy"] >= 0.7``; None for the
            table's ``grokked_at``, a test accuracy of 0.99. An outcome has no step, so that there are no median steps.
        level: of the rates' exact binomial limits.

    Raises:
        GrokinterpError: a table that is not a sweep's, settings that it lacks, one setting twice, or outcomes that are not one for each run.
    """
    check_level(level)
    names = column(table, x), column(table, y)
    if names[0] == names[1]:
        raise GrokinterpError(f"a phase diagram has two settings; got {x!r} twice")
    runs = times_in_sweep(table, horizon, grokked)
    counted = runs[~runs["open"]].rename(columns={names[0]: "x", names[1]: "y"})
    if not len(counted):
        raise GrokinterpError(f"none of {len(runs)} runs has grokked or come to its end; wait, or give a shorter horizon")
    rows = []
    for (own_x, own_y), cell in counted.groupby(["x", "y"]):
        n, n_grokked = len(cell), int(cell["grokked"].sum())
        limits = binomtest(n_grokked, n).proportion_ci(level)
        half = np.sort(np.where(cell["grokked"], cell["time"], np.inf))[(n + 1) // 2 - 1]
        middle = float(half) if np.isfinite(half) else np.nan
        row = {"x": own_x, "y": own_y, "n": n, "grokked": n_grokked, "rate": n_grokked / n, "low": limits.low, "high": limits.high}
        rows.append(row | {"median_step": middle})
    criterion = f"{GROKS}, the table's grokked_at" if grokked is None else "the outcomes given"
    n_open = int(runs["open"].sum())
    return PhaseDiagram(x=x, y=y, n_runs=len(counted), n_open=n_open, horizon=horizon, criterion=criterion, cells=pd.DataFrame(rows))
