"""Several runs as one report: labels by what differs, datasets aligned, curves overlaid, onsets found, folders of sweeps, pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import grokinterp as gi
from grokinterp import Comparison, GrokinterpError, Report, Run, analyze, compare
from grokinterp.reports.overlay import can_overlay, overlay
from grokinterp.reports.several import differences, labels, onset_figure
from grokinterp.training.config import RunConfig
from grokinterp.training.sweep import grid, sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_run: Run) -> Path:
    """A sweep of four tiny runs: two decays, two seeds."""
    out = tmp_path_factory.mktemp("sweep")
    sweep(grid(tiny_run.config, weight_decay=[0.5, 1.0], seed=[0, 1]), out, workers=0, progress_bar=False)
    return out


@pytest.fixture(scope="module")
def comparison(folder: Path) -> Comparison:
    found = analyze(folder, ["progress", "spectrum", "heads"], progress_bar=False)
    assert isinstance(found, Comparison)
    return found


def test_runs_are_called_by_what_differs(comparison: Comparison) -> None:
    assert list(comparison.reports) == [f"weight_decay={decay}, seed={seed}" for decay in ("0.5", "1") for seed in (0, 1)]
    assert list(comparison.differences.columns) == ["weight_decay", "seed"]
    assert "differ in weight_decay and seed" in comparison.summary


@given(
    st.lists(
        st.fixed_dictionaries({"a": st.integers(0, 2), "b": st.fixed_dictionaries({"a": st.booleans(), "c": st.none() | st.just("x")})}), min_size=1
    )
)
def test_labels_tell_runs_apart_whatever_differs(configs: list[dict[str, Any]]) -> None:
    names = labels(configs, [f"runs/{i}" for i in range(len(configs))])
    assert len(set(names)) == len(names) == len(configs)
    assert all(names)
    for own, config in zip(differences(configs), configs, strict=True):
        known = {"a": config["a"], "b.a": config["b"]["a"], "b.c": config["b"]["c"], "c": config["b"]["c"]}
        assert all(value in (known[name], config["b"]["a"]) for name, value in own.items())


def test_the_dataset_holds_each_run_as_it_is_alone(comparison: Comparison) -> None:
    for run, report in comparison.reports.items():
        own = comparison.dataset.sel(run=run)
        for name in ("loss", "restricted_loss", "W_E_norm", "head_similarity", "neuron_share", "metric_test_loss"):
            alone = report.dataset[name]
            np.testing.assert_array_equal(own[name].sel({dim: alone[dim] for dim in alone.dims if dim in alone.coords}), alone)
    assert comparison["loss"].dims[0] == "run"
    assert list(comparison.to_dataframe().index.names) == ["run", "step"]
    assert set(comparison.to_dataframe("loss")["run"]) == set(comparison.reports)


def test_runs_of_different_tasks_and_steps_stand_side_by_side(tiny: RunConfig, tmp_path: Path) -> None:
    other = tiny.with_(**{"task.args": {"p": 11}, "steps": 20, "model.d_mlp": 8})
    runs = [gi.train(config, tmp_path / str(i), progress_bar=False) for i, config in enumerate((tiny, other))]
    found = analyze(runs, ["progress", "spectrum"], steps=[0, 20], progress_bar=False)
    assert isinstance(found, Comparison)
    assert found.dataset["W_E_norm"].shape == (2, 2, 5)
    assert int(found.dataset["W_E_norm"].isnull().sum()) == 2 * 2  # p = 7 has frequencies 1 … 3
    assert found.figures.keys() >= {"losses", "progress", "logits_2d"}


def test_curves_lie_over_each_other_and_maps_are_shown_one_at_a_time(comparison: Comparison) -> None:
    drawn = comparison.plot("progress")
    for run, report in comparison.reports.items():
        alone = {f"{run}: {trace.name}": trace for trace in report.plot("progress").data}
        own = {trace.name: trace for trace in drawn.data if (trace.meta or {}).get("run") == run and trace.x[0] is not None}
        assert own.keys() == alone.keys()
        assert len({trace.line.color for trace in own.values()}) == 1
        for name, trace in own.items():
            np.testing.assert_array_equal(trace.y, alone[name].y)
    map_ = comparison.plot("spectrum")
    assert [bool(trace.visible) for trace in map_.data] == [True, False, False, False]
    (menu,) = map_.layout.updatemenus
    assert [button.label for button in menu.buttons] == list(comparison.reports)
    (menu,) = comparison.plot("embedding_spectrum").layout.updatemenus
    for button, report in zip(menu.buttons, comparison.reports.values(), strict=True):  # each names its own key frequencies
        own = [note.text for note in report.plot("embedding_spectrum").layout.annotations]
        assert [note["text"] for note in button.args[1]["annotations"]] == own == [str(key) for key in report.dataset["key_frequency"].values]
    with pytest.raises(GrokinterpError, match="unknown figure 'nothing'"):
        comparison.plot("nothing")


def lines(names: list[str], phase: int, caption: str, axes: tuple[str, ...] = ("y",)) -> go.Figure:
    """A figure of a line for each name in each panel, with a phase of its own run and a threshold that all share."""
    figure = go.Figure([go.Scatter(x=[0, 1], y=[0, 1], mode="lines", name=name, yaxis=axis) for axis in axes for name in names])
    figure.add_vrect(x0=0, x1=phase, showlegend=True, name="memorization").add_hline(y=0.5)
    return figure.update_layout(meta={"caption": caption}, annotations=[{"text": f"note of {phase}"}])


def test_what_a_figure_says_of_its_own_run_is_left_out_or_told_by_run() -> None:
    figures = {"a": lines(["train", "test"], 1, "Both. Fast."), "b": lines(["train", "test"], 2, "Both. Slow.")}
    together = overlay(figures, {"a": "red", "b": "blue"})
    assert [shape.type for shape in together.layout.shapes] == ["line"]
    assert together.layout.annotations == ()
    assert together.layout.meta["caption"] == "Both. a: Fast. b: Slow. Colours are runs, dashes are curves."
    entries = [trace for trace in together.data if trace.x[0] is None]
    assert [trace.name for trace in entries] == ["a", "b", "train", "test"]
    assert len({trace.legendgroup for trace in entries}) == 4  # plotly puts the entries of one group below each other


def test_curves_share_an_axis_only_where_a_dash_tells_each_from_the_others() -> None:
    names = [f"frequency {k}" for k in range(4)]
    apart = lines([f"frequency {k}" for k in range(3, 7)], 1, "")  # seven in all, and six dashes
    assert can_overlay({"a": lines(names, 1, ""), "b": lines(names, 2, "")})
    assert not can_overlay({"a": lines(names, 1, ""), "b": apart})
    two_panels = lines(names, 1, "", ("y", "y2"))
    assert can_overlay({"a": two_panels, "b": two_panels})
    dashes = [(trace.yaxis, trace.line.dash) for trace in overlay({"a": two_panels}, {"a": "red"}).data if trace.x[0] is not None]
    assert len({*dashes}) == 8
    assert not can_overlay({"a": lines(names, 1, "").update_yaxes(scaleanchor="x")})  # a plane of the run's own


def test_onsets_are_those_of_the_runs(comparison: Comparison) -> None:
    conditions = ("train_accuracy >= 0.2 for 2", "test_loss < 1e-9", "restricted_loss[all] < 100")
    table = comparison.onsets(*conditions)
    for run, report in comparison.reports.items():
        first = Run(report.dataset.attrs["title"]).first(conditions[0])
        assert first is not None
        assert table.loc[run, conditions[0]] == first == report.onset(conditions[0])
        assert np.isnan(table.loc[run, conditions[1]])
        assert table.loc[run, conditions[2]] == 0
        assert table.loc[run, "followed"] == 60
    drawn = onset_figure(table)
    for condition in conditions:
        held = {y: x for trace in drawn.data if trace.name.startswith(condition) for x, y in zip(trace.x, trace.y)}
        assert held == {run: 60 if np.isnan(at) else at for run, at in table[condition].items()}
    with pytest.raises(GrokinterpError, match="unknown quantity over steps 'test_los'"):
        comparison.onsets("test_los < 1")


def test_what_no_run_comes_to_is_said_too(comparison: Comparison) -> None:
    onsets = comparison.onsets()
    never = onsets.columns[onsets.isna().all()]
    assert "test_accuracy >= 0.95" in never
    assert f"None meets {never[0]} in the 60 steps" in comparison.summary


def test_the_table_of_runs_says_how_each_ends(comparison: Comparison, tiny: RunConfig, tmp_path: Path) -> None:
    ((_, _, table),) = comparison.tables()
    for run, report in comparison.reports.items():
        assert table.loc[run, "last test accuracy"] == f"{float(report['metric_test_accuracy'][-1]):.1%}"
    assert "state" not in table
    blown = gi.train(tiny.with_(lr=1e30), tmp_path / "blown", progress_bar=False)
    cut = comparison.reports[next(iter(comparison.reports))]
    longer = Report(cut.dataset.assign_attrs(config=cut.dataset.attrs["config"].replace('"steps": 60', '"steps": 900')))
    found = compare(cut, longer, analyze(blown, ["loss"], progress_bar=False), names=["whole", "cut", "blown"])
    ((_, _, table),) = found.tables()
    assert dict(table["state"]) == {"whole": "finished", "cut": "unfinished", "blown": "diverged"}
    assert table.loc["blown", "last test accuracy"] == "–"
    assert "1 has diverged: blown. 1 is unfinished: cut." in found.summary


def test_reports_are_compared_under_names_of_ones_own(comparison: Comparison) -> None:
    first, second, *_ = comparison.reports.values()
    assert list(compare(first, second, names=["sphere", "LayerNorm"]).reports) == ["sphere", "LayerNorm"]
    assert list(compare(first, first).reports) == ["run 1", "run 2"]
    with pytest.raises(GrokinterpError, match="a name of its own; got a, a for 2 reports"):
        compare(first, second, names=["a", "a"])
    with pytest.raises(GrokinterpError, match="got 0"):
        compare()
    with pytest.raises(GrokinterpError, match="got 'runs/a', so give runs and folders to analyze"):
        compare("runs/a", "runs/b")  # type: ignore[arg-type]


def test_a_run_that_cannot_be_read_is_named_and_does_not_stop_the_others(tiny_run: Run, tmp_path: Path) -> None:
    found = analyze({"good": tiny_run, "gone": tmp_path / "gone"}, ["loss"], steps=[60], progress_bar=False)
    assert isinstance(found, Comparison)
    assert list(found.reports) == ["good"]
    assert "gone is not a run" in found.failures["gone"]
    assert "1 more could not be read: gone" in found.summary
    with pytest.raises(GrokinterpError, match="gone is not a run"):
        analyze([tmp_path / "gone"], ["loss"])
    with pytest.raises(GrokinterpError, match="needs subjects; got 0"):
        analyze([], ["loss"])


def test_saved_reports_of_several_runs_come_back(comparison: Comparison, tmp_path: Path) -> None:
    files = sorted(comparison.save(tmp_path / "saved").iterdir())
    again = compare(*map(Report.load, files))
    assert list(again.reports) == list(comparison.reports)
    xr.testing.assert_identical(again.dataset.drop_attrs(), comparison.dataset.drop_attrs())


def test_the_command_line_writes_one_page_about_several(
    folder: Path, comparison: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from grokinterp.cli import main

    runs = [str(path.parent) for path in sorted(folder.glob("*/config.json"))]
    for i, paths in enumerate(([str(folder)], runs[:2])):
        page = tmp_path / f"{i}.html"
        assert main(["report", *paths, "--out", str(page), "--measures", "loss"]) == 0
        text = page.read_text()
        assert [run for run in comparison.reports if f'<th scope="row">{run}</th>' in text] == (list(comparison.reports) if i == 0 else [])
        assert text.count('<th scope="row">') == (4 if i == 0 else 2)
        assert "first step" in text
    assert "4 runs" in capsys.readouterr().out
