"""The rules of the house: where TransformerLens is touched, which way imports run, how fast the package imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import grokinterp

PACKAGE = Path(grokinterp.__file__).parent

# From the ground up; a module may import its own room and rooms above it in this list, at the top of the file.
ROOMS = [
    ("errors", "shapes", "seal"),
    ("files", "citations", "notebook", "conditions"),
    ("outputs",),
    ("groups",),
    ("tasks",),
    ("interventions",),
    ("models",),
    ("training",),
    ("presets",),
    ("snapshot",),
    ("ace",),
    ("language",),
    ("measures",),
    ("plots",),
    ("reports",),
    ("laws",),
    ("analysis",),
    ("papers",),
    ("cli",),
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}


# ace.extract takes agreement prompts too, and hands them up.
UPWARDS = {("ace", "grokinterp.language.agreement")}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    """What a module imports when it runs, at the top or inside functions; what only type checkers read does not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names


def test_transformer_lens_is_imported_in_models_alone() -> None:
    for path in PACKAGE.rglob("*.py"):
        if room_of(path) != "models":
            assert not [name for name in imports_of(path) if name.split(".")[0] == "transformer_lens"], path


def test_imports_run_downwards() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name == "__init__.py" and path.parent == PACKAGE:
            continue
        for name in imports_of(path):
            if name.startswith("grokinterp.") and (room_of(path), name) not in UPWARDS:
                assert LEVEL[name.split(".")[1]] <= LEVEL[room_of(path)], f"{path.name} imports {name}, which lies above it"


def test_public_names_exist_and_are_listed_once() -> None:
    assert sorted(grokinterp.__all__) == sorted(grokinterp._PUBLIC)
    for name in grokinterp.__all__:
        assert getattr(grokinterp, name) is not None


def test_importing_the_package_costs_no_more_than_torch() -> None:
    """Each in fresh processes; the fastest of three, so that a busy machine decides nothing."""

    def seconds(statement: str) -> float:
        code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
        return min(float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout) for _ in range(3))

    assert seconds("import grokinterp") <= 1.2 * seconds("import torch")
