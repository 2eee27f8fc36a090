"""CI runs the commands that the README gives."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_ci_runs_the_readmes_commands() -> None:
    commands = re.findall(r"^\$ (.*(?:grokinterp demo|-m pytest))$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [command.split()[-1] for command in commands] == ["demo", "pytest"]
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert commands[0].removesuffix("demo") + "--help > /dev/null" in lines  # the demo itself is what tests/docs trains
    assert commands[1] in lines
    assert lines.index(commands[1]) > lines.index("set -euo pipefail")
