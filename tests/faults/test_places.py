"""Wherever a command is told to write: it writes there, or says in one sentence why not, and nothing of the user's has changed."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from faults.places import COMMANDS, FOLLOWED, PLACES, SMALL, NoMount, attempt, everything_in, fresh
from grokinterp import Run, outputs, presets, train
from grokinterp.cli import COMMANDS as ALL
from grokinterp.language import tiny
from grokinterp.language.axes import NumberAxes
from grokinterp.models import pretrained
from grokinterp.papers import Claim, Measurement, Reproduction
from grokinterp.papers.cores2026 import axes
from grokinterp.papers.nanda2023 import paper as nanda2023


@pytest.fixture(scope="module")
def original() -> Iterator[Path]:
    """A finished run with all optimizer states, and its report, in a folder that anybody may look into."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        run = Path(folder) / "run"
        assert attempt(["train", "demo", "--out", f"{run}", "--set", *SMALL, "checkpoints.every=2", "checkpoints.moments=true"], str)[0] == 0
        assert attempt(["analyze", f"{run}", "--measures", "progress", "--save", f"{run.with_name('saved.nc')}"], str)[0] == 0
        yield run


@pytest.fixture
def at(original: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of a test's own, with long computations made short."""
    config = Run(original).config

    def reproduce(budget: str, out: Path, *options: object) -> Reproduction:
        train(config, out / "run", progress_bar=False)
        return Reproduction("nanda2023", "smoke", (Claim("one", "a sentence", "1", (1, 1), budgets=("smoke",)),), {"one": Measurement(1.0)})

    def axes_of(*subject: object, **options: object) -> NumberAxes:
        where = {"rank": 1, "layer": 1, "attractors": "none", "bos": False}
        numbers = {"auc": 0.5, "low": 0.4, "high": 0.6, "gap": 1.0, "random": 0.5, "random_least": 0.5, "random_most": 0.5}
        ranks = pd.DataFrame([{**where, "edit": edit, **numbers} for edit in ("base", "keep", "remove", "flip")])
        layers = pd.DataFrame([{**where, "base": 1, "keep": 1, "remove": 1, "flip": 0, "chosen": True}])
        facts = {"verbs": "is are", "layers": 1, "prompts": 8, "nouns": 4, "left_out": 0, "tokens_of_a_verb": 1, "knob_r2": 1.0, "energy_1": 1.0}
        written = pd.DataFrame([{"clean": "a", "flipped": "b", "is": "0.1 → 0.2", "are": "0.2 → 0.1", "note": "", "bos": False}])
        return NumberAxes(layers, ranks, pd.DataFrame([facts | {"bos": False}]), written)

    monkeypatch.setattr(axes, "axes_of", axes_of)
    monkeypatch.setattr(axes, "svg_of", lambda figure, name: b"<svg></svg>")
    monkeypatch.setattr(pretrained, "load_model", lambda name, device: None)
    monkeypatch.setattr(presets, "demo", lambda seed: config)
    monkeypatch.setattr(nanda2023, "reproduce", reproduce)
    monkeypatch.setattr(tiny, "train_tiny", lambda config, progress_bar: tiny._build(config))
    monkeypatch.setattr(outputs, "_PATIENCE", 0.1)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_writes_there_or_says_why_not(
    command: str, place: str, original: Path, at: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    what, where = COMMANDS[command], PLACES[place]
    expected = where.file if what.makes == "file" else where.folder
    if place == "a link to nothing" and command in FOLLOWED:
        expected = "written"
    if expected == "written" and command == "flip":
        return  # the flip itself is tested elsewhere; here only whether its model can be kept
    run = fresh(original, at)
    try:
        with where.make(at, run) as path:
            for name, value in what.environment(path).items():
                monkeypatch.setenv(name, value)
            before = everything_in(at)
            status, said = attempt(what.arguments(path, run), lambda: capsys.readouterr().err)
            after = everything_in(at)
    except NoMount:
        pytest.skip("mounting a small disk needs root")
    for name, content in before.items():
        assert after.get(name) == content, f"{name} has changed"
    if expected == "written":
        assert (status, said) == (0, "")
        assert path.exists()
    else:
        assert expected in said
        assert said.startswith("grokinterp: ")
        assert said.count("\n") == 1
        assert status == 2
        leftovers = [name for name in after.keys() - before.keys() if name.startswith("run/") or ".tmp-" in name]
        assert not leftovers
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_every_command_is_in_the_table() -> None:
    assert {name.split()[0] for name in COMMANDS} | {"cite", "watch"} == set(ALL)  # these write nothing


@pytest.mark.parametrize("command", ["cite", "train", "analyze", "report", "sweep"])
def test_a_full_standard_output_is_a_sentence(
    command: str, original: Path, at: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fresh(original, at)
    arguments = next((what.arguments(at / "x", run) for name, what in COMMANDS.items() if name.split()[0] == command), ["cite"])
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert attempt(arguments, lambda: capsys.readouterr().err) == (
            2,
            "grokinterp: no room left to write the output; free some space and give the same command again\n",
        )


def test_a_shell_sees_status_and_sentence() -> None:
    command = [sys.executable, "-m", "grokinterp.cli", "cite"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "grokinterp: no room left to write the output; free some space and give the same command again\n"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")  # as any program whose reader went away


def test_a_finished_run_is_read_where_nothing_can_be_written(original: Path, at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fresh(original, at)
    before = everything_in(at)
    with PLACES["a forbidden folder"].make(at, run):
        for arguments in (["analyze", f"{run}"], ["train", f"{run / 'config.json'}", "--out", f"{run}"]):
            assert attempt(arguments, lambda: capsys.readouterr().err) == (0, "")
    assert {name: content for name, content in everything_in(at).items() if name != "forbidden"} == before


def test_paths_that_are_no_text_are_paths(original: Path, at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """File names are bytes; these are not UTF-8."""
    odd = at / os.fsdecode(b"\xff")
    odd.mkdir()
    run = fresh(original, odd)
    for name, what in COMMANDS.items():
        if name == "flip":
            continue  # tested elsewhere
        before = everything_in(at)
        status, said = attempt(what.arguments(odd / name.replace(" ", ""), run), lambda: capsys.readouterr().err)
        if name == "fork --out":  # its config.json would have to hold the parent's path
            assert said.startswith("grokinterp: ParentConfig.path must be text that UTF-8 can write; got ")
            assert (status, everything_in(at)) == (2, before)
        else:
            assert (status, said) == (0, ""), name


def test_two_sweeps_in_one_folder_and_one_of_them_runs_out_of_room(
    original: Path, at: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The second grid fails for want of room; the first one's runs and rows are untouched, and the same command goes on when there is room."""
    caplog.set_level(logging.WARNING)
    disk = at / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        sweep = ["sweep", f"{original / 'config.json'}", "--workers", "0", "--out", f"{disk / 'sweep'}", "--grid"]
        assert attempt([*sweep, "seed=1"], lambda: capsys.readouterr().err) == (0, "")
        before = everything_in(disk)
        status, said = attempt([*sweep, "seed=2,3,4,5,6,7"], lambda: capsys.readouterr().err)
        assert status in (1, 2)
        assert "no room left to write" in said + caplog.text
        assert {name: content for name, content in everything_in(disk).items() if name in before and name != "sweep/results.parquet"} == {
            name: content for name, content in before.items() if name != "sweep/results.parquet"
        }
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        assert attempt([*sweep, "seed=2,3,4,5,6,7"], lambda: capsys.readouterr().err)[0] == 0
        table = pd.read_parquet(disk / "sweep" / "results.parquet")
        assert sorted(table["seed"]) == [1, 2, 3, 4, 5, 6, 7]
        assert set(table["state"]) == {"finished"}
    finally:
        subprocess.run(["umount", disk], check=True)
