"""Words: no typing errors in what readers see, and one English, the British; code, names and titles of papers are as they are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROSE = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "howto").glob("*.md"))]
TUTORIALS = sorted((ROOT / "tutorials").glob("[0-9]*.py"))
PAPERS_OWN = ("Synchronization", "Precedes Generalization", "Memorization")  # a quantity, a title and a phase, as the papers write them
AMERICAN = re.compile(
    r"\b(colors?|colored|behaviors?|favors?|centers?|centered|neighbors?|modeled|modeling|labeled|labeling|canceled|catalog"
    r"|\w*(generaliz|initializ|normaliz|regulariz|recogniz|summariz|organiz|memoriz|minimiz|maximiz|parameteriz|synchroniz)\w*|optimisers?)\b"
)


def prose_of(text: str) -> str:
    """A Markdown text without its code."""
    for code in (r"^```.*?^```$", r"`[^`\n]*`", r"\]\([^)]*\)", r"<[^>]*>"):
        text = re.sub(code, "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub("|".join(PAPERS_OWN), "", text)


def test_nothing_is_misspelt() -> None:
    """By codespell, in the documentation, the tutorials and the package with its docstrings and sentences."""
    pytest.importorskip("codespell_lib", reason="spelling is checked where the test extra is installed")
    read = ["README.md", "CHANGELOG.md", "docs", "tutorials", "grokinterp"]
    command = [sys.executable, "-m", "codespell_lib", "--skip", "*.svg,*.csv,*.html,docs/results", "--ignore-words-list", "inforce,vermillion", *read]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("page", [*PROSE, *TUTORIALS], ids=lambda page: page.name)
def test_the_english_is_british(page: Path) -> None:
    text = page.read_text()
    if page.suffix == ".py":
        text = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert [match[0] for match in AMERICAN.finditer(prose_of(text))] == []


def test_the_check_of_words_can_fail() -> None:
    text = "The model generalizes; `normalization` is code. An optimiser."
    assert [match[0] for match in AMERICAN.finditer(prose_of(text))] == ["generalizes", "optimiser"]
