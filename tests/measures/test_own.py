"""A measure of one's own is known like ours: to the report, its figures and its page, after saving, to processes and to the shell."""

from __future__ import annotations

import functools
import pickle
import sys
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
import xarray as xr

import grokinterp as gi
from grokinterp import GrokinterpError, Report, Run, Snapshot, analyze, plots
from grokinterp.cli import main
from grokinterp.measures import MEASURES, Measure, Measures, row_of
from grokinterp.measures.measure import GIVEN_BY
from grokinterp.measures.needs import attention, cyclic, gradients, split
from grokinterp.models import ModelConfig, build_model
from grokinterp.tasks import modular_addition, modular_quadratic


def plain(snapshot: Snapshot, scale: float = 1.0) -> xr.Dataset:
    w = snapshot.model.W_E.detach()
    found = xr.Dataset(
        {"size": scale * float(w.norm()), "by_token": ("token", w.norm(dim=1).numpy()), "gram": (("token", "other"), (w @ w.T).numpy())}
    )
    found["size"].attrs = {"long_name": "size of W_E", "units": "norm", "description": "How large the embedding is."}
    return found


def drawn(dataset: xr.Dataset) -> go.Figure:
    return plots.layout_figure(
        "Size", "The size of the embedding.", plots.lines_of({"size": plots.need(dataset, "size", steps=2)}), plots.STEPS, "norm"
    )


OWN = Measure(plain, "own", rows=(row_of("my size", "size", ".3f", "what I quote"),), figures=(drawn,))


@pytest.mark.parametrize("measure", [plain, Measure(plain), functools.partial(plain, scale=1.0)], ids=["function", "measure", "partial"])
def test_a_function_gets_default_figures_and_rows(tiny_run: Run, measure: Measure, tmp_path: Path) -> None:
    report = analyze(tiny_run, [measure], progress_bar=False)
    assert report["size"].attrs[GIVEN_BY] == "plain"
    assert {"size": "scatter", "by_token": "heatmap", "gram": "heatmap"}.items() <= {
        name: f.data[0].type for name, f in report.figures.items()
    }.items()
    np.testing.assert_array_equal(report.plot("size").data[0].y, report["size"])
    np.testing.assert_array_equal(report.plot("by_token").data[0].z, report["by_token"].T)
    np.testing.assert_array_equal(report.plot("gram").data[0].z, report["gram"][-1])
    assert report.plot("plain") is report.plot("size")
    (row,) = [number for number in report.headline() if number.quantity == "size of W_E"]
    assert row.value == f"{report['size'].to_numpy()[-1]:.4g} norm"
    loaded = Report.load(report.save(tmp_path / "report.nc"))
    assert list(loaded.figures) == list(report.figures)
    assert loaded.headline() == report.headline()


def test_one_step_has_bars_and_no_line(tiny_run: Run) -> None:
    figures = analyze(tiny_run, [plain], steps=[20], progress_bar=False).figures
    assert "size" not in figures
    assert figures["by_token"].data[0].type == "bar"


def test_a_measure_brings_its_figure_and_its_rows(tiny_run: Run, tmp_path: Path) -> None:
    report = analyze(tiny_run, ["loss", OWN], progress_bar=False)
    assert report.plot("own") is report.plot("drawn")
    assert "by_token" not in report.figures  # what has figures of its own gets no others
    (row,) = [number for number in report.headline() if number.quantity == "my size"]
    page = report.to_html(tmp_path / "page.html").read_text()
    assert row.value in page
    assert 'data-figure="drawn"' in page
    assert "The size of the embedding." in page


def test_the_page_shows_the_figures_that_it_is_asked_for(tiny_run: Run, tmp_path: Path) -> None:
    report = analyze(tiny_run, ["loss", OWN], progress_bar=False)
    page = report.to_html(tmp_path / "some.html", figures=["own", "losses"]).read_text()
    assert page.index('data-figure="own"') < page.index('data-figure="losses"')
    assert 'data-figure="accuracy"' not in page
    bare = go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))
    assert 'data-figure="bare"' in report.to_html(tmp_path / "bare.html", figures={"bare": bare}).read_text()
    with pytest.raises(GrokinterpError, match="unknown figure 'ownn'"):
        report.to_html(tmp_path / "none.html", figures=["ownn"])


def test_the_shell_prints_ours(tiny_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(tiny_run.path), "--measures", "fsd", "heads"]) == 0
    shown = capsys.readouterr().out
    assert "FSD, K = 1 / 3 / 5" in shown
    assert "head similarity" in shown


