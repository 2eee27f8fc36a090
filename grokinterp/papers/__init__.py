"""One module a paper: its configurations and its claims, as data; `reproduce` runs them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast, get_args

from grokinterp.errors import os_errors_explained, unknown_name
from grokinterp.papers.claims import Budget, Claim, Measurement, Reproduction

__all__ = ["PAPERS", "Claim", "Measurement", "Reproduction", "reproduce"]

PAPERS = ("nanda2023", "fsd2026", "weightdecay2026", "predictors", "cores2026", "geometric2026")


@os_errors_explained()
def reproduce(paper: str, budget: Budget = "smoke", out: str | Path = "runs/reproduce") -> Reproduction:
    """Run a paper's experiments at a budget and set our numbers beside its own.

    Args:
        paper: its short name, one of `PAPERS`.
        budget: "smoke" (a minute, reduced sizes), "cpu" (hours at most on two cores), "full".
        out: folder of the runs; finished ones are not run again.

    Raises:
        GrokinterpError: an unknown paper or budget.
    """
    if paper not in PAPERS:
        raise unknown_name("paper", paper, PAPERS)
    if budget not in get_args(Budget):
        raise unknown_name("budget", budget, get_args(Budget))
    module = importlib.import_module(f"grokinterp.papers.{paper}")
    return cast(Reproduction, module.reproduce(budget, Path(out) / paper / budget))
