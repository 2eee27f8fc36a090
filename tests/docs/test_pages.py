"""Every command and every block of code in the README and the documentation runs, from an empty folder, and prints what stands there."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blocks import Block, blocks_of, commands_of, matches
from gpt2_folders import with_words

from grokinterp import MEASURES, tasks
from grokinterp.checkpoints import READERS
from grokinterp.cli import main

ROOT = Path(__file__).parents[2]
GENERATED = {"results", "tutorials"}  # made by `grokinterp reproduce` and by tutorials/render.py, and tested there
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.relative_to(ROOT / "docs").parts[0] not in GENERATED)]
INSTALLING = ("python3 -m venv .venv", ".venv/bin/pip install -q -c constraints.txt ", ".venv/bin/python -m pytest")  # .ci/run does these


@pytest.fixture(autouse=True)
def open_mappings_as_they_were() -> Iterator[None]:
    """Without what a page has added to them."""
    before = [(mapping, dict(mapping)) for mapping in (MEASURES, READERS)]
    yield
    for mapping, kept in before:
        mapping.clear()
        mapping.update(kept)  # type: ignore[arg-type]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_does_what_it_says(page: Path, empty_folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))  # a page adds its own
    if "runs/demo" in page.read_text() or "grokinterp demo" in page.read_text():
        shutil.copytree(request.getfixturevalue("demo_run").path, empty_folder / "runs" / "demo")  # finished: it is opened, not trained again
    if 'load_model("models/gpt2")' in "".join(block.body for block in blocks_of(page) if block.reason is None):
        with_words(empty_folder / "models" / "gpt2")  # the reader's, which has to be there
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.reason is None:
            where = f"{page.relative_to(ROOT)}, line {block.line}"
            run_python(block, namespace, where) if block.language == "python" else run_console(block, where)


def run_python(block: Block, namespace: dict[str, Any], where: str) -> None:
    """Run a block in the page's namespace and compare what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile("\n" * block.line + block.body, where, "exec"), namespace)
    assert block.printed is None or matches(out.getvalue(), block.printed), f"{where} prints\n{out.getvalue()}"


def run_console(block: Block, where: str) -> None:
    """Run the commands of a block in this process and compare what each prints; an error has to stand there."""
    assert block.language == "console", f"{where}: a {block.language} block cannot be run here and has to say so"
    for command, said in commands_of(block):
        out = io.StringIO()
        for part in command.split(" && "):
            if part.startswith(INSTALLING):
                continue
            program, *arguments = shlex.split(part)
            assert program in ("grokinterp", ".venv/bin/grokinterp"), f"{where}: {part!r} is no command of this package"
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out if said.startswith("grokinterp: ") else io.StringIO()):
                assert main(arguments) == (2 if said.startswith("grokinterp: ") else 0), f"{where}: {part}"
        assert not said or matches(out.getvalue(), said), f"{where}: {command} prints\n{out.getvalue()}"


def test_what_is_not_run_is_listed_where_readers_see_it() -> None:
    """The list at the end of the page about limits names every page with such blocks, with the number and the reasons."""
    listed = re.findall(r"^\| \[([\w/.-]+)\]\([^)]*\) \| (\d+) \| (.+?) \|$", (ROOT / "docs" / "limits.md").read_text(), re.MULTILINE)
    found = {}
    for page in PAGES:
        reasons = [block.reason for block in blocks_of(page) if block.reason is not None]
        if reasons:
            found[str(page.relative_to(ROOT / "docs") if "docs" in page.parts else page.name)] = (len(reasons), "; ".join(dict.fromkeys(reasons)))
    assert {page: (int(number), reasons) for page, number, reasons in listed} == found


HOW_TO = sorted((ROOT / "docs" / "howto").glob("*.md"))
YOURS = ("checkpoint", "intervention", "measure", "prompts", "task")
JOBS = ("settings", "pytorch", "circuit", "sweep", "fork", "cores", "architecture", "permutations", "own", "language_model", "loop", "notebook")


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_job_takes_few_lines(page: Path) -> None:
    """Fifteen for something of one's own, twenty-five for a whole job."""
    lines = [line for block in blocks_of(page) if block.language == "python" for line in block.body.splitlines() if line.strip()]
    assert 0 < len(lines) <= (15 if page.stem in YOURS else 25), f"{len(lines)} lines"


def test_the_readme_leads_to_every_job_and_every_link_leads_somewhere() -> None:
    """Files and headings that a page names by a relative link are there; the README's table names every job's page."""
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
            place, _, anchor = (target[0] or target[1]).partition("#")
            if place.startswith(("http://", "https://")):
                continue
            file = (page.parent / place).resolve() if place else page
            assert file.exists(), f"{page.relative_to(ROOT)} leads to {place}, which is not there"
            if anchor and "/api/" not in str(file):
                assert anchor in headings(file), f"{page.relative_to(ROOT)} leads to {place}#{anchor}; headings there are {headings(file)}"
    readme = (ROOT / "README.md").read_text()
    assert [job for job in JOBS if f"docs/howto/{job}.md" not in readme] == []


def headings(page: Path) -> list[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    found = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return [re.sub(r"[^\w\s-]", "", title.lower()).strip().replace(" ", "-") for title in found]


def test_whatever_is_added_takes_at_most_twenty_lines() -> None:
    blocks = [block for block in blocks_of(ROOT / "docs" / "add-your-own.md") if block.language == "python"]
    assert len(blocks) == 6
    for block in blocks:
        assert 0 < len([line for line in block.body.splitlines() if line.strip()]) <= 20, f"line {block.line}"


def test_the_comparison_can_fail() -> None:
    assert matches("a 1.234 b\nc  \n", "a … b\nc")
    assert not matches("a 1.234 b\nd", "a … b\nc")
    assert not matches("a b", "a")
