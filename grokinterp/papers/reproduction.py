"""What reproducing a paper found: its claims with our numbers, the page and the tables that are written of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from grokinterp.errors import GrokinterpError
from grokinterp.notebook import html_table
from grokinterp.outputs import SVG, TEXT, check_folder, output
from grokinterp.papers.claims import VERDICTS, Budget, Claim, Measurement, Verdict, paper_file, read_claims, verdict, within_budget
from grokinterp.papers.numbers import typeset
from grokinterp.papers.sentences import opening
from grokinterp.papers.tables import NOTHING, Tables
from grokinterp.plots.lazy import go

NO_FIGURES: Mapping[str, go.Figure] = {}
SECTIONS: dict[str, tuple[Verdict, ...]] = {
    "What the paper claims": ("reproduced", "differs"),
    "Findings: what the paper does not say": ("finding",),
    "Not run": ("not run",),
    "Calibration: checks of our own set-up": ("calibration",),
}
COLUMNS = {
    "What the paper claims": "*Accepted* is the interval in which our number must lie to count as reproduced. Square brackets hold a confidence "
    "interval, or the range over runs where the note says so.",
    "Findings: what the paper does not say": "*Expected* is what we thought to find; it decides nothing.",
}


@dataclass(frozen=True, eq=False)
class Reproduction:
    """What reproducing a paper found.

    Attributes:
        paper: its short name.
        budget: the size at which it was run.
        claims: the paper's claims.
        found: our measurements by claim id.
        figures: by name; the first is the main one.
        tables: what the measurements were read off, by name.
        opening: what was found, in a few sentences.
        drawn: names of figures that need whole runs and stand in the folder as they were drawn when those were at hand.
    """

    paper: str
    budget: Budget
    claims: Sequence[Claim]
    found: Mapping[str, Measurement]
    figures: Mapping[str, go.Figure] = field(default_factory=dict)
    tables: Tables = field(default_factory=dict)
    opening: Sequence[str] = ()
    drawn: Sequence[str] = ()

    @classmethod
    def from_measurements(
        cls,
        paper: str,
        budget: Budget,
        found: Mapping[str, Measurement],
        figures: Mapping[str, go.Figure] = NO_FIGURES,
        tables: Tables = NOTHING,
        drawn: Sequence[str] = (),
    ) -> Reproduction:
        """What measurements say of a paper's claims: those in which the budget has a say, and the sentences that open the page.

        Args:
            paper: its short name.
            budget: under which they were measured.
            found: by claim id.
            figures: by name.
            tables: what the measurements were read off, by name.
            drawn: names of the paper's figures in the order of the page, whether they are among `figures` or drawn before.

        Raises:
            GrokinterpError: a measurement without a claim.
        """
        claims = read_claims(paper)
        kept = within_budget(found, claims, budget)
        ordered = {name: figures[name] for name in (*drawn, *figures) if name in figures}
        return cls(paper, budget, claims, kept, ordered, tables, opening(paper, kept, claims), drawn)

    def __post_init__(self) -> None:
        outside = self.found.keys() - within_budget(self.found, self.claims, self.budget).keys()
        if outside:
            raise GrokinterpError(f"measured under the budget {self.budget}, which has no say in them: {', '.join(sorted(outside))}")

    def verdict(self, claim: Claim) -> Verdict:
        """Whether our number lies where the claim accepts it; of what the paper does not say, what it is instead."""
        return verdict(claim, self.found.get(claim.id))

    @cached_property
    def tally(self) -> dict[Verdict, int]:
        """How many claims have each verdict."""
        counts = Counter(self.verdict(claim) for claim in self.claims)
        return {name: counts[name] for name in VERDICTS}

    def table(self) -> pd.DataFrame:
        """One row a claim: the paper's value, what is accepted, ours with its interval, the verdict; ``value``, ``low``, ``high`` in full."""
        return pd.DataFrame([self._row(claim) for claim in self.claims], index=pd.Index([claim.id for claim in self.claims], name="id"))

    def _row(self, claim: Claim) -> dict[str, object]:
        ours = self.found.get(claim.id)
        numbers = {name: None if ours is None else getattr(ours, name) for name in ("value", "low", "high")}
        return {
            "claim": claim.sentence,
            "paper": typeset(claim.paper),
            "accepted": claim.accepted,
            "ours": "" if ours is None else ours.in_unit(claim.unit),
            "unit": claim.unit,
            "runs": 0 if ours is None else ours.n,
            "verdict": self.verdict(claim),
            "note": typeset(claim.missing if ours is None else ours.note),
            **numbers,
        }

    def save(self, folder: Path, *, force: bool = False) -> Path:
        """Write the page as Markdown, the claims and the tables behind them as CSV and the figures as SVG; the page's path.

        Args:
            folder: made if it is not there.
            force: replace files of other kinds that have these names, too.

        Raises:
            GrokinterpError: nothing may or can be written there; or figures cannot be drawn, because kaleido or a Chrome for it is missing:
                all else is written then.
        """
        check_folder(folder)
        page = folder / f"{self.paper}.md"
        for path, text in {**self.csv(), page.name: self.page()}.items():
            with output(folder / path, TEXT, force=force) as temporary:
                temporary.write_text(text)
        for name, figure in self.figures.items():
            image = svg_of(figure, f"{self.paper}-{name}.svg")
            with output(folder / f"{self.paper}-{name}.svg", SVG, force=force) as temporary:
                temporary.write_bytes(image)
        return page

    def csv(self) -> dict[str, str]:
        """The table of claims and those behind it, as text by the name of their file."""
        tables = {self.paper: self.table(), **{f"{self.paper}-{name}": table for name, table in self.tables.items()}}
        return {f"{name}.csv": table.to_csv() for name, table in tables.items()}

    def page(self) -> str:
        """The page as Markdown: what the paper claims, what we ran and found, the main figure, the terms, the claims by verdict, further figures."""
        figures = list(dict.fromkeys([*self.figures, *self.drawn]))
        introduction, terms = introduction_and_terms(self.paper)
        found = f"**What came out**: {' '.join(self.opening)}" if self.opening else ""
        parts = [introduction, found, f"**{tally_in_words(self.tally)}**", *map(self._image, figures[:1]), terms]
        table = self.table()
        for title, verdicts in SECTIONS.items():
            rows = table.loc[[claim.id for claim in self.claims if self.verdict(claim) in verdicts]]
            parts += [f"## {title}", COLUMNS.get(title, ""), _section(rows, verdicts)] if len(rows) else []
        parts += ["## Further figures", *map(self._image, figures[1:])] if figures[1:] else []
        behind = ", ".join(f"[{name}]({self.paper}-{name}.csv)" for name in self.tables)
        made = f"Made by `grokinterp reproduce {self.paper} --budget {self.budget}`."
        parts += ["## Behind this", f"{made} All claims are in [one table]({self.paper}.csv).{f' Runs: {behind}.' if behind else ''}"]
        return "\n\n".join(filter(None, parts)) + "\n"

    def _image(self, name: str) -> str:
        return f"![{name}]({self.paper}-{name}.svg)"

    def _repr_html_(self) -> str:
        table = self.table()
        return html_table(f"{self.paper}, budget {self.budget}: claims and measurements", table.to_numpy().tolist(), header=list(table.columns))

    def __str__(self) -> str:
        table = self.table()
        rows = [(str(name), row["verdict"], row["paper"], row["ours"] or "–") for name, row in table.iterrows()]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, "", tally_in_words(self.tally)])


