"""What holds of the smallest budget of every paper."""

from __future__ import annotations

import math

from grokinterp.papers import Reproduction


def lists_everything(smoke: Reproduction) -> None:
    """Something is measured, no number is undefined, and every claim has its row."""
    table = smoke.table()
    assert len(table) == len(smoke.claims)
    assert (table["verdict"] != "not run").any()
    assert all(not math.isnan(measurement.value) for measurement in smoke.found.values())
