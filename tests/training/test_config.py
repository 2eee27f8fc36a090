"""Configurations survive JSON and refuse what they do not know."""

from __future__ import annotations

import json

import pytest

from grokinterp import GrokinterpError, RunConfig, presets
from grokinterp.training.config import CheckpointSchedule, OptimizerConfig


@pytest.mark.parametrize("name", presets.PRESETS)
def test_json_round_trip(name: str) -> None:
    config = presets.PRESETS[name]()
    again = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.digest == config.digest
    assert config.with_(seed=99).digest != config.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sede": 1}, "unknown key in config: 'sede'; did you mean seed"),
        ({"optimizer": {"weight_decy": 1.0}}, "config.optimizer: 'weight_decy'; did you mean weight_decay"),
        ({"steps": "many"}, "config.steps must be int; got 'many'"),
        ({"steps": True}, "config.steps must be int; got True"),
        ({"model": [1]}, "config.model must be an object"),
        ({"optimizer": {"lr": -1.0}}, "lr -1.0"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, r"betas are two numbers in \[0, 1\); got \(0.9, 1.0\)"),
        ({"stop": "loss low"}, "cannot read the condition 'loss low'"),
        ({"checkpoints": {"every": 0}}, "every >= 1"),
        ({"dtype": "float16"}, "unknown dtype 'float16'; did you mean"),
        ({"batch_size": 0}, "batch_size >= 1"),
    ],
)
def test_bad_values_are_named(change, message) -> None:
    with pytest.raises(GrokinterpError, match=message):
        RunConfig.from_dict(presets.demo().to_dict() | change)


def test_with_reaches_inside() -> None:
    config = presets.nanda2023().with_(**{"optimizer.lr": 1e-4, "task.args.p": 53, "seed": 3})
    assert (config.optimizer.lr, config.task.args["p"], config.seed) == (1e-4, 53, 3)
    assert presets.nanda2023().optimizer.lr == 1e-3
    with pytest.raises(GrokinterpError, match="unknown config field 'weight_decay'"):
        presets.nanda2023().with_(weight_decay=1.0)


def test_warm_up_starts_at_zero() -> None:
    optimizer = OptimizerConfig(lr=2.0, warmup_steps=10)
    assert [optimizer.lr_at(step) for step in (0, 5, 10, 11)] == [0.0, 1.0, 2.0, 2.0]
    assert OptimizerConfig(lr=2.0).lr_at(0) == 2.0


def test_schedule_is_dense_early() -> None:
    schedule = CheckpointSchedule(every=10, dense_every=2, dense_until=5)
    assert [step for step in range(31) if schedule.includes(step)] == [0, 2, 4, 10, 20, 30]
