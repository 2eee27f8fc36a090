"""The command line answers fast, does its job, and says what is wrong in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from grokinterp import Run
from grokinterp.cli import COMMANDS, main


def test_help_lists_every_command_with_defaults_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    listing = capsys.readouterr().out
    assert all(command in listing for command in COMMANDS)
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "default:" in capsys.readouterr().out


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "grokinterp", "--help"], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("usage: grokinterp ")


def test_help_and_the_package_import_nothing_heavy() -> None:
    """What makes them answer at once; how long that takes is a benchmark."""
    code = "import sys, contextlib, grokinterp.cli as cli\nwith contextlib.suppress(SystemExit): cli.main(['--help'])\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "usage: grokinterp" in done.stdout
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert loaded >= {"grokinterp", "tyro"}
    assert not loaded & {
        "torch",
        "numpy",
        "scipy",
        "sklearn",
        "pandas",
        "xarray",
        "plotly",
        "transformers",
        "transformer_lens",
        "h5netcdf",
        "pyarrow",
    }


def test_train_analyze_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, page, saved = tmp_path / "run", tmp_path / "page.html", tmp_path / "saved.nc"
    small = ["model.d_model=16", "model.n_heads=2", "model.d_mlp=24", "eval_every=5"]
    train = ["train", "nanda2023", "--p", "7", "--seed", "3", "--train-fraction", "0.6", "--steps", "40", "--out", str(run), "--set", *small]
    assert main(train) == 0
    assert "all 40 steps done" in capsys.readouterr().out
    config = Run(run).config
    assert (config.seed, config.task.split_seed, config.task.args, config.model.d_model) == (3, 3, {"p": 7}, 16)
    assert main(["analyze", str(run), "--save", str(saved)]) == 0
    out = capsys.readouterr().out
    assert "key frequencies" in out
    assert "restricted loss, train / test / all pairs" in out
    assert main(["report", str(saved), "--out", str(page)]) == 0
    assert page.exists()
    assert main(["train", str(run / "config.json"), "--seed", "4", "--out", str(tmp_path / "again")]) == 0
    assert Run(tmp_path / "again").config == config.with_(seed=4, **{"task.split_seed": 4})


SMALL = ["model.d_model=16", "model.n_heads=2", "model.d_mlp=24", "task.args.p=7", "task.train_fraction=0.6", "steps=40", "eval_every=5"]


def test_fork_at_a_metric_at_a_measure_and_at_a_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", "demo", "--out", str(run), "--set", *SMALL, "checkpoints.every=10", "checkpoints.moments=true"]) == 0
    for at, step in (("train_loss < 100", 0), ("fsd[1] >= 0", 0), ("20", 20)):
        out = tmp_path / f"forks-{step}-{len(at)}"
        assert main(["fork", str(run), "--at", at, "--weight-decay", "0.5", "2", "--out", str(out)]) == 0
        for value in ("0.5", "2.0"):
            child = Run(out / f"weight_decay={value}")
            assert child.config.parent is not None
            assert child.config.parent.step == step
            assert child.config.optimizer.weight_decay == float(value)
            assert child.finished
    eps = ["--grid", "eps=1e-8,1e-7", "weight_decay=0.5"]
    assert main(["fork", str(run), "--at", "20", *eps, "--moments", "reset", "--out", str(tmp_path / "eps")]) == 0
    assert [Run(child).config.optimizer.eps for child in sorted((tmp_path / "eps").iterdir())] == [1e-7, 1e-8]
    capsys.readouterr()
    assert main(["fork", str(run), "--at", "fsd[1] >= 2", "--out", str(tmp_path / "never")]) == 2
    assert "found no such checkpoint" in capsys.readouterr().err


def test_sweep_prints_a_table_and_names_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    base = tmp_path / "base"
    assert main(["train", "demo", "--out", str(base), "--set", *SMALL, "stop=null"]) == 0
    grid = ["--grid", "weight_decay=0.5,2", "seed=0,1", "--workers", "0"]
    capsys.readouterr()
    assert main(["sweep", str(base / "config.json"), "--out", str(tmp_path / "sweep"), *grid]) == 0
    out = capsys.readouterr().out
    assert "\n4 finished\n" in out
    assert (tmp_path / "sweep" / "results.parquet").exists()
    assert main(["sweep", str(base / "config.json"), "--out", str(tmp_path / "sweep"), "--grid", "stop=nothing<1", "--workers", "0"]) == 1
    assert "1 failed" in capsys.readouterr().out
    assert "names 'nothing', but the metrics are" in caplog.text
    hot = ["--set", *SMALL, "optimizer.lr=1e30", "dtype=float32"]
    assert main(["train", "demo", "--out", str(tmp_path / "hot"), *hot]) == 1
    assert "diverged: train loss is" in capsys.readouterr().out
    assert main(["sweep", str(base / "config.json"), "--out", str(tmp_path / "sweep"), "--grid", "optimizer.lr=1e-3,1e30", "--workers", "0"]) == 1
    assert "1 finished, 1 diverged" in capsys.readouterr().out
    assert "diverged: diverged: train loss is" in caplog.text
    assert main(["fork", str(base), "--at", "0", "--lr", "1e-3", "1e30", "--moments", "reset", "--out", str(tmp_path / "forks")]) == 1


def test_reproduce_prints_the_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from grokinterp import papers
    from grokinterp.papers import Claim, Measurement, Reproduction

    found = Reproduction("paper", "smoke", (Claim("one", "a sentence", "1", (1, 1), budgets=("smoke",)),), {"one": Measurement(1.0)})
    monkeypatch.setattr(papers, "reproduce", lambda paper, budget, out, *, tables, train, seconds, tf32: found)
    assert main(["reproduce", "paper", "--docs", str(tmp_path)]) == 0
    assert "reproduced" in capsys.readouterr().out
    assert (tmp_path / "paper.md").exists()


def test_published_table_is_printed(published_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(published_path)]) == 0
    out = capsys.readouterr().out
    for line in ("9.2024e-09 / 4.9884e-07 / 3.5197e-07", "6, 23, 37, 39, 41", "0.9748 / 0.9748 / 0.9756", "185 / 146 of 512", "1180.97", "98,730"):
        assert line in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nanda2032", "--out", "x"], "unknown preset 'nanda2032'; did you mean nanda2023"),
        (["train", "demo", "--p", "7", "--out", "x"], "preset 'demo' takes no --p"),
        (["train", "nanda2023", "--p", "2", "--out", "x"], "at least 3; got 2"),
        (["train", "nanda2023", "--train-fraction", "1.5", "--out", "x"], "between 0 and 1; got 1.5"),
        (["train", "nanda2023", "--set", "lr", "--out", "x"], "--set takes NAME=VALUE"),
        (["train", "nanda2023", "--set", "steps=" + "9" * 5_000, "--out", "x"], "--set steps is not readable as JSON (a number of 5000 digits"),
        (["train", "nanda2023", "--set", "steps=" + "[" * 100_000, "--out", "x"], "--set steps is not readable as JSON (nested too deep"),
        (["train", "nanda2023", "--set", "optimizer.l=1", "--out", "x"], "unknown config field 'l'"),
        (["train", "nanda2023", "--set", "steps=many", "--out", "x"], "config.steps must be int; got 'many'"),
        (["train", "nanda2023", "--set", "parent={}", "--out", "x"], "config.parent lacks path, digest, step; it has no fields"),
        (["train", "nanda2023", "--device", "tpu", "--out", "x"], "device 'tpu' is not available"),
        (["analyze", "nowhere"], "nowhere is not a run"),
        (["analyze", "nowhere.pth"], "nowhere.pth does not exist"),
        (["report", "nowhere.nc"], "nowhere.nc does not exist"),
        (["fork", "nowhere", "--at", "10", "--out", "x"], "nowhere is not a run"),
        (["sweep", "demo", "--grid", "seed", "--out", "x"], "--grid takes NAME=V1,V2"),
        (["sweep", "demo", "--grid", "sede=1", "--out", "x"], "unknown config field 'sede'; did you mean seed"),
        (["sweep", "demo", "--grid", "lr=1,2", "lr=3", "--out", "x"], "lr is given twice, as [1, 2] and as [3]"),
        (["train", "demo", "--stop", "test_loss < 1", "--set", "stop=null", "--out", "x"], "stop is given twice, as None and as 'test_loss < 1'"),
        (["train", "demo", "--set", "lr=1", "optimizer.lr=2", "--out", "x"], "optimizer.lr is given twice, as 1 and as 2"),
        (["sweep", "demo", "--executor", "slurm://host", "--out", "x"], "--executor takes dask://HOST:PORT"),
        (["reproduce", "nanda"], "unknown paper 'nanda'; did you mean nanda2023"),
    ],
)
def test_errors_are_one_sentence_and_change_nothing(arguments, message, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("grokinterp: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
