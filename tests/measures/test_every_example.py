"""Loss and accuracy are those that training recorded, on every task; unseen pairs are those whose mirror was not trained either."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from grokinterp import GrokinterpError, Run, analyze, presets, tasks
from grokinterp.measures.loss import loss
from grokinterp.models import ModelConfig, build_model
from grokinterp.snapshot import Snapshot
from grokinterp.tasks import TASKS, Task, TaskConfig
from grokinterp.training.config import CheckpointSchedule, RunConfig
from grokinterp.training.engine.engine import Engine
from grokinterp.training.learner import ModuleLearner
from grokinterp.training.train import train

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = {
    "markov_chain": {"n_sequences": 40, "length": 6},
    "permutations": {"n": 3},
    "composition": {"group": "D", "n": 4},
    "sparse_parity": {"n": 5, "relevant": [0, 2]},
}


def config_of(name: str, **changes: object) -> RunConfig:
    task = TaskConfig(name, SMALL.get(name, {"p": 7}), train_fraction=0.6)
    config = presets.nanda2023(p=7, steps=4).with_(task=task, eval_every=2, checkpoints=CheckpointSchedule(every=2))
    return config.with_(model=ModelConfig(d_model=16, n_heads=2, d_mlp=24), **changes)


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("name", TASKS)
def test_losses_are_what_training_recorded_at_that_step(name: str, batch_size: int | None, tmp_path: Path) -> None:
    run = train(config_of(name, batch_size=batch_size), tmp_path / "run", progress_bar=False)
    recorded = run.metrics.set_index("step")
    for measure in ["loss"] + ["progress"] * (run.task.cyclic is not None):
        report = analyze(run, [measure], progress_bar=False)
        for quantity in ("loss", "accuracy"):
            measured = {split: report[quantity].sel(split=split) for split in ("train", "test")}
            if run.task.commutative:
                measured["unseen"] = report[f"unseen_{quantity}"]
            assert [column for column in recorded if column.endswith(quantity)] == [f"{split}_{quantity}" for split in measured]
            for split, values in measured.items():
                assert values.to_numpy() == pytest.approx(recorded.loc[run.steps, f"{split}_{quantity}"].to_numpy(), rel=1e-5)


def test_a_model_that_always_answers_zero_is_right_where_zero_is_the_answer() -> None:
    task = tasks.modular_multiplication(7).split(0.5, seed=0)
    model = build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24, biases=("unembed",)), task, seed=0)
    with torch.no_grad():
        model.unembed.W_U.zero_()
        model.unembed.b_U[0] = 1
    found = loss(Snapshot(model, task))
    assert float(found["accuracy"].sel(split="all")) == 13 / 49  # pairs with a 0


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (tasks.modular_addition(5), True),
        (tasks.modular_addition(5, equals=False), True),
        (tasks.modular_multiplication(5), True),
        (tasks.modular_quadratic(7), True),
        (tasks.modular_quadratic(7, (1, 0, 2, 0, 0)), False),
        (tasks.modular_subtraction(5), False),
        (tasks.modular_division(5), False),
        (tasks.permutations(3), False),
        (tasks.markov_chain(10, 4), False),
        (tasks.modular_addition(11).with_random_answers(0), False),
        (Task("pairs in order", torch.tensor([[0, 1], [0, 2], [1, 2]]), torch.tensor([0, 1, 1]), 3, 2), False),
        (Task("one token", torch.tensor([[0], [1]]), torch.tensor([0, 1]), 2, 2), False),
        (Task("operators between", torch.tensor([[0, 1, 2], [1, 0, 3]]), torch.tensor([0, 0]), 4, 2), False),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_commutative_is_read_off_the_table(task: Task, expected: bool) -> None:
    assert task.commutative == expected
    assert ("unseen" in task.split(0.5, seed=0).splits()) == expected


def test_unseen_pairs_against_a_loop_over_the_table() -> None:
    task = tasks.modular_addition(7).split(0.4, seed=3)
    pairs = [tuple(row[:2]) for row in task.tokens.tolist()]
    trained = {pair for pair, kept in zip(pairs, task.train.tolist(), strict=True) if kept}
    unseen = [(a, b) not in trained and (b, a) not in trained for a, b in pairs]
    assert task.splits()["unseen"].tolist() == unseen
    assert 0 < sum(unseen) < int((~task.train).sum())


def test_where_every_mirror_was_trained_nothing_is_unseen() -> None:
    task = tasks.modular_addition(5)
    a, b = task.tokens[:, 0], task.tokens[:, 1]
    task = Task(**{**vars(task), "train": a <= b})
    assert list(task.splits()) == ["train", "test"]
    found = loss(Snapshot(build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24), task, seed=0), task))
    assert np.isnan(found["unseen_loss"])
    assert "has (b, a) among the training pairs" in found["unseen_accuracy"].attrs["undefined"]


def test_without_a_split_there_is_the_whole_table() -> None:
    task = tasks.permutations(3)
    found = loss(Snapshot(build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24), task, seed=0), task))
    assert np.isfinite(found["loss"].to_numpy()).tolist() == [True, False, False]
    assert "no train/test split" in found["loss"].attrs["undefined"]
    with pytest.raises(GrokinterpError, match="no train/test split"):
        task.splits()


def test_members_of_an_ensemble_have_their_own_unseen_pairs(tmp_path: Path) -> None:
    """One of them, with random answers, has none."""
    configs = [config_of("modular_addition", **{"task.split_seed": seed, "dtype": "float64"}) for seed in range(3)]
    configs[1] = configs[1].with_(**{"task.answer_seed": 5})
    built = [config.task.build() for config in configs]
    engine = Engine(configs, built)
    alone = [ModuleLearner(config, task).evaluate()[0] for config, task in zip(configs, built, strict=True)]
    assert [list(row) for row in engine.evaluate()] == [list(row) for row in alone]
    assert [row == pytest.approx(own, rel=1e-10) for row, own in zip(engine.evaluate(), alone, strict=True)] == [True] * 3
    engine.keep([2, 1])
    assert engine.evaluate()[0] == pytest.approx(alone[2], rel=1e-10)
    assert "unseen_loss" not in engine.evaluate()[1]


def test_a_run_that_an_earlier_version_began_goes_on_with_its_columns(tmp_path: Path) -> None:
    """The kept run's metrics have no unseen pairs; its last checkpoint is taken away, so that it has to go on."""
    shutil.copytree(GOLDEN / "addition", tmp_path / "old")
    before = Run(tmp_path / "old")
    columns, rows, last = list(before.metrics), len(before.metrics), before.steps[-1]
    assert "unseen_loss" not in columns
    (tmp_path / "old" / "status.json").unlink()
    (tmp_path / "old" / "checkpoints" / f"step_{last:08d}.safetensors").unlink()
    after = train(before.config, tmp_path / "old", progress_bar=False)
    assert list(after.metrics) == columns
    assert len(after.metrics) == rows
    assert not after.metrics.isna().any(axis=None)
    assert "unseen_loss" in analyze(after, ["loss"], progress_bar=False).dataset  # what is measured is not bound to what was recorded
