"""``python -m tests.faults --long`` runs the fault tests at length and writes their tables; without ``--long`` it does a few of each.

Tables go to the folder that ``--docs`` names, docs/results in this repository: faults-kills.csv and faults-inputs.csv. Exit status 1 if anything
was lost, half read, different, or raised anything but one sentence.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it

from faults import commands, inputs, kills

MEMORY = Path("/dev/shm")


def main() -> int:
    """Run both campaigns."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Kill trainings and damage files.")
    parser.add_argument("--long", action="store_true", help="1,000 kills and 1,300 inputs, some ten minutes")
    parser.add_argument("--docs", type=Path, help="folder for the tables")
    options = parser.parse_args()
    n_kills, n_inputs = (1_000, 1_300) if options.long else (30, 65)
    with tempfile.TemporaryDirectory() as disk, tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as memory:
        places = {"disk": Path(disk), **({"tmpfs": Path(memory)} if MEMORY.is_dir() else {})}
        killed = kills.campaign(Path(disk), n_kills, places)
        (Path(disk) / "inputs").mkdir()
        damaged = inputs.campaign(Path(disk) / "inputs", n_inputs)
        (Path(disk) / "commands").mkdir()
        damaged.append(commands.campaign(Path(disk) / "commands", n_inputs // 4))
    if options.docs is not None:
        _write(options.docs / "faults-kills.csv", killed)
        _write(options.docs / "faults-inputs.csv", damaged)
    bad = [row for row in killed if row["lost"] or row["half_read"] or row["different"]] + [row for row in damaged if row["tracebacks"]]
    for row in bad:
        print(row)
    return 1 if bad else 0


def _write(file: Path, rows: Sequence[dict[str, object]]) -> None:
    with open(file, "w", newline="") as handle:
        table = csv.DictWriter(handle, rows[0].keys())
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
