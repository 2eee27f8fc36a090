"""The rows of a report while it is measured, one a step, kept in a few arrays that are made for many steps at once.

A list of Datasets would do the same, and resident memory would grow by the size of the largest activation every step though nothing of it is
alive: the small arrays that a list keeps are allocated while a snapshot's activations are, so that they come to lie in the space that the snapshot
before has left free, and the next activations no longer fit in there. At p = 113 that was 11 to 25 MiB a checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr


class Rows:
    """Datasets of one form side by side along ``step``; one of another form is kept as it is."""

    def __init__(self) -> None:
        self._steps: list[int | None] = []
        self._form: xr.Dataset | None = None
        self._values: dict[str, np.ndarray] = {}
        self._others: dict[int, xr.Dataset] = {}

    def add(self, step: int | None, row: xr.Dataset) -> None:
        """One more row; its attributes are those of the first row, as in ``xr.concat``."""
        position = len(self._steps)
        self._steps.append(step)
        if self._form is None:
            self._form = row
            self._values = {str(name): np.empty((16, *array.shape), array.dtype) for name, array in row.data_vars.items()}
        if not _same_form(row, self._form):
            self._others[position] = row
            return
        for name, values in self._values.items():
            if position >= len(values):
                values = self._values[name] = np.concatenate([values, np.empty((position, *values.shape[1:]), values.dtype)])
            values[position] = row[name].values

    def dataset(self) -> xr.Dataset:
        """All rows along ``step``."""
        assert self._form is not None
        steps = self._steps
        same = [i for i in range(len(steps)) if i not in self._others]
        variables = {name: (("step", *self._form[name].dims), values[same], self._form[name].attrs) for name, values in self._values.items()}
        found = xr.Dataset(variables, coords=self._form.coords, attrs=self._form.attrs).assign_coords(step=[steps[i] for i in same])
        if not self._others:
            return found
        places = {position: found.isel(step=[i]) for i, position in enumerate(same)}
        places |= {position: row.expand_dims(step=[steps[position]]) for position, row in self._others.items()}
        return along_steps([places[i] for i in range(len(steps))])


def along_steps(datasets: Sequence[xr.Dataset]) -> xr.Dataset:
    """Datasets one after the other along ``step``, NaN where one lacks a variable of another."""
    known: dict[str, xr.DataArray] = {str(name): array for each in datasets for name, array in each.data_vars.items()}
    absent = [{name: _nothing(array, each) for name, array in known.items() if name not in each} for each in datasets]
    filled = [each.assign(nothing) for each, nothing in zip(datasets, absent, strict=True)]
    return xr.concat(filled, dim="step", join="outer", data_vars="all")


def _nothing(array: xr.DataArray, dataset: xr.Dataset) -> xr.DataArray:
    """The variable at the steps of a dataset that lacks it."""
    one = array.isel(step=0, drop=True)
    value = one.astype(float) * np.nan if one.dtype.kind in "fiub" else xr.full_like(one, "")
    return value.expand_dims(step=dataset["step"].to_numpy())


def _same_form(row: xr.Dataset, form: xr.Dataset) -> bool:
    """Whether two rows have the same variables of the same dimensions, types and coordinates."""
    if list(row.data_vars) != list(form.data_vars) or not row.coords.to_dataset().equals(form.coords.to_dataset()):
        return False
    return all((row[name].dims, row[name].shape, row[name].dtype) == (form[name].dims, form[name].shape, form[name].dtype) for name in form.data_vars)


def recorded(metrics: pd.DataFrame) -> xr.Dataset:
    """What was recorded while training, as in a report: ``metric_…`` over ``eval_step``; empty where nothing was.

    Args:
        metrics: as `Run.metrics`.
    """
    columns = {f"metric_{name}": ("eval_step", metrics[name].to_numpy()) for name in metrics.columns if name != "step"}
    return xr.Dataset(columns, coords={"eval_step": metrics["step"].to_numpy()}) if columns else xr.Dataset()
