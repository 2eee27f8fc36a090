"""Labels of several runs, their datasets side by side, and the onset of each condition in each run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from grokinterp import plots
from grokinterp.conditions import Condition
from grokinterp.errors import GrokinterpError
from grokinterp.measures.undefined import UNDEFINED
from grokinterp.plots.lazy import go
from grokinterp.training.runs import Run
from grokinterp.training.sweep import flat_settings

WAITED_FOR = ("train_accuracy >= 0.99", "test_accuracy >= 0.95", "test_loss < 0.01")
"""Conditions of the table of onsets, as far as a run has recorded the quantities (chosen here)."""

_LONG = 60  # characters of a label; what differs in more settings is called by its title


def differences(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The settings in which configs differ, by the shortest name that tells them apart.

    A setting that says what an earlier one has said, as the split's seed does where it follows the seed, is left out, and so is the path of a parent.

    Args:
        configs: as `RunConfig.to_dict` gives them, one a run.

    Returns:
        For each config the same names in the same order; None where a config lacks the setting.
    """
    settings = [flat_settings(config) for config in configs]
    names = list(dict.fromkeys(name for own in settings for name in own if name != "parent.path"))
    columns = {name: [own.get(name) for own in settings] for name in names}
    differing = {name: values for name, values in columns.items() if any(value != values[0] for value in values)}
    varying: dict[str, list[Any]] = {}
    for name in sorted(differing, key=lambda name: ("seed" in name, names.index(name))):
        same = [other for other, values in differing.items() if values == differing[name]]
        varying[min(same, key=lambda other: (len(other), other))] = differing[name]
    last = [name.rpartition(".")[2] for name in varying]
    short = {name: name if last.count(brief) > 1 else brief for name, brief in zip(varying, last, strict=True)}
    return [{short[name]: values[i] for name, values in varying.items()} for i in range(len(configs))]


def in_order(runs: Sequence[Run]) -> list[Run]:
    """Runs sorted by the settings in which they differ: numbers by size, then text."""

    def key(i: int) -> list[tuple[bool, float, str]]:
        values = settings[i].values()
        return [(isinstance(value, str), float(value) if isinstance(value, int | float) else 0.0, str(value)) for value in values]

    settings = differences([run.config.to_dict() for run in runs])
    return [runs[i] for i in sorted(range(len(runs)), key=key)]


def labels(configs: Sequence[Mapping[str, Any]], titles: Sequence[str]) -> list[str]:
    """Labels of several runs: "weight_decay=0.3, seed=1" where that tells them apart, else by their titles, else by number.

    Args:
        configs: of the runs.
        titles: of the runs, such as their paths; what all of them begin with is left out.
    """
    by_setting = [", ".join(f"{name}={_shown(value)}" for name, value in own.items()) for own in differences(configs)]
    if _tell_apart(by_setting) and max(map(len, by_setting), default=0) <= _LONG:
        return by_setting
    parts = [title.split("/") for title in titles]
    shared = next((i for i, each in enumerate(zip(*parts, strict=False)) if len(set(each)) > 1), 0)
    by_title = ["/".join(part[shared:]) for part in parts]
    return by_title if _tell_apart(by_title) else [f"run {i}" for i in range(1, len(titles) + 1)]


def _tell_apart(names: Sequence[str]) -> bool:
    return all(names) and len(set(names)) == len(names)


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "none" if value is None else str(value)


