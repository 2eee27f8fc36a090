"""A measure: a function of a snapshot, with the headline rows, the figures and the needs that travel with it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import xarray as xr

from grokinterp.errors import GrokinterpError
from grokinterp.measures.headline import Number, Row
from grokinterp.measures.needs import gradients
from grokinterp.measures.undefined import refuse_unless_finite
from grokinterp.plots.lazy import go
from grokinterp.plots.parts import MissingVariables
from grokinterp.snapshot import Snapshot

Function = Callable[..., "xr.Dataset | Mapping[str, Any]"]
Figure = Callable[["xr.Dataset"], "go.Figure"]
Need = Callable[[Snapshot], object]
GIVEN_BY = "measure"  # attribute of a variable: the name of the measure that gave it


class Measure:
    """What can be read off a snapshot, and how it is shown.

    ``Measure(function)`` is all that a function of your own needs, and `analyze` makes one of it by itself. Called with a snapshot, it gives a
    Dataset; a model whose weights are no finite numbers is refused first.

    Args:
        function: takes a `Snapshot`, and settings by name, and returns named scalars, arrays with dimensions, or an xarray Dataset.
        name: of the measure; None for the function's own.
        rows: what a report's headline says of it; without any, each of its scalars.
        figures: functions of a report's dataset; one that raises `plots.MissingVariables` is left out. Without any, lines over steps for
            scalars and heat maps for arrays.
        needs: functions of a snapshot that raise a `GrokinterpError` where it lacks what the measure reads, see `grokinterp.measures.needs`.
    """

    def __init__(
        self,
        function: Function,
        name: str | None = None,
        *,
        rows: tuple[Row, ...] = (),
        figures: tuple[Figure, ...] = (),
        needs: tuple[Need, ...] = (),
    ) -> None:
        functools.update_wrapper(self, function)
        self.function, self.rows, self.figures, self.needs = function, rows, figures, needs
        self.name = name or name_of(function)

    def __repr__(self) -> str:
        return f"Measure({self.name})"

    def __call__(self, snapshot: Snapshot, *args: Any, **settings: Any) -> xr.Dataset:
        """The measure's variables on a snapshot, each with the measure's name in its attribute ``measure``.

        Raises:
            GrokinterpError: the snapshot lacks what the measure needs, or its model has diverged.
        """
        refuse_unless_finite(snapshot.model)
        for need in self.needs:
            need(snapshot)
        with torch.set_grad_enabled(gradients in self.needs):
            found = self.function(snapshot, *args, **settings)
        dataset = found if isinstance(found, xr.Dataset) else xr.Dataset(found)
        for variable in dataset.data_vars.values():
            variable.attrs.setdefault(GIVEN_BY, self.name)
        return dataset

    def headline(self, dataset: xr.Dataset) -> list[Number]:
        """What the headline says of this measure at the last step of a dataset, as far as the step has it."""
        last = dataset.isel(step=-1)
        if self.rows:
            return [row.read(dataset if row.over_steps else last) for row in self.rows if row.variables <= last.keys()]
        return scalars_of(last, self.name)

    def plot(self, snapshot: Snapshot, figure: str | None = None, **settings: Any) -> go.Figure:
        """One of the measure's figures of a single snapshot, like ``gi.measures.neuron_maps.plot(snapshot, neurons=[17])``.

        Args:
            snapshot: whose picture it is.
            figure: its name; None for the first that can be drawn of one step.
            settings: of the measure.

        Raises:
            GrokinterpError: the measure does not apply, or no figure of it, or none of this name, can be drawn of one step.
        """
        dataset = self(snapshot, **settings).expand_dims(step=[snapshot.step or 0])
        for draw in self.figures:
            if figure in (None, draw.__name__):
                with contextlib.suppress(MissingVariables):
                    return draw(dataset)
        known = ", ".join(draw.__name__ for draw in self.figures) or "none"
        raise GrokinterpError(f"measure {self.name!r} has no figure {figure or 'of a single step'}; its figures are {known}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Processes that measure draw nothing, and rows and figures need not be importable there.
        return _without_looks, (self.function, self.name, self.needs)


def _without_looks(function: Function, name: str, needs: tuple[Need, ...]) -> Measure:
    return Measure(function, name, needs=needs)


def name_of(function: Function) -> str:
    """A function's own name; of a `functools.partial`, that of what it calls."""
    function = _called(function)
    return str(getattr(function, "__name__", repr(function)))


def _called(function: Function) -> Function:
    """What a `functools.partial` calls in the end."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def as_measure(measure: Function | Measure, name: str | None = None, known: Iterable[Measure] = ()) -> Measure:
    """The measure itself, or a plain function as one.

    Args:
        measure: either; a `functools.partial` of a measure, or of its function, looks like that measure.
        name: of a plain function; None for its own.
        known: measures whose functions may be given in their place.

    Raises:
        GrokinterpError: neither.
    """
    if isinstance(measure, Measure):
        return measure
    if not callable(measure):
        raise GrokinterpError(f"a measure is a function of a Snapshot; got {measure!r}")
    inner = _called(measure)
    same = inner if isinstance(inner, Measure) else next((each for each in known if each.function is inner), None)
    if same is None:
        return Measure(measure, name)
    return same if measure is inner else Measure(measure, name or same.name, rows=same.rows, figures=same.figures, needs=same.needs)


class Measures(dict[str, Measure]):
    """Measures by name; a plain function that is put in becomes a `Measure` of that name."""

    def __setitem__(self, name: str, measure: Function | Measure) -> None:
        super().__setitem__(name, as_measure(measure, name))


def scalars_of(last: xr.Dataset, measure: str) -> list[Number]:
    """A row for each scalar that a measure gave, named as its attribute ``long_name`` says."""
    return [_scalar(array) for array in last.data_vars.values() if array.attrs.get(GIVEN_BY) == measure and not array.dims]


def _scalar(array: xr.DataArray) -> Number:
    label, units = str(array.attrs.get("long_name", array.name)), str(array.attrs.get("units", ""))
    value = format(float(array), ".4g") if array.dtype.kind in "fiub" else str(array.item())
    return Number(label, f"{value} {units}".strip(), str(array.attrs.get("description", "")))
