"""Every number stays the same: runs and digests that an earlier version wrote, read by this one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import grokinterp as gi

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import make  # noqa: E402  (a script beside this file)

pytestmark = pytest.mark.lens4

# Models of float32 are read in float32, whose sums another processor rounds otherwise: 4e-6 was seen between two, of shares and coefficients.
ROUNDING = {"rtol": 1e-4, "atol": 1e-6}
GOLDEN = json.loads((HERE / "golden.json").read_text())


@pytest.mark.parametrize("name", GOLDEN["runs"])
def test_measures_of_kept_runs_are_what_they_were(name: str) -> None:
    measured = make.measured(gi.Run(HERE / name))
    for variable, value in GOLDEN["runs"][name].items():
        np.testing.assert_allclose(np.array(measured[variable], float), np.array(value, float), err_msg=variable, **ROUNDING)


def test_digests_of_old_configs_are_stable() -> None:
    now = make.digests()
    assert {name: now[name] for name in GOLDEN["digests"]} == GOLDEN["digests"]  # presets that came later have no earlier digest
    assert make.plans() == GOLDEN["plans"]


@pytest.mark.parametrize("name", GOLDEN["runs"])
def test_kept_configs_read_back_to_their_digest(name: str) -> None:
    run = gi.Run(HERE / name)
    assert run.config.digest == make.configs()[name].digest
    assert run.finished