def test_the_shell_knows_ones_own(tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my_measures.py").write_text("def three(snapshot):\n    return {'three': 3.0}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["analyze", str(tiny_run.path.absolute()), "--measures", "my_measures:three"]) == 0
    assert "three" in capsys.readouterr().out
    assert main(["analyze", str(tiny_run.path.absolute()), "--measures", "my_measures:four"]) == 2
    assert "there is no measure 'my_measures:four'" in capsys.readouterr().err


@pytest.mark.parametrize("measure", [gi.fsd.fsd, functools.partial(gi.fsd.fsd, order="residue"), functools.partial(gi.measures.fsd, order="residue")])
def test_other_settings_of_ours_look_like_ours(measure: Measure, tiny_run: Run) -> None:
    report = analyze(tiny_run, [measure], progress_bar=False)
    assert report.plot("fsd").layout.title.text == "Synchronization"
    assert [number.quantity for number in report.headline()][3] == "FSD, K = 1 / 3 / 5"


def test_measures_are_an_open_mapping(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEASURES, "mine", plain)
    assert isinstance(MEASURES["mine"], Measure)
    assert repr(MEASURES["mine"]) == "Measure(mine)"
    report = analyze(tiny_run, ["mine"], progress_bar=False)
    assert report["size"].attrs[GIVEN_BY] == "mine"
    with pytest.raises(GrokinterpError, match="a measure is a function of a Snapshot; got 3"):
        Measures()["three"] = 3  # type: ignore[assignment]


def test_what_a_measure_needs_is_asked_before_it_is_computed() -> None:
    def never(snapshot: Snapshot) -> dict[str, float]:
        raise AssertionError("asked in vain")

    task = modular_quadratic(5)
    snapshot = Snapshot(build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24), task, seed=0), task)
    with pytest.raises(GrokinterpError, match="no cyclic group"):
        Measure(never, needs=(attention, cyclic))(snapshot)
    with pytest.raises(GrokinterpError, match="needs a train/test split"):
        Measure(never, needs=(split,))(snapshot)


def test_gradients_are_there_for_those_that_need_them() -> None:
    def enabled(snapshot: Snapshot) -> dict[str, float]:
        return {"enabled": float(torch.is_grad_enabled())}

    task = modular_addition(5)
    model = build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24), task, seed=0)
    assert [float(Measure(enabled, needs=needs)(Snapshot(model, task))["enabled"]) for needs in ((), (gradients,))] == [0, 1]
    assert analyze(model, [Measure(enabled, needs=(gradients,))], task=task)["enabled"].item() == 1


def test_one_spelling_for_all_measures_and_the_modules_as_before() -> None:
    task = modular_addition(8).split(0.5, seed=0)
    snapshot = Snapshot(build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24), task, seed=0), task)
    for name, measure in MEASURES.items():
        assert getattr(gi.measures, name) is measure
        assert measure.name == name
        assert measure.__doc__
        assert isinstance(measure(snapshot), xr.Dataset)
    xr.testing.assert_equal(gi.measures.fsd(snapshot, site="blocks.0.hook_mlp_out"), gi.fsd.fsd(snapshot, "blocks.0.hook_mlp_out"))
    assert callable(gi.fsd.permutation_test)
    assert callable(gi.heads.head_entropy)


def test_every_variable_of_ours_says_which_measure_gave_it(tiny_run: Run) -> None:
    dataset = analyze(tiny_run, list(MEASURES), progress_bar=False).dataset
    given = {name for name, array in dataset.items() if array.attrs.get(GIVEN_BY) in MEASURES}
    assert given == {name for name in dataset.data_vars if not str(name).startswith("metric_")}


def test_a_process_gets_what_it_needs_to_measure() -> None:
    copy = pickle.loads(pickle.dumps(MEASURES["progress"]))
    assert copy.name == "progress"
    assert copy.needs == MEASURES["progress"].needs
    assert copy.figures == copy.rows == ()


def test_a_variable_of_ones_own_may_have_the_name_of_any_of_ours(tiny_run: Run, tmp_path: Path) -> None:
    """Our figures and headline rows do not take it for ours, whatever its shape, before and after saving."""
    ours = [name for name in MEASURES if name not in ("ace", "equivalent")]
    taken = [str(name) for name in analyze(tiny_run, ours).dataset.data_vars if not str(name).startswith("metric_")]
    taken += ["margin", "agreement_auc", "verb_probability", "coordinate_correlation", "core_energy", "core_eigenvalue"]

    def mine(snapshot: Snapshot) -> dict[str, float]:
        return dict.fromkeys(taken, 0.25)

    report = analyze(tiny_run, [mine])
    for each in (report, Report.load(report.save(tmp_path / "mine.nc"))):
        assert {number.quantity for number in each.headline()} >= set(taken)
        assert each.plot("margin").layout.title.text == "Margin"
        assert each.to_html(tmp_path / "mine.html").exists()
