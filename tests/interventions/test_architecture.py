"""Interventions in force: against torch.nn, closed forms and computations by hand, and that everything else goes on working."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from arms import ARMS, CONTRADICTIONS, EACH, allowed, name_of
from torch import Tensor, nn

from grokinterp import (
    AttentionRate,
    CosineUnembed,
    FourierInit,
    GrokinterpError,
    MeanPool,
    ModelConfig,
    NoAttention,
    PostNorm,
    RunConfig,
    Snapshot,
    Sphere,
    UniformAttention,
    presets,
    train,
)
from grokinterp.ace import Tail
from grokinterp.ace.moments import linear_observability, sampled_observability
from grokinterp.interventions import InForce, Intervention
from grokinterp.models import build_model, trained_parameters
from grokinterp.models.readout import readout_hooks
from grokinterp.tasks import Task, modular_addition, modular_multiplication, modular_quadratic
from grokinterp.training.learner import ModuleLearner

pytestmark = pytest.mark.lens4

TINY = ModelConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=24)
TASK = modular_addition(7).split(0.6, seed=0)


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def model_with(*interventions: InForce, seed: int = 0, task: Task = TASK, **settings: Any) -> Any:
    """A model whose every parameter, norms' weights and biases included, is random."""
    config = replace(TINY, interventions=interventions, init="pytorch", **settings)
    model = build_model(config, task, seed, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in trained_parameters(model).items():
            if "_norm." in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def captured(model: Any, tokens: Tensor, names: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter=names)
    return logits, {name: cache[name] for name in names}


# As data


def test_configurations_without_interventions_are_what_they_were() -> None:
    assert presets.nanda2023().digest == "6df8d10fd944"
    assert presets.fsd2026().digest == "de8c74f3430f"
    assert "interventions" not in presets.nanda2023().to_dict()["model"]


@pytest.mark.parametrize("arm", ARMS, ids=name_of)
def test_json_round_trip_and_an_identity_of_its_own(arm: tuple[InForce, ...]) -> None:
    config = RunConfig(model=ModelConfig(interventions=arm))
    again = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.digest == config.digest != RunConfig().digest
    assert {entry["kind"] for entry in config.to_dict()["model"]["interventions"]} == {intervention.kind for intervention in arm}
    assert RunConfig().with_(**{"model.interventions": arm[::-1]}) == config  # the same set is the same model


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"kind": "post_nrm"}], "unknown kind in config.model.interventions.0.: 'post_nrm'; did you mean post_norm"),
        ([{"kind": "post_norm", "nrm": "rms"}], "'nrm'; did you mean norm"),
        ([{"norm": "rms"}], 'must be an object with a "kind"'),
        ([{"kind": "post_norm", "norm": "batch"}], "unknown norm 'batch'"),
        ([{"kind": "sphere", "eps": "small"}], r"interventions.0..eps must be float; got 'small'"),
        ([{"kind": "sphere", "eps": 0}], "eps must be positive"),
        ([{"kind": "cosine_unembed", "temperature": -1}], "temperature must be positive"),
        ([{"kind": "fourier_init", "frequencies": [1, 1]}], "distinct frequencies"),
        ([{"kind": "fourier_init", "frequencies": 1}], r"frequencies must be a list; got 1"),
    ],
)
def test_bad_values_are_named(value: Any, message: str) -> None:
    config = RunConfig().to_dict()
    with pytest.raises(GrokinterpError, match=message):
        RunConfig.from_dict({**config, "model": {**config["model"], "interventions": value}})


@pytest.mark.parametrize("pair", [pair for pair in combinations(EACH, 2) if not allowed(pair)], ids=name_of)
def test_contradictions_are_refused(pair: tuple[InForce, ...]) -> None:
    with pytest.raises(GrokinterpError, match=r"contradict each other|at most once|together with NoAttention"):
        ModelConfig(interventions=pair)


