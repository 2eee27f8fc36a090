"""Rows side by side are what xarray's own concatenation makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from grokinterp.reports.rows import Rows


def row(seed: int, keys: tuple[int, ...] = (1, 2), wide: bool = False) -> xr.Dataset:
    generator = np.random.default_rng(seed)
    values = {
        "loss": (("split",), generator.random(3), {"units": "nats"}),
        "count": ((), generator.integers(9)),
        "each": (("key_frequency",), generator.random(len(keys)).astype(np.float32)),
        "flag": (("split",), generator.random(3) > 0.5),
    }
    extra = {"more": (("split",), generator.random(3))} if wide else {}
    return xr.Dataset(values | extra, coords={"split": ["all", "train", "test"], "key_frequency": list(keys)})


@pytest.mark.parametrize(
    "rows",
    [
        [row(0)],
        [row(seed) for seed in range(40)],
        [row(0), row(1, keys=(1, 3)), row(2), row(3, wide=True), row(4)],
        [row(0, wide=True), row(1), row(2, keys=(5,))],
    ],
    ids=["one", "many", "others in between", "the first is another"],
)
def test_rows_side_by_side_are_their_concatenation(rows: list[xr.Dataset]) -> None:
    steps = [3 * i for i in range(len(rows))]
    expected = xr.concat([each.expand_dims(step=[step]) for step, each in zip(steps, rows, strict=True)], dim="step", join="outer", data_vars="all")
    together = Rows()
    for step, each in zip(steps, rows, strict=True):
        together.add(step, each)
    found = together.dataset()
    xr.testing.assert_identical(found.transpose(*expected.dims), expected.transpose(*expected.dims))
    assert {name: array.dtype for name, array in found.items()} == {name: array.dtype for name, array in expected.items()}
