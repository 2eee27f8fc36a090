"""Runs on disk: what is kept, what is refused, and that being killed changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from grokinterp import GrokinterpError, Run, RunConfig, train
from grokinterp.files import read_tensors
from grokinterp.training.train import BatchOrder


def fingerprint(folder: Path) -> dict[str, str]:
    """Digest of everything that a run's config decides: metrics, weights, moments, how it ended."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in ("provenance.json", ".lock"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_run_keeps_what_it_says(tiny: RunConfig, tmp_path: Path) -> None:
    run = train(tiny, tmp_path / "run", progress=False)
    assert run.finished
    assert run.status == {"state": "finished", "reason": "all 60 steps done", "step": 60}
    assert run.steps == [0, 2, 4, 20, 40, 60]
    assert run.metrics["step"].tolist() == list(range(0, 61, 5))
    assert run.config == tiny
    assert run.provenance["computed"][0]["from_step"] == 0
    task = run.task
    for step in (0, 40):
        with torch.no_grad():
            logits = run.model(step)(task.tokens[task.indices("test")])[:, -1].double()
        loss = torch.nn.functional.cross_entropy(logits, task.answers[task.indices("test")])
        row = run.metrics[run.metrics["step"] == step].iloc[0]
        assert row["test_loss"] == pytest.approx(loss.item(), rel=1e-6)
    norm = sum(value.double().square().sum() for value in run.weights(60).values()).sqrt()
    assert run.metrics["weight_norm"].iloc[-1] == pytest.approx(norm.item(), rel=1e-6)


def test_same_config_same_bits_and_another_seed_other_bits(tiny: RunConfig, tmp_path: Path) -> None:
    prints = [
        fingerprint(train(config, tmp_path / name, progress=False).path) for name, config in (("a", tiny), ("b", tiny), ("c", tiny.with_(seed=1)))
    ]
    assert prints[0] == prints[1]
    assert prints[0]["metrics.jsonl"] != prints[2]["metrics.jsonl"]


def test_a_finished_run_is_opened_not_trained_again(tiny: RunConfig, tmp_path: Path) -> None:
    first = train(tiny, tmp_path / "run", progress=False)
    before = {file: file.stat().st_mtime_ns for file in first.path.rglob("*.safetensors")}
    train(tiny, tmp_path / "run", progress=False)
    assert before == {file: file.stat().st_mtime_ns for file in first.path.rglob("*.safetensors")}


def test_early_stop_on_a_condition(tiny: RunConfig, tmp_path: Path) -> None:
    run = train(tiny.with_(steps=2000, stop="train_loss < 1.5 for 2"), tmp_path / "run", progress=False)
    losses = run.metrics["train_loss"].tolist()
    assert run.status["reason"] == "stop: train_loss < 1.5 for 2"
    assert max(losses[-2:]) < 1.5 <= losses[-3]
    assert run.steps[-1] == run.status["step"]
    assert run.metrics["step"].tolist()[-2:] == [run.first("train_loss < 1.5 for 2"), run.status["step"]]


def test_divergence_ends_the_run(tiny: RunConfig, tmp_path: Path) -> None:
    run = train(tiny.with_(**{"optimizer.lr": 1e30, "optimizer.warmup_steps": 0}), tmp_path / "run", progress=False)
    assert "diverged: train loss is nan" in run.status["reason"]


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("cut", ["after checkpoint", "half a metrics line", "cut weights", "cut moments", "temporary files"])
def test_resuming_gives_the_same_bits(tiny: RunConfig, tmp_path: Path, batch_size: int | None, cut: str) -> None:
    config = tiny.with_(batch_size=batch_size, stop="train_loss < 0.1 for 3")
    whole = fingerprint(train(config, tmp_path / "whole", progress=False).path)
    folder = tmp_path / "cut"
    train(config, folder, progress=False)
    (folder / "status.json").unlink()
    newest = "step_00000060.safetensors"
    if cut == "half a metrics line":
        text = (folder / "metrics.jsonl").read_text()
        (folder / "metrics.jsonl").write_text(text[: len(text) - 30])
        (folder / "checkpoints" / newest).unlink()
    elif cut == "cut weights":
        (folder / "checkpoints" / newest).write_bytes((folder / "checkpoints" / newest).read_bytes()[:-5])
    elif cut == "cut moments":
        (folder / "moments" / newest).write_bytes((folder / "moments" / newest).read_bytes()[:1000])
    elif cut == "temporary files":
        (folder / "checkpoints" / newest).rename(folder / "checkpoints" / f".{newest}.tmp-123")
    train(config, folder, progress=False)
    assert fingerprint(folder) == whole


