"""`Report`: what an analysis gives, with its numbers, figures, reasons and page."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from grokinterp import plots
from grokinterp.conditions import Condition
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.measures import MEASURES, Measure, Number
from grokinterp.measures.undefined import reasons_of
from grokinterp.notebook import Framed, html_table
from grokinterp.outputs import NETCDF, output
from grokinterp.plots.lazy import go
from grokinterp.reports.encoding import Panels
from grokinterp.reports.figures import figures, figures_named, no_figure
from grokinterp.reports.saved import LIMIT, read_dataset
from grokinterp.reports.words import Phases, headline, missing

_WIDE = 16  # a variable with more entries a step than this is no column of the table
GROWING = {"frequency", "key_frequency", "signal_frequency", "component_x", "component_y", "irrep", "neuron", "parameter", "layer", "head"}
GROWING |= {"circle", "element", "difference", "key_irrep", "subgroup"}
GROWING |= {"shown_neuron", "x", "y", "key", "sketch", "core_direction", "core_class", "core_axis", "eigenvalue", "prompt", "model"}
"""Dimensions whose length depends on the task or on the model; what runs along them is no column of the table, however short."""


@dataclass(frozen=True, eq=False)
class Report:
    """What `analyze` found: an xarray Dataset with named dimensions (step, split, frequency …) and where it comes from.

    Attributes:
        dataset: the measures' arrays, one entry a step along ``step``; what was recorded while training along ``eval_step``.
            Its attrs hold title, summary, config, provenance, phases and what is missing, with reasons.
        measures: by name, those of one's own that are not in `MEASURES`; a report that is loaded has none, and shows what they gave by default.
    """

    dataset: xr.Dataset
    measures: Mapping[str, Measure] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> xr.DataArray:
        """One variable of the dataset."""
        if name not in self.dataset:
            raise unknown_name("variable", name, [str(known) for known in self.dataset.data_vars])
        return self.dataset[name]

    def __repr__(self) -> str:
        return f"Report({self.dataset.attrs['title']}: {self.dataset.sizes.get('step', 0)} steps, {', '.join(map(str, self.dataset.data_vars))})"

    def _repr_html_(self) -> str:
        failures = [(what, reason, "") for what, reason in missing(self.dataset).items()]
        facts = [
            ("variables", ", ".join(map(str, self.dataset.data_vars)), "report[name]"),
            ("figures", ", ".join(self.figures), "report.plot(name)"),
        ]
        paragraphs = [part for part in self.summary.split("\n\n") if part]
        return html_table(
            f"Report: {self.dataset.attrs['title']}", [*(number[:3] for number in self.headline()), *failures, *facts], paragraphs=paragraphs
        )

    @property
    def _known(self) -> dict[str, Measure]:
        """Every measure whose rows and figures there are to show."""
        return {**MEASURES, **self.measures}

    @property
    def summary(self) -> str:
        """What happened, in plain words."""
        return str(self.dataset.attrs["summary"])

    @property
    def phases(self) -> Phases | None:
        """Memorization, circuit formation and cleanup; None without progress measures of several steps."""
        text = self.dataset.attrs.get("phases")
        return None if text is None else Phases(**json.loads(text))

    @property
    def failures(self) -> dict[str, str]:
        """The measures that do not apply to this subject, at some of its steps or at any, and why."""
        return dict(json.loads(self.dataset.attrs["failures"]))

    @property
    def undefined(self) -> dict[str, str]:
        """The variables that are not defined, in whole or in part, and why; the values are NaN."""
        return reasons_of(self.dataset)

    def onset(self, condition: str) -> int | None:
        """The first step at which a condition holds, in what was recorded while training or in what was measured; None if it never does.

        Args:
            condition: like "test_accuracy >= 0.95" or "fsd[1] >= 0.8 for 2", see `grokinterp.conditions`.

        Raises:
            GrokinterpError: a condition that cannot be read, or on a quantity that this report lacks.
        """
        found = Condition.parse(condition).first_of(self.dataset)
        return None if found is None else int(found.onset)

    def headline(self) -> list[Number]:
        """The numbers of the last step that one quotes, as (quantity, value, meaning) rows."""
        return headline(self.dataset, self._known)

    def to_dataframe(self, *variables: str) -> pd.DataFrame:
        """A table: without arguments one row a step, small variables as columns like ``loss[train]``, the same for every size of task and model.

        Args:
            variables: names; the table is then long, one row for each entry, with a column for each dimension.

        Raises:
            GrokinterpError: an unknown variable.
        """
        if variables:
            return xr.merge([self[name] for name in variables]).to_dataframe().reset_index()
        columns: dict[str, Any] = {}
        for name, array in self.dataset.data_vars.items():
            if "step" not in array.dims or GROWING & set(array.dims) or array.size > _WIDE * array.sizes["step"]:
                continue
            others = [dimension for dimension in array.dims if dimension != "step"]
            flat = array.stack(entry=others) if others else array.expand_dims("entry", axis=1)
            labels = flat.indexes["entry"] if others else [None]
            for i, label in enumerate(labels):
                column = str(name) if label is None else f"{name}[{', '.join(map(str, label))}]"
                columns[column] = flat.transpose("step", "entry").to_numpy()[:, i]
        return pd.DataFrame(columns, index=pd.Index(self.dataset["step"].to_numpy(), name="step"))

    @cached_property
    def figures(self) -> dict[str, go.Figure]:
        """Every figure that this report's variables allow, by name."""
        return figures(self.dataset, self._known)

    def plot(self, name: str | None = None, *, mark: Sequence[str] = ()) -> go.Figure:
        """One figure as a plotly object; with frames where it is of one step, so that a slider goes through the checkpoints.

        Args:
            name: of a figure, of a measure for the first of its figures, or of a variable for its values; None for the first figure of all.
            mark: conditions, like "test_accuracy >= 0.95": a line stands where each first holds, in a figure over steps; of several runs one each.

        Raises:
            GrokinterpError: this report has no such figure, or a variable of a shape that none is drawn for.
        """
        if not self.figures:
            raise GrokinterpError(f"nothing to draw: no figure reads {', '.join(map(str, self.dataset.data_vars)) or 'an empty report'}")
        candidates = list(self.figures) if name is None else figures_named(self.dataset, name, self._known)
        found = next((self.figures[candidate] for candidate in candidates if candidate in self.figures), None)
        if found is None and name in self.dataset:
            found = self._default(str(name))
        if found is None:
            raise no_figure(str(name), self.figures, self._known)
        return self._marked(found, mark) if mark else found

    def _default(self, name: str) -> go.Figure:
        """The figure of a variable that has none of its own."""
        return plots.default(self.dataset, name)

    def _marked(self, figure: go.Figure, conditions: Sequence[str]) -> go.Figure:
        """A copy with a line where each condition first holds."""
        return plots.mark(figure, self.dataset, *conditions)

    def animate(self, name: str, path: str | Path, *, seconds: float = 0.25, force: bool = False) -> Path:
        """Write a figure with one frame a step as a film; `grokinterp[film]` has what it takes.

        Args:
            name: of the figure, as `plot` takes it.
            path: a .gif or an .mp4.
            seconds: that each frame is shown.
            force: replace a file of another kind, too.

        Raises:
            GrokinterpError: no such figure, one without frames, another suffix, no encoder, or nothing may or can be written there.
        """
        from grokinterp.reports.film import film

        figure = self.plot(name)
        if not figure.frames and (others := [other for other, each in self.figures.items() if each.frames]):
            raise GrokinterpError(f"the figure {name!r} has no frames: it shows all steps at once; with frames there are {', '.join(others)}")
        return film(figure, path, seconds=seconds, force=force)

    def to_html(
        self, path: str | Path, *, figures: Sequence[str] | Mapping[str, go.Figure] | None = None, mark: Sequence[str] = (), force: bool = False
    ) -> Path:
        """Write the report as one HTML file that opens without a network.

        Args:
            path: the file; an HTML page that stands there is replaced.
            figures: which to show, in this order, by the names that `plot` takes; or figures of your own by name; None for all.
            mark: conditions, like "test_accuracy >= 0.95": a line stands where each first holds, in every figure over steps.
            force: replace a file of another kind, too.

        Raises:
            GrokinterpError: nothing may or can be written there; a figure or a quantity that this report lacks.
        """
        from grokinterp.reports.page import to_html

        shown: dict[str, go.Figure | Panels]
        if isinstance(figures, Mapping):
            shown = dict(figures)
        else:
            shown = {name: self._on_page(name) for name in (self.figures if figures is None else figures)}
        if mark:
            shown = {name: own if isinstance(own, Mapping) else self._marked(own, mark) for name, own in shown.items()}
        parts: dict[str, Any] = {"colours": self.colours, "measures": self._known, "tables": self.tables()}
        return to_html(self.dataset, Path(path), figures=shown, force=force, **parts)

    def _on_page(self, name: str) -> go.Figure | Panels:
        """A figure as the page shows it."""
        return self.plot(name)

    @property
    def colours(self) -> dict[str, str]:
        """The colour of each run of several, for the switches of the page; none of a single one."""
        return {}

    def tables(self) -> list[tuple[str, str, pd.DataFrame]]:
        """The tables of the page besides the headline: title, caption, rows; none for a single run."""
        return []

    def page(self, height: int = 720) -> Framed:
        """The page that `to_html` writes, as the last line of a notebook's cell shows it; some 5 MB of the notebook.

        Args:
            height: of the frame, in pixels.
        """
        with tempfile.TemporaryDirectory() as folder:
            return Framed(str(self.dataset.attrs.get("title", "Report")), self.to_html(Path(folder) / "report.html").read_text("utf-8"), height)

    def _ipython_key_completions_(self) -> list[str]:
        """What Tab lists after ``report["``."""
        return [str(name) for name in self.dataset.data_vars]

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the report as one netCDF file, atomically; any xarray opens it too.

        Args:
            path: the file; a netCDF file that stands there is replaced.
            force: replace a file of another kind, too.

        Raises:
            GrokinterpError: nothing may or can be written there.
        """
        path = Path(path)
        with output(path, NETCDF, force=force) as temporary:
            temporary.write_bytes(_netcdf(self.dataset))
        return path

    @classmethod
    def load(cls, path: str | Path, limit: int = LIMIT) -> Report:
        """Read a report that `save` wrote; see `read_dataset` for what is refused.

        Args:
            path: the file.
            limit: bytes that the file and its arrays may have.

        Raises:
            GrokinterpError: the file is missing, larger, reaches outside itself, or is not such a report.
        """
        return cls(read_dataset(path, limit))


def _netcdf(dataset: xr.Dataset) -> bytes:
    """A dataset as netCDF, made in memory: HDF5 on a full disk ends the process."""
    import h5netcdf
    from xarray.backends.h5netcdf_ import H5NetCDFStore

    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        dataset.dump_to_store(H5NetCDFStore(file))
    return buffer.getvalue()
