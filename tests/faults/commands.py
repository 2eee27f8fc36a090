"""Command lines of known words and hostile values: each ends with a status of the table in docs/faults.md and one sentence, never a traceback.

Nothing here trains for longer than a moment: a training starts from the configuration of a tiny run or from none.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import traceback
from pathlib import Path

from faults.inputs import _no_longer_than, tiny_run
from grokinterp.cli import main

SECONDS = 20
STATUSES = (0, 1, 2, 130, 141)
VALUES = ["", "x", "-1", "0", "nan", "inf", "1e400", "9" * 50, "λ", "{}", "[]", "null", "../..", "a b", "--"]
VALUES += ["/dev/null", "/dev/full", "x" * 5_000, "\udcff"]
OPTIONS = {
    "train": ["--out", "--p", "--seed", "--set", "--device"],
    "analyze": ["--measures", "--steps", "--workers", "--save", "--task", "--p", "--train-fraction", "--split", "--seed", "--facts"],
    "report": ["--out", "--measures", "--workers"],
    "fork": ["--at", "--out", "--weight-decay", "--steps", "--set"],
    "sweep": ["--out", "--grid", "--set", "--workers"],
    "reproduce": ["--budget", "--out", "--docs"],
    "cite": [],
}


def command_line(folder: Path, chance: random.Random) -> list[str]:
    """A command with a first word and up to three options; paths among the values lie in the folder or nowhere."""
    command = chance.choice(list(OPTIONS))
    run = folder / "run"
    first = chance.choice([str(run), str(run / "config.json"), str(run / "checkpoints"), str(folder / "nothing"), *VALUES])
    if command in ("sweep", "reproduce"):  # with a real first word these would train for minutes
        first = chance.choice(["nope", *VALUES])
    line = [command, first]
    for option in chance.sample(OPTIONS[command], min(len(OPTIONS[command]), chance.randrange(4))):
        line += [option, chance.choice([str(folder / "out"), str(run), "progress", "steps=2", "test_loss < 1", *VALUES])]
    return line


def carried_out(line: list[str]) -> str:
    """ "fine" where the command ends with a status of the table within the time; else the traceback, or what is wrong."""
    said = io.StringIO()
    try:
        with _no_longer_than(SECONDS), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status: object = main(line)
    except SystemExit as end:
        status = end.code
    except BaseException:
        return f"{line}\n{traceback.format_exc()}"
    if status not in STATUSES or "Traceback" in said.getvalue():
        return f"{line}\nstatus {status}\n{said.getvalue()[-2_000:]}"
    return "fine"


def campaign(folder: Path, lines: int) -> dict[str, object]:
    """So many command lines, in a folder of their own; one row."""
    tiny_run(folder)
    here = Path.cwd()
    os.chdir(folder)
    try:
        outcomes = [carried_out(command_line(folder, random.Random(seed))) for seed in range(lines)]
    finally:
        os.chdir(here)
    found = [outcome for outcome in outcomes if outcome != "fine"]
    return {"door": "command lines", "inputs": lines, "refused": "", "accepted": "", "tracebacks": len(found), "example": found[-1] if found else ""}
