"""The engine against HookedTransformer's hooks, for every intervention and every pair that goes together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from arms import ARMS, name_of
from torch import Tensor

from grokinterp import RunConfig
from grokinterp.interventions import InForce, MeanPool, NoAttention, PostNorm, Sphere, UniformAttention
from grokinterp.models import ModelConfig
from grokinterp.tasks import Task, TaskConfig
from grokinterp.training.engine.engine import Engine, why_not
from grokinterp.training.learner import ModuleLearner, Weights
from grokinterp.training.optimizers import AdamW
from grokinterp.training.train import train

pytestmark = pytest.mark.lens4

TINY = ModelConfig(n_layers=1, d_model=16, n_heads=2, d_mlp=24, init="pytorch")
BASE = RunConfig(TaskConfig("modular_addition", {"p": 7}, 0.6), TINY, AdamW(lr=3e-3, weight_decay=1.0), dtype="float64")
NEGLIGIBLE = 1e-5  # a gradient this much smaller than all of them together is compared with those


def shaken(weights: Weights, seed: int) -> Weights:
    """The same weights moved at random, so that no norm has weight 1 and bias 0."""
    generator = torch.Generator().manual_seed(seed)
    return {name: weight + 0.2 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype) for name, weight in weights.items()}


def by_hooks(learner: ModuleLearner, task: Task, examples: Tensor) -> tuple[float, Weights]:
    """Loss and gradients of the HookedTransformer by autograd."""
    parameters = {name: weight for name, weight in learner.model.named_parameters() if weight.requires_grad}
    loss = torch.nn.functional.cross_entropy(learner.model(task.tokens[examples])[:, task.readout], task.answers[examples])
    return loss.item(), dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def assert_parity(configs: list[RunConfig]) -> None:
    tasks = [config.task.build() for config in configs]
    engine, modules = Engine(configs, tasks), [ModuleLearner(config, task) for config, task in zip(configs, tasks, strict=True)]
    for member, module in enumerate(modules):
        weights = shaken(engine.weights(member), member)
        engine.load(member, weights, None)
        module.load(0, weights, None)
    some = torch.randperm(49, generator=torch.Generator().manual_seed(0))
    # All 29, then more and fewer examples than there are tokens: the three ways in which rows are shared.
    for size in (None, 9, 3):
        examples = [task.indices("train") if size is None else (some[:size] + member) % 49 for member, task in enumerate(tasks)]
        losses, gradients = engine.gradients(examples)
        for member, (module, task) in enumerate(zip(modules, tasks, strict=True)):
            loss, expected = by_hooks(module, task, examples[member])
            assert losses[member] == pytest.approx(loss, rel=1e-10)
            assert list(gradients[member]) == list(expected)
            total = torch.cat([gradient.flatten() for gradient in expected.values()]).norm()
            for name, gradient in expected.items():
                scale = gradient.norm() if gradient.norm() > NEGLIGIBLE * total else total
                assert (gradients[member][name] - gradient).norm() <= 1e-10 * scale, name


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("arm", ARMS, ids=name_of)
def test_loss_and_every_gradient_are_those_of_the_hooks(arm: tuple[InForce, ...], n_layers: int, causal: bool) -> None:
    model = replace(TINY, n_layers=n_layers, causal=causal, biases=("attn", "mlp"), interventions=arm)
    configs = [BASE.with_(model=model, seed=seed, **{"task.split_seed": seed}) for seed in (0, 1)]
    assert_parity(configs)


VARIANTS: list[dict[str, Any]] = [
    {"model.d_mlp": 0, "model.biases": ("unembed",)},
    {"model.normalization": "pre", "model.act_fn": "gelu", "task.args": {"p": 7, "equals": False}},
]


@pytest.mark.parametrize("change", VARIANTS, ids=["attention only", "pre-norm as well, no separator"])
@pytest.mark.parametrize("arm", [(PostNorm(at_embedding=True),), (Sphere(),), (UniformAttention(),)], ids=name_of)
def test_parity_in_other_architectures(arm: tuple[InForce, ...], change: dict[str, Any]) -> None:
    config = BASE.with_(**{"model.interventions": arm, "model.n_layers": 2, **change})
    assert_parity([config, config.with_(seed=1)])


@pytest.mark.parametrize("arm", [(NoAttention(),), (NoAttention(), MeanPool())], ids=name_of)
@pytest.mark.parametrize("change", [{"model.normalization": "pre"}, {"task.args": {"p": 7, "equals": False}}], ids=["pre-norm", "no separator"])
def test_parity_without_attention_in_other_architectures(arm: tuple[InForce, ...], change: dict[str, Any]) -> None:
    config = BASE.with_(**{"model.interventions": arm, "model.n_layers": 2, **change})
    assert_parity([config, config.with_(seed=1)])


@pytest.mark.parametrize("arm", [(), *ARMS], ids=lambda arm: name_of(arm) or "none")
def test_training_ends_where_that_of_the_hooks_ends(arm: tuple[InForce, ...]) -> None:
    config = BASE.with_(**{"model.interventions": arm, "optimizer.betas": (0.9, 0.98)})
    task = config.task.build()
    engine, module = Engine([config], [task]), ModuleLearner(config, task)
    start = module.weights(0)
    for step in range(20):
        engine.step(step, None)
        module.step(step, None)
    for name, weight in module.weights(0).items():
        torch.testing.assert_close(engine.weights(0)[name], weight, rtol=0, atol=1e-9)
    for name, moment in module.moments(0).items():
        torch.testing.assert_close(engine.moments(0)[name], moment, rtol=0, atol=1e-9)
    assert engine.evaluate()[0] == pytest.approx(module.evaluate()[0], rel=1e-9)
    for name, weight in engine.weights(0).items():
        assert not torch.equal(weight, start[name])


@pytest.mark.parametrize("arm", ARMS, ids=name_of)
def test_the_engine_takes_them_all(arm: tuple[InForce, ...]) -> None:
    config = BASE.with_(**{"model.interventions": arm})
    assert why_not([config, config.with_(seed=1)]) is None
    reason = why_not([config, BASE])
    assert reason is not None
    assert "one model" in reason


def test_provenance_tells_that_the_engine_trained_it(tmp_path: Path) -> None:
    config = BASE.with_(steps=4, **{"model.interventions": (Sphere(),), "checkpoints.every": 2})
    run = train(config, tmp_path / "run", progress_bar=False)
    assert [entry["path"] for entry in run.provenance["computed"]] == ["engine"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("arm", ARMS, ids=name_of)
def test_a_captured_graph_trains_as_the_cpu_does(arm: tuple[InForce, ...]) -> None:
    config = BASE.with_(**{"model.interventions": arm})
    task = config.task.build()
    cpu, gpu = Engine([config], [task]), Engine([config], [task], device="cuda")
    for step in range(20):
        cpu.step(step, None)
        gpu.step(step, None)
    for name, weight in cpu.weights(0).items():
        torch.testing.assert_close(gpu.weights(0)[name].cpu(), weight, rtol=0, atol=1e-8)
