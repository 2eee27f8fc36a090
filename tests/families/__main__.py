"""``python -m tests.families`` prints, for each family, how far a loaded model is from transformers' own; ``--docs docs`` writes the table.

The table is families.csv in that folder; it holds `FAMILIES`, and `OTHERS` are printed alone, as is the sentence that refuses each of `REFUSED`.
Exit status 1 where a difference is above 1e-4, or a family is read that should be refused.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it

from families.models import FAMILIES, random_model, read_and_refused
from families.parity import COMPARED, differences
from grokinterp import GrokinterpError, load_model


def main() -> int:
    """Compare every family."""
    parser = argparse.ArgumentParser(prog="python -m tests.families", description="Compare loaded models with transformers' own.")
    parser.add_argument("--docs", type=Path, help="folder for the table")
    options = parser.parse_args()
    print(f"transformer-lens {version('transformer-lens')}, transformers {version('transformers')}")
    others, refused = read_and_refused()
    rows: list[list[str]] = []
    wrongly_read: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for i, family in enumerate([*FAMILIES, *others]):
            reference = random_model(family, Path(folder) / str(i))
            found = differences(load_model(Path(folder) / str(i), tokenizer=False), reference)
            rows.append([family, *(f"{difference:.1e}" if difference else "0" for difference in found.values())])
            print(*rows[-1], sep=" | ", flush=True)
        for family in refused:
            random_model(family, Path(folder) / family)
            try:
                load_model(Path(folder) / family, tokenizer=False)
            except GrokinterpError as error:
                print(family, "refused", error, sep=" | ", flush=True)
            else:
                wrongly_read.append(family)
                print(family, "read, and should be refused", sep=" | ", flush=True)
    if options.docs is not None:
        with open(options.docs / "families.csv", "w", newline="") as file:
            csv.writer(file).writerows([["family", *COMPARED], *rows[: len(FAMILIES)]])
    return 1 if wrongly_read or any(not float(value) <= 1e-4 for row in rows for value in row[1:]) else 0


if __name__ == "__main__":
    sys.exit(main())
