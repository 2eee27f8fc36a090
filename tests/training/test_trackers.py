"""Trackers hear what metrics.jsonl holds, also of runs that are interrupted and go on; wandb is only touched when asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import grokinterp
from grokinterp import GrokinterpError, Run, RunConfig, Tracker, Wandb, train
from grokinterp.training.runs import read_metrics


class Diary:
    """A tracker that writes everything down, and can break off at a step."""

    def __init__(self, stop_at: int | None = None, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.started: list[Mapping[str, Any]] = []
        self.rows: list[dict[str, float]] = []
        self.ended: list[Mapping[str, Any]] = []
        self.stop_at, self.error = stop_at, error

    def start(self, config: Mapping[str, Any]) -> None:
        self.started.append(config)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if step == self.stop_at:
            raise self.error
        self.rows.append({"step": step, **metrics})

    def finish(self, status: Mapping[str, Any]) -> None:
        self.ended.append(status)


def test_a_tracker_hears_every_row_and_how_it_ended(tiny: RunConfig, tmp_path: Path) -> None:
    diary = Diary()
    assert isinstance(diary, Tracker)
    run = train(tiny, tmp_path / "run", progress_bar=False, tracker=diary)
    (config,) = diary.started
    assert RunConfig.from_dict({name: value for name, value in config.items() if name != "digest"}) == tiny
    assert config["digest"] == tiny.digest
    assert diary.rows == read_metrics(run.path)
    assert diary.ended == [run.status]
    train(tiny, tmp_path / "run", progress_bar=False, tracker=diary)  # finished: not trained, so nothing to hear
    assert len(diary.started) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_is_interrupted_says_so_and_goes_on_to_the_same_bits(tiny: RunConfig, tmp_path: Path, error: type[BaseException]) -> None:
    whole = train(tiny, tmp_path / "whole", progress_bar=False)
    first, second = Diary(stop_at=45, error=error), Diary()
    with pytest.raises(error):
        train(tiny, tmp_path / "run", progress_bar=False, tracker=first)
    assert [status["state"] for status in first.ended] == ["interrupted"]
    assert first.ended[0]["step"] == 45
    assert error.__name__ in first.ended[0]["reason"]
    assert not Run(tmp_path / "run").finished
    run = train(tiny, tmp_path / "run", progress_bar=False, tracker=second)
    assert run.finished
    assert [row["step"] for row in second.rows] == [45, 50, 55, 60]  # from the checkpoint at 40 on
    assert read_metrics(run.path) == read_metrics(whole.path)
    assert (run.path / "checkpoints/step_00000060.safetensors").read_bytes() == (whole.path / "checkpoints/step_00000060.safetensors").read_bytes()


def test_ctrl_c_on_the_command_line_leaves_a_run_that_resumes(tiny: RunConfig, tmp_path: Path) -> None:
    """A real SIGINT in the middle of a long training."""
    long = tiny.with_(steps=1_000_000, **{"checkpoints.every": 200, "checkpoints.dense_until": 0, "eval_every": 100})
    (tmp_path / "config.json").write_text(json.dumps(long.to_dict()))
    run = tmp_path / "run"
    # A shell that runs tests in the background has the signal ignored, and its children inherit that.
    script = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from grokinterp.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "train", str(tmp_path / "config.json"), "--out", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        while len(list(run.glob("checkpoints/*.safetensors"))) < 3 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip() == "grokinterp: interrupted; the same command goes on from the last checkpoint"  # no progress bar in a pipe
    assert out == ""
    reached = Run(run).steps[-1]
    assert reached % 200 == 0
    diary = Diary(stop_at=reached + 200)
    with pytest.raises(KeyboardInterrupt):
        train(long, run, progress_bar=False, tracker=diary)
    assert [row["step"] for row in diary.rows] == [reached + 100]


@pytest.fixture
def fake_wandb(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """A module in wandb's place that writes down what is called."""
    calls: list[tuple[str, Any]] = []

    class FakeRun:
        summary = types.SimpleNamespace(update=lambda values: calls.append(("summary", values)))

        def define_metric(self, name: str, **settings: Any) -> None:
            calls.append(("define_metric", (name, settings)))

        def log(self, values: Mapping[str, float]) -> None:
            calls.append(("log", values))

        def finish(self, exit_code: int) -> None:
            calls.append(("finish", exit_code))

    def init(**settings: Any) -> FakeRun:
        calls.append(("init", settings))
        return FakeRun()

    module = types.ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return calls


def test_wandb_gets_config_rows_and_end_under_the_digest(tiny: RunConfig, tmp_path: Path, fake_wandb: list[tuple[str, Any]]) -> None:
    run = train(tiny, tmp_path / "run", progress_bar=False, tracker=Wandb("grokking", mode="offline"))
    (settings,) = [value for name, value in fake_wandb if name == "init"]
    assert {name: settings[name] for name in ("project", "id", "mode", "resume")} == {
        "project": "grokking",
        "id": tiny.digest,
        "mode": "offline",
        "resume": "allow",
    }
    assert settings["config"]["optimizer"]["weight_decay"] == tiny.optimizer.weight_decay
    assert [value for name, value in fake_wandb if name == "log"] == read_metrics(run.path)
    assert ("define_metric", ("*", {"step_metric": "step"})) in fake_wandb  # a resumed run may log earlier steps again
    assert fake_wandb[-2:] == [("summary", run.status), ("finish", 0)]


def test_the_real_wandb_works_offline(tiny: RunConfig, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    train(tiny, tmp_path / "run", progress_bar=False, tracker=Wandb("grokking", mode="offline", dir=str(tmp_path)))
    assert len(list(tmp_path.rglob("*.wandb"))) == 1


def test_without_wandb_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(GrokinterpError, match=r"'grokking' needs `pip install 'grokinterp\[wandb\]'`"):
        Wandb("grokking")


def test_no_tracker_is_imported_unless_asked_for() -> None:
    code = "import grokinterp, sys; grokinterp.train; grokinterp.Wandb; print('wandb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(grokinterp.__file__).parent)
    assert done.stdout.strip() == "False"
