"""The tutorials run, print what their pages in the documentation show, and find what their text says."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from grokinterp import Run

ROOT = Path(__file__).parents[2]


def _render() -> Any:
    spec = importlib.util.spec_from_file_location("render", ROOT / "tutorials" / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["render"] = module
    spec.loader.exec_module(module)
    return module


render = _render()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, demo_run: Run) -> Path:
    """Where the tutorials run, one after the other, sharing what they train; the first one's run is there, finished."""
    folder = tmp_path_factory.mktemp("tutorials")
    shutil.copytree(demo_run.path, folder / "runs" / "demo")
    return folder


def numbers(pattern: str, text: str) -> list[float]:
    """The numbers in the first match of a pattern."""
    match = re.search(pattern, text)
    assert match, text
    return [float(group.replace(",", "")) for group in match.groups()]


def test_1_generalises_long_after_it_has_memorised(folder: Path) -> None:
    printed = outcome("1_watch_it_grok", folder)
    learned, grokked = numbers(r"training pairs at step ([\d,]+), unseen pairs at step ([\d,]+)", printed)
    assert grokked > 10 * learned
    assert "It has generalised." in printed
    memorised, circuit, cleaned = numbers(r"until step ([\d,]+):.*until step ([\d,]+):.*until step ([\d,]+):", printed)
    assert learned <= memorised < circuit < cleaned
    whole, keys, table = (
        numbers(pattern, printed)[0] for pattern in (r"model's loss ([\d.]+)", r"frequencies alone ([\d.]+)", r"lookup table ([\d.]+)")
    )
    assert keys < whole / 10
    assert keys < table / 10


def test_2_a_few_frequencies_are_necessary_and_the_others_are_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROKINTERP_CHECKPOINT", raising=False)
    printed = outcome("2_fourier_circuit", folder)
    n_keys, n_frequencies = numbers(r"(\d+) of (\d+) frequencies:", printed)
    assert 3 <= n_keys <= n_frequencies / 3
    whole, without_keys, without_others = (
        numbers(pattern, printed)[0] for pattern in (r"all frequencies ([\d.]+)%", r"key frequencies removed ([\d.]+)%", r"others removed ([\d.]+)%")
    )
    assert whole > 99
    assert without_keys < 15
    assert without_others > 95
    assert numbers(r"(\d+)% of the variance", printed)[0] > 80
    assert numbers(r"\d key frequencies removed: ([\d.]+)%", printed)[0] < 15
    assert numbers(r"\d others removed: ([\d.]+)%", printed)[0] > 95


