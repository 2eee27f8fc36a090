"""Runs on disk: what is kept, what is refused, and that being killed changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from grokinterp import GrokinterpError, Run, RunConfig, train
from grokinterp.files import read_tensors
from grokinterp.training.optimizers import AdamW
from grokinterp.training.train import BatchOrder, check_device
from grokinterp.training.writer import open_for_writing


def fingerprint(folder: Path) -> dict[str, str]:
    """Digest of everything that a run's config decides: metrics, weights, moments, how it ended."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in ("provenance.json", ".lock"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_run_keeps_what_it_says(tiny: RunConfig, tmp_path: Path) -> None:
    run = train(tiny, tmp_path / "run", progress_bar=False)
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
        fingerprint(train(config, tmp_path / name, progress_bar=False).path) for name, config in (("a", tiny), ("b", tiny), ("c", tiny.with_(seed=1)))
    ]
    assert prints[0] == prints[1]
    assert prints[0]["metrics.jsonl"] != prints[2]["metrics.jsonl"]


def test_a_finished_run_is_opened_not_trained_again(tiny: RunConfig, tmp_path: Path) -> None:
    first = train(tiny, tmp_path / "run", progress_bar=False)
    before = {file: file.stat().st_mtime_ns for file in first.path.rglob("*.safetensors")}
    train(tiny, tmp_path / "run", progress_bar=False)
    assert before == {file: file.stat().st_mtime_ns for file in first.path.rglob("*.safetensors")}


def test_early_stop_on_a_condition(tiny: RunConfig, tmp_path: Path) -> None:
    run = train(tiny.with_(steps=2000, stop="train_loss < 1.5 for 2"), tmp_path / "run", progress_bar=False)
    losses = run.metrics["train_loss"].tolist()
    assert run.status["reason"] == "stop: train_loss < 1.5 for 2"
    assert max(losses[-2:]) < 1.5 <= losses[-3]
    assert run.steps[-1] == run.status["step"]
    assert run.metrics["step"].tolist()[-2:] == [run.first("train_loss < 1.5 for 2"), run.status["step"]]


def test_divergence_ends_the_run(tiny: RunConfig, tmp_path: Path) -> None:
    run = train(tiny.with_(**{"optimizer.lr": 1e30, "optimizer.warmup_steps": 0}), tmp_path / "run", progress_bar=False)
    assert run.diverged
    assert repr(run).endswith(", diverged)")
    assert run.status["reason"].startswith("diverged: train loss is nan at step 5; the last finite evaluation was at step 0: train loss ")
    assert not train(tiny.with_(steps=5), tmp_path / "fine", progress_bar=False).diverged


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("cut", ["after checkpoint", "half a metrics line", "cut weights", "cut moments", "temporary files"])
def test_resuming_gives_the_same_bits(tiny: RunConfig, tmp_path: Path, batch_size: int | None, cut: str) -> None:
    config = tiny.with_(batch_size=batch_size, stop="train_loss < 0.1 for 3")
    whole = fingerprint(train(config, tmp_path / "whole", progress_bar=False).path)
    folder = tmp_path / "cut"
    train(config, folder, progress_bar=False)
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
    train(config, folder, progress_bar=False)
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
        train(config, folder, progress_bar=False)
        os._exit(0)
    if killed < kills:
        time.sleep(clock.uniform(0.05, 0.50))
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


