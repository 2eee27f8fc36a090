"""The rehearsal of ``python -m benchmarks gpu``: every part at toy size on the CPU, where it must agree with itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent


def test_every_part_runs_and_a_failure_would_be_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import gpu

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = list(gpu.parts("cpu", toy=True, seconds=60))
        monkeypatch.setattr(gpu, "card", lambda device, toy: 1 / 0)
        (broken, *_) = gpu.parts("cpu", toy=True, seconds=0.001)
        late = list(gpu.parts("cpu", toy=True, seconds=-1))
    finally:
        torch.set_num_threads(before)
    assert len(rows) > 25
    assert not [row for row in rows if row.unit == "failed"]
    assert all(row.value == 0 for row in rows if row.unit in ("relative", "absolute", "entries")), "the CPU agrees with itself to the bit"
    assert broken.unit == "failed"
    assert "ZeroDivisionError" in broken.note
    assert all("not begun" in row.note for row in late)
    assert "ZeroDivisionError" in capsys.readouterr().out
