"""Ablation by hooks against the direct computation, on a published model, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from grokinterp import FourierAblation, GrokinterpError, published, tasks
from grokinterp.groups.fourier import component_frequencies, fourier_basis, pair_spectrum
from grokinterp.measures.progress import progress
from grokinterp.models import ModelConfig, build_model
from grokinterp.snapshot import Snapshot


def run(model, task, ablation=None, tokens=None):
    tokens = task.tokens if tokens is None else tokens
    with torch.no_grad():
        if ablation is None:
            return model(tokens)[:, -1]
        with ablation.applied(model, task):
            return model(tokens)[:, -1]


def model_for(task, dtype=torch.float64):
    return build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24), task, seed=0, dtype=dtype)


@pytest.mark.parametrize("build", [tasks.modular_addition, tasks.modular_division])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ablation_at_the_logits_is_restricted_and_excluded_loss(build, dtype) -> None:
    task = build(13).split(0.4, seed=0)
    model = model_for(task, dtype)
    measured = progress(Snapshot(model, task), frequencies=[2, 5])
    pairs, elements = task.pairs.flatten(), task.operation.token_of
    element_of = torch.argsort(elements) if task.operation.order == 13 else torch.cat([torch.tensor([-1]), torch.argsort(elements)])
    answers, train = element_of[task.answers[pairs]], task.train[pairs]
    for mode, name in (("keep", "restricted_loss"), ("remove", "excluded_loss")):
        logits = run(model, task, FourierAblation("logits", (2, 5), mode))[pairs][:, elements]
        assert logits.dtype == torch.float64
        assert cross_entropy(logits, answers).item() == pytest.approx(float(measured[name].sel(split="all")), abs=1e-10)
        assert cross_entropy(logits[train], answers[train]).item() == pytest.approx(float(measured[name].sel(split="train")), abs=1e-10)


def test_published_model_needs_its_key_frequencies_at_the_neurons(published_path: Path) -> None:
    found = published.load(published_path)
    model, task = found.model, found.task
    measured = progress(Snapshot(model, task))
    keys = tuple(measured["key_frequency"].to_numpy().tolist())
    others = (1, 2, 10, 20, 50)

    def accuracy(ablation) -> float:
        return (run(model, task, ablation)[:, :113].argmax(-1) == task.answers).double().mean().item()

    assert accuracy(FourierAblation("neurons", keys)) <= 2 / 113
    assert accuracy(FourierAblation("neurons", others)) >= 0.99
    assert accuracy(FourierAblation("neurons", keys, "keep")) >= 0.99
    assert accuracy(FourierAblation("embed", keys)) <= 0.05
    logits = run(model, task, FourierAblation("logits", keys, "keep"))[:, :113]
    assert cross_entropy(logits, task.answers).item() == pytest.approx(float(measured["restricted_loss"].sel(split="all")), abs=1e-10)


@pytest.mark.parametrize("p", [7, 12])
def test_ablation_at_the_neurons_removes_just_its_blocks(p: int) -> None:
    task = tasks.modular_addition(p)
    model = model_for(task)
    frequencies = (1, p // 2)
    clean, ablated = [], []
    hook = "blocks.0.mlp.hook_post"
    with torch.no_grad():
        model.run_with_hooks(task.tokens, fwd_hooks=[(hook, lambda value, hook: clean.append(value))])
        ablation = FourierAblation("neurons", frequencies).hooks(model, task)
        model.run_with_hooks(task.tokens, fwd_hooks=[*ablation, (hook, lambda value, hook: ablated.append(value))])
    assert torch.equal(clean[0][:, :-1], ablated[0][:, :-1])  # only the read-out position
    before, after = (pair_spectrum(values[0][:, -1].reshape(p, p, -1)) for values in (clean, ablated))
    k = torch.from_numpy(component_frequencies(p))
    in_block = torch.zeros(p, p, dtype=torch.bool)
    for frequency in frequencies:
        member = (k == 0) | (k == frequency)
        in_block |= member[:, None] & member[None, :]
    in_block[0, 0] = False
    assert torch.allclose(after[in_block], torch.zeros(1, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(after[~in_block], before[~in_block], atol=1e-12)


@pytest.mark.parametrize("mode", ["keep", "remove"])
def test_ablation_at_the_embedding_is_that_of_the_weights(mode: str) -> None:
    task = tasks.modular_addition(7)
    model = model_for(task)
    batch = task.tokens[[3, 40, 11]]
    ablated = run(model, task, FourierAblation("embed", (2,), mode), batch)
    rows = fourier_basis(7)[[3, 4]]
    weights = model.embed.W_E.data[:7].clone()
    part = rows.T @ (rows @ weights)
    model.embed.W_E.data[:7] = weights - part if mode == "remove" else part + weights.mean(0)
    assert torch.allclose(ablated, run(model, task, tokens=batch), atol=1e-12)


@pytest.mark.parametrize("site", ["embed", "neurons", "logits"])
def test_no_hook_is_left_behind_after_an_exception(site: str) -> None:
    task = tasks.modular_addition(7)
    model = model_for(task)
    before = run(model, task)
    with pytest.raises(RuntimeError, match="stop"), FourierAblation(site, (1,)).applied(model, task):
        raise RuntimeError("stop")
    assert all(not module._forward_hooks for module in model.modules())
    assert torch.equal(run(model, task), before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FourierAblation("neuron", (1,)), "did you mean neurons"),
        (lambda: FourierAblation("neurons", (1,), "drop"), "unknown mode 'drop'"),
        (lambda: _apply(FourierAblation("neurons", (4,))), "lie in 1 … 3; got 4"),
        (lambda: _apply(FourierAblation("neurons", (1,)), n=5), "full table of 49 examples as its batch; got 5"),
        (lambda: _apply(FourierAblation("neurons", (1,)), task=tasks.modular_quadratic(7)), "no cyclic group"),
        (lambda: FourierAblation("embed", (1,)).hooks(None, tasks.modular_addition(7)), "has to see the tokens"),
    ],
)
def test_bad_input_is_named(call, message) -> None:
    with pytest.raises(GrokinterpError, match=message):
        call()


def _apply(ablation, n=None, task=None):
    task = task or tasks.modular_addition(7)
    return run(model_for(task), task, ablation, task.tokens[:n])