_KILLER = """
import json, os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from grokinterp import RunConfig
from grokinterp import train
from grokinterp.files import read_tensors
from grokinterp.models import build_model
from pathlib import Path

config, folder, kills = RunConfig.from_dict(json.loads(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
build_model(config.model, config.task.build(), 0)  # so that a child starts at once
clock = random.Random(0)
killed = 0
while True:
    child = os.fork()
    if child == 0:
        train(config, folder, progress=False)
        os._exit(0)
    if killed < kills:
        time.sleep(clock.uniform(0.02, 0.30))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    for file in folder.glob("*/step_*.safetensors"):
        read_tensors(file)  # whatever has its name is whole
    if os.WIFSIGNALED(status):
        killed += 1
    else:
        print(killed)
        sys.exit(os.WEXITSTATUS(status))
"""


def test_killed_twenty_times_and_resumed_the_bits_are_the_same(tiny: RunConfig, tmp_path: Path) -> None:
    config = tiny.with_(steps=4000, **{"checkpoints.every": 5, "eval_every": 3})
    arguments = [sys.executable, "-c", _KILLER, json.dumps(config.to_dict())]
    for name, kills in (("whole", 0), ("killed", 20)):
        done = subprocess.run([*arguments, str(tmp_path / name), str(kills)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) == kills
    assert fingerprint(tmp_path / "killed") == fingerprint(tmp_path / "whole")
    computed = Run(tmp_path / "killed").provenance["computed"]
    assert [entry["from_step"] for entry in computed] == sorted({entry["from_step"] for entry in computed})
    assert len(computed) > 5


def test_a_checkpoint_cut_anywhere_is_not_read(tiny_run: Run, tmp_path: Path) -> None:
    whole = (tiny_run.path / "checkpoints" / "step_00000060.safetensors").read_bytes()
    for size in [*range(0, len(whole), 512), len(whole) - 1]:
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(whole[:size])
        with pytest.raises(GrokinterpError, match="cut short"):
            read_tensors(cut)


def test_minibatches_cover_every_epoch_once(tiny: RunConfig) -> None:
    examples = torch.arange(100, 129)
    order = BatchOrder(examples, batch_size=8, seed=0)
    epochs = [torch.cat([order.at(4 * epoch + batch) for batch in range(4)]) for epoch in range(3)]
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, examples)
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(BatchOrder(examples, 8, seed=0).at(6), order.at(6))
    assert not torch.equal(BatchOrder(examples, 8, seed=1).at(6), order.at(6))


def snapshot_of(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()} if folder.exists() else {}


def test_another_config_is_refused_and_nothing_changes(tiny: RunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(tiny, folder, progress=False)
    before = snapshot_of(folder)
    with pytest.raises(GrokinterpError, match=r"another config \(optimizer.weight_decay is 1.0 there, 0.5 here\); choose another folder"):
        train(tiny.with_(**{"optimizer.weight_decay": 0.5}), folder)
    assert snapshot_of(folder) == before


def test_a_folder_of_something_else_is_refused(tiny: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(GrokinterpError, match="not a run; choose an empty or new folder"):
        train(tiny, tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_bad_task_leaves_no_folder(tiny: RunConfig, tmp_path: Path) -> None:
    for change in ({"task.train_fraction": 1.5}, {"task.args.p": 2}, {"task.name": "modular_division", "task.args.p": 8}):
        with pytest.raises(GrokinterpError):
            train(tiny.with_(**change), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_refused(tiny: RunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    script = "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script, str(folder / ".lock")], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(GrokinterpError, match="being written by another process; wait for it"):
            train(tiny, folder, progress=False)
        assert [file.name for file in folder.iterdir()] == [".lock"]
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert train(tiny, folder, progress=False).finished  # the lock died with its process
    with FileLock(folder / ".lock"):
        assert Run(folder).finished  # reading needs no lock


def test_reading_what_is_not_there_names_what_is(tiny_run: Run, tmp_path: Path) -> None:
    with pytest.raises(GrokinterpError, match=r"no checkpoint at step 30; the nearest are \[0, 20, 40\]"):
        tiny_run.model(30)
    with pytest.raises(GrokinterpError, match=r"no optimizer state at step 0, only at \[40, 60\]"):
        tiny_run.moments(0)
    with pytest.raises(GrokinterpError, match="not a run"):
        Run(tmp_path)
    with pytest.raises(GrokinterpError, match="names 'test_los', but the metrics are train_loss"):
        tiny_run.first("test_los < 1")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_run.path, broken)
    (broken / "checkpoints" / "step_00000060.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{")
    with pytest.raises(GrokinterpError, match="cut short"):
        Run(broken).model()
    (broken / "config.json").write_text('{"seed": ')
    with pytest.raises(GrokinterpError, match=r"config.json is not readable as JSON"):
        Run(broken)


def test_a_full_disk_is_a_clear_error_and_the_run_resumes(tiny: RunConfig, tmp_path: Path) -> None:
    whole = fingerprint(train(tiny, tmp_path / "whole", progress=False).path)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs to fill needs root")
    try:
        with pytest.raises(GrokinterpError, match=r"no room left to write .*free some space"):
            train(tiny, disk / "run", progress=False)
        assert Run(disk / "run").steps
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        train(tiny, disk / "run", progress=False)
        assert fingerprint(disk / "run") == whole
    finally:
        subprocess.run(["umount", disk], check=True)
