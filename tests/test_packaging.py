"""The wheel and the source distribution hold what they should, the installed wheel works elsewhere, and requirements and citations are in order."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import grokinterp
from grokinterp import GrokinterpError
from grokinterp.citations import CITATIONS, cite
from grokinterp.papers import PAPERS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
MODULES = {path.relative_to(ROOT).as_posix() for path in (ROOT / "grokinterp").rglob("*.py")}
BESIDE = {
    path.relative_to(ROOT).as_posix()
    for name in ("about.md", "claims.csv", "opening.csv")
    for path in (ROOT / "grokinterp" / "papers").glob(f"*/{name}")
}
DATA = {"grokinterp/reports/page.html", "grokinterp/reports/live/live.html", "grokinterp/py.typed", *BESIDE}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the source distribution, made from a copy of the checkout, so that nothing is written into it."""
    folder = tmp_path_factory.mktemp("packaging")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "constraints.txt"):
        shutil.copy(ROOT / name, source)
    for name in ("grokinterp", "docs", "tests", "tutorials"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = f"from setuptools import build_meta as b; print(b.build_wheel({str(folder)!r}), b.build_sdist({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {kind: next(folder.glob(pattern)) for kind, pattern in (("wheel", "*.whl"), ("sdist", "*.tar.gz"))}


def test_the_wheel_holds_the_package_and_its_data_and_is_small(built: dict[str, Path]) -> None:
    wheel = built["wheel"]
    assert wheel.stat().st_size < 2_000_000
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == MODULES | DATA
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_distribution_builds_the_same_package(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= MODULES | DATA | {"pyproject.toml", "README.md", "LICENSE"}


SMOKE = """
import grokinterp as gi
from importlib.metadata import version
from pathlib import Path
assert Path(gi.__file__).is_relative_to(Path.cwd().parent / "installed"), gi.__file__
assert version("grokinterp") == gi.__version__
run = gi.train(gi.presets.nanda2023(p=7, train_fraction=0.6, steps=20), "run", progress_bar=False)
report = gi.analyze(run, ["progress", "fsd", "heads"], progress_bar=False)
assert report.to_html("page.html").stat().st_size > 1_000_000
from grokinterp.cli import main
assert main(["cite", "nanda2023"]) == 0
"""


def required() -> set[str]:
    """Names of the distributions that a plain install brings, and of what they require in turn."""
    found: set[str] = set()
    wanted = [Requirement(line) for line in PROJECT["dependencies"]]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if (requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)) and name not in found:
            found.add(name)
            wanted += [
                each
                for each in map(Requirement, distribution(name).requires or [])
                if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras)
            ]
    return found


def test_the_installed_wheel_works_outside_the_checkout(built: dict[str, Path], tmp_path: Path) -> None:
    """Unpacked, as pip does it, beside its dependencies alone: nothing of the test environment is on the path."""
    zipfile.ZipFile(built["wheel"]).extractall(tmp_path / "installed")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "required").mkdir()
    for name in required():
        there = distribution(name)
        for top in {file.parts[0] for file in there.files or [] if file.parts[0] != ".."} - {"__pycache__"}:
            link = tmp_path / "required" / top
            if not link.exists():
                link.symlink_to(Path(str(there.locate_file(top))))
    assert not (tmp_path / "required" / "pytest").exists()
    environment = {"PYTHONPATH": f"{tmp_path / 'installed'}:{tmp_path / 'required'}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-S", "-c", SMOKE]  # -S: without the site-packages of this environment
    done = subprocess.run(command, cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("@misc{nanda2023,")


def test_the_package_imports_only_what_it_requires() -> None:
    """At the top of a module the dependencies, inside a function also what an extra brings."""
    at_import = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    with_extras = at_import | {canonicalize_name(Requirement(line).name) for lines in EXTRAS.values() for line in lines}
    called = {"sklearn": "scikit-learn", "huggingface-hub": "huggingface-hub", "transformer-lens": "transformer-lens", "yaml": "pyyaml"}
    for name in MODULES:
        tree = ast.parse((ROOT / name).read_text())
        checked = {
            id(child) for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) for child in ast.walk(node)
        }
        late = {id(child) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for child in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported = [node.module]
            elif isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            else:
                continue
            for module in imported:
                top = module.partition(".")[0]
                if top in sys.stdlib_module_names or top == "grokinterp" or id(node) in checked:
                    continue
                package = canonicalize_name(called.get(canonicalize_name(top), top))
                assert package in (with_extras if id(node) in late else at_import), f"{name} imports {module}"


def pins() -> dict[str, list[Requirement]]:
    """What constraints.txt pins, by name; a name has several pins where they differ between Python versions."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_every_extra_resolves_to_the_pinned_versions(extra: str | None) -> None:
    pinned = pins()
    for line in PROJECT["dependencies"] if extra is None else EXTRAS[extra]:
        requirement = Requirement(line)
        for pin in pinned[canonicalize_name(requirement.name)]:
            (exact,) = pin.specifier
            assert requirement.specifier.contains(exact.version), f"{line} does not allow the pinned {pin}"


def test_the_citation_file_is_valid() -> None:
    """The keys that the Citation File Format 1.2.0 requires, and agreement with the package."""
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert found["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type"} <= found.keys()
    assert found["type"] == "software"
    assert (found["version"], found["license"]) == (grokinterp.__version__, PROJECT["license"])
    assert found["title"] == CITATIONS["grokinterp"].title
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date-released"])
    for author in found["authors"]:
        assert "name" in author or {"family-names", "given-names"} <= author.keys()
    for reference in found["references"]:
        assert {"type", "title", "authors"} <= reference.keys()
        (known,) = [citation for citation in CITATIONS.values() if citation.title == reference["title"]]
        assert [f"{author['given-names']} {author['family-names']}" for author in reference["authors"]] == list(known.authors)
        assert {"type": "other", "value": f"arXiv:{known.arxiv}"} in reference["identifiers"]


def test_every_reproduced_paper_can_be_cited() -> None:
    assert set(PAPERS) - {"predictors"} == CITATIONS.keys() - {"grokinterp"}  # that one is a question of our own


def test_bibtex_has_balanced_braces_and_one_entry_for_each_name() -> None:
    entries = cite()
    assert entries.count("{") == entries.count("}")
    assert re.findall(r"^@\w+\{(\w+),$", entries, re.MULTILINE) == list(CITATIONS)
    assert "author = {Neel Nanda and Lawrence Chan" in cite("nanda2023")
    assert re.findall(r"^  (\w+) = \{.*\},?$", cite("fsd2026"), re.MULTILINE) == [
        "title",
        "year",
        "eprint",
        "archivePrefix",
        "url",
    ]  # no invented author
    with pytest.raises(GrokinterpError, match="did you mean nanda2023"):
        cite("nanda2032")
