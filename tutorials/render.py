"""Run the tutorials and write them as pages of the documentation: ``python tutorials/render.py docs/tutorials``.

A tutorial is a Python file in jupytext's percent format: ``# %% [markdown]`` begins a cell of text, ``# %%`` one of code. It runs as a script,
opens as a notebook in Jupyter (with jupytext) or VS Code, and here becomes Markdown with what it prints and SVG figures.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TUTORIALS = sorted(path for path in HERE.glob("[0-9]*.py"))


@dataclass(frozen=True)
class Cell:
    """A cell of text (Markdown) or of code."""

    is_code: bool
    source: str


@dataclass(frozen=True)
class Output:
    """What a cell of code printed, the value of its last line if that is an expression, and how that shows itself in a notebook."""

    printed: str
    shown: Any
    html: str | None


def cells(tutorial: Path) -> list[Cell]:
    """The cells of a percent-format file, in order."""
    parts = re.split(r"^# %%(.*)\n", tutorial.read_text(), flags=re.MULTILINE)[1:]
    found = []
    for marker, body in zip(parts[::2], parts[1::2], strict=True):
        is_code = "[markdown]" not in marker
        text = body if is_code else "".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines(keepends=True))
        found.append(Cell(is_code, text.strip("\n")))
    return found


def run(tutorial: Path, folder: Path) -> list[tuple[Cell, Output | None]]:
    """Execute a tutorial's cells in a folder, as a notebook would; each cell with its output, None for text."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with _inside(folder):
        return [(cell, _execute(cell.source, namespace, tutorial.name) if cell.is_code else None) for cell in cells(tutorial)]


def _execute(source: str, namespace: dict[str, Any], name: str) -> Output:
    body = ast.parse(source, name).body
    last = ast.Expression(body.pop().value) if body and isinstance(body[-1], ast.Expr) else None  # type: ignore[attr-defined]
    printed, shown = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), name, "exec"), namespace)
        if last is not None:
            shown = eval(compile(last, name, "eval"), namespace)
    # Here, where a path is what a reader's would be.
    html = shown._repr_html_() if hasattr(shown, "_repr_html_") and not hasattr(shown, "to_image") else None
    return Output(printed.getvalue().rstrip(), shown, html)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def page(tutorial: Path, outputs: list[tuple[Cell, Output | None]], into: Path) -> None:
    """Write a run tutorial as Markdown with its figures."""
    lines, figures = [], 0
    for cell, output in outputs:
        if output is None:
            lines += [cell.source, ""]
            continue
        lines += ["```python", cell.source, "```", ""]
        if output.printed:
            lines += ["```text", output.printed, "```", ""]
        if hasattr(output.shown, "to_image"):
            figures += 1
            name = f"{tutorial.stem}-{figures}.svg"
            (into / name).write_bytes(output.shown.to_image(format="svg", width=900, height=460))
            lines += [f"![{output.shown.layout.title.text}]({name})", "", f"*{output.shown.layout.meta['caption']}*", ""]
        elif output.html is not None:
            lines += [output.html, ""]
    lines += [f"This page is `tutorials/{tutorial.name}`, run; the file opens as a notebook."]
    (into / f"{tutorial.stem}.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run every tutorial named on the command line, or all, in one folder, so that they share their runs."""
    into, names = Path(sys.argv[1]).resolve(), sys.argv[2:]
    into.mkdir(parents=True, exist_ok=True)
    folder = Path(os.environ.get("GROKINTERP_TUTORIALS", "tutorial-runs")).resolve()
    folder.mkdir(exist_ok=True)
    for tutorial in TUTORIALS:
        if not names or tutorial.stem in names:
            page(tutorial, run(tutorial, folder), into)


if __name__ == "__main__":
    main()
