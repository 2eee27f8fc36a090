"""The figures of a report: those that its measures bring, and default ones of what has none."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import xarray as xr

from grokinterp import plots
from grokinterp.errors import GrokinterpError, unknown_name
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


def no_figure(name: str, shown: Iterable[str], measures: Mapping[str, Measure] = MEASURES) -> GrokinterpError:
    """The error for a figure that a report lacks: which measure draws it, where one does, or else the nearest names.

    Args:
        name: of a figure or of a measure.
        shown: the figures that there are.
        measures: whose figures may be meant.
    """
    drawn_by = [own for own, measure in measures.items() if name in (own, *(draw.__name__ for draw in measure.figures))]
    if not drawn_by:
        return unknown_name("figure", name, shown)
    owners = " or ".join(map(repr, drawn_by))
    return GrokinterpError(f"this report has no figure {name!r}; measure {owners} draws it, where it applies: name that one in gi.analyze")


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