def introduction_and_terms(paper: str) -> tuple[str, str]:
    """The introduction to a page, with its title, and the terms of its tables, both as Markdown: the file ``about.md`` beside a paper's code.

    Args:
        paper: its short name; a name without such a file has a title and no terms.
    """
    file = paper_file(paper, "about.md")
    if not file.is_file():
        return f"# {paper}", ""
    introduction, heading, terms = file.read_text(encoding="utf-8").partition("## Terms")
    return introduction.replace("# ", f"# {paper}: ", 1).strip(), (heading + terms).strip()


def tally_in_words(tally: Mapping[Verdict, int]) -> str:
    """ "Of 88 claims 38 are reproduced, 46 differ and 4 are not run; beside them 3 findings and 1 calibration." """
    reproduced, differs, not_run = (tally[name] for name in ("reproduced", "differs", "not run"))
    total = reproduced + differs + not_run
    counted = f"{reproduced} {_are(reproduced)} reproduced, {differs} {'differs' if differs == 1 else 'differ'} and {not_run} {_are(not_run)} not run"
    beside = [f"{tally[name]} {name}{'' if tally[name] == 1 else 's'}" for name in ("finding", "calibration") if tally[name]]
    return f"Of {total} {'claim' if total == 1 else 'claims'} {counted}{'; beside them ' + ' and '.join(beside) if beside else ''}."


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _section(rows: pd.DataFrame, verdicts: Sequence[Verdict]) -> str:
    """The claims of some verdicts as a table in Markdown."""
    papers = [_with_unit(paper, unit) for paper, unit in zip(rows["paper"], rows["unit"], strict=True)]
    cells = rows.assign(paper=papers, runs=rows["runs"].astype(str), verdict="**" + rows["verdict"] + "**")
    if "not run" in verdicts:
        return _columns(cells.rename(columns={"note": "needs"}), "claim", "paper", "accepted", "needs")
    if "reproduced" in verdicts:
        return _columns(cells, "claim", "paper", "accepted", "ours", "runs", "verdict", "note")
    return _columns(cells.rename(columns={"accepted": "expected"}), "claim", "paper", "expected", "ours", "runs", "note")


def _columns(cells: pd.DataFrame, *names: str) -> str:
    return markdown_table(names, cells[list(names)].to_numpy().tolist())


def _with_unit(text: str, unit: str) -> str:
    """A paper's number with its unit, where it is one."""
    return f"{text} {unit}" if unit and any(letter.isdigit() for letter in text) else text


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows))


def svg_of(figure: go.Figure, name: str = "the figure") -> bytes:
    """A figure as SVG, 900 by 480 pixels.

    Args:
        figure: of plotly.
        name: of its file, for the message.

    Raises:
        GrokinterpError: kaleido or a Chrome for it is missing.
    """
    try:
        image: bytes = figure.to_image(format="svg", width=900, height=480)
    except (ValueError, RuntimeError, OSError) as error:
        raise GrokinterpError(
            f"cannot draw {name}: `pip install kaleido` and a Chrome or Chromium are needed ({error}); pages and tables are written"
        ) from error
    return image
