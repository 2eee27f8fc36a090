"""Finished runs as rows of tables: a paper's numbers are read off these, whether a row was read off a run folder just now or lies in a file.

Every row has a column ``run``, the digest of the configuration of the run that it is about (of a fork or a comparison, of its parent). A run that a
table knows is not trained again, so results add up: a budget reads the rows that are there and trains what is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from grokinterp.errors import GrokinterpError
from grokinterp.training.config import RunConfig

RUN = "run"
Tables = Mapping[str, pd.DataFrame]
NOTHING: Tables = {}


def read_tables(folder: Path, paper: str, sources: Mapping[str, Sequence[int]]) -> dict[str, pd.DataFrame]:
    """The tables of finished runs of a paper that lie in a folder, as `Reproduction.save` wrote them.

    Args:
        folder: with files like ``geometric2026-runs.csv``.
        paper: its short name.
        sources: the tables that numbers are read off, each with the columns that are its index.

    Raises:
        GrokinterpError: no such file, or one without the column ``run``.
    """
    tables = {}
    for name, index in sources.items():
        path = folder / f"{paper}-{name}.csv"
        if path.is_file():
            table = pd.read_csv(path, index_col=list(index), dtype={RUN: str})
            if RUN not in table:
                raise GrokinterpError(f"{path} has no column '{RUN}', the digest of the run that each row is about; write it again with reproduce")
            tables[name] = table
    if not tables:
        raise GrokinterpError(f"{folder} holds no table of finished runs of {paper}, like {paper}-{next(iter(sources))}.csv")
    return tables


def known(table: pd.DataFrame | None) -> set[str]:
    """The digests of the runs that a table has rows about."""
    return set() if table is None else set(table[RUN])


def not_known(configs: Iterable[RunConfig], table: pd.DataFrame | None) -> list[RunConfig]:
    """The configurations that no row of a table is about."""
    there = known(table)
    return [config for config in configs if config.digest not in there]


def merged(tables: Tables, fresh: Tables) -> dict[str, pd.DataFrame]:
    """Known tables with the rows that were read off run folders just now, by name; those without rows are left out.

    Of a run that is in both the fresh rows count, since its folder is at hand.
    """
    both = {name: _with_rows(tables.get(name, pd.DataFrame()), fresh.get(name, pd.DataFrame())) for name in {**tables, **fresh}}
    return {name: table for name, table in both.items() if len(table)}


def _with_rows(table: pd.DataFrame, fresh: pd.DataFrame) -> pd.DataFrame:
    if table.empty or fresh.empty:
        return table if fresh.empty else fresh
    older = table[~table[RUN].isin(known(fresh))]
    both = pd.concat([older, fresh]) if len(older) else fresh
    return both.reset_index(drop=True) if isinstance(fresh.index, pd.RangeIndex) else both
