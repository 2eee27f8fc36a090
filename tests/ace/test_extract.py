"""Cores that were planted are found; matrices equal Jacobians taken another way; changes of basis do what theory says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ace_models import PLAIN, PRE_LN, orthogonal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from grokinterp import GrokinterpError
from grokinterp.ace import Moments, Tail, energy_rank, extract, from_matrices, overlap, principal_angles
from grokinterp.ace.moments import linear_observability, sampled_observability
from grokinterp.models import build_model
from grokinterp.models.convert import bridge
from grokinterp.tasks import Task

pytestmark = pytest.mark.lens4

LAST = "blocks.1.hook_resid_post"


def random_matrices(d: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(2, d, d, generator=generator, dtype=torch.float64)
    cov, obs = factors @ factors.mT
    return cov, obs


def observability(tail: Tail, tokens: Tensor, outputs: Any = lambda logits: logits, sketch: int | None = None, seed: int = 0) -> Tensor:
    return sampled_observability(tail, outputs, tokens, 16, sketch, torch.Generator().manual_seed(seed))


def by_jacrev(tail: Tail, tokens: Tensor) -> Tensor:
    """Mean of JᵀJ over examples, summed over positions, one example at a time."""
    total = torch.zeros(())
    for example in tokens:
        h, logits = tail.resume(example[None])
        jacobian = torch.func.jacrev(logits)(h)
        flat = jacobian.reshape(-1, *h.shape[1:]).flatten(0, -2) if h.shape[1] == 1 else jacobian.reshape(-1, h.shape[1], h.shape[2]).flatten(0, 1)
        total = total + flat.T @ flat
    return total / len(tokens)


# The planted core


@pytest.mark.parametrize("score", [None, "margin"])
def test_a_planted_core_is_found_where_variance_and_gradients_mislead(planted: Any, score: str | None) -> None:
    model, tokens, planes, mean = planted()
    hook = "blocks.0.hook_resid_post"
    core = extract(model, tokens, hook, energy=0.99)
    assert core.rank == 2
    assert float(principal_angles(core, planes["core"]).max()) < 0.1
    assert torch.allclose(core.mean, mean, atol=1e-10)
    moments = Moments()
    moments.update(Tail(model, hook).activations(tokens))
    loudest = torch.linalg.eigh(moments.covariance).eigenvectors[:, -2:]
    sharpest = torch.linalg.svd(model.W_U.detach()).U[:, :2]
    assert float(principal_angles(loudest, planes["loud"]).max()) < 0.1
    assert float(principal_angles(sharpest, planes["sharp"]).max()) < 0.1
    if score:  # a scalar that reads the first core axis, and loudly one that never moves
        reader = torch.linalg.solve(model.W_U.detach(), planes["core"][:, 0] + 50 * planes["sharp"][:, 0])
        scored = extract(model, tokens, hook, score=lambda logits: logits @ reader)
        assert scored.rank == 1
        assert float(principal_angles(scored, planes["core"][:, :1])) < 0.1


def test_a_planted_core_is_found_in_sampling_noise() -> None:
    d, n = 30, 40_000
    generator = torch.Generator().manual_seed(0)
    axes = orthogonal(d)
    spread, gain = torch.full((d,), 0.01).double(), torch.full((d,), 0.01).double()
    spread[:4], gain[:4] = torch.tensor([1.0, 1.0, 1.5, 1e-4]), torch.tensor([1.0, 1.0, 0.0, 50.0])
    moments = Moments()
    for _ in range(8):
        moments.update(torch.randn(n // 8, d, generator=generator, dtype=torch.float64) * spread @ axes.T)
    core = from_matrices(moments.covariance, axes * gain.square() @ axes.T, energy=0.99)
    assert core.rank == 2
    assert float(principal_angles(core, axes[:, :2]).max()) < 1


def test_keeping_the_planted_core_keeps_the_outputs_and_removing_it_silences_them(planted: Any) -> None:
    model, tokens, _, _ = planted()
    core = extract(model, tokens, "blocks.0.hook_resid_post", centred=True)

    def variance() -> float:
        with torch.no_grad():
            return float(model(tokens)[:, -1].var(0).sum())

    base = variance()
    with core.keep().applied(model):
        assert variance() == pytest.approx(base, rel=0.01)
    with core.remove().applied(model):
        assert variance() < 0.01 * base


# The two matrices


def test_streamed_moments_are_those_of_all_at_once() -> None:
    x = 1e4 + torch.randn(100, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = Moments()
    for batch in x.split([1, 49, 30, 20]):
        moments.update(batch)
    assert moments.n == 100
    assert torch.allclose(moments.mean, x.mean(0))
    assert torch.allclose(moments.covariance, torch.cov(x.T))


def test_every_position_is_a_sample(model: Any, task: Task) -> None:
    core = extract(model, task, "blocks.0.hook_resid_post", rank=2)
    assert core.provenance["activations"] == str(49 * 3)
    with torch.no_grad():
        _, cache = model.run_with_cache(task.tokens)
    assert torch.allclose(core.mean, cache["blocks.0.hook_resid_post"].mean((0, 1)))


@pytest.mark.parametrize(
    ("config", "hook"), [(PLAIN, LAST), (PLAIN, "unembed.hook_in"), (PRE_LN, "unembed.hook_in"), (PRE_LN, "ln_final.hook_normalized")]
)
@pytest.mark.parametrize("readout", [-1, "all"])
def test_a_linear_tail_is_read_off_its_weights(task: Task, config: Any, hook: str, readout: Any) -> None:
    model = build_model(config, task, seed=0, dtype=torch.float64)
    if config.normalization == "pre":
        torch.nn.init.uniform_(model.ln_final.w, 0.5, 2, generator=torch.Generator().manual_seed(0))
    for subject in (model, bridge(model).double()):
        tail = Tail(subject, hook, "all", readout)
        exact = linear_observability(tail, None, 3)
        assert exact is not None
        assert torch.allclose(exact, by_jacrev(tail, task.tokens[:2]), atol=1e-10)
        assert torch.allclose(exact, observability(tail, task.tokens[:5]), atol=1e-10)


def test_tails_that_are_not_linear_are_not_taken_for_it(task: Task) -> None:
    for config, hook in ((PRE_LN, LAST), (PLAIN, "blocks.0.hook_resid_post"), (PLAIN, "blocks.1.hook_mlp_out")):
        assert linear_observability(Tail(build_model(config, task, seed=0), hook), None, 3) is None
    capped = build_model(PLAIN, task, seed=0)
    capped.cfg.output_logits_soft_cap = 30.0
    assert linear_observability(Tail(capped, LAST), None, 3) is None


@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_post", LAST, "blocks.1.hook_mlp_out"])
@pytest.mark.parametrize("positions", ["all", -1])
@pytest.mark.parametrize("readout", ["all", -1])
def test_batched_products_are_the_jacobians(model: Any, task: Task, hook: str, positions: Any, readout: Any) -> None:
    tail = Tail(model, hook, positions, readout)
    tokens = task.tokens[::6]
    assert torch.allclose(observability(tail, tokens), by_jacrev(tail, tokens), rtol=1e-8, atol=1e-10)


def test_a_scalar_score_gives_the_mean_of_its_squared_gradients(model: Any, task: Task) -> None:
    tail = Tail(model, "blocks.0.hook_resid_post", -1, -1)
    tokens = task.tokens[::5]

    def gradient(example: Tensor) -> Tensor:
        h, logits = tail.resume(example[None])
        return torch.func.grad(lambda x: margin(logits(x))[0])(h)[0, 0]

    def margin(logits: Tensor) -> Tensor:
        return logits[..., 1] - logits[..., 2]

    gradients = torch.stack([gradient(example) for example in tokens])
    measured = observability(tail, tokens, lambda logits: margin(logits)[..., None])
    assert torch.allclose(measured, gradients.T @ gradients / len(tokens), atol=1e-10)


@pytest.mark.parametrize("readout", ["all", -1])
def test_a_sketch_is_unbiased(task: Task, readout: Any) -> None:
    model = build_model(PRE_LN, task, seed=0, dtype=torch.float64)
    tail = Tail(model, "blocks.0.hook_resid_post", "all", readout)
    tokens = task.tokens[:16]
    exact = observability(tail, tokens)
    draws = torch.stack([observability(tail, tokens, sketch=4, seed=seed) for seed in range(60)])
    error = (draws.mean(0) - exact) / (draws.std(0) / len(draws) ** 0.5)
    assert float(error.abs().max()) < 5
    assert float(error.square().mean()) < 2
    assert float((draws[0] - exact).norm() / exact.norm()) < 0.5


# What theory says about changes of basis


@settings(max_examples=20)
@given(d=st.integers(2, 10), seed=st.integers(0, 1000), data=st.data())
def test_an_orthogonal_change_of_the_residual_basis_turns_the_core_with_it(d: int, seed: int, data: st.DataObject) -> None:
    cov, obs = random_matrices(d, seed)
    r = orthogonal(d, seed + 1)
    rank = data.draw(st.integers(1, d))
    core, turned = from_matrices(cov, obs, rank=rank), from_matrices(r @ cov @ r.T, r @ obs @ r.T, rank=rank)
    assert torch.allclose(turned.spectrum, core.spectrum, rtol=1e-6, atol=1e-8 * float(core.spectrum[0]))
    assert torch.allclose(turned.projector, r @ core.projector @ r.T, atol=1e-4)


def test_a_general_change_of_basis_carries_core_and_spectrum_along() -> None:
    d, rank = 8, 3
    cov, obs = random_matrices(d, 3)
    m = torch.randn(d, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 3 * torch.eye(d)
    inverse = torch.linalg.inv(m)
    core, moved = from_matrices(cov, obs, rank=rank), from_matrices(m @ cov @ m.T, inverse.T @ obs @ inverse, rank=rank)
    assert torch.allclose(moved.spectrum, core.spectrum, rtol=1e-4)
    assert float(principal_angles(moved, torch.linalg.qr(m @ core.basis).Q).max()) < 0.01


def test_the_kept_function_is_equivariant_where_the_core_holds_all_activity() -> None:
    """An orthogonal projector follows no general change of basis in directions off the core, so there it is true only of activity on it."""
    d, rank = 8, 3
    generator = torch.Generator().manual_seed(0)
    writers, readers = torch.randn(2, d, rank, generator=generator, dtype=torch.float64)
    h = torch.randn(200, rank, generator=generator, dtype=torch.float64) @ writers.T
    m = torch.randn(d, d, generator=generator, dtype=torch.float64) + 3 * torch.eye(d)
    moved_readers = torch.linalg.inv(m).T @ readers
    for x, read in ((h, readers), (h @ m.T, moved_readers)):
        core = from_matrices(torch.cov(x.T), read @ read.T, rank=rank)
        assert torch.allclose(core.keep()(x) @ read, h @ readers, atol=1e-4)


def test_squared_singular_values_add_up_to_the_variance_of_the_linearised_outputs() -> None:
    cov, obs = random_matrices(6, 5)
    core = from_matrices(cov, obs, rank=2)
    assert float(core.spectrum.square().sum()) == pytest.approx(float((cov @ obs).trace()), rel=1e-5)


@pytest.mark.parametrize(("energy", "rank"), [(0.5, 1), (0.8, 1), (0.81, 2), (0.99, 2), (1.0, 3)])
def test_energy_rank_is_the_first_that_reaches_the_share(energy: float, rank: int) -> None:
    assert energy_rank(torch.tensor([80.0, 19.0, 1.0]).double().sqrt(), energy) == rank


# The whole way


@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_post", LAST])
@pytest.mark.parametrize("positions", ["all", -1])
def test_a_bridge_has_the_same_core(task: Task, hook: str, positions: Any) -> None:
    model = build_model(PRE_LN, task, seed=0)
    ours, theirs = (extract(subject, task, hook, rank=3, positions=positions) for subject in (model, bridge(model)))
    # The roads may average over different numbers of positions, never with different shares.
    assert torch.allclose(ours.spectrum, theirs.spectrum, rtol=1e-3, atol=1e-4 * float(ours.spectrum[0]))
    assert overlap(ours, theirs) > 0.9999


def test_the_batch_size_changes_nothing_and_the_seed_little(model: Any, task: Task) -> None:
    hook = "blocks.0.hook_resid_post"
    cores = [extract(model, task, hook, rank=2, batch_size=size) for size in (7, 49)]
    assert torch.allclose(cores[0].projector, cores[1].projector, atol=1e-8)
    sketched = extract(model, task, hook, rank=2, sketch=64)
    assert overlap(cores[0], sketched) > 0.95
    again = extract(model, task, hook, rank=2, sketch=64)
    assert torch.equal(sketched.directions, again.directions)
    sampled = extract(model, task, hook, rank=2, split="test", n_jacobians=10)
    assert sampled.provenance["jacobians"] == "10"
    assert sampled.provenance["activations"] == str(3 * len(task.indices("test")))


def test_extraction_leaves_the_model_as_it_was(model: Any, task: Task) -> None:
    before = model(task.tokens)
    extract(model, task, "blocks.0.hook_resid_post", rank=2)
    assert torch.equal(model(task.tokens), before)
    assert all(not module._forward_hooks and not module._backward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hook": "blocks.0.hook_post"}, "unknown hook 'blocks.0.hook_post'; did you mean"),
        ({"rank": 17}, "lies in 1 … d_model = 16; got 17"),
        ({"energy": 1.5}, r"share in \(0, 1\]; got 1.5"),
        ({"score": lambda logits: logits}, "one number for each read-out"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"sketch": 0}, "sketch must be at least 1"),
        ({"hook": "blocks.1.hook_resid_post", "positions": 0}, "the outputs do not depend on the hook at these positions"),
        ({"hook": "blocks.0.hook_resid_pre", "positions": 2}, "do not vary over these inputs"),
    ],
)
def test_bad_input_is_named(model: Any, task: Task, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        extract(model, task, **{"hook": "blocks.0.hook_resid_post", **settings})


def test_too_many_outputs_ask_for_a_sketch(monkeypatch: pytest.MonkeyPatch, model: Any, task: Task) -> None:
    monkeypatch.setattr("grokinterp.ace.moments.MOST_OUTPUTS", 5)
    with pytest.raises(GrokinterpError, match="sketch=16"):
        extract(model, task, "blocks.0.hook_resid_post")
    assert extract(model, task, "blocks.0.hook_resid_post", sketch=2).rank >= 1


@pytest.mark.parametrize(
    ("cov", "obs", "settings", "message"),
    [
        (torch.eye(3), torch.eye(2), {}, "differ in shape"),
        (torch.eye(3), torch.zeros(3, 3), {}, "observability is zero"),
        (torch.triu(torch.ones(3, 3)), torch.eye(3), {}, "covariance must be finite and symmetric"),
        (torch.eye(3), torch.eye(3) * float("nan"), {}, "observability must be finite"),
        (torch.eye(3), torch.eye(3), {"centred": True}, "pass the mean"),
    ],
)
def test_bad_matrices_are_named(cov: Tensor, obs: Tensor, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        from_matrices(cov.double(), obs.double(), **settings)