def test_2_finds_the_published_circuit(published_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of the sheet for the authors' own weights."""
    monkeypatch.setenv("GROKINTERP_CHECKPOINT", str(published_path))
    printed = words(render.run(path_of("2_fourier_circuit"), tmp_path))
    assert "5 of 56 frequencies: 6, 23, 37, 39, 41" in printed
    assert "97% of the variance of 113³ logits" in printed
    assert list(tmp_path.iterdir()) == []


def test_3_restricted_loss_first_and_test_accuracy_last(folder: Path) -> None:
    printed = outcome("3_which_measure_first", folder)
    order = re.findall(r"^(\S+) +step +[\d,]+$", printed, re.MULTILINE)
    assert len(order) == 7
    assert order[:2] == ["restricted_loss[all]", "filtered_loss"]
    assert order[-1] == "accuracy[test]"
    assert "fsd[1] >= 0.8: never" in printed
    ours, plain = numbers(r"restricted loss leads by ([\d,]+) steps, the sum of squared weights by ([\d,]+)", printed)
    assert ours > plain > 0


def test_4_other_weights_the_same_core(folder: Path) -> None:
    printed = outcome("4_cores_of_three_models", folder)
    for base, alone, without in re.findall(r"whole model ([\d.]+), core alone ([\d.]+), without the core ([\d.]+)", printed):
        assert float(alone) == pytest.approx(float(base), abs=0.01)
        assert float(without) < 0.3
    pairs = re.findall(r"weights ([+-][\d.]+), subspaces ([\d.]+), states ([\d.]+), ([\d.]+)", printed)
    assert len(pairs) == 3
    for weights, subspaces, *states in pairs:
        assert abs(float(weights)) < 0.1
        assert float(subspaces) < 0.3
        assert min(map(float, states)) > 0.99
    same, shuffled = numbers(r"at least ([\d.]+); with shuffled inputs at most ([\d.]+)", printed)
    assert same > 0.99
    assert shuffled < 0.1
    assert printed.count("0.75+0.25j, 0.75-0.25j") + printed.count("0.76+0.25j, 0.76-0.25j") + printed.count("0.75+0.24j, 0.75-0.24j") == 3


def test_5_one_direction_holds_the_number(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROKINTERP_CACHE", str(folder / "cache"))
    printed = outcome("5_flip_number", folder)
    base, keep, remove, flip = numbers(r"base ([\d.]+), keep ([\d.]+), remove ([\d.]+), flip ([\d.]+)", printed)
    assert min(base, keep) > 0.95
    assert remove < 0.7
    assert flip < 0.05
    assert numbers(r"a random direction flipped: AUC ([\d.]+)", printed)[0] > 0.9
    axis, harm = numbers(r"the axis flipped: AUC ([\d.]+); a random direction flipped: ([\d.]+)", printed)
    assert axis < 0.05
    assert harm > 0.9
    verbs = [(word, float(clean), float(edited)) for word, clean, edited in re.findall(r"^(is|are) +([\d.]+) +([\d.]+)$", printed, re.MULTILINE)]
    assert [word for word, clean, edited in verbs if edited > clean] == ["is", "are"]  # keys … is, cabinet … are


def path_of(name: str) -> Path:
    path: Path = render.HERE / f"{name}.py"
    return path


def words(outputs: list[Any]) -> str:
    """Everything that was printed."""
    return "\n".join(output.printed for _, output in outputs if output is not None and output.printed)


def outcome(name: str, folder: Path) -> str:
    """What a tutorial prints; it ends in a claim with its control and things to try, and its page shows the same code, words and figures."""
    outputs = render.run(path_of(name), folder)
    figures = [output.shown for _, output in outputs if output is not None and isinstance(output.shown, go.Figure)]
    assert figures
    assert all(figure.data for figure in figures)
    (claim, _), (_, measured), (last, _) = outputs[-3:]
    assert claim.source.startswith("## What this shows")
    assert "**Claim**" in claim.source
    assert "**Control**" in claim.source
    assert measured is not None
    assert measured.printed
    assert last.source.startswith("## Try")
    shown = (ROOT / "docs" / "tutorials" / f"{name}.md").read_text()
    for cell, output in outputs:
        assert cell.source in shown, f"docs/tutorials/{name}.md shows other code or text: run `python tutorials/render.py docs/tutorials`"
        if output is not None and output.printed:
            assert without_numbers(f"```text\n{output.printed}\n```") in without_numbers(shown)
    return words(outputs)


def without_numbers(text: str) -> str:
    """A text in which every number, every list of numbers and every generated text is one sign: they differ between machines."""
    text = re.sub(r"^(clean|edited)   ?\S.*$", r"\1 #", text, flags=re.MULTILINE)
    return re.sub(r"#(, #)*", "#", re.sub(r"[-+−]?\d[\d,]*\.?\d*(e[-+]?\d+)?(?:j\b)?", "#", re.sub(r"[ ]+", " ", text)))


def test_every_tutorial_is_tested_and_has_its_page() -> None:
    names = {tutorial.stem for tutorial in render.TUTORIALS}
    assert names == set(re.findall(r'outcome\("([^"]+)"', Path(__file__).read_text()))
    assert names == {page.stem for page in (ROOT / "docs" / "tutorials").glob("*.md")}
