"""Every public name says what it is, what it takes and what it raises; every error names the value and what to do."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grokinterp
from grokinterp import errors

PACKAGE = Path(grokinterp.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef
SEE = r"[Ss]ee `|(arguments|errors)[\w ]* are those of `"

# Errors whose sentence has no value to name: there is one thing that is wrong, and the sentence is it.
WITHOUT_A_VALUE = Path(__file__).with_name("errors_without_a_value.txt").read_text().splitlines()


@dataclass(frozen=True)
class Public:
    """A public definition: where it stands, and its node."""

    where: str
    node: Function | ast.ClassDef
    in_class: bool


def publics() -> Iterator[Public]:
    """Every function, class and method of the package whose name, and whose class, has no underscore in front."""
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
                yield Public(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}", node, False)
                if isinstance(node, ast.ClassDef):
                    for method in node.body:
                        if isinstance(method, Function) and not method.name.startswith("_"):
                            yield Public(f"{path.relative_to(PACKAGE)}:{method.lineno} {node.name}.{method.name}", method, True)


def docstring(public: Public) -> str:
    return ast.get_docstring(public.node) or ""


def section(text: str, name: str) -> str | None:
    """The lines of a section of a docstring, or None."""
    found = re.search(rf"^{name}:\n((?:    .*\n?|\n)*)", text, re.MULTILINE)
    return found[1] if found else None


def parameters(function: Function) -> list[str]:
    """Names of the parameters, without self and cls."""
    spec = function.args
    given = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, (spec.vararg, spec.kwarg))]
    return [argument.arg for argument in given if argument.arg not in ("self", "cls")]


def is_overload(node: Function | ast.ClassDef) -> bool:
    return any(ast.unparse(decorator).split(".")[-1] == "overload" for decorator in node.decorator_list)


def failing(complaints: dict[str, str]) -> str:
    return "\n".join(f"{where}: {why}" for where, why in complaints.items())


def test_every_module_and_public_name_begins_with_a_sentence() -> None:
    complaints = {}
    for path in MODULES:
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text())):
            complaints[str(path.relative_to(PACKAGE))] = "no docstring"
    for public in publics():
        first = docstring(public).split("\n\n")[0].rstrip()
        if not first:
            if not is_overload(public.node):
                complaints[public.where] = "no docstring"
        elif re.match(r"[a-z]{2,} ", first) or first[-1] not in '.:?…"':
            complaints[public.where] = f"not a sentence: {first!r}"
    assert not complaints, failing(complaints)


def exported() -> set[str]:
    """File and name of every function that `grokinterp` offers, by its own name or in one of its modules."""
    found = set()
    for name in grokinterp.__all__:
        offered = getattr(grokinterp, name)
        inside = [offered]
        if inspect.ismodule(offered):
            inside = [getattr(offered, inner) for inner in getattr(offered, "__all__", vars(offered))]
        for item in inside:
            if inspect.isfunction(item) and item.__module__.startswith("grokinterp"):
                found.add(f"{item.__module__.partition('.')[2].replace('.', '/')}.py {item.__name__}")
    return found


def test_arguments_are_documented_by_the_names_that_they_have() -> None:
    """All or none; an exported function of three or more has to."""
    complaints = {}
    offered = exported()
    for public in publics():
        if isinstance(public.node, ast.ClassDef) or is_overload(public.node):
            continue
        given, text = parameters(public.node), docstring(public)
        written = section(text, "Args")
        if written is None:
            if len(given) >= 3 and public.where.partition(":")[0] + " " + public.node.name in offered and not re.search(SEE, text):
                complaints[public.where] = f"no Args for {', '.join(given)}"
            continue
        names = [name.strip().lstrip("*") for line in re.findall(r"^    (\S[^:]*):", written, re.MULTILINE) for name in line.split(",")]
        if sorted(names) != sorted(given):
            complaints[public.where] = f"documents {', '.join(names)}; takes {', '.join(given)}"
    assert not complaints, failing(complaints)


def raises_directly(node: Function) -> bool:
    """Whether the body, not that of a function inside it, raises the package's error."""
    inner = {id(child) for nested in ast.walk(node) if nested is not node and isinstance(nested, Function) for child in ast.walk(nested)}
    return any(raised_by(child) is not None for child in ast.walk(node) if isinstance(child, ast.Raise) and id(child) not in inner)


def raised_by(node: ast.Raise) -> ast.Call | None:
    """The call that makes the package's error, or None for another exception."""
    call = node.exc
    if not isinstance(call, ast.Call):
        return None
    name = ast.unparse(call.func).split(".")[-1]
    return call if name in ("GrokinterpError", "FolderInUse", "MissingVariables", "unknown_name") else None


def test_what_is_raised_is_documented() -> None:
    complaints = {}
    for public in publics():
        if isinstance(public.node, ast.ClassDef) or not raises_directly(public.node):
            continue
        text = docstring(public)
        if section(text, "Raises") is None and not re.match(r"Raise |Refuse", text) and not re.search(SEE, text):
            complaints[public.where] = "raises GrokinterpError and does not say when"
    assert not complaints, failing(complaints)


def messages() -> Iterator[tuple[str, ast.expr, str]]:
    """Where each error of the package is made, its message's expression, and the message with … for every value."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            call = raised_by(node) if isinstance(node, ast.Raise) else None
            if call is not None and ast.unparse(call.func) != "unknown_name":
                yield f"{path.relative_to(PACKAGE)}:{call.lineno}", call.args[0], skeleton(call.args[0])


def warnings() -> Iterator[str]:
    """What the package logs, with … for every value."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "_log.warning":
                yield ast.literal_eval(node.args[0]).replace("%s", "…")


def skeleton(message: ast.expr) -> str:
    """A message with … in place of every value in it."""
    if isinstance(message, ast.Constant):
        return str(message.value)
    if isinstance(message, ast.JoinedStr):
        return "".join(skeleton(part) if isinstance(part, ast.Constant) else "…" for part in message.values)
    if isinstance(message, ast.BinOp):
        return skeleton(message.left) + skeleton(message.right)
    return "…"


def test_every_error_names_the_value() -> None:
    complaints = {}
    for where, _, text in messages():
        if "…" not in text and text not in WITHOUT_A_VALUE:
            complaints[where] = f"{text!r} names no value; name it, or list the sentence in {Path(__file__).parent.name}/errors_without_a_value.txt"
    assert not complaints, failing(complaints)
    stale = set(WITHOUT_A_VALUE) - {text for _, _, text in messages()}
    assert not stale, f"no longer raised: {stale}"


def test_the_page_about_errors_quotes_messages_that_exist() -> None:
    page = (Path(__file__).parents[1] / "docs" / "errors.md").read_text()
    system = [sentence.replace("{path}", "…") for sentence in errors._SENTENCES.values()]
    known = [*(text for _, _, text in messages()), *system, *warnings(), "diverged: train loss is nan at step …"]
    quoted = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| `")]
    assert len(quoted) > 20
    for cell in quoted:
        message = cell.split("`")[1].strip()
        if cell.startswith(("`HookedTransformer`", "`error.txt`")):
            continue
        assert any(message.rstrip("…").strip() in text for text in known), message
