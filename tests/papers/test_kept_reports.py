"""What papers keep of a run's measures is opened again only while nothing that it depends on has changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from grokinterp.papers import training
from grokinterp.reports.report import Report
from grokinterp.snapshot import Snapshot
from grokinterp.training.runs import Run


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Run:
    """A finished run of one's own."""
    shutil.copytree(tiny_run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def step_seen(snapshot: Snapshot) -> dict[str, float]:
    return {"seen": float(snapshot.step)}


def weight_sum(snapshot: Snapshot) -> dict[str, float]:
    return {"weight_sum": float(snapshot.model.W_E.sum())}


def test_kept_measures_are_opened_while_all_is_as_it_was(run: Run) -> None:
    first = training.measured(run, [step_seen], "paper")
    kept = run.path / "paper.nc"
    written = kept.stat().st_mtime_ns
    again = training.measured(run, [step_seen], "paper")
    assert kept.stat().st_mtime_ns == written
    assert again["seen"].to_numpy().tolist() == first["seen"].to_numpy().tolist() == run.steps


def test_other_measures_other_code_other_checkpoints_are_measured_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    training.measured(run, [step_seen], "paper")
    assert "weight_sum" in training.measured(run, [step_seen, weight_sum], "paper").dataset
    (run.path / "checkpoints" / f"step_{run.steps[1]:08d}.safetensors").unlink()
    fewer = Run(run.path)
    assert training.measured(fewer, [step_seen], "paper").dataset.sizes["step"] == len(fewer.steps)
    before = training._depends_on(run, [step_seen])
    monkeypatch.setattr(training, "_code", lambda measure: "another way to measure")
    assert training._depends_on(run, [step_seen]) != before


def test_a_report_of_an_earlier_version_is_measured_again(run: Run) -> None:
    report = training.measured(run, [step_seen], "paper")
    del report.dataset.attrs[training.DEPENDS_ON]
    report.dataset["seen"][:] = -1.0
    Report(report.dataset).save(run.path / "paper.nc")
    assert training.measured(run, [step_seen], "paper")["seen"].to_numpy().tolist() == run.steps
