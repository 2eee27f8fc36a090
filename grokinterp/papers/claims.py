"""A claim is a sentence of a paper with its number; a measurement of ours stands beside it, and one word between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from grokinterp.errors import GrokinterpError
from grokinterp.notebook import html_table
from grokinterp.outputs import SVG, TEXT, check_folder, output

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

Verdict = Literal["reproduced", "differs", "not run"]
Budget = Literal["smoke", "cpu", "full"]


@dataclass(frozen=True)
class Claim:
    """What a paper says, as data.

    Attributes:
        id: a short name, unique within the paper.
        sentence: what is claimed, in our words.
        paper: the paper's number, as it prints it.
        accept: our value must lie in this closed interval to count as reproduced; chosen before measuring.
        unit: of both numbers.
        budgets: the budgets under which it is measured at the paper's own size; under the others it is "not run".
    """

    id: str
    sentence: str
    paper: str
    accept: tuple[float, float]
    unit: str = ""
    budgets: tuple[Budget, ...] = ("cpu", "full")


@dataclass(frozen=True)
class Measurement:
    """Our number for a claim, with an interval where there is one, from `n` runs."""

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
        interval = "" if math.isnan(self.low) else f" [{_written(self.low)}, {_written(self.high)}]"
        return f"{_written(self.value)}{interval}"


def _written(number: float) -> str:
    """Four digits, or all that stand before the point: counts and epochs are read as they are, not as powers of ten."""
    return f"{number:,.0f}" if 1_000 <= abs(number) < math.inf else f"{number:.4g}"


@dataclass(frozen=True, eq=False)
class Reproduction:
    """What reproducing a paper found.

    Attributes:
        paper: its short name.
        budget: the size at which it was run.
        claims: the paper's claims.
        found: our measurements by claim id.
        figures: by name.
        tables: what the measurements were read off, by name.
    """

    paper: str
    budget: Budget
    claims: Sequence[Claim]
    found: Mapping[str, Measurement]
    figures: Mapping[str, go.Figure] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def __post_init__(self) -> None:
        strangers = self.found.keys() - {claim.id for claim in self.claims}
        if strangers:
            raise GrokinterpError(f"measurements without a claim: {', '.join(sorted(strangers))}")

    def verdict(self, claim: Claim) -> Verdict:
        """Whether our number lies where the claim accepts it."""
        if claim.id not in self.found:
            return "not run"
        return "reproduced" if claim.accept[0] <= self.found[claim.id].value <= claim.accept[1] else "differs"

    def table(self) -> pd.DataFrame:
        """One row a claim: the paper's value, ours with its interval, the verdict."""
        import pandas as pd

        rows = []
        for claim in self.claims:
            ours = self.found.get(claim.id)
            rows.append(
                {
                    "claim": claim.sentence,
                    "paper": claim.paper,
                    "ours": "" if ours is None else str(ours),
                    "runs": 0 if ours is None else ours.n,
                    "unit": claim.unit,
                    "verdict": self.verdict(claim),
                    "note": "" if ours is None else ours.note,
                }
            )
        frame: pd.DataFrame = pd.DataFrame(rows, index=pd.Index([claim.id for claim in self.claims], name="id"))
        return frame

    def save(self, folder: Path, *, force: bool = False) -> Path:
        """Write the claims table as Markdown and CSV, the tables behind it as CSV and the figures as SVG; the Markdown's path.

        Args:
            folder: made if it is not there.
            force: replace files of other kinds that have these names, too.

        Raises:
            GrokinterpError: nothing may or can be written there; or figures cannot be drawn, because kaleido or a Chrome for it is missing:
                the tables are written then.
        """
        check_folder(folder)
        tables = {self.paper: self.table(), **{f"{self.paper}-{name}": table for name, table in self.tables.items()}}
        for name, table in tables.items():
            with output(folder / f"{name}.csv", TEXT, force=force) as temporary:
                temporary.write_text(table.to_csv())
        page = folder / f"{self.paper}.md"
        with output(page, TEXT, force=force) as temporary:
            temporary.write_text(self._markdown())
        for name, figure in self.figures.items():
            _write_svg(figure, folder / f"{self.paper}-{name}.svg", force)
        return page

    def _markdown(self) -> str:
        lines = [f"# {self.paper}: claims and measurements", "", f"Made by `grokinterp reproduce {self.paper} --budget {self.budget}`.", ""]
        lines += ["| claim | paper | ours | runs | verdict | note |", "|---|---|---|---|---|---|"]
        for _, row in self.table().iterrows():
            unit = f" {row['unit']}" if row["unit"] else ""
            ours = f"{row['ours']}{unit}" if row["ours"] else "–"
            lines.append(f"| {row['claim']} | {row['paper']}{unit} | {ours} | {row['runs']} | **{row['verdict']}** | {row['note']} |")
        lines += ["", *(f"![{name}]({self.paper}-{name}.svg)\n" for name in self.figures)]
        behind = ", ".join(f"[{name}]({self.paper}-{name}.csv)" for name in self.tables)
        return "\n".join([*lines, f"Tables behind this: {behind}." if behind else ""]).rstrip() + "\n"

    def _repr_html_(self) -> str:
        table = self.table()
        return html_table(f"{self.paper}, budget {self.budget}: claims and measurements", table.to_numpy().tolist(), header=list(table.columns))

    def __str__(self) -> str:
        rows = [(claim.id, self.verdict(claim), claim.paper, str(self.found.get(claim.id, "–"))) for claim in self.claims]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _write_svg(figure: go.Figure, path: Path, force: bool) -> None:
    try:
        image = figure.to_image(format="svg", width=900, height=480)
    except (ValueError, RuntimeError, OSError) as error:
        raise GrokinterpError(f"cannot draw {path.name}: `pip install kaleido` and a Chrome or Chromium are needed ({error})") from error
    with output(path, SVG, force=force) as temporary:
        temporary.write_bytes(image)
