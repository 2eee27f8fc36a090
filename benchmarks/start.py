"""How long it takes until something answers: ``grokinterp --help``, and the imports.

``python -m benchmarks start`` prints the table.
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from benchmarks.timing import Row, interleaved, ratio


def rows(repeats: int = 9) -> list[Row]:
    """Each in a fresh process, taking turns with an empty one."""
    commands = {
        "nothing": ["-c", ""],
        "torch": ["-c", "import torch"],
        "package": ["-c", "import grokinterp"],
        "help": ["-m", "grokinterp.cli", "--help"],
        "analyze": ["-c", "import grokinterp; grokinterp.analyze"],
    }
    seconds = dict(zip(commands, interleaved([lambda arguments=arguments: _run(arguments) for arguments in commands.values()], repeats)))
    empty = f"an empty process takes {median(seconds['nothing']):.2f} s"
    return [
        Row("grokinterp --help", median(seconds["help"]), "seconds", empty),
        Row("import grokinterp, against import torch", ratio(seconds["package"], seconds["torch"]), "imports of torch", empty),
        Row("import grokinterp and its analyze, against import torch", ratio(seconds["analyze"], seconds["torch"]), "imports of torch", empty),
    ]


def _run(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
