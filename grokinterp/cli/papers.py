"""Commands about papers: reproduce, cite."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import tyro


def reproduce(
    paper: tyro.conf.Positional[str],
    budget: Literal["smoke", "cpu", "full", "gpu"] = "smoke",
    out: Path = Path("runs/reproduce"),
    docs: Path | None = None,
    force: bool = False,
    tables: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    train: bool = True,
    time_limit: float = math.inf,
    tf32: bool = False,
) -> None:
    """Run a paper's experiments and set our numbers beside its own, claim by claim.

    Args:
        paper: its short name, like nanda2023.
        budget: smoke (a minute, reduced sizes), cpu (hours at most on two cores), full, or gpu (weightdecay2026 at its own size on one card).
        out: folder of the runs; finished ones are not run again.
        docs: also write the table as Markdown and CSV, with figures, into this folder.
        force: overwrite files there, whatever they are.
        tables: folder with tables of finished runs, like docs/results; what they know is not trained again, and counts.
        train: with --no-train only what is finished is read.
        time_limit: under gpu, seconds for which to train; the same command goes on later.
        tf32: under gpu, let matrix products round their inputs to TF32: faster, with 10 bits of mantissa.
    """
    from grokinterp.outputs import check_folder
    from grokinterp.papers import reproduce as reproduce_paper

    if docs is not None:
        check_folder(docs)  # before anything is computed
    found = reproduce_paper(paper, budget, out, tables=tables, train=train, seconds=time_limit, tf32=tf32)
    print(found)
    if docs is not None:
        print(f"\nwrote {found.save(docs, force=force)}")


def cite(papers: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Print BibTeX for this package and for the papers whose measures it implements.

    Args:
        papers: short names, like nanda2023; all unless given.
    """
    from grokinterp.citations import cite as entries

    print(entries(*papers))
