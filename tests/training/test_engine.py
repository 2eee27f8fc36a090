"""The engine against HookedTransformer, autograd and torch.optim.AdamW."""

from __future__ import annotations

import doctest
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Literal

import pytest
import torch
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.interventions import MeanPool, NoAttention, Sphere, UniformAttention, attention_norm
from grokinterp.models import ModelConfig
from grokinterp.models.transformers import BiasSite
from grokinterp.tasks import Task, TaskConfig
from grokinterp.training.config import RunConfig
from grokinterp.training.engine import layout
from grokinterp.training.engine.engine import Engine, adamw_, adamw_coefficients, why_not
from grokinterp.training.learner import Learner, ModuleLearner, Weights, loss_and_accuracy
from grokinterp.training.optimizers import AdamW

pytestmark = pytest.mark.lens4

TINY = ModelConfig(n_layers=1, d_model=16, n_heads=2, d_mlp=32)
NO_NORM = RunConfig(TaskConfig("modular_addition", {"p": 7}, 0.6), TINY, AdamW(lr=3e-3, weight_decay=1.0, warmup_steps=10), dtype="float64")
PRE_NORM = NO_NORM.with_(
    model=replace(TINY, n_layers=2, act_fn="gelu", normalization="pre", biases=("attn", "mlp", "unembed"), init="pytorch"), batch_size=12
)
SEVERAL = [
    NO_NORM,
    NO_NORM.with_(**{"seed": 1, "optimizer.lr": 1e-3, "optimizer.weight_decay": 0.3}),
    NO_NORM.with_(**{"seed": 2, "task.split_seed": 5, "optimizer.betas": (0.8, 0.95), "optimizer.warmup_steps": 0}),
    NO_NORM.with_(**{"seed": 3, "task.answer_seed": 4, "optimizer.eps": 1e-5}),
]
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
NEGLIGIBLE = 1e-5  # a gradient this much smaller than all of them together is compared with those; b_K's is 0 but for rounding


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, which wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_worked_example_of_shared_rows_holds() -> None:
    assert doctest.testmod(layout).attempted == 6
    assert doctest.testmod(layout).failed == 0


def minibatch(config: RunConfig, task: Task, step: int, batch_size: int) -> Tensor:
    """Seeded training examples for a step, fewer every fourth step."""
    examples = task.indices("train")
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(1000 * config.seed + step))
    return examples[order[: batch_size - 5 * (step % 4 == 3)]]


def train(learner: Learner, configs: Sequence[RunConfig], tasks: Sequence[Task], start: int, stop: int) -> None:
    size = configs[0].batch_size
    for step in range(start, stop):
        members = zip(configs, tasks, strict=True)
        learner.step(step, None if size is None else [minibatch(config, task, step, size) for config, task in members])


def reference(learner: ModuleLearner, examples: Tensor) -> tuple[float, Weights]:
    """Loss and gradients of the HookedTransformer by autograd."""
    parameters = {name: weight for name, weight in learner.model.named_parameters() if weight.requires_grad}
    logits = learner.model(learner._tokens[examples])[:, learner._task.readout]
    loss, _ = loss_and_accuracy(logits, learner._right[examples])
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
    return loss.item(), dict(zip(parameters, gradients, strict=True))


