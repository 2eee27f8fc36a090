"""Forks: the same bits when nothing changes, the right numbers when something does, and who the parent is."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from grokinterp import GrokinterpError, ModelConfig, Run, RunConfig, presets, train
from grokinterp.training.config import CheckpointSchedule, ParentConfig
from grokinterp.training.fork import children, fork
from grokinterp.training.learner import ModuleLearner
from grokinterp.training.train import BatchOrder


@pytest.fixture(scope="module")
def config() -> RunConfig:
    base = presets.nanda2023(p=7, train_fraction=0.6, steps=60)
    schedule = CheckpointSchedule(every=20, moments=True)
    return base.with_(model=ModelConfig(d_model=16, n_heads=2, d_mlp=24), eval_every=8, batch_size=12, checkpoints=schedule, dtype="float64")


@pytest.fixture(scope="module")
def parent(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(config, tmp_path_factory.mktemp("forks") / "parent", progress_bar=False)


def fingerprint(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in ("provenance.json", ".lock", "config.json"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 0.0) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [None, 12])
def test_an_unchanged_fork_is_its_parent_to_the_bit(config: RunConfig, tmp_path: Path, dtype: str, batch_size: int | None) -> None:
    whole = train(config.with_(dtype=dtype, batch_size=batch_size), tmp_path / "whole", progress_bar=False)
    (child,) = fork(whole, 20, tmp_path / "forks", progress_bar=False)
    assert child.path == tmp_path / "forks" / "unchanged"
    assert child.steps == [20, 40, 60]
    assert child.status == whole.status
    for step in child.steps:  # the files also name their run, so they are not the same
        assert_same(child.weights(step), whole.weights(step))
        assert_same(child.moments(step), whole.moments(step))
    # The child is evaluated where it begins, between two evaluations of the parent.
    assert child.metrics["step"].tolist() == [20, 24, 32, 40, 48, 56, 60]
    later = whole.metrics[whole.metrics["step"] > 20].reset_index(drop=True)
    assert child.metrics[1:].reset_index(drop=True).equals(later)


@pytest.mark.parametrize("moments", ["restore", "reset"])
def test_other_weight_decay_is_torch_adamw_from_there_on(parent: Run, tmp_path: Path, moments: str) -> None:
    (child,) = fork(parent, 40, tmp_path, moments=moments, progress_bar=False, weight_decay=3, lr=2e-3, betas=(0.8, 0.9), seed=7, steps=70)
    assert child.path.name == "weight_decay=3.0,lr=0.002,betas=0.8_0.9,seed=7,steps=70"
    by_hand = ModuleLearner(child.config, parent.task)
    by_hand.load(0, parent.weights(40), parent.moments(40) if moments == "restore" else None)
    order = BatchOrder(parent.task.indices("train"), 12, seed=7)
    for step in range(40, 70):
        by_hand.step(step, [order.at(step)])
    assert child.steps == [40, 60, 70]
    assert_same(child.weights(70), by_hand.weights(0), tolerance=1e-10)
    updates = 70 if moments == "restore" else 30
    assert int(child.moments(70)["updates"]) == int(by_hand.moments(0)["updates"]) == updates
    assert (child.weights(70)["embed.W_E"] - parent.weights(60)["embed.W_E"]).abs().max() > 1e-3


def test_lists_are_children_and_several_lists_their_grid(parent: Run, tmp_path: Path) -> None:
    configs = children(parent, 20, weight_decay=[1, 2.5], seed=range(2), steps=30)
    assert list(configs) == [f"weight_decay={decay},seed={seed},steps=30" for decay in (1.0, 2.5) for seed in (0, 1)]
    assert len({config.digest for config in configs.values()}) == 4
    runs = fork(parent.path, 20, tmp_path, weight_decay=[1, 2.5], seed=range(2), steps=30, progress_bar=False)
    assert [run.config for run in runs] == list(configs.values())
    last = [run.weights(30)["embed.W_E"] for run in runs]
    assert all(not torch.equal(last[i], last[j]) for i in range(4) for j in range(i))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}
    fork(parent.path, 20, tmp_path, weight_decay=[1, 2.5], seed=range(2), steps=30, progress_bar=False)
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}


def test_children_whose_settings_look_alike_in_a_folders_name_all_live(parent: Run, tmp_path: Path) -> None:
    stops = ["test_loss < 1e-3", "test_loss > 1e-3", "test_loss >= 1e-3"]
    configs = children(parent, 20, stop=stops, steps=24)
    assert sorted(config.stop or "" for config in configs.values()) == sorted(stops)
    assert len({name.casefold() for name in configs}) == 3
    assert [run.config.stop for run in fork(parent, 20, tmp_path, stop=stops, steps=24, progress_bar=False)] == stops
    assert list(children(parent, 20, weight_decay=[2, 2.0, 3])) == ["weight_decay=2.0", "weight_decay=3.0"]  # what is the same is one child


def test_children_know_their_parent(parent: Run, tmp_path: Path) -> None:
    (child,) = fork(parent, 20, tmp_path / "a", moments="reset", weight_decay=2.0, steps=40, progress_bar=False)
    origin = {"path": str(parent.path.resolve()), "digest": parent.config.digest, "step": 20, "moments": "reset"}
    assert child.provenance["parent"] == origin
    assert child.config.parent == ParentConfig("wherever", parent.config.digest, 20, "reset")  # where it lies is no part of it
    assert RunConfig.from_dict(child.config.to_dict()) == child.config
    assert parent.provenance["parent"] is None
    assert "parent" not in parent.config.to_dict()
    (grandchild,) = fork(child, 40, tmp_path / "b", moments="reset", steps=50, progress_bar=False)
    assert grandchild.provenance["parent"]["digest"] == child.config.digest
    assert grandchild.config.optimizer.weight_decay == 2.0


def test_where_to_fork_can_be_a_condition_or_a_function(parent: Run) -> None:
    def step(at: object) -> int:
        (config,) = children(parent, at).values()  # type: ignore[arg-type]
        assert config.parent is not None
        return config.parent.step

    metrics = parent.metrics
    assert metrics["step"][3] == 24
    assert metrics["train_loss"].is_monotonic_decreasing
    assert step(f"train_loss <= {metrics['train_loss'][3]}") == 40
    assert step("weight_norm > 0") == 0
    assert step("weight_norm > 0 for 2") == 0
    assert step("weight_norm > 0 for 3") == 0  # the first of the three, at evaluations 0, 8, 16
    assert step(f"train_loss <= {metrics['train_loss'][1]} for 2") == 20
    assert step(lambda run: next(kept for kept in run.steps if kept > 30)) == 40
    for at, message in (
        (30, r"no checkpoint at step 30; the nearest are \[0, 20, 40\]"),
        ("train_loss < 0", "'train_loss < 0' does not hold at any of the evaluations"),
        ("fsd[1] >= 0.8", r"names 'fsd\[1\]', but the metrics are train_loss"),
        ("soon", "cannot read the condition"),
        (lambda run: None, "returned None"),
        (lambda run: 41, "no checkpoint at step 41"),
    ):
        with pytest.raises(GrokinterpError, match=message):
            step(at)


def test_what_a_fork_cannot_do_is_said_before_anything_is_trained(parent: Run, config: RunConfig, tmp_path: Path) -> None:
    bare = train(config.with_(batch_size=None, **{"checkpoints.moments": False}), tmp_path / "bare", progress_bar=False)
    for run, message, arguments in (
        (bare, r'no optimizer state at step 20, only at \[40, 60\].*checkpoints.moments = true .*moments="reset"', {}),
        (bare, "seed=1 would change nothing", {"moments": "reset", "seed": [0, 1]}),
        (parent, "a fork has the model of its parent", {"model.d_mlp": 48}),
        (parent, "unknown config field 'wd'", {"wd": 1.0}),
        (parent, "weight_decay has an empty list", {"weight_decay": []}),
        (parent, "a fork at step 20 cannot end at step 10", {"steps": 10}),
        (parent, r"unknown moments 'restor'; did you mean restore", {"moments": "restor"}),
    ):
        with pytest.raises(GrokinterpError, match=message):
            fork(run, 20, tmp_path / "out", progress_bar=False, **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
    assert fork(bare, 20, tmp_path / "out", moments="reset", steps=30, progress_bar=False)[0].finished


def test_another_parent_step_or_moments_in_the_same_folder_is_refused(parent: Run, config: RunConfig, tmp_path: Path) -> None:
    fork(parent, 20, tmp_path / "out", steps=60, progress_bar=False)
    before = fingerprint(tmp_path / "out")
    other = train(config.with_(seed=5), tmp_path / "other", progress_bar=False)
    for run, at, moments, name in ((other, 20, "restore", "seed"), (parent, 40, "restore", "parent.step"), (parent, 20, "reset", "parent.moments")):
        with pytest.raises(GrokinterpError, match=f"another config \\({name} is"):
            fork(run, at, tmp_path / "out", moments=moments, steps=60, progress_bar=False)  # type: ignore[arg-type]
    assert fingerprint(tmp_path / "out") == before
    shutil.copytree(parent.path, tmp_path / "moved")  # the same parent elsewhere is the same parent
    assert fork(tmp_path / "moved", 20, tmp_path / "out", steps=60, progress_bar=False)[0].finished


def test_a_parent_that_is_gone_or_another_is_named(parent: Run, config: RunConfig, tmp_path: Path) -> None:
    (child,) = children(parent, 20, steps=30).values()
    with pytest.raises(GrokinterpError, match="not a run"):
        train(child.with_(**{"parent.path": str(tmp_path / "gone")}), tmp_path / "child", progress_bar=False)
    other = train(config.with_(seed=5, steps=20), tmp_path / "other", progress_bar=False)
    with pytest.raises(GrokinterpError, match=f"not the parent {parent.config.digest}; point parent.path"):
        train(child.with_(**{"parent.path": str(other.path)}), tmp_path / "child", progress_bar=False)
    assert not (tmp_path / "child").exists()


@pytest.mark.parametrize("cut", ["first checkpoint alone", "before the first checkpoint", "later checkpoint", "parent gone"])
def test_a_child_resumes_to_the_same_bits(parent: Run, tmp_path: Path, cut: str) -> None:
    shutil.copytree(parent.path, tmp_path / "parent")
    (whole,) = fork(tmp_path / "parent", 20, tmp_path / "whole", weight_decay=2, progress_bar=False)
    shutil.copytree(whole.path, tmp_path / "cut" / whole.path.name)
    folder = tmp_path / "cut" / whole.path.name
    (folder / "status.json").unlink()
    gone = {"first checkpoint alone": (40, 60), "before the first checkpoint": (20, 40, 60)}.get(cut, (60,))
    for step in gone:
        for kind in ("checkpoints", "moments"):
            (folder / kind / f"step_{step:08d}.safetensors").unlink()
    if "first checkpoint" in cut:
        (folder / "metrics.jsonl").write_text("")  # killed before the first evaluation
    if cut == "parent gone":
        shutil.rmtree(tmp_path / "parent")
    assert train(whole.config, folder, progress_bar=False).finished
    assert fingerprint(folder) == fingerprint(whole.path)


_CHILD = """
import sys, torch
torch.set_num_threads(1)
from grokinterp.training.fork import fork
fork(sys.argv[1], 20, sys.argv[2], weight_decay=2, steps=1000, **{"checkpoints.every": 50}, progress_bar=False)
"""


def test_a_killed_child_goes_on_to_the_same_bits(parent: Run, tmp_path: Path) -> None:
    changes = {"weight_decay": 2, "steps": 1000, "checkpoints.every": 50}
    with subprocess.Popen([sys.executable, "-c", _CHILD, str(parent.path), str(tmp_path / "killed")]) as process:
        deadline = time.monotonic() + 120
        while len(list((tmp_path / "killed").glob("*/checkpoints/*.safetensors"))) < 4:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    (folder,) = (tmp_path / "killed").iterdir()
    assert not Run(folder).finished
    (resumed,) = fork(parent, 20, tmp_path / "killed", progress_bar=False, **changes)
    (whole,) = fork(parent, 20, tmp_path / "whole", progress_bar=False, **changes)
    assert len(resumed.provenance["computed"]) == 2
    assert fingerprint(resumed.path) == fingerprint(whole.path)