def test_what_does_not_fit_the_model_or_the_task_is_refused() -> None:
    assert len(CONTRADICTIONS) == 5
    for settings, message in (
        ({"interventions": (CosineUnembed(),), "biases": ("unembed",)}, "has no bias"),
        ({"interventions": (NoAttention(),), "d_mlp": 0}, "leaves nothing"),
        ({"interventions": ("sphere",)}, r"interventions.0. must be PostNorm or Sphere or .*; got 'sphere'"),
    ):
        with pytest.raises(GrokinterpError, match=message):
            ModelConfig(**settings)
    for intervention, task, message in (
        (FourierInit((4,)), TASK, r"lie in 1 … 3; got 4"),
        (FourierInit((1, 2, 3)), TASK, "3 frequencies fill 6 dimensions; d_model is 4"),
        (FourierInit((1,)), modular_quadratic(7), "no cyclic group"),
    ):
        with pytest.raises(GrokinterpError, match=message):
            build_model(ModelConfig(d_model=4, n_heads=2, interventions=(intervention,)), task, seed=0)
    with pytest.raises(GrokinterpError, match=r"no blocks.0.post_attn_norm; post-norm has weights"):
        PostNorm().hooks(build_model(TINY, TASK, 0), TASK)


# What they compute


def encoder_layer(model: Any, layer: int) -> nn.TransformerEncoderLayer:
    """A block's weights in torch's own post-norm layer."""
    block, d = model.blocks[layer], model.cfg.d_model
    theirs = nn.TransformerEncoderLayer(d, model.cfg.n_heads, model.cfg.d_mlp, dropout=0.0, batch_first=True)
    attn, mlp = block.attn, block.mlp
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(torch.cat([w.transpose(1, 2).reshape(d, d) for w in (attn.W_Q, attn.W_K, attn.W_V)]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([b.flatten() for b in (attn.b_Q, attn.b_K, attn.b_V)]))
        theirs.self_attn.out_proj.weight.copy_(attn.W_O.reshape(d, d).T)
        theirs.self_attn.out_proj.bias.copy_(attn.b_O)
        for own, weight, bias in ((theirs.linear1, mlp.W_in.T, mlp.b_in), (theirs.linear2, mlp.W_out.T, mlp.b_out)):
            own.weight.copy_(weight)
            own.bias.copy_(bias)
        for own, norm in ((theirs.norm1, block.post_attn_norm), (theirs.norm2, block.post_mlp_norm)):
            own.weight.copy_(norm.w)
            own.bias.copy_(norm.b)
    return theirs


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
@pytest.mark.parametrize("at_embedding", [True, False])
def test_post_layer_norm_is_torchs_encoder(causal: bool, at_embedding: bool) -> None:
    model = model_with(PostNorm(at_embedding=at_embedding), causal=causal, biases=("attn", "mlp", "unembed"))
    tokens = TASK.tokens[::5]
    mask = nn.Transformer.generate_square_subsequent_mask(3) if causal else None
    with torch.no_grad():
        x = model.W_E[tokens] + model.W_pos
        if at_embedding:
            x = nn.functional.layer_norm(x, (16,), model.post_embed_norm.w, model.post_embed_norm.b, 1e-5)
        for layer in range(2):
            x = encoder_layer(model, layer)(x, src_mask=mask)
        torch.testing.assert_close(model(tokens), x @ model.W_U + model.b_U, rtol=0, atol=1e-12)


def test_post_rms_norm_is_torchs_after_each_addition() -> None:
    model = model_with(PostNorm("rms", at_embedding=True), n_layers=1)
    names = ["hook_embed", "hook_pos_embed", *(f"blocks.0.hook_{name}" for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"))]
    logits, at = captured(model, TASK.tokens, names)

    def norm(module: Any, value: Tensor) -> Tensor:
        return nn.functional.rms_norm(value, (16,), module.w, 1e-5)

    block = "blocks.0.hook_"
    with torch.no_grad():
        pre = norm(model.post_embed_norm, at["hook_embed"] + at["hook_pos_embed"])
        mid = norm(model.blocks[0].post_attn_norm, pre + at[block + "attn_out"])
        post = norm(model.blocks[0].post_mlp_norm, mid + at[block + "mlp_out"])
        mlp = torch.relu(mid @ model.blocks[0].mlp.W_in + model.blocks[0].mlp.b_in) @ model.blocks[0].mlp.W_out + model.blocks[0].mlp.b_out
    for name, expected in (("resid_pre", pre), ("resid_mid", mid), ("resid_post", post), ("mlp_out", mlp)):
        torch.testing.assert_close(at[block + name], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(logits, post @ model.W_U.detach(), rtol=0, atol=1e-12)


def test_an_attention_only_model_is_normalised_once_a_block() -> None:
    model = model_with(PostNorm(), d_mlp=0)
    assert [name for name, _ in model.named_parameters() if "post_" in name] == [f"blocks.{i}.post_attn_norm.{x}" for i in (0, 1) for x in "wb"]
    _, at = captured(model, TASK.tokens, ["blocks.1.hook_resid_pre", "blocks.1.hook_attn_out", "blocks.1.hook_resid_post"])
    pre, out, post = at.values()
    norm = model.blocks[1].post_attn_norm
    torch.testing.assert_close(post, nn.functional.layer_norm(pre + out, (16,), norm.w, norm.b).detach(), rtol=0, atol=1e-12)


def test_every_residual_vector_is_on_the_sphere_at_every_step_of_training() -> None:
    config = RunConfig(model=ModelConfig(d_model=16, n_heads=2, d_mlp=24, causal=False, interventions=(Sphere(), CosineUnembed())))
    learner = ModuleLearner(config.with_(**{"optimizer.lr": 3e-3}), TASK)
    places = [f"blocks.0.hook_resid_{place}" for place in ("pre", "mid", "post")]
    before = learner.weights(0)
    for step in range(20):
        learner.step(step, None)
        _, at = captured(learner.model, TASK.tokens, places)
        for value in at.values():
            assert (value.norm(dim=-1) - 1).abs().max() < 1e-6
    assert all((learner.weights(0)[name] - before[name]).norm() > 1e-3 for name in before)


def test_the_sphere_projects_after_each_addition() -> None:
    model = model_with(Sphere(), n_layers=1)
    names = ["hook_embed", "hook_pos_embed", *(f"blocks.0.hook_{name}" for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"))]
    _, at = captured(model, TASK.tokens, names)
    embed, position, pre, attn, mid, mlp, post = at.values()
    for found, total in ((pre, embed + position), (mid, pre + attn), (post, mid + mlp)):
        torch.testing.assert_close(found, total / total.norm(dim=-1, keepdim=True), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rest", ["ones", "uniform"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
def test_an_attention_rate_mixes_the_pattern_with_a_constant_one(causal: bool, rest: Literal["ones", "uniform"]) -> None:
    hook, plain = "blocks.0.attn.hook_pattern", model_with(causal=causal)
    ones = torch.ones(3, 3).tril() if causal else torch.ones(3, 3)
    constant = ones if rest == "ones" else ones / ones.sum(1, keepdim=True)
    _, before = captured(plain, TASK.tokens, [hook])
    with AttentionRate(0.3, rest).applied(plain, TASK):
        _, for_a_while = captured(plain, TASK.tokens, [hook])
    _, for_good = captured(model_with(AttentionRate(0.3, rest), causal=causal), TASK.tokens, [hook])
    expected = 0.3 * before[hook] + 0.7 * constant
    torch.testing.assert_close(for_a_while[hook], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(for_good[hook], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, math.inf])
def test_an_attention_rate_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(GrokinterpError, match=r"alpha"):
        AttentionRate(alpha)
    with pytest.raises(GrokinterpError, match="unknown rest 'twos'"):
        AttentionRate(0.5, "twos")  # type: ignore[arg-type]


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "bidirectional"])
def test_uniform_attention_weighs_all_that_may_be_seen_the_same(causal: bool) -> None:
    model = model_with(UniformAttention(), causal=causal)
    expected = torch.tensor([[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]]) if causal else torch.full((3, 3), 1 / 3)
    _, at = captured(model, TASK.tokens, ["blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"])
    for pattern in at.values():
        assert torch.equal(pattern, expected.expand_as(pattern))
    assert not [name for name in trained_parameters(model) if name[-3:] in ("W_Q", "W_K", "b_Q", "b_K")]
    plain = model_with(causal=causal)  # a model that attends can be made to attend uniformly for a while
    with UniformAttention().applied(plain, TASK):
        _, at = captured(plain, TASK.tokens, ["blocks.1.attn.hook_pattern"])
        torch.testing.assert_close(plain(TASK.tokens), model(TASK.tokens), rtol=0, atol=1e-12)
    assert torch.equal(at["blocks.1.attn.hook_pattern"], expected.expand(49, 2, 3, 3))
    assert not torch.allclose(plain(TASK.tokens), model(TASK.tokens))


def test_without_attention_the_separator_is_all_there_is_to_see_unless_positions_are_pooled() -> None:
    biases = ("attn", "mlp", "unembed")
    blind, seeing = model_with(NoAttention(), biases=biases), model_with(NoAttention(), MeanPool(), biases=biases)
    with torch.no_grad():
        torch.testing.assert_close(blind(TASK.tokens)[:, -1], blind(TASK.tokens[:1])[:, -1].expand(49, -1), rtol=0, atol=1e-12)
        x = (seeing.W_E[TASK.tokens] + seeing.W_pos).mean(1)
        for block in seeing.blocks:
            x = x + torch.relu(x @ block.mlp.W_in + block.mlp.b_in) @ block.mlp.W_out + block.mlp.b_out
        torch.testing.assert_close(seeing(TASK.tokens), (x @ seeing.W_U + seeing.b_U)[:, None].expand(-1, 3, -1), rtol=0, atol=1e-12)
    for model in (blind, seeing):
        assert not [name for name in trained_parameters(model) if ".attn." in name]


def test_cosine_logits_are_temperature_times_h_on_unit_columns() -> None:
    model, plain = model_with(CosineUnembed(7.0)), model_with()
    logits, at = captured(model, TASK.tokens, ["blocks.1.hook_resid_post"])
    free = dict(model.named_parameters())["unembed.W_U"].detach()
    assert torch.equal(free, plain.W_U.detach())
    expected = torch.stack([7 * at["blocks.1.hook_resid_post"] @ column / column.norm() for column in free.T], dim=-1)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.W_U.norm(dim=0), torch.full((8,), 7.0), rtol=0, atol=1e-12)
    with CosineUnembed(7.0).applied(plain, TASK):
        torch.testing.assert_close(plain(TASK.tokens), logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("build", [modular_addition, modular_multiplication])
def test_fourier_initialisation_writes_waves_of_the_group_and_nothing_else(build: Any) -> None:
    task = build(11)
    config = ModelConfig(d_model=16, n_heads=2, interventions=(FourierInit((2, 4), amplitude=0.5),))
    model, plain = build_model(config, task, seed=0), build_model(ModelConfig(d_model=16, n_heads=2), task, seed=0)
    elements, order = list(task.operation.tokens), task.operation.order
    power = torch.fft.rfft(model.W_E[elements][:, :4].double(), dim=0).abs().detach()
    assert power.argmax(0).tolist() == [2, 2, 4, 4]
    assert float(power.sort(0).values[:-1].max()) < 1e-5
    norms = model.W_E[elements][:, :4].double().square().reshape(order, 2, 2).sum(2)
    torch.testing.assert_close(norms, torch.full((order, 2), 0.25), rtol=0, atol=1e-6)
    with torch.no_grad():
        model.W_E[elements, :4] = plain.W_E[elements, :4]
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, dict(model.named_parameters())[name])


# Everything else goes on working


@pytest.mark.parametrize("arm", ARMS, ids=name_of)
def test_it_stays_in_force_below_a_users_hooks_in_copies_and_behind_the_shortcut(arm: tuple[InForce, ...]) -> None:
    model = model_with(*arm)
    with torch.no_grad():
        logits = model(TASK.tokens)
        seen: dict[str, Tensor] = {}
        names = [f"blocks.{i}.hook_resid_{place}" for i in (0, 1) for place in ("pre", "mid", "post")]
        model.run_with_hooks(TASK.tokens, fwd_hooks=[(name, lambda value, hook: seen.update({hook.name: value})) for name in names])
        # What a user sees is what goes on: each residual stream goes into the rest of the model unchanged.
        torch.testing.assert_close(model(seen["blocks.0.hook_resid_pre"], start_at_layer=0), logits, rtol=0, atol=1e-12)
        torch.testing.assert_close(model(seen["blocks.0.hook_resid_post"], start_at_layer=1), logits, rtol=0, atol=1e-12)
        assert torch.equal(seen["blocks.0.hook_resid_post"], seen["blocks.1.hook_resid_pre"])
        mid, block = seen["blocks.1.hook_resid_mid"], model.blocks[1]
        torch.testing.assert_close(seen["blocks.1.hook_resid_post"] @ model.W_U + model.b_U, logits, rtol=0, atol=1e-12)
        model.reset_hooks(including_permanent=True)
        assert torch.equal(model(TASK.tokens), logits)
        with model.hooks(fwd_hooks=readout_hooks(model, -1)):
            torch.testing.assert_close(model(TASK.tokens)[:, 0], logits[:, -1], rtol=0, atol=1e-12)
        twin = copy.deepcopy(model)
        for parameter in model.parameters():
            parameter.add_(1.0)
        assert torch.equal(twin(TASK.tokens), logits)
        twin.load_state_dict(model.state_dict())
        assert torch.equal(twin(TASK.tokens), model(TASK.tokens))
        assert mid.shape == (49, 3, block.cfg.d_model)


@pytest.mark.parametrize("arm", [(PostNorm(at_embedding=True),), (Sphere(), CosineUnembed()), (UniformAttention(),)], ids=name_of)
@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_mid", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"])
def test_a_tail_goes_on_from_the_activations_that_it_reports(arm: tuple[InForce, ...], hook: str) -> None:
    model, tokens = model_with(*arm, causal=False), TASK.tokens[::7]
    tail = Tail(model, hook)
    h, f = tail.resume(tokens)
    half = 0.5 * h
    with torch.no_grad():
        torch.testing.assert_close(_last(f(h)), model(tokens)[:, -1], rtol=0, atol=1e-12)
        whole = half if half.shape[1] == 3 else torch.zeros(7, 3, 16).index_copy(1, torch.tensor([2]), half)
        expected = model.run_with_hooks(tokens, fwd_hooks=[(hook, lambda value, hook: whole)])[:, -1]
        torch.testing.assert_close(_last(f(half)), expected, rtol=0, atol=1e-12)
    if hook == "blocks.1.hook_resid_post":
        exact = linear_observability(tail, None, 3)
        assert exact is not None
        sampled = sampled_observability(tail, lambda logits: logits, tokens, 7, None, torch.Generator().manual_seed(0))
        torch.testing.assert_close(exact, sampled, rtol=0, atol=1e-10)


def _last(logits: Tensor) -> Tensor:
    return logits if logits.ndim == 2 else logits[:, -1]


@pytest.mark.parametrize("arm", [(PostNorm(),), (Sphere(), CosineUnembed()), (NoAttention(), MeanPool())], ids=name_of)
def test_a_run_has_its_interventions_in_force_when_it_is_opened_again(tiny: RunConfig, arm: tuple[InForce, ...], tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    run = train(tiny.with_(steps=20, **{"model.interventions": arm}), tmp_path / "run", progress_bar=False)
    model = run.model()
    tokens = run.task.tokens
    with torch.no_grad():
        logits = model(tokens)[:, -1]
        torch.testing.assert_close(Snapshot(model, run.task).logits.float(), logits[:, : run.task.n_classes])
        loss = nn.functional.cross_entropy(logits[run.task.train].double(), run.task.answers[run.task.train])
        for intervention in arm:
            assert isinstance(intervention, Intervention)
    assert run.metrics["train_loss"].iloc[-1] == pytest.approx(loss.item(), rel=1e-5)
    assert run.metrics["train_loss"].iloc[-1] < run.metrics["train_loss"].iloc[0]


@dataclass(frozen=True)
class Tilt(InForce):
    """A class of a user's: later positions count more behind the first block."""

    by: float = 0.5
    kind: str = field(default="tilt", init=False, repr=False)

    def hooks(self, model: Any, task: Task) -> list[tuple[str, Any]]:
        return [("blocks.0.hook_resid_post", partial(_tilted, self.by))]


def _tilted(by: float, value: Tensor, hook: Any) -> Tensor:
    return value + by * value.flip(1)


def test_a_class_of_a_users_is_in_force_while_a_model_trains(tiny: RunConfig, tmp_path: Path) -> None:
    config = tiny.with_(steps=4, **{"model.interventions": (Tilt(0.3),)})
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    run = train(config, tmp_path / "run", progress_bar=False)
    assert [entry["path"] for entry in run.provenance["computed"]] == ["module"]
    model, plain = run.model(), build_model(replace(config.model, interventions=()), run.task, seed=0, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    with torch.no_grad(), Tilt(0.3).applied(plain, run.task):
        expected = plain(run.task.tokens)[:, -1, : run.task.n_classes].double()
    torch.testing.assert_close(Snapshot(model, run.task).logits, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(plain(run.task.tokens)[:, -1, : run.task.n_classes].double(), expected)
