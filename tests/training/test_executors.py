"""Work that several processes share: lambdas too, done again where a process dies, and errors as they would be in this one."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from grokinterp import GrokinterpError, Run, analyze
from grokinterp.snapshot import Snapshot
from grokinterp.training.executors import MAX_TRIES, side_by_side


def test_a_measure_of_a_notebook_loses_its_process_and_is_done_again(tiny_run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fragile(snapshot: Snapshot) -> dict[str, float]:
        if snapshot.step == 20 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"twice": 2.0 * snapshot.step, "process": float(os.getpid())}

    report = analyze(tiny_run, [fragile, lambda snapshot: {"thrice": 3.0 * snapshot.step}], workers=2, progress_bar=False)
    assert report["twice"].to_numpy().tolist() == [2.0 * step for step in tiny_run.steps]
    assert report["thrice"].to_numpy().tolist() == [3.0 * step for step in tiny_run.steps]
    assert float(os.getpid()) not in report["process"]
    assert "a worker died (BrokenProcessPool: " in caplog.text
    assert "what it had begun is done again" in caplog.text


def test_a_process_that_always_dies_is_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(GrokinterpError, match=rf"^steps 0 … 40: its worker died {MAX_TRIES} times: .* use fewer workers, or workers=0$"):
        side_by_side({"steps 0 … 40": (lambda: os.kill(os.getpid(), signal.SIGKILL), ())}, 1)
    assert caplog.text.count("a worker died") == MAX_TRIES - 1


def test_an_error_of_the_work_is_raised_as_it_is() -> None:
    seen: list[str] = []
    with pytest.raises(ZeroDivisionError):
        side_by_side({"good": (lambda: False, ()), "bad": (lambda: 1 / 0, ())}, 1, done=seen.append)
    assert seen == ["good"]


def test_what_no_other_process_can_have_is_a_sentence(tiny_run: Run) -> None:
    lock = threading.Lock()

    def measure(snapshot: Snapshot) -> dict[str, float]:
        with lock:
            return {"one": 1.0}

    with pytest.raises(GrokinterpError, match=r"cannot be handed to other processes \(.*lock.*\); use workers=0"):
        analyze(tiny_run, [measure], workers=2, progress_bar=False)
    assert analyze(tiny_run, [measure], progress_bar=False)["one"].to_numpy().tolist() == [1.0] * len(tiny_run.steps)
    with pytest.raises(GrokinterpError, match="workers counts processes, with 0 for this one; got -1"):
        analyze(tiny_run, [measure], workers=-1, progress_bar=False)
