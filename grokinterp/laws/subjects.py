"""Runs, sweeps and reports as the arrays that laws take: the one place in this room that knows what a run is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from grokinterp.conditions import Condition
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.laws.numerics import flags

if TYPE_CHECKING:
    import xarray as xr

    from grokinterp.training.runs import Run

# Runs and reports are imported where they are read: laws of arrays need no torch.

GROKS = "test_accuracy >= 0.99"
"""What counts as grokking in a sweep's table (`grokked_at`) and, unless said otherwise, here."""

ENDED = ("finished", "diverged")


def is_subject(value: Any) -> bool:
    """Whether something is runs, their folder or reports, and not numbers."""
    several = list(value) if isinstance(value, list | tuple) else [value]
    return bool(several) and all(isinstance(each, str | Path) or hasattr(each, "metrics") or hasattr(each, "dataset") for each in several)


def runs_of(subjects: Any) -> list[Run]:
    """The runs that are meant: a run, its folder, a folder of runs, or a list of these.

    Raises:
        GrokinterpError: something else.
    """
    from grokinterp.reports.several import in_order
    from grokinterp.training.runs import Run
    from grokinterp.training.sweep import runs_in

    found: list[Run] = []
    for each in subjects if isinstance(subjects, list | tuple) else [subjects]:
        if isinstance(each, Run):
            found.append(each)
        elif isinstance(each, str | Path):
            found += [Run(each)] if (Path(each) / "config.json").exists() else runs_in(each)
        else:
            raise GrokinterpError(f"runs are given as such, or as their folders; got a {type(each).__name__}")
    return in_order(found) if isinstance(subjects, str | Path) else found


def onsets_of(subjects: Any, condition: str) -> pd.DataFrame:
    """When a condition first holds in each of several runs.

    Args:
        subjects: a `Comparison`, reports, runs, their folders, or a folder of runs such as a sweep's.
        condition: on a recorded metric or, of reports, on anything that was measured.

    Returns:
        A row a run, labelled by what differs: the settings that differ, ``onset`` (NaN for never) and ``followed``, the last step evaluated.

    Raises:
        GrokinterpError: a condition that cannot be read, or on a quantity that a run lacks.
    """
    from grokinterp.reports.comparison import Comparison
    from grokinterp.reports.several import config_of, differences, labels, onset_table

    if isinstance(subjects, Comparison):
        named = {name: (config_of(report.dataset), report.dataset) for name, report in subjects.reports.items()}
    else:
        pairs = [pair for each in (subjects if isinstance(subjects, list | tuple) else [subjects]) for pair in _datasets(each)]
        names = labels([config for config, _ in pairs], [str(dataset.attrs["title"]) for _, dataset in pairs])
        named = dict(zip(names, pairs, strict=True))
    onsets = onset_table({name: dataset for name, (_, dataset) in named.items()}, [condition]).rename(columns={condition: "onset"}).astype(float)
    return pd.DataFrame(differences([config for config, _ in named.values()]), index=onsets.index).join(onsets)


def _datasets(subject: Any) -> list[tuple[dict[str, Any], xr.Dataset]]:
    """Config and dataset of each run that one subject stands for."""
    from grokinterp.reports.report import Report
    from grokinterp.reports.rows import recorded
    from grokinterp.reports.several import config_of

    if isinstance(subject, Report):
        return [(config_of(subject.dataset), subject.dataset)]
    return [(run.config.to_dict(), recorded(run.metrics).assign_attrs(title=str(run.path))) for run in runs_of(subject)]


def column(table: pd.DataFrame, name: str) -> str:
    """The column of a sweep's table that a setting's short or full name means.

    Raises:
        GrokinterpError: no column, or several, of that name.
    """
    matches = [str(each) for each in table.columns if str(each) == name] or [str(each) for each in table.columns if str(each).endswith(f".{name}")]
    if len(matches) != 1:
        raise (
            unknown_name("column of the table", name, [str(each) for each in table.columns])
            if not matches
            else GrokinterpError(f"{name!r} may mean {' or '.join(matches)} of the table; give the full name")
        )
    return matches[0]


def times_in_sweep(table: pd.DataFrame, horizon: float | None = None, outcomes: ArrayLike | None = None) -> pd.DataFrame:
    """What a sweep's table says of grokking, the runs that it leaves open marked.

    Args:
        table: as `sweep` and `results` give it.
        horizon: until when runs count; None for as long as each was followed.
        outcomes: whether each run groks within the horizon, by another measure than `GROKS`; None for what ``grokked_at`` says.

    Returns:
        The table with ``grokked`` (within the horizon), ``time`` (of grokking, NaN where only the outcome is known; or until when the run was
        followed) and ``open``: runs that have neither grokked nor come to the horizon or to their end, so that nothing can be said of them.

    Raises:
        GrokinterpError: a table that is not a sweep's, or outcomes that are not one for each of its runs.
    """
    if missing := {"state", "step", "grokked_at"} - set(table.columns):
        raise GrokinterpError(f"the table of a sweep has the columns state, step and grokked_at; this one lacks {', '.join(sorted(missing))}")
    at, step = (table[name].astype("Float64").to_numpy(dtype=float, na_value=np.nan) for name in ("grokked_at", "step"))
    limit = np.inf if horizon is None else horizon
    grokked = at <= limit
    if outcomes is not None:
        at, grokked = np.full(len(table), np.nan), flags("grokked", outcomes, len(table))
    ended = table["state"].isin(ENDED).to_numpy() | (step >= limit)
    return table.assign(grokked=grokked, time=np.where(grokked, at, np.fmin(step, limit)), open=~grokked & ~ended)


def forks_of(children: Any, condition: str) -> dict[str, list[Any]]:
    """The arrays of `fork_law` from forked runs: λ, delay, censored and the parent of each.

    Args:
        children: runs that were forked, their folders, or a folder of such.
        condition: what counts as grokking.

    Raises:
        GrokinterpError: a run that is no fork, or one that met the condition before it was forked.
    """
    runs = runs_of(children)
    found: dict[str, list[Any]] = {"weight_decay": [], "delay": [], "censored": [], "group": []}  # in the order of `fork_law`'s arguments
    for run in runs:
        if run.config.parent is None:
            raise GrokinterpError(f"{run.path} is no fork: its config names no parent; make such runs with gi.fork")
        rows = [row for row in run.rows if row["step"] >= run.config.parent.step]
        first = Condition.parse(condition).first_in(rows)
        if first is not None and first.onset <= run.config.parent.step:
            raise GrokinterpError(f"{run.path} meets {condition!r} at its fork, step {run.config.parent.step}, already; fork earlier or ask for more")
        end = rows[-1]["step"] if first is None else first.onset
        found["weight_decay"].append(run.config.optimizer.weight_decay)
        found["delay"].append(end - run.config.parent.step)
        found["censored"].append(first is None)
        found["group"].append(Path(run.config.parent.path).name)
    return found
