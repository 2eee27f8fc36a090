"""Optimizers besides AdamW, and one of a user's own: torch's updates, the same bits after a kill, forks, files that name their state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from grokinterp import SGD, Adam, AdamW, ClipNorm, GrokinterpError, ModelConfig, Optimizer, RunConfig, TaskConfig, fork, train
from grokinterp.training.config import CheckpointSchedule
from grokinterp.training.engine.engine import why_not
from grokinterp.training.learner import ModuleLearner

pytestmark = pytest.mark.lens4

BASE = RunConfig(
    TaskConfig("modular_addition", {"p": 7}, 0.6),
    ModelConfig(n_layers=1, d_model=16, n_heads=2, d_mlp=24),
    AdamW(lr=3e-3),
    steps=20,
    eval_every=5,
    checkpoints=CheckpointSchedule(every=10, moments=True),
    dtype="float64",
)


class _Signs(torch.optim.Optimizer):
    """Lion's update without its second momentum: the sign of a running mean of gradients."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, beta: float) -> None:
        super().__init__(parameters, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 1 - group["beta"])
                parameter.sub_(group["lr"] * mean.sign())


@dataclass(frozen=True)
class Signs(Optimizer):
    beta: float = 0.9
    kind: str = field(default="signs", init=False, repr=False)
    state = ("mean",)  # type: ignore[assignment]

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return _Signs(parameters, self.lr, self.beta)


OTHERS = [SGD(lr=0.1, weight_decay=1e-3), SGD(lr=0.1, momentum=0.0), Adam(lr=3e-3, weight_decay=0.01, warmup_steps=4), Signs(lr=1e-3)]


@pytest.mark.parametrize("optimizer", OTHERS, ids=repr)
def test_a_run_is_torchs_own_loop_and_goes_on_with_the_same_bits(optimizer: Optimizer, tmp_path: Path) -> None:
    config = BASE.with_(optimizer=optimizer)
    assert RunConfig.from_dict(config.to_dict()) == config
    run = train(config, tmp_path / "whole", progress_bar=False)
    learner = ModuleLearner(config, config.task.build())
    by_hand = optimizer.build(learner._parameters.values())
    examples = learner._splits["train"]
    for step in range(20):
        by_hand.param_groups[0]["lr"] = optimizer.lr_at(step)
        by_hand.zero_grad()
        learner._loss_and_accuracy(examples)[0].backward()  # type: ignore[no-untyped-call]
        by_hand.step()
    for name, weight in run.weights(20).items():
        torch.testing.assert_close(learner.weights(0)[name], weight, rtol=0, atol=0)
    moments = run.moments(20)
    assert int(moments["updates"]) == 20
    assert {key.split(".")[0] for key in moments} - {"updates"} == set(optimizer.state)
    (child,) = fork(run, 10, tmp_path / "fork", edit=ClipNorm(1e9), progress_bar=False)
    for name, weight in run.weights(20).items():
        assert torch.equal(child.weights(20)[name], weight)


def test_the_engine_leaves_them_to_the_module() -> None:
    assert why_not([BASE]) is None
    assert "AdamW, and the optimizer is SGD" in str(why_not([BASE, BASE.with_(optimizer=SGD())]))


def test_a_fork_with_another_optimizer_begins_afresh_or_not_at_all(tmp_path: Path) -> None:
    run = train(BASE, tmp_path / "run", progress_bar=False)
    with pytest.raises(GrokinterpError, match=r'cannot restore the state of AdamW.*fork with moments="reset"'):
        fork(run, 10, tmp_path / "no", optimizer=SGD(), progress_bar=False)
    assert not (tmp_path / "no").exists()
    (child,) = fork(run, 10, tmp_path / "forks", moments="reset", optimizer=SGD(), progress_bar=False)
    assert int(child.moments(20)["updates"]) == 10
    assert any(key.startswith("momentum_buffer.") for key in child.moments(20))


def test_what_an_optimizer_hides_or_is_not_called_is_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Hiding(Signs):
        kind: str = field(default="hiding", init=False, repr=False)
        state = ()  # type: ignore[assignment]

    with pytest.raises(GrokinterpError, match="it keeps mean; name all of it in `state`"):
        train(BASE.with_(optimizer=Hiding(lr=1e-3)), tmp_path / "run", progress_bar=False)

    @dataclass(frozen=True)
    class Nameless(Optimizer):
        def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
            return torch.optim.SGD(parameters, lr=self.lr)

    with pytest.raises(GrokinterpError, match="Nameless has no kind"):
        Nameless()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(momentum=1.0), r"momentum lies in \[0, 1\); got 1.0"),
        (lambda: Adam(eps=0.0), "eps must be positive; got 0.0"),
        (lambda: AdamW(betas=(0.9, 1.0)), r"betas are two numbers in \[0, 1\); got \(0.9, 1.0\)"),
        (lambda: SGD(lr=-1.0), "lr > 0.*got lr -1.0"),
        (lambda: RunConfig.from_dict({"optimizer": {"kind": "sdg"}}), "kind in config.optimizer: 'sdg'.*sgd"),
        (lambda: BASE.with_(optimizer=SGD(), **{"optimizer.betas": (0.9, 0.9)}), "unknown config field"),
    ],
)
def test_bad_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        make()


def test_an_old_config_means_adamw() -> None:
    old = {"lr": 1e-3, "weight_decay": 1.0, "betas": [0.9, 0.98], "eps": 1e-08, "warmup_steps": 10}
    assert RunConfig.from_dict({"optimizer": old}).optimizer == AdamW(warmup_steps=10)
    assert RunConfig().to_dict()["optimizer"] == {**old, "warmup_steps": 0}
