"""One package a paper: its configurations and its claims, as data; `reproduce` runs them.

To add a paper, make a package with a module ``paper`` that has ``SOURCES``, the tables that its numbers are read off, each with its index columns,
and ``reproduce``; put ``claims.csv``, ``opening.csv`` and ``about.md`` beside it; and name it in `PAPERS`.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import cast, get_args

from grokinterp.errors import GrokinterpError, os_errors_explained, unknown_name
from grokinterp.papers.claims import Budget, Claim, Measurement
from grokinterp.papers.reproduction import Reproduction
from grokinterp.papers.tables import NOTHING, read_tables

__all__ = ["PAPERS", "Claim", "Measurement", "Reproduction", "reproduce"]

PAPERS = ("nanda2023", "fsd2026", "weightdecay2026", "predictors", "cores2026", "geometric2026", "pizza2023", "groups2023")


@os_errors_explained()
def reproduce(
    paper: str,
    budget: Budget = "smoke",
    out: str | Path = "runs/reproduce",
    *,
    tables: str | Path | None = None,
    train: bool = True,
    seconds: float = math.inf,
    tf32: bool = False,
) -> Reproduction:
    """Run a paper's experiments at a budget and set our numbers beside its own.

    Args:
        paper: its short name, one of `PAPERS`.
        budget: "smoke" (a minute, reduced sizes), "cpu" (hours at most on two cores), "full", or "gpu" (weightdecay2026 at its own size in minutes
            on one card).
        out: folder of the runs; finished ones are not run again.
        tables: folder with tables of finished runs, as `Reproduction.save` writes them; a run that they know is not trained again, and its rows
            count beside those of the runs in `out`.
        train: False to read what is there and train nothing.
        seconds: under "gpu", for how long to train; a second call goes on.
        tf32: under "gpu", let matrix products round their inputs to TF32.

    Raises:
        GrokinterpError: an unknown paper or budget, or a budget that the paper does not have; tables with the smoke budget, whose models are tiny,
            or without any of the paper's.
    """
    if paper not in PAPERS:
        raise unknown_name("paper", paper, PAPERS)
    if budget not in get_args(Budget):
        raise unknown_name("budget", budget, get_args(Budget))
    if tables is not None and budget == "smoke":
        raise GrokinterpError(f"the smoke budget trains tiny models, and the tables in {tables} are about none of them; take the budget cpu or full")
    if budget == "gpu" and paper != "weightdecay2026":
        raise GrokinterpError(f"{paper} has no budget 'gpu', only weightdecay2026 has; its trainings run on a GPU by themselves under 'full'")
    if budget != "gpu" and (seconds < math.inf or tf32):
        raise GrokinterpError(f"seconds and tf32 are for the budget 'gpu'; leave them out under {budget!r}")
    options = {"seconds": seconds, "tf32": tf32} if budget == "gpu" else {}
    module = importlib.import_module(f"grokinterp.papers.{paper}.paper")
    known = NOTHING if tables is None else read_tables(Path(tables), paper, module.SOURCES)
    return cast(Reproduction, module.reproduce(budget, Path(out) / paper / budget, known, train, **options))
