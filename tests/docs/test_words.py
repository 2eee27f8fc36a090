"""Words: no typing errors in what readers see, and one English, the British; code, names and titles of papers are as they are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROSE = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "howto").glob("*.md"))]
TUTORIALS = sorted((ROOT / "tutorials").glob("[0-9]*.py"))
RESULTS = sorted((ROOT / "docs" / "results").glob("*.md"))
MODULES = sorted((ROOT / "grokinterp").rglob("*.py"))
PAPERS_OWN = ("[Ss]ynchronization", "Precedes Generalization", "[Mm]emorization")  # a quantity, a title and a phase, as the papers write them
AMERICAN = re.compile(
    r"\b(colors?|colored|behaviors?|favors?|centers?|centered|neighbors?|modeled|modeling|labeled|labeling|canceled|catalog"
    r"|\w*(generaliz|initializ|normaliz|regulariz|recogniz|summariz|organiz|memoriz|minimiz|maximiz|parameteriz|synchroniz)\w*|optimisers?"
    r"|analyz(es|ed|ing))\b"
)


def prose_of(text: str) -> str:
    """A Markdown text without its code."""
    for code in (r"\[[\w-]+\]\([\w-]+\.csv\)", r"^```.*?^```$", r"``[^`\n]*``", r"`[^`\n]*`", r"\]\([^)]*\)", r"<[^>]*>", r"\bhook_\w+"):
        text = re.sub(code, "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub("|".join(PAPERS_OWN), "", text)


def test_nothing_is_misspelt() -> None:
    """By codespell, in the documentation, the tutorials and the package with its docstrings and sentences."""
    pytest.importorskip("codespell_lib", reason="spelling is checked where the test extra is installed")
    read = ["README.md", "CHANGELOG.md", "docs", "tutorials", "grokinterp"]
    command = [sys.executable, "-m", "codespell_lib", "--skip", "*.svg,*.csv,*.html,docs/results", "--ignore-words-list", "inforce,vermillion", *read]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("page", [*PROSE, *RESULTS, *TUTORIALS], ids=lambda page: page.name)
def test_the_english_is_british(page: Path) -> None:
    text = page.read_text()
    if page.suffix == ".py":
        text = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert [match[0] for match in AMERICAN.finditer(prose_of(text))] == []


def test_docstrings_are_british_too() -> None:
    """What code holds beside its names: argument lists begin with a name, and quotes hold values."""
    found = []
    for path in MODULES:
        nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef))
        prose = (re.sub(r"^\s*[\w, *]+:|\"[^\"]*\"", "", ast.get_docstring(node) or "", flags=re.MULTILINE) for node in nodes)
        found += [(path.name, match[0]) for text in prose for match in AMERICAN.finditer(prose_of(text))]
    assert found == []


def test_the_check_of_words_can_fail() -> None:
    text = "The model generalizes; `normalization` is code. An optimiser."
    assert [match[0] for match in AMERICAN.finditer(prose_of(text))] == ["generalizes", "optimiser"]
