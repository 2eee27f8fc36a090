"""A few of what ``python -m tests.faults --long`` does a thousand times."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from faults import commands
from faults.inputs import attacked, doors

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
def test_killed_by_every_signal_and_resumed_the_bits_are_the_same(tmp_path: Path) -> None:
    """In a process of its own, since a fork of one with other threads may hang."""
    code = (
        "import sys; from pathlib import Path; from faults.kills import campaign; "
        "rows = campaign(Path(sys.argv[1]), 3, {'here': Path(sys.argv[1])}); "
        "assert all(row['kills'] and not (row['lost'] or row['half_read'] or row['different']) for row in rows), rows"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=_environment())
    assert done.returncode == 0, done.stdout + done.stderr


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])}


def test_damaged_files_are_accepted_or_refused_in_one_sentence(tmp_path: Path) -> None:
    for name, door in doors(tmp_path).items():
        if door.accepts:
            door.opened()
        for seed in range(4):
            assert attacked(door, seed) in ("refused", "accepted"), name


def test_an_attack_finds_what_raises_anything_else_and_leaves_the_file_whole(tmp_path: Path) -> None:
    door = doors(tmp_path)["config file"]
    before = door.file.read_bytes()
    fragile = type(door)(door.file, lambda: 1 / 0)
    assert "ZeroDivisionError" in attacked(fragile, 0)
    assert door.file.read_bytes() == before


def test_command_lines_end_with_a_status_and_a_sentence(tmp_path: Path) -> None:
    row = commands.campaign(tmp_path, 12)
    assert row["tracebacks"] == 0, row["example"]