def test_killed_eight_times_and_resumed_the_bits_are_the_same(tiny: RunConfig, tmp_path: Path) -> None:
    """`python -m tests.faults --long` kills a thousand times."""
    config = tiny.with_(steps=1000, **{"checkpoints.every": 5, "eval_every": 3})
    arguments = [sys.executable, "-c", _KILLER, json.dumps(config.to_dict())]
    for name, kills in (("whole", 0), ("killed", 8)):
        done = subprocess.run([*arguments, str(tmp_path / name), str(kills)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) == kills
    assert fingerprint(tmp_path / "killed") == fingerprint(tmp_path / "whole")
    computed = Run(tmp_path / "killed").provenance["computed"]
    assert [entry["from_step"] for entry in computed] == sorted({entry["from_step"] for entry in computed})
    assert len(computed) > 1


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
    train(tiny, folder, progress_bar=False)
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
            train(tiny, folder, progress_bar=False)
        assert [file.name for file in folder.iterdir()] == [".lock"]
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert train(tiny, folder, progress_bar=False).finished  # the lock died with its process
    with FileLock(folder / ".lock"):
        assert Run(folder).finished  # reading needs no lock


def test_a_mistyped_stop_condition_leaves_nothing_behind(tiny: RunConfig, tmp_path: Path) -> None:
    for stop in ("test_los < 1", "test_loss[train] < 1"):
        with pytest.raises(GrokinterpError, match="the metrics are train_loss"):
            train(tiny.with_(stop=stop), tmp_path / "run", progress_bar=False)
        assert not (tmp_path / "run").exists()
    assert train(tiny.with_(stop="test_loss < 100"), tmp_path / "run", progress_bar=False).status["step"] == 0


def test_a_folder_that_somebody_put_a_file_into_is_never_removed(tiny: RunConfig, tmp_path: Path) -> None:
    with open_for_writing(tmp_path / "run", tiny) as writer:
        (writer.path / "notes.txt").write_text("precious")  # and nothing is trained
    assert sorted(os.listdir(tmp_path / "run")) == [".lock", "notes.txt"]


def test_a_run_is_the_same_folder_after_a_change_of_directory(tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_run.path.parent)
    run = Run(tiny_run.path.name)
    assert repr(run).startswith(f"Run({tiny_run.path.name!r}: modular_addition")  # shown as it was typed
    monkeypatch.chdir(tmp_path)
    assert run.steps == tiny_run.steps
    assert run.path == tiny_run.path
    assert str(tiny_run.path) in repr(run)


def test_files_with_nearly_the_right_name_are_nobodys_business(tiny_run: Run, tmp_path: Path) -> None:
    shutil.copytree(tiny_run.path, tmp_path / "run")
    content = (tmp_path / "run" / "checkpoints" / "step_00000040.safetensors").read_bytes()
    for name in (
        "step_00000100 (1).safetensors",
        "step_100.safetensors",
        "step_0000100.safetensors",
        "step_00000100.safetensors.bak",
        "step_x.safetensors",
    ):
        (tmp_path / "run" / "checkpoints" / name).write_bytes(content)
    assert Run(tmp_path / "run").steps == tiny_run.steps


def test_rows_are_written_again_where_a_checkpoint_before_them_allows(tiny: RunConfig, tmp_path: Path) -> None:
    config = tiny.with_(**{"checkpoints.moments": True})
    whole = fingerprint(train(config, tmp_path / "whole", progress_bar=False).path)
    for name, lost in (("middle", slice(5, 7)), ("end", slice(9, None)), ("all", slice(0, None))):
        folder = tmp_path / name
        shutil.copytree(tmp_path / "whole", folder)
        lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        del lines[lost]
        (folder / "metrics.jsonl").write_text("".join(lines))
        with pytest.raises(GrokinterpError, match=r"metrics.jsonl lacks the row of step \d+; `train` with the same config writes it again"):
            _ = Run(folder).metrics
        assert train(config, folder, progress_bar=False).finished
        assert fingerprint(folder) == whole


@pytest.mark.parametrize("status", [True, False])
def test_a_run_with_rows_missing_is_never_finished(tiny: RunConfig, tmp_path: Path, status: bool) -> None:
    folder = train(tiny, tmp_path / "run", progress_bar=False).path
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:4] + lines[6:]))
    if not status:
        (folder / "status.json").unlink()
    before = snapshot_of(folder)
    with pytest.raises(
        GrokinterpError, match=r"cannot go on: not from step 60, because .*metrics.jsonl lacks the row of step 20; .* Nothing was changed"
    ):
        train(tiny, folder, progress_bar=False)
    with pytest.raises(GrokinterpError, match="lacks the row of step 20"):
        Run(folder).first("test_accuracy > 0.1")
    assert snapshot_of(folder) == before


