"""``python -m benchmarks`` prints one table: every benchmark, each row a ratio of two things timed in one process.

``python -m benchmarks engine`` prints one family of rows. ``--docs docs`` also writes each family as performance-FAMILY.csv, and
how the cost of a training step grows as performance-scaling.svg.
"""

from __future__ import annotations

import argparse
import csv
import platform
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.timing import Row, show

# Each a module with `rows`, imported when it is asked for: a machine may lack what another needs.
FAMILIES = ("measures", "engine", "agreement", "cores", "start", "runs", "pages", "gpu")


def main() -> None:
    """Time everything, or the families that are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Time the package, on a machine that does nothing else.")
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; all but gpu unless given")
    parser.add_argument("--docs", type=Path, help="folder for the tables and the figure")
    arguments = parser.parse_args()
    if unknown := set(arguments.families) - set(FAMILIES):
        parser.error(f"no family {', '.join(sorted(unknown))}; there are {', '.join(FAMILIES)}")
    print(f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}")
    for family in arguments.families or FAMILIES[:-1]:
        rows = import_module(f"benchmarks.{family}").rows()
        show(rows)
        if arguments.docs is not None:
            _write(family, rows, arguments.docs)


def _write(family: str, rows: Sequence[Row], folder: Path) -> None:
    with open(folder / f"performance-{family}.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "value", "unit", "note"])
        table.writerows([row.name, f"{row.value:.4g}", row.unit, row.note] for row in rows)
    if family == "engine":
        from benchmarks import engine

        engine.scaling_figure(rows).write_image(folder / "performance-scaling.svg", width=900, height=320)


if __name__ == "__main__":
    main()
