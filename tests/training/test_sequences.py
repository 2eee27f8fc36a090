"""Training on every position: the loss is the mean over positions, on the road that covers it, whole or resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import log_softmax

from grokinterp import GrokinterpError, presets, train
from grokinterp.training.config import RunConfig
from grokinterp.training.engine.engine import Engine, why_not
from grokinterp.training.learner import ModuleLearner
from grokinterp.training.sweep import ensembles
from grokinterp.training.train import train_together


@pytest.fixture
def config() -> RunConfig:
    few = {"n_sequences": 30, "length": 6, "seed": 0, "test_seed": 1}
    small = {"task.args": few, "model.d_model": 16, "model.d_mlp": 24, "eval_every": 5, "checkpoints.every": 5}
    return presets.cores2026_markov(3, "pre").with_(**small, steps=10, batch_size=8)


def test_loss_accuracy_and_gradient_are_means_over_examples_and_positions(config: RunConfig) -> None:
    task = config.task.build()
    learner = ModuleLearner(config, task)
    (metrics,) = learner.evaluate()
    for split in ("train", "test"):
        examples = task.indices(split)
        logits = learner.model(task.tokens[examples]).detach().double()
        losses = [-log_softmax(logits[i, t], 0)[int(task.targets[e, t])] for i, e in enumerate(examples) for t in range(5)]
        assert metrics[f"{split}_loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-12)
        right = [int(logits[i, t].argmax()) == int(task.targets[e, t]) for i, e in enumerate(examples) for t in range(5)]
        assert metrics[f"{split}_accuracy"] == sum(right) / len(right)
    before = learner.weights(0)
    learner.step(0, [task.indices("train")[:8]])
    # Without weight decay the first update of Adam is lr times the sign of the gradient: the state after the first position matters, too.
    moved = learner.weights(0)["pos_embed.W_pos"] - before["pos_embed.W_pos"]
    assert float(moved.abs().min()) > 0.9 * config.optimizer.lr


def test_the_engine_says_that_it_does_not_cover_it(config: RunConfig) -> None:
    reason = why_not([config])
    assert reason is not None
    assert "trained on every position" in reason
    with pytest.raises(GrokinterpError, match="the read-out position alone"):
        Engine([config], [config.task.build()])
    with pytest.raises(GrokinterpError, match="the read-out position alone"):
        train_together([config, config], [config.task.build()] * 2, [], "cpu", False)
    assert ensembles([config, config.with_(seed=4)], 2) == [[config], [config.with_(seed=4)]]


def test_a_run_takes_the_other_road_and_resumes_to_the_same_bits(config: RunConfig, tmp_path: Path) -> None:
    whole = train(config, tmp_path / "whole", progress_bar=False)
    assert whole.provenance["computed"][0]["path"] == "module"
    train(config, tmp_path / "cut", progress_bar=False)
    for name in ("status.json", "checkpoints/step_00000010.safetensors", "moments/step_00000010.safetensors"):
        (tmp_path / "cut" / name).unlink()
    resumed = train(config, tmp_path / "cut", progress_bar=False)
    for name, weight in whole.weights().items():
        assert torch.equal(weight, resumed.weights()[name])
