"""One way in, one thing out: runs, published files and bare models; measures of one's own; tables, figures, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from grokinterp import GrokinterpError, Report, Run, analyze, tasks
from grokinterp.measures.progress import progress
from grokinterp.models import ModelConfig, build_model
from grokinterp.reports.words import Phases, phases
from grokinterp.snapshot import Snapshot

pytestmark = pytest.mark.lens4


def weight_sum(snapshot: Snapshot) -> dict[str, float]:
    return {"weight_sum": float(snapshot.model.W_E.sum()), "step_seen": float(snapshot.step or 0)}


@pytest.fixture(scope="module")
def report(tiny_run: Run) -> Report:
    return analyze(tiny_run, ["progress", "spectrum", weight_sum], progress_bar=False)


def test_every_checkpoint_is_measured_against_the_last(tiny_run: Run, report: Report) -> None:
    assert report["step"].to_numpy().tolist() == tiny_run.steps == [0, 20, 40, 60]
    reference = Snapshot(tiny_run.model(), tiny_run.task, 60)
    expected = progress(Snapshot(tiny_run.model(20), tiny_run.task, 20, reference))
    xr.testing.assert_allclose(report.dataset.sel(step=20)[list(expected.data_vars)].drop_vars("step"), expected, rtol=1e-12)
    assert report["step_seen"].to_numpy().tolist() == tiny_run.steps
    assert report["loss"].sel(split="train").to_numpy() == pytest.approx(
        [row["train_loss"] for _, row in tiny_run.metrics.iterrows() if row["step"] in tiny_run.steps], rel=1e-5
    )


def test_workers_give_the_same_report(tiny_run: Run) -> None:
    alone = analyze(tiny_run, ["progress"], steps=[0, 40, 60], progress_bar=False)
    shared = analyze(str(tiny_run.path), ["progress"], steps=[60, 0, 40], workers=2, progress_bar=False)
    xr.testing.assert_allclose(alone.dataset, shared.dataset, rtol=1e-6)


def test_workers_mean_what_they_mean_in_a_sweep(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 is this process, None as many as cores, and 1 a process of its own."""
    opened: list[int] = []

    def here(calls: dict[str, Any], workers: int, **options: Any) -> dict[str, Any]:
        opened.append(workers)
        return {name: function(*arguments) for name, (function, arguments) in calls.items()}

    monkeypatch.setattr("grokinterp.analysis.side_by_side", here)
    monkeypatch.setattr("grokinterp.analysis.default_workers", lambda device: 3)
    for workers, expected in ((0, []), (None, [3]), (1, [1]), (2, [2])):
        opened.clear()
        assert analyze(tiny_run, [weight_sum], workers=workers, progress_bar=False)["step_seen"].to_numpy().tolist() == tiny_run.steps
        assert opened == expected


def test_a_model_with_its_task(tiny_run: Run) -> None:
    report = analyze(tiny_run.model(), ["progress"], task=tiny_run.task)
    assert float(report["loss"].sel(split="all").item()) == pytest.approx(float(analyze(tiny_run, steps=[60])["loss"].sel(split="all").item()))


def test_save_and_load(report: Report, tmp_path: Path) -> None:
    file = report.save(tmp_path / "deep" / "report.nc")
    assert Report.load(file).dataset.identical(report.dataset)
    assert [entry.name for entry in file.parent.iterdir()] == ["report.nc"]
    (tmp_path / "cut.nc").write_bytes(file.read_bytes()[:2000])
    with pytest.raises(GrokinterpError, match="is not a saved report"):
        Report.load(tmp_path / "cut.nc")
    with pytest.raises(GrokinterpError, match=r"missing\.nc does not exist"):
        Report.load(tmp_path / "missing.nc")
    xr.Dataset({"x": 1}).to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf")
    with pytest.raises(GrokinterpError, match="not a report of grokinterp"):
        Report.load(tmp_path / "foreign.nc")


def test_tables(report: Report) -> None:
    wide = report.to_dataframe()
    assert wide.index.tolist() == [0, 20, 40, 60]
    assert wide["restricted_loss[train]"].tolist() == report["restricted_loss"].sel(split="train").to_numpy().tolist()
    assert "weight_sum" in wide
    assert not [column for column in wide if column.startswith("neuron_share")]
    long = report.to_dataframe("W_E_norm")
    assert set(long.columns) >= {"step", "frequency", "W_E_norm"}
    assert len(long) == 4 * 3


