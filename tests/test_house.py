"""The rules of the house: where TransformerLens is touched, which way imports run, what the package shows of itself."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import grokinterp

PACKAGE = Path(grokinterp.__file__).parent

# From the ground up; a module may import its own room and rooms above it in this list, at the top of the file.
ROOMS = [
    ("checks", "errors", "shapes", "seal"),
    ("chance",),
    ("files", "citations", "notebook", "conditions"),
    ("outputs",),
    ("groups",),
    ("tasks",),
    ("models",),
    ("interventions",),
    ("checkpoints",),
    ("training",),
    ("interop",),
    ("presets", "group_presets"),
    ("snapshot",),
    ("ace",),
    ("language",),
    ("plots",),
    ("measures",),
    ("reports",),
    ("laws",),
    ("analysis",),
    ("papers",),
    ("cli", "__main__"),
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}


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


# Where hook points may be written down: what edits models and what reads others' files, and papers, which name the sites that they look at.
NAMES_HOOKS = {"interventions", "checkpoints", "papers"}
# Docstrings aside, what else spells one: where the engine keeps parameters by HookedTransformer's names.
SPELLED = {"training/engine/engine.py", "training/engine/edits.py", "training/engine/forward.py"}


def test_no_other_room_knows_what_a_model_is_made_of() -> None:
    """Outside models/ nobody reads a model's configuration, tells its class, or spells a hook point that the adapter could name."""
    for path in PACKAGE.rglob("*.py"):
        room, where = room_of(path), str(path.relative_to(PACKAGE))
        if room == "models":
            continue
        tree = ast.parse(path.read_text())
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings, and those of attributes
        for node in ast.walk(tree):
            assert not (isinstance(node, ast.Attribute) and node.attr == "cfg"), f"{where}:{node.lineno} reads a model's cfg; ask the adapter"
            names = isinstance(node, ast.Name) and node.id in {"HookedTransformer", "TransformerBridge", "ToyTransformer", "HookPoint"}
            assert not names, f"{where}:{node.lineno} names a backend's class; ask the adapter"
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told else ""
            spelled = re.match(r"(blocks\.|hook_|\.?(attn|mlp)\.hook_)", text)
            assert not spelled or room in NAMES_HOOKS or where in SPELLED, f"{where}:{node.lineno} spells {text!r}; ask the adapter for it"


def test_modules_are_short() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 400} == {}
    assert statistics.median(lengths.values()) < 170


def test_no_module_imports_itself_through_others() -> None:
    """At the top of modules, rooms' own ``__init__`` included; what a function imports when it is called may come round."""
    files = {module_of(path): path for path in PACKAGE.rglob("*.py")}
    graph = {name: {target for target in top_imports(path) if target in files and target != name} for name, path in files.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a circle: {' → '.join([*above[above.index(name) :], name])}"
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*above, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def module_of(path: Path) -> str:
    parts = ("grokinterp", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top_imports(path: Path) -> set[str]:
    """What stands at the top of a module, by full name: modules, and names of rooms that are modules."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if (PACKAGE.parent / name.replace(".", "/")).with_suffix(".py").exists()}
            found |= modules or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_imports_run_downwards() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name == "__init__.py" and path.parent == PACKAGE:
            continue
        for name in imports_of(path):
            if name.startswith("grokinterp."):
                assert LEVEL[name.split(".")[1]] <= LEVEL[room_of(path)], f"{path.name} imports {name}, which lies above it"


def test_public_names_are_the_same_for_type_checkers_and_exist() -> None:
    """One table; the imports that type checkers read mirror it, each under its own name, which is what exports it."""
    tree = ast.parse(Path(grokinterp.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = [(node.module, alias) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert all(alias.name == alias.asname for _, alias in imported)
    modules = {alias.asname: alias.name for node in block.body if isinstance(node, ast.Import) for alias in node.names}
    where = modules | {alias.name: f"{module}.{alias.name}" if alias.name in grokinterp._MODULES else module for module, alias in imported}
    assert where == grokinterp._MODULES | grokinterp._HOME
    assert len(imported) + len(modules) == len(where) == len(grokinterp.__all__)
    for name in grokinterp.__all__:
        assert getattr(grokinterp, name) is not None


def test_dir_shows_what_is_there_whatever_was_touched_first() -> None:
    assert set(grokinterp.__all__) <= set(dir(grokinterp))
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"} <= set(dir(grokinterp))
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} <= set(dir(grokinterp))
    assert not set(grokinterp._HOME) & set(grokinterp._ROOMS)  # importing a room would replace the name
    code = "import sys, grokinterp as gi; assert set(sys.modules) >= {'grokinterp'} and 'torch' not in sys.modules; "
    code += "before = dir(gi); gi.training; gi.fsd.fsd; gi.measures; gi.analyze; assert dir(gi) == before; gi.cli.main"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = grokinterp.nothing
