"""One package a paper: its configurations and its claims, as data; `reproduce` runs them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast, get_args

from grokinterp.errors import GrokinterpError, os_errors_explained, unknown_name
from grokinterp.papers.claims import Budget, Claim, Measurement
from grokinterp.papers.reproduction import Reproduction
from grokinterp.papers.tables import NOTHING, read_tables

__all__ = ["PAPERS", "Claim", "Measurement", "Reproduction", "reproduce"]

PAPERS = ("nanda2023", "fsd2026", "weightdecay2026", "predictors", "cores2026", "geometric2026")


@os_errors_explained()
def reproduce(
    paper: str, budget: Budget = "smoke", out: str | Path = "runs/reproduce", *, tables: str | Path | None = None, train: bool = True
) -> Reproduction:
    """Run a paper's experiments at a budget and set our numbers beside its own.

    Args:
        paper: its short name, one of `PAPERS`.
        budget: "smoke" (a minute, reduced sizes), "cpu" (hours at most on two cores), "full".
        out: folder of the runs; finished ones are not run again.
        tables: folder with tables of finished runs, as `Reproduction.save` writes them; a run that they know is not trained again, and its rows
            count beside those of the runs in `out`.
        train: False to read what is there and train nothing.

    Raises:
        GrokinterpError: an unknown paper or budget; tables with the smoke budget, whose models are tiny, or without any of the paper's.
    """
    if paper not in PAPERS:
        raise unknown_name("paper", paper, PAPERS)
    if budget not in get_args(Budget):
        raise unknown_name("budget", budget, get_args(Budget))
    if tables is not None and budget == "smoke":
        raise GrokinterpError(f"the smoke budget trains tiny models, and the tables in {tables} are about none of them; take the budget cpu or full")
    module = importlib.import_module(f"grokinterp.papers.{paper}")
    known = NOTHING if tables is None else read_tables(Path(tables), paper, module.SOURCES)
    return cast(Reproduction, module.reproduce(budget, Path(out) / paper / budget, known, train))