def relative_error(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Largest ‖found − expected‖ / ‖expected‖ over the parameters."""
    assert list(found) == list(expected)
    total = torch.cat([gradient.flatten() for gradient in expected.values()]).norm()
    assert total > 0
    scales = {name: norm if (norm := gradient.norm()) > NEGLIGIBLE * total else total for name, gradient in expected.items()}
    return max(float((found[name] - expected[name]).norm() / scales[name]) for name in expected)


def assert_parity(config: RunConfig, task: Task, examples: Sequence[Tensor]) -> None:
    module, engine = ModuleLearner(config, task), Engine([config], [task])
    for chosen in examples:
        loss, expected = reference(module, chosen)
        losses, gradients = engine.gradients([chosen])
        assert losses == pytest.approx([loss], rel=TOLERANCE[config.dtype])
        assert relative_error(gradients[0], expected) <= TOLERANCE[config.dtype]


@pytest.fixture
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operations that a GPU is given, on the CPU."""
    monkeypatch.setattr("grokinterp.training.engine.forward.on_gpu", lambda rows: True)


@pytest.mark.parametrize("few_rows", [4, 512])
@pytest.mark.parametrize(("n_layers", "causal"), [(1, True), (2, False), (3, True)])
def test_what_a_gpu_computes_has_the_gradients_of_hooked_transformer_too(
    n_layers: int, causal: bool, few_rows: int, as_on_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With sums as matrix products for rows that are few, and without."""
    monkeypatch.setattr("grokinterp.training.engine.forward.FEW_ROWS", few_rows)
    every: tuple[BiasSite, ...] = ("attn", "mlp", "unembed")
    interventions = ((), (UniformAttention(),), (MeanPool(), NoAttention())) if causal else ((), (Sphere(),))
    for biases, act_fn, in_force in product(((), every), ("relu", "gelu"), interventions):
        model = replace(
            TINY, n_layers=n_layers, causal=causal, normalization="pre", biases=biases, act_fn=act_fn, init="pytorch", interventions=in_force
        )
        config = RunConfig(TaskConfig("modular_addition", {"p": 7}, 0.6), model, dtype="float64")
        task = config.task.build()
        assert_parity(config, task, [task.indices("train"), torch.tensor([3, 17, 40, 22, 9, 11, 30, 2]), torch.tensor([1, 5, 8])])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("normalization", ["none", "pre"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_loss_and_every_gradient_are_those_of_hooked_transformer(
    n_layers: int, causal: bool, normalization: Literal["none", "pre"], dtype: Literal["float32", "float64"]
) -> None:
    bias_sites: tuple[tuple[BiasSite, ...], ...] = ((), ("mlp",), ("attn", "mlp", "unembed"))
    mlps: tuple[tuple[int, Literal["relu", "gelu"]], ...] = ((0, "relu"), (32, "relu"), (32, "gelu"))
    for biases, (d_mlp, act_fn), equals in product(bias_sites, mlps, (True, False)):
        model = replace(
            TINY, n_layers=n_layers, causal=causal, normalization=normalization, biases=biases, d_mlp=d_mlp, act_fn=act_fn, init="pytorch"
        )
        config = RunConfig(TaskConfig("modular_addition", {"p": 7, "equals": equals}, 0.6), model, dtype=dtype)
        task = config.task.build()
        # All 29, then more and fewer examples than there are tokens: the three ways in which rows are shared.
        assert_parity(config, task, [task.indices("train"), torch.tensor([3, 17, 40, 22, 9, 11, 30, 2]), torch.tensor([1, 5, 8])])


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
@pytest.mark.parametrize("readout", [-1, 0, 2])
def test_parity_where_inputs_repeat_and_answers_are_read_anywhere(readout: int, causal: bool) -> None:
    tokens = torch.randint(3, (60, 4), generator=torch.Generator().manual_seed(0))
    answers = torch.randint(3, (60,), generator=torch.Generator().manual_seed(1))
    task = Task("repeats", tokens, answers, n_vocab=3, n_classes=3, readout=readout).split(0.9, seed=0)
    model = replace(TINY, n_layers=3, d_head=5, causal=causal, normalization="pre", biases=("attn", "unembed"), outputs="classes", init="pytorch")
    assert_parity(RunConfig(model=model, dtype="float64"), task, [task.indices("train"), torch.arange(50), torch.arange(7)])


@pytest.mark.parametrize("config", [NO_NORM, PRE_NORM], ids=["full batch", "minibatch"])
def test_300_steps_end_where_those_of_hooked_transformer_and_torch_adamw_end(config: RunConfig) -> None:
    task = config.task.build()
    module, engine = ModuleLearner(config, task), Engine([config], [task])
    start = engine.weights(0)
    for learner in (module, engine):
        train(learner, [config], [task], 0, 300)
    assert relative_error(engine.weights(0), start) > 0.1, "training has moved the weights"
    for name, weight in module.weights(0).items():
        torch.testing.assert_close(engine.weights(0)[name], weight, rtol=0, atol=1e-8)
    assert engine.evaluate()[0] == pytest.approx(module.evaluate()[0], rel=1e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_adamw_is_torchs_for_gradients_of_any_size(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    optimizers = [config.optimizer for config in SEVERAL]
    start = torch.randn(len(optimizers), 60, generator=generator, dtype=dtype)
    sizes = torch.tensor([0.0, 1e-12, 1e-8, 1e-4, 1.0, 1e4], dtype=dtype).repeat_interleave(10)
    own, exp_avg, exp_avg_sq = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    theirs = [torch.nn.Parameter(row.clone()) for row in start]
    torchs = [torch.optim.AdamW([p], betas=o.betas, eps=o.eps, weight_decay=o.weight_decay) for p, o in zip(theirs, optimizers, strict=True)]
    for step in range(12):
        gradient = torch.randn(start.shape, generator=generator, dtype=dtype) * sizes
        coefficients = torch.tensor([adamw_coefficients(optimizer, step, step + 1) for optimizer in optimizers], dtype=dtype)
        adamw_(own, gradient, exp_avg, exp_avg_sq, coefficients.T[..., None])
        for parameter, adamw, optimizer, row in zip(theirs, torchs, optimizers, gradient, strict=True):
            parameter.grad, adamw.param_groups[0]["lr"] = row.clone(), optimizer.lr_at(step)
            adamw.step()
    assert not torch.equal(own, start)
    torch.testing.assert_close(own, torch.stack([parameter.detach() for parameter in theirs]), rtol=0, atol=8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("batch_size", [None, 9])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_members_of_an_ensemble_train_as_if_alone(dtype: str, batch_size: int | None) -> None:
    configs = [config.with_(dtype=dtype, batch_size=batch_size) for config in SEVERAL]
    tasks = [config.task.build() for config in configs]
    together = Engine(configs, tasks)
    train(together, configs, tasks, 0, 40)
    kept = [3, 0, 2]
    together.keep(kept)
    configs, tasks = [configs[i] for i in kept], [tasks[i] for i in kept]
    train(together, configs, tasks, 40, 60)
    metrics = together.evaluate()
    assert len(metrics) == 3
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    for member, (config, task) in enumerate(zip(configs, tasks, strict=True)):
        alone = Engine([config], [task])
        train(alone, [config], [task], 0, 60)
        for name, weight in alone.weights(0).items():
            torch.testing.assert_close(together.weights(member)[name], weight, rtol=0, atol=tolerance)
        assert metrics[member] == pytest.approx(alone.evaluate()[0], rel=1e3 * tolerance)


@pytest.mark.parametrize("config", [NO_NORM, PRE_NORM], ids=["full batch", "minibatch"])
@pytest.mark.parametrize("first", ["engine", "module"])
def test_a_run_goes_on_with_the_other_learner(first: str, config: RunConfig) -> None:
    task = config.task.build()
    learners: list[Learner] = [Engine([config], [task]), ModuleLearner(config, task)]
    before, after = learners if first == "engine" else learners[::-1]
    train(before, [config], [task], 0, 30)
    after.load(0, before.weights(0), before.moments(0))
    for name, value in before.moments(0).items():
        assert torch.equal(after.moments(0)[name], value)
        assert after.moments(0)[name].dtype == value.dtype
    assert after.moments(0).keys() == before.moments(0).keys()
    for learner in (before, after):
        train(learner, [config], [task], 30, 60)
    for name, weight in before.weights(0).items():
        torch.testing.assert_close(after.weights(0)[name], weight, rtol=0, atol=1e-11)


def test_resuming_gives_the_same_bits() -> None:
    config = PRE_NORM.with_(dtype="float32")
    task = config.task.build()
    once, resumed, twice = (Engine([config], [task]) for _ in range(3))
    train(once, [config], [task], 0, 40)
    train(resumed, [config], [task], 0, 25)
    twice.load(0, resumed.weights(0), resumed.moments(0))
    train(twice, [config], [task], 25, 40)
    assert all(torch.equal(twice.weights(0)[name], weight) for name, weight in once.weights(0).items())


def test_loading_one_member_without_moments_starts_its_adam_afresh() -> None:
    configs, tasks = SEVERAL[:2], [config.task.build() for config in SEVERAL[:2]]
    engine = Engine(configs, tasks)
    train(engine, configs, tasks, 0, 5)
    other = engine.weights(0), engine.moments(0)
    engine.load(1, other[0], None)
    assert int(engine.moments(1)["updates"]) == 0
    assert all(not moment.any() for moment in engine.moments(1).values())
    assert all(torch.equal(engine.weights(1)[name], weight) for name, weight in other[0].items())
    assert all(torch.equal(engine.moments(0)[name], moment) for name, moment in other[1].items())
    fresh = ModuleLearner(configs[1], tasks[1])
    fresh.load(0, other[0], None)
    for learner, own in ((engine, slice(0, 2)), (fresh, slice(1, 2))):
        train(learner, configs[own], tasks[own], 5, 15)
    for name, weight in fresh.weights(0).items():
        torch.testing.assert_close(engine.weights(1)[name], weight, rtol=0, atol=1e-11)


@pytest.mark.parametrize("config", [NO_NORM, PRE_NORM.with_(dtype="float32")], ids=["no norm", "pre norm"])
def test_evaluation_is_the_modules_in_one_chunk_and_in_many(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    task = config.task.build()
    module, engine = ModuleLearner(config, task), Engine([config], [task])
    for learner in (module, engine):
        train(learner, [config], [task], 0, 20)
    expected = module.evaluate()[0]
    assert set(expected) == {f"{split}_{what}" for split in ("train", "test", "unseen") for what in ("loss", "accuracy")} | {"weight_norm"}
    assert engine.evaluate()[0] == pytest.approx(expected, rel=1e-5 if config.dtype == "float32" else 1e-10)
    monkeypatch.setattr("grokinterp.training.engine.engine.EVALUATION_ELEMENTS", 32 * 10)
    assert engine.evaluate()[0] == pytest.approx(expected, rel=1e-5 if config.dtype == "float32" else 1e-10)


def test_the_loss_of_a_sure_model_is_not_rounded_to_zero() -> None:
    config = NO_NORM.with_(dtype="float32")
    task = config.task.build()
    engine, module = Engine([config], [task]), ModuleLearner(config, task)
    # Logits of ± 20 that do not depend on the input: of 7 classes, token 0 is right in a seventh of the examples.
    weights = {name: torch.zeros_like(weight) for name, weight in engine.weights(0).items()}
    weights["pos_embed.W_pos"][-1, 0], weights["unembed.W_U"][0, 0] = 1.0, 30.0
    for learner in (engine, module):
        learner.load(0, weights, None)
    right = torch.nonzero(task.answers == 0)[:, 0]
    losses, gradients = engine.gradients([right])
    assert losses[0] == pytest.approx(7 * torch.tensor(-30.0, dtype=torch.float64).exp().item(), rel=1e-6)  # seven other tokens, "=" among them
    assert relative_error(gradients[0], reference(module, right)[1]) <= 1e-5


def test_the_initial_weights_are_the_modules_bits() -> None:
    engine = Engine(SEVERAL, [config.task.build() for config in SEVERAL])
    for member, config in enumerate(SEVERAL):
        expected = ModuleLearner(config, config.task.build()).weights(0)
        assert all(torch.equal(engine.weights(member)[name], weight) for name, weight in expected.items())


def test_what_is_handed_out_is_a_copy() -> None:
    engine = Engine(SEVERAL[:1], [SEVERAL[0].task.build()])
    for values in (engine.weights(0), engine.moments(0)):
        for value in values.values():
            value.add_(1)
    assert not engine.moments(0)["exp_avg.embed.W_E"].any()
    assert torch.equal(engine.weights(0)["embed.W_E"], Engine(SEVERAL[:1], [SEVERAL[0].task.build()]).weights(0)["embed.W_E"])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model.d_mlp": 16}, "model"),
        ({"dtype": "float32"}, "dtype"),
        ({"batch_size": 4}, "batch_size"),
        ({"task.args": {"p": 11}}, "args"),
        ({"task.train_fraction": 0.5}, "train_fraction"),
    ],
)
def test_configs_that_cannot_share_an_engine_are_refused_with_the_reason(change: dict[str, object], word: str) -> None:
    configs = [NO_NORM, NO_NORM.with_(**change)]
    reason = why_not(configs)
    assert reason is not None
    assert word in reason
    with pytest.raises(GrokinterpError, match=word):
        Engine(configs, [config.task.build() for config in configs])


def test_what_may_differ_between_members() -> None:
    assert why_not(SEVERAL) is None
    assert why_not([]) is not None
    with pytest.raises(GrokinterpError, match="one task for each config"):
        Engine(SEVERAL, [NO_NORM.task.build()])


def test_weights_of_another_model_are_refused() -> None:
    engine = Engine([NO_NORM], [NO_NORM.task.build()])
    weights = engine.weights(0)
    del weights["unembed.W_U"]
    with pytest.raises(GrokinterpError, match=r"unembed\.W_U"):
        engine.load(0, weights, None)
    with pytest.raises(GrokinterpError, match=r"embed\.W_E"):
        engine.load(0, {**engine.weights(0), "embed.W_E": torch.zeros(2, 2, dtype=torch.float64)}, None)


@pytest.mark.parametrize("config", [NO_NORM, PRE_NORM], ids=["no norm", "pre norm"])
def test_where_the_parameters_lie_changes_nothing(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU wants each of them at a multiple of some number; what lies between stays 0."""

    class Aligned(Engine):
        align = 32

    configs = [config.with_(seed=seed) for seed in (0, 1)]
    tasks = [each.task.build() for each in configs]
    plain, aligned = Engine(configs, tasks), Aligned(configs, tasks)
    assert aligned._flat.shape[1] % 32 == 0
    assert aligned._flat.shape != plain._flat.shape
    for engine in (plain, aligned):
        train(engine, configs, tasks, 0, 12)
    for found, expected in (
        (aligned.weights(1), plain.weights(1)),
        (aligned.moments(1), plain.moments(1)),
        (aligned.gradients(None)[1][0], plain.gradients(None)[1][0]),
    ):
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert aligned.evaluate()[1] == pytest.approx(plain.evaluate()[1], rel=1e-12)


def test_put_in_the_place_of_another_a_training_is_the_one_that_it_is_alone() -> None:
    tasks = [config.task.build() for config in SEVERAL]
    engine, alone = Engine(SEVERAL[:2], tasks[:2]), Engine(SEVERAL[2:3], tasks[2:3])
    train(engine, SEVERAL[:2], tasks[:2], 0, 10)
    other = engine.weights(0)
    engine.put(1, SEVERAL[2], tasks[2])
    assert all(torch.equal(engine.weights(0)[name], weight) for name, weight in other.items())
    train(engine, [SEVERAL[0], SEVERAL[2]], [tasks[0], tasks[2]], 0, 10)
    train(alone, SEVERAL[2:3], tasks[2:3], 0, 10)
    for name, weight in alone.weights(0).items():
        torch.testing.assert_close(engine.weights(1)[name], weight, rtol=0, atol=1e-12)
    assert engine.evaluate()[1] == pytest.approx(alone.evaluate()[0], rel=1e-12)
    for change, reason in (
        ({"model.d_mlp": 16}, "share one model"),
        ({"task.args": {"p": 11}}, "one table"),
        ({"task.train_fraction": 0.5}, "one table"),
    ):
        stranger = NO_NORM.with_(**change)  # type: ignore[arg-type]
        with pytest.raises(GrokinterpError, match=reason):
            engine.put(0, stranger, stranger.task.build())


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
def test_attention_patterns_are_those_of_hooked_transformer(causal: bool, gpu: bool, request: pytest.FixtureRequest) -> None:
    if gpu:
        request.getfixturevalue("as_on_gpu")
    config = PRE_NORM.with_(**{"model.n_layers": 3, "model.causal": causal})
    task = config.task.build()
    engine, module = Engine([config], [task]), ModuleLearner(config, task)
    for chosen in (torch.arange(49), torch.tensor([4, 40, 17])):  # more and fewer than contexts at a position
        found = engine.patterns(chosen[None])[0]
        _, cache = module.model.run_with_cache(task.tokens[chosen])
        expected = torch.stack([cache[f"blocks.{layer}.attn.hook_pattern"] for layer in range(3)])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    without = config.with_(**{"model.interventions": (NoAttention(),)})
    with pytest.raises(GrokinterpError, match="no attention patterns"):
        Engine([without], [task]).patterns(torch.arange(3)[None])


def test_the_norm_of_some_parameters() -> None:
    engine = Engine(SEVERAL, [config.task.build() for config in SEVERAL])
    expected = [attention_norm(engine.weights(member)) for member in range(len(SEVERAL))]
    assert engine.norm(lambda name: ".attn.W_" in name).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("config", [NO_NORM, PRE_NORM], ids=["full batch", "minibatch"])
def test_a_captured_graph_trains_as_the_cpu_does(config: RunConfig) -> None:
    task = config.task.build()
    cpu, gpu = Engine([config], [task]), Engine([config], [task], device="cuda")
    for learner in (cpu, gpu):
        train(learner, [config], [task], 0, 100)
    for name, weight in cpu.weights(0).items():
        torch.testing.assert_close(gpu.weights(0)[name].cpu(), weight, rtol=0, atol=1e-8)
