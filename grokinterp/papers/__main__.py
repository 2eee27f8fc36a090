"""``python -m grokinterp.papers DOCS`` writes every results page again from its committed tables, and the tallies of all papers.

It trains nothing and draws no figure but the one of all verdicts: what a page says follows from DOCS/results/*.csv.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from grokinterp.outputs import TEXT, output
from grokinterp.papers import PAPERS, Reproduction, reproduce
from grokinterp.papers.verdicts import glance, overview

TALLY = re.compile(r"(<!-- tallies, written by python -m grokinterp.papers -->\n).*?(\n<!-- end of tallies -->)", re.DOTALL)


def reproductions(docs: Path) -> list[Reproduction]:
    """Every paper as the tables in a folder of documentation have it."""
    with tempfile.TemporaryDirectory() as nothing:
        return [reproduce(paper, "cpu", nothing, tables=docs / "results", train=False) for paper in PAPERS]


def pages(docs: Path, papers: list[Reproduction]) -> dict[Path, str]:
    """The text of each file."""
    index = docs / "papers.md"
    files = {index: TALLY.sub(lambda found: f"{found[1]}\n{overview(papers)}\n{found[2]}", index.read_text())}
    files[docs / "results" / "verdicts.svg"] = glance(papers)
    for paper in papers:
        files[docs / "results" / f"{paper.paper}.md"] = paper.page()
        files |= {docs / "results" / name: text for name, text in paper.csv().items()}
    return files


def main(docs: Path) -> None:
    """Write them."""
    for path, text in pages(docs, reproductions(docs)).items():
        with output(path, TEXT, force=True) as temporary:
            temporary.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
