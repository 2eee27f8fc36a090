"""The figures of a report: those that its measures bring, and default ones of what has none."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import xarray as xr

from grokinterp import plots
from grokinterp.measures import MEASURES, OURS, Measure
from grokinterp.measures.measure import GIVEN_BY, Figure
from grokinterp.plots.lazy import go


def figures(dataset: xr.Dataset, measures: Mapping[str, Measure] = MEASURES) -> dict[str, go.Figure]:
    """Every figure that a dataset has the variables for, by name, measure by measure.

    Args:
        dataset: what an analysis gives.
        measures: whose figures are drawn. The variables of a measure without figures, or of one that is not among these, get a default figure;
            those of a measure with figures get none beside them (`Report.plot` draws each by its name).
    """
    ours = without_user_variables(dataset)
    own = [_bound_to(draw, ours) if name in OURS else draw for name, measure in measures.items() for draw in measure.figures]
    drawn_for = {name for name, measure in measures.items() if measure.figures}
    shown = [str(name) for name, array in dataset.data_vars.items() if array.attrs.get(GIVEN_BY) in drawn_for]
    plain = [str(name) for name, array in dataset.data_vars.items() if array.attrs.get(GIVEN_BY, "") not in {"", *drawn_for}]
    return plots.figures(dataset, own, plain, shown)


def without_user_variables(dataset: xr.Dataset) -> xr.Dataset:
    """A dataset without what measures of the user's own gave, whose "loss" or "margin" may be something else than ours."""
    theirs = [name for name, array in dataset.data_vars.items() if array.attrs.get(GIVEN_BY, "") not in {"", *OURS}]
    return dataset.drop_vars(theirs)


def _bound_to(draw: Figure, dataset: xr.Dataset) -> Figure:
    """A figure that draws this dataset, whichever it is given."""

    @functools.wraps(draw)
    def drawn(_: xr.Dataset) -> go.Figure:
        return draw(dataset)

    return drawn


def figures_named(dataset: xr.Dataset, name: str, measures: Mapping[str, Measure] = MEASURES) -> list[str]:
    """What figures a name may mean, the likeliest first: a measure's own, that of this name, those of the measure's variables."""
    own = [draw.__name__ for draw in measures[name].figures] if name in measures else []
    return [*own, name, *(str(variable) for variable, array in dataset.data_vars.items() if array.attrs.get(GIVEN_BY) == name)]