def joined(datasets: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Datasets of several runs along ``run``; what a run lacks, at a step or altogether, is NaN, or empty where it is text.

    Args:
        datasets: by the run's label.
    """
    uneven = [_without_bools(dataset) for dataset in datasets.values()]
    sizes: dict[str, set[int]] = {}
    for dataset in uneven:
        for dimension, size in dataset.sizes.items():
            sizes.setdefault(str(dimension), set()).add(size)
    bare = {name for name, found in sizes.items() if len(found) > 1}  # neurons of models of different widths: counted, so that they can be aligned
    counted = [
        each.assign_coords({name: np.arange(each.sizes[name]) for name in bare if name in each.sizes and name not in each.coords}) for each in uneven
    ]
    texts = {str(name): "" for each in uneven for name, array in each.variables.items() if array.dtype.kind in "UO"}
    numbers = {str(name): np.nan for each in uneven for name in each.variables if name not in texts}
    together = xr.concat(
        counted, dim="run", join="outer", data_vars="all", coords="minimal", compat="override", fill_value={**texts, **numbers}, combine_attrs="drop"
    )
    for name in together.data_vars:
        held = {run: own[name].attrs for run, own in datasets.items() if name in own}
        reasons = {run: str(attrs[UNDEFINED]) for run, attrs in held.items() if attrs.get(UNDEFINED)}
        together[name].attrs = {key: value for key, value in next(iter(held.values())).items() if key != UNDEFINED}
        if reasons:
            together[name].attrs[UNDEFINED] = by_reason(reasons)
    return together.assign_coords(run=list(datasets))


def by_reason(reasons: Mapping[str, str]) -> str:
    """Reasons by run as one text, each reason once."""
    runs: dict[str, list[str]] = {}
    for run, reason in reasons.items():
        runs.setdefault(reason, []).append(run)
    return "; ".join(f"{reason} ({', '.join(named) if len(named) < 4 else f'{len(named)} runs'})" for reason, named in runs.items())


def _without_bools(dataset: xr.Dataset) -> xr.Dataset:
    """Truth values as 0 and 1, beside which NaN can stand."""
    truths = [name for name, array in dataset.data_vars.items() if array.dtype.kind == "b"]
    return dataset.assign({name: dataset[name].astype(float) for name in truths})


def onset_table(datasets: Mapping[str, xr.Dataset], conditions: Sequence[str] = ()) -> pd.DataFrame:
    """The first step at which each condition holds in each run; NaN where it never does.

    Args:
        datasets: of reports, by the run's label.
        conditions: as `grokinterp.conditions` reads them; without any, those of `WAITED_FOR` whose quantity is there, also where no run meets them.

    Returns:
        A row a run, a column a condition, and ``followed``: the last step at which the run was evaluated.

    Raises:
        GrokinterpError: a condition that cannot be read, or of those given one whose quantity a run lacks.
    """
    rows = {}
    for run, dataset in datasets.items():
        row: dict[str, float] = {}
        for text in conditions or WAITED_FOR:
            condition = Condition.parse(text)
            try:
                steps, values = condition.series(dataset)
            except GrokinterpError as error:
                if conditions:
                    raise GrokinterpError(f"{run}: {error}") from error
                continue
            if conditions or np.isfinite(values).any():  # without test pairs there is no test accuracy to wait for
                found = condition.first(steps, values)
                row[text] = np.nan if found is None else found.onset
        rows[run] = row | {"followed": followed(dataset)}
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("run")
    columns = [*(text for text in conditions or WAITED_FOR if text in frame), "followed"]
    return frame[columns]


def end_table(datasets: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """How each run ends: its `state` where any has another than finished, and its accuracies at the last evaluation as text, "–" for none.

    Args:
        datasets: of reports, by the run's label.
    """
    rows: dict[str, dict[str, str]] = {}
    for run, dataset in datasets.items():
        recorded = {split: dataset[f"metric_{split}_accuracy"].to_numpy() for split in ("train", "test") if f"metric_{split}_accuracy" in dataset}
        how = state(dataset)  # numbers off weights that hold NaN mean nothing
        rows[run] = {"state": how} | {
            f"last {split} accuracy": "–" if how == "diverged" else _percent(values[-1:]) for split, values in recorded.items()
        }
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("run").fillna("–")
    return frame if set(frame["state"]) != {"finished"} else frame.drop(columns="state")


def _percent(last: np.ndarray) -> str:
    return f"{last[0]:.1%}" if np.isfinite(last).any() else "–"


def state(dataset: xr.Dataset) -> str:
    """Whether a run is "finished", has "diverged", or is "unfinished": has no steps as its config asks for, and no condition to stop at before."""
    if "metric_train_loss" in dataset and not np.isfinite(dataset["metric_train_loss"].to_numpy()[-1:]).all():
        return "diverged"
    config = config_of(dataset)
    steps = config.get("steps")
    return "unfinished" if isinstance(steps, int) and not config.get("stop") and followed(dataset) < steps else "finished"


ROW, MOST_ROWS = 36, 60  # pixels of a run's row, and rows that get as many; more lie closer


def onset_figure(table: pd.DataFrame) -> go.Figure:
    """The onsets of `onset_table` as dots, a row a run; an open triangle is a condition that a run did not meet while it was followed.

    Args:
        table: a row a run, a column a condition, and ``followed``.
    """
    runs = [str(run) for run in table.index]
    dots = []
    for i, condition in enumerate(name for name in table.columns if name != "followed"):
        met = table[condition].notna().to_numpy()
        for own, symbol, name in ((met, "circle", condition), (~met, "triangle-right-open", f"{condition}: not by then")):
            x = table[condition].fillna(table["followed"]).to_numpy(float)[own]
            marker = {"color": plots.STYLES[i % len(plots.STYLES)][0], "symbol": symbol, "size": 9}
            if own.any():
                dots.append(go.Scatter(x=x, y=[run for run, shown in zip(runs, own, strict=True) if shown], name=name, mode="markers", marker=marker))
    caption = "Each row is a run. An open triangle is a condition that the run did not meet by the last step that it was followed."
    figure = plots.layout_figure("When each run comes to what", caption, dots, plots.STEPS, "run")
    height = 150 + ROW * min(len(runs), MOST_ROWS)
    figure.update_layout(hovermode="closest", showlegend=True, height=height, meta={"caption": caption, "height": height})
    # Names above their rows, since long ones beside them would leave a phone no room for the dots. The range is ours: plotly's would avoid the names.
    last = max((max(dot.x) for dot in dots), default=1.0)
    figure.update_xaxes(range=[-0.04 * last, 1.05 * last])
    figure.update_yaxes(ticklabelposition="inside top", nticks=MOST_ROWS, range=[-0.4, len(runs) - 0.2])
    return figure.update_yaxes(type="category", categoryorder="array", categoryarray=runs[::-1], hoverformat=None, title_text=None)


def followed(dataset: xr.Dataset) -> float:
    """The last step at which anything was evaluated in a run."""
    ends = [dataset[name].to_numpy().max() for name in ("eval_step", "step") if name in dataset.coords and dataset[name].size]
    return float(max(ends)) if ends else np.nan


def config_of(dataset: xr.Dataset) -> dict[str, Any]:
    """The config that a report's dataset holds; empty where it has none."""
    found = json.loads(str(dataset.attrs.get("config") or "{}"))
    return found if isinstance(found, dict) else {}
