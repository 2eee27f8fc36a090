"""``python -m benchmarks`` prints one table: every benchmark, each row a ratio of two things timed in one process.

``--docs docs`` also writes it as performance.csv, and how the cost of a step grows as performance-scaling.svg.
"""

from __future__ import annotations

import argparse
import csv
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks import agreement, cores, engine, measures
from benchmarks.timing import Row, show


def main() -> None:
    """Time everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Time the package.")
    parser.add_argument("--docs", type=Path, help="folder for performance.csv and performance-scaling.svg")
    folder: Path | None = parser.parse_args().docs
    print(f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}")
    rows: list[Row] = []
    for benchmark in (measures.rows, cores.rows, agreement.rows, engine.rows):
        found = benchmark()
        show(found)
        rows += found
    if folder is not None:
        _write(rows, folder)


def _write(rows: Sequence[Row], folder: Path) -> None:
    with open(folder / "performance.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "value", "unit", "note"])
        table.writerows([row.name, f"{row.value:.4g}", row.unit, row.note] for row in rows)
    engine.scaling_figure(rows).write_image(folder / "performance-scaling.svg", width=900, height=320)


if __name__ == "__main__":
    main()
