"""`Comparison`: the reports of several runs as one, with the settings in which they differ and the onset of each condition."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from grokinterp.errors import GrokinterpError
from grokinterp.measures import Measure, Number
from grokinterp.notebook import html_table
from grokinterp.plots import STEPS
from grokinterp.plots.lazy import go
from grokinterp.reports.encoding import Panels
from grokinterp.reports.overlay import can_overlay, colour_of, one_at_a_time, overlay
from grokinterp.reports.report import Report
from grokinterp.reports.several import by_reason, config_of, differences, end_table, joined, labels, onset_figure, onset_table
from grokinterp.reports.several import state as state_of
from grokinterp.reports.words import listed


class Comparison(Report):
    """What `analyze` found in several runs, along a dimension ``run`` that is labelled by what differs in their configs.

    It is a `Report`: its dataset, figures, tables and page are those of all runs together. Curves lie over each other, each run in its colour;
    maps are shown one run at a time. A single run's report is ``comparison.reports[label]``.

    Args:
        reports: one a run, by the run's label, in the order in which they are shown.
        failed: runs that could not be read, with the reason.

    Raises:
        GrokinterpError: no reports.
    """

    def __init__(self, reports: Mapping[str, Report], failed: Mapping[str, str] | None = None) -> None:
        if not reports:
            raise GrokinterpError(f"a comparison shows reports, one a run; got {len(reports)}")
        own: dict[str, Measure] = {}
        for report in reports.values():
            own |= report.measures
        for name, value in (("reports", dict(reports)), ("failed", dict(failed or {})), ("measures", own)):
            object.__setattr__(self, name, value)

    reports: dict[str, Report]
    failed: dict[str, str]

    def __repr__(self) -> str:
        return f"Comparison({self.title}: {', '.join(self.reports)})"

    def _repr_html_(self) -> str:
        table = self.onsets()
        rows = [[run, *("never" if np.isnan(value) else f"{value:,.0f}" for value in row)] for run, row in zip(table.index, table.to_numpy())]
        header = ["run", *(f"first step with {name}" if name != "followed" else "followed to" for name in table.columns)]
        return html_table(f"Comparison: {self.title}", rows, header, paragraphs=self.summary.split("\n\n"))

    @cached_property
    def dataset(self) -> xr.Dataset:
        """The runs' datasets along ``run``; what a run lacks is NaN, also at steps that others alone have."""
        together = joined({run: report.dataset for run, report in self.reports.items()})
        attributes = {"config": self._configs, "provenance": self._provenance, "failures": self.failures}
        together.attrs = {"title": self.title, "summary": self.summary, **{name: json.dumps(value) for name, value in attributes.items()}}
        return together

    @cached_property
    def title(self) -> str:
        """How many runs of which task."""
        tasks = {str(config.get("task", {}).get("name", "")) for config in self._configs.values() if isinstance(config.get("task"), dict)} - {""}
        return f"{len(self.reports)} runs" + (f" of {' and '.join(sorted(tasks)).replace('_', ' ')}" if tasks else "")

    @property
    def _configs(self) -> dict[str, dict[str, Any]]:
        return {run: config_of(report.dataset) for run, report in self.reports.items()}

    @property
    def _provenance(self) -> dict[str, Any]:
        return {run: json.loads(str(report.dataset.attrs.get("provenance") or "{}")) for run, report in self.reports.items()}

    @cached_property
    def summary(self) -> str:
        """What the runs differ in, how many meet each condition, and when, and which did not come to their end, in plain words."""
        differ = [str(name) for name in self.differences.columns]
        sentences = f"{len(self.reports)} runs" + (f", which differ in {listed(differ)}." if differ else " with the same settings.")
        onsets = self.onsets()
        waited = [str(name) for name in onsets.columns if name != "followed"]
        met = [name for name in waited if onsets[name].notna().any()]
        never = [name for name in waited if name not in met]
        for condition in met[-2:] + never[:1]:  # they go from weak to strong: what follows the first that none meets says nothing new
            sentences += f" {_reached(condition, onsets[condition], onsets['followed'])}"
        for state, one, several in (("diverged", "has", "have"), ("unfinished", "is", "are")):
            if named := [run for run, report in self.reports.items() if state_of(report.dataset) == state]:
                sentences += f" {len(named)} {one if len(named) == 1 else several} {state}: {listed(named)}."
        lacking = f"\n\n{len(self.failed)} more could not be read: {', '.join(self.failed)}." if self.failed else ""
        return sentences + lacking

    @property
    def failures(self) -> dict[str, str]:
        """The measures that do not apply to a run, and the runs that could not be read, with the reasons."""
        reasons: dict[str, dict[str, str]] = {}
        for run, report in self.reports.items():
            for name, reason in report.failures.items():
                reasons.setdefault(name, {})[run] = reason
        return {name: by_reason(runs) for name, runs in reasons.items()} | self.failed

    @cached_property
    def differences(self) -> pd.DataFrame:
        """The settings in which the runs differ: a row a run, a column a setting."""
        return pd.DataFrame(differences(list(self._configs.values())), index=pd.Index(list(self.reports), name="run"))

    def onsets(self, *conditions: str) -> pd.DataFrame:
        """The first step at which each condition holds in each run, NaN for never, and ``followed``, until when the run was.

        Args:
            conditions: like "test_accuracy >= 0.95" or "fsd[1] >= 0.8 for 2"; without any, a few on what was recorded while training.

        Raises:
            GrokinterpError: a condition that cannot be read, or on a quantity that a run lacks.
        """
        return onset_table({run: report.dataset for run, report in self.reports.items()}, conditions)

    def headline(self) -> list[Number]:
        """None: the numbers that one quotes are a run's own, ``comparison.reports[label].headline()``."""
        return []

    def to_dataframe(self, *variables: str) -> pd.DataFrame:
        """As `Report.to_dataframe`, one row a run and step; with variables one row for each entry, ``run`` among the columns.

        Args:
            variables: names; none for one row a run and step.

        Raises:
            GrokinterpError: an unknown variable.
        """
        if variables:
            return super().to_dataframe(*variables)
        return pd.concat({run: report.to_dataframe() for run, report in self.reports.items()}, names=["run"])

    @cached_property
    def panels(self) -> dict[str, dict[str, go.Figure]]:
        """Every figure of every run: by the figure's name, then by the run's label."""
        drawn: dict[str, dict[str, go.Figure]] = {}
        for run, report in self.reports.items():
            for name, figure in report.figures.items():
                drawn.setdefault(name, {})[run] = figure
        return drawn

    @property
    def colours(self) -> dict[str, str]:
        """The colour of each run."""
        return {run: colour_of(i) for i, run in enumerate(self.reports)}

    @cached_property
    def figures(self) -> dict[str, go.Figure]:
        """Every figure, all runs together: the onsets first, curves over each other, maps with a menu that chooses the run."""
        table = self.onsets()
        first = {"onsets": onset_figure(table)} if len(table.columns) > 1 else {}
        return first | {name: self._together(each) for name, each in self.panels.items()}

    def _together(self, each: Mapping[str, go.Figure]) -> go.Figure:
        return overlay(each, self.colours) if can_overlay(each) else one_at_a_time(each)

    def _default(self, name: str) -> go.Figure:
        return self._together({run: report.plot(name) for run, report in self.reports.items() if name in report.dataset})

    def _marked(self, figure: go.Figure, conditions: Sequence[str]) -> go.Figure:
        """A copy with a line at each run's onset of each condition."""
        marked = type(figure)(figure)
        if figure.layout.xaxis.title.text == STEPS:
            for condition in conditions:
                for run, onset in self.onsets(condition)[condition].dropna().items():
                    marked.add_vline(x=onset, line={"color": self.colours[str(run)], "dash": "dot", "width": 1.5})
        return marked

    def _on_page(self, name: str) -> go.Figure | Panels:
        """A figure as the page shows it: one for all runs, or one a run."""
        panels = self.panels.get(name, {})
        return self.plot(name) if not panels or can_overlay(panels) else panels

    def tables(self) -> list[tuple[str, str, pd.DataFrame]]:
        """The tables of the page: title, caption, and a row a run."""
        onsets = self.onsets()
        ends = end_table({run: report.dataset for run, report in self.reports.items()})
        caption = (
            "What differs between the runs, the first step at which each condition holds, the last step that was evaluated, and what holds there."
        )
        return [("Runs", caption, self.differences.join(onsets.rename(columns={"followed": "last step"})).join(ends))]

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write one netCDF file a run into a folder; `Report.load` reads each, and `compare` puts them side by side again.

        Args:
            path: the folder.
            force: replace files of another kind that stand there.

        Raises:
            GrokinterpError: nothing may or can be written there.
        """
        folder = Path(path)
        for i, report in enumerate(self.reports.values(), 1):
            report.save(folder / f"run_{i:0{len(str(len(self.reports)))}}.nc", force=force)
        return folder


def compare(*reports: Report, names: Sequence[str] | None = None) -> Comparison:
    """Reports of several runs as one, along a dimension ``run``.

    Args:
        reports: as `analyze` gives them or `Report.load` reads them.
        names: what to call the runs; by default what differs in their configs, or their titles.

    Raises:
        GrokinterpError: no reports, something else than a report, or names that are not one for each or not different.
    """
    if other := [each for each in reports if not isinstance(each, Report)]:
        raise GrokinterpError(f"compare takes reports; got {other[0]!r}, so give runs and folders to analyze, as a list")
    if names is None:
        names = labels([config_of(report.dataset) for report in reports], [str(report.dataset.attrs["title"]) for report in reports])
    if len(names) != len(reports) or len(set(names)) < len(names):
        raise GrokinterpError(f"every run needs a name of its own; got {', '.join(names)} for {len(reports)} reports")
    return Comparison(dict(zip(names, reports, strict=True)))


def _reached(condition: str, onsets: pd.Series[float], until: pd.Series[float]) -> str:
    """How many runs meet a condition, and when."""
    met = onsets.dropna()
    never = len(onsets) - len(met)
    if not len(met):
        longest = "" if until.nunique() == 1 else " at most"
        return f"None meets {condition} in the {until.max():,.0f} steps{longest} that it was followed."
    span = f"at step {met.iloc[0]:,.0f}" if met.nunique() == 1 else f"between steps {met.min():,.0f} and {met.max():,.0f}, median {met.median():,.0f}"
    if not never:
        return f"All meet {condition}, {span}." if len(met) > 1 else f"It meets {condition} {span}."
    return f"{len(met)} meet{'s' * (len(met) == 1)} {condition}, {span}; {never} never {'does' if never == 1 else 'do'}."