def test_a_run_without_any_optimizer_state_is_refused_and_left_alone(tiny: RunConfig, tmp_path: Path) -> None:
    folder = train(tiny, tmp_path / "run", progress_bar=False).path
    (folder / "status.json").unlink()
    for file in (folder / "moments").iterdir():
        file.unlink()
        file.symlink_to("an annexed file that is not here")
    with pytest.raises(GrokinterpError, match=r"cannot go on: not from step 60, because .*moments.*it is a link to .*restore these files"):
        train(tiny, folder, progress_bar=False)
    assert Run(folder).steps == [0, 2, 4, 20, 40, 60]
    assert len(Run(folder).metrics) == 13


def test_a_number_that_changed_in_the_metrics_is_noticed(tiny: RunConfig, tmp_path: Path) -> None:
    folder = train(tiny, tmp_path / "run", progress_bar=False).path
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(text.replace('"test_accuracy": 0.', '"test_accuracy": 0.9', 1))
    with pytest.raises(GrokinterpError, match=r"metrics.jsonl has changed since the weights of step 60 were kept"):
        _ = Run(folder).metrics


def test_files_of_an_older_version_are_read_and_said_to_have_no_checksum(tiny_run: Run) -> None:
    old = Run(Path(__file__).parents[1] / "golden" / "addition")
    assert old.unsealed == old.provenance["unsealed"] == old.steps
    assert "5 checkpoints, written by an older version" in old._repr_html_()
    assert not tiny_run.unsealed
    assert "unsealed" not in tiny_run.provenance


def test_weights_of_another_run_or_step_are_refused(tiny: RunConfig, tiny_run: Run, tmp_path: Path) -> None:
    other = train(tiny.with_(seed=5), tmp_path / "other", progress_bar=False)
    for source, message in ((other.path, f"of the run {other.config.digest}"), (tiny_run.path, "it holds checkpoints of step 20")):
        folder = tmp_path / source.name / "copy"
        shutil.copytree(tiny_run.path, folder)
        shutil.copy(source / "checkpoints" / "step_00000020.safetensors", folder / "checkpoints" / "step_00000040.safetensors")
        with pytest.raises(GrokinterpError, match=message):
            Run(folder).model(40)


def test_whole_numbers_for_floats_are_the_same_run_when_read(tiny: RunConfig, tmp_path: Path) -> None:
    config = replace(tiny, optimizer=AdamW(weight_decay=1))
    assert train(config, tmp_path / "run", progress_bar=False).model(60)
    assert train(config, tmp_path / "run", progress_bar=False).finished


def test_a_durable_run_is_the_same_run_with_the_same_bits(tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("grokinterp.training.writer.sync_folder", synced.append)
    durable = tiny.with_(durable=True)
    assert (durable.digest, durable) == (tiny.digest, tiny)
    assert RunConfig.from_dict(durable.to_dict()).durable
    run = train(durable, tmp_path / "durable", progress_bar=False)
    folders = [run.path, *[run.path / kind for _ in run.steps for kind in ("moments", "checkpoints")], run.path]
    assert synced == folders  # each after its file, the moments before the weights
    plain = train(tiny, tmp_path / "plain", progress_bar=False)
    assert synced == folders
    differ = {name for name, mark in fingerprint(run.path).items() if fingerprint(plain.path)[name] != mark}
    assert differ == {"config.json"}
    assert train(tiny, run.path, progress_bar=False).finished  # whoever goes on decides


@pytest.mark.parametrize("device", ["cuda:1", "cuda:x", "cudax", "gpu", ""])
def test_a_device_that_is_not_there_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_device("cuda:0")
    with pytest.raises(GrokinterpError, match="not available on this machine; it has cpu, cuda, cuda:0"):
        check_device(device)


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
    whole = fingerprint(train(tiny, tmp_path / "whole", progress_bar=False).path)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs to fill needs root")
    try:
        with pytest.raises(GrokinterpError, match=r"no room left to write .*free some space"):
            train(tiny, disk / "run", progress_bar=False)
        assert Run(disk / "run").steps
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        train(tiny, disk / "run", progress_bar=False)
        assert fingerprint(disk / "run") == whole
    finally:
        subprocess.run(["umount", disk], check=True)