def test_figures_and_page(report: Report, tmp_path: Path) -> None:
    assert {"losses", "progress", "embedding_spectrum", "logits_2d", "neurons", "weight_sum"} <= set(report.figures)
    assert report.plot("progress") is report.figures["progress"]
    page = report.to_html(tmp_path / "report.html").read_text()
    assert report.summary in page
    assert len(page) > 1_000_000  # plotly.js is inside
    with pytest.raises(GrokinterpError, match="did you mean progress"):
        report.plot("progres")


def test_a_measure_that_does_not_apply_is_named_and_the_others_stand(tiny_run: Run) -> None:
    task = tasks.modular_quadratic(7).split(0.5, seed=0)
    model = build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24), task, seed=0)
    report = analyze(model, ["progress", weight_sum], task=task)
    assert "no cyclic group" in report.failures["progress"]
    assert "weight_sum" in report.dataset
    assert "loss" not in report.dataset
    with pytest.raises(GrokinterpError, match="no cyclic group"):
        analyze(model, ["progress"], task=task)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: analyze(run, ["progres"]), "unknown measure 'progres'; did you mean progress"),
        (lambda run: analyze(run, steps=[7]), r"no checkpoint at step 7; the nearest are \[0, 20, 40\]"),
        (lambda run: analyze(run.model()), "pass task=… with a model"),
        (lambda run: analyze(run, task=tasks.modular_addition(7)), "has a task of its own, 'modular_addition'; leave task='modular_addition' out"),
        (lambda run: analyze(run.path, task=tasks.modular_addition(7)), "has a task of its own"),
        (lambda run: analyze(run.model(), task=run.task, steps=[0]), r"steps chooses among the checkpoints of a run; a \w+ has none"),
        (lambda run: analyze(42), "cannot analyze a int: pass a Run"),
        (lambda run: analyze(run.path / "nowhere"), "is not a run"),
        (lambda run: analyze(run)["los"], "unknown variable 'los'; did you mean loss"),
    ],
)
def test_bad_input_is_named(tiny_run: Run, call, message) -> None:
    with pytest.raises(GrokinterpError, match=message):
        call(tiny_run)


def history(train: list[float], test: list[float], restricted: list[float], excluded: list[float]) -> xr.Dataset:
    n = len(train)
    split = ["all", "train", "test"]
    losses = np.stack([np.zeros(n), train, test], axis=1)
    return xr.Dataset(
        {
            "loss": (("step", "split"), losses),
            "restricted_loss": (("step", "split"), np.stack([restricted] * 3, axis=1)),
            "excluded_loss": (("step", "split"), np.stack([excluded] * 3, axis=1)),
        },
        coords={"step": np.arange(n) * 100, "split": split},
    )


def test_phases_of_a_drawn_history() -> None:
    dataset = history(
        train=[4, 1, 5e-3, 1e-4, 1e-6, 1e-7, 1e-8],
        test=[4, 5, 6, 5, 2, 5e-3, 1e-4],
        restricted=[4.0, 3.9, 3.0, 1.0, 0.1, 0.01, 0.0],
        excluded=[4, 1, 0.05, 0.02, 2, 5, 8],
    )
    found = phases(dataset)
    assert found == Phases(memorization_end=300, circuit_end=400, cleanup_end=500)
    assert found.in_order
    # A start below the peak, at a value that the fall reaches again, ends nothing; nor do steps without numbers.
    low_start = dataset.copy(deep=True)
    low_start["restricted_loss"][0] = 0.05
    low_start["restricted_loss"][3] = np.nan
    assert phases(low_start).circuit_end == 400
    low_start["restricted_loss"][:] = np.nan
    low_start["excluded_loss"][:] = np.nan
    assert phases(low_start) == Phases(None, None, cleanup_end=500)
    never = phases(history([4, 4], [4, 4], [4, 4], [4, 4]))
    assert never == Phases(None, None, None)
    assert not never.in_order
