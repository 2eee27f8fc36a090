"""The two-sided MLP against its formula, against the MLP that it is a case of, and against published training losses."""

from __future__ import annotations

import pytest
import torch

from grokinterp import GrokinterpError, presets, tasks
from grokinterp.models import MLPConfig, TwoSidedMLPConfig, build_model
from grokinterp.training.learner import ModuleLearner


def small() -> tuple:
    task = tasks.composition("D_3", separate=True, equals=False)
    return task, build_model(TwoSidedMLPConfig(d_model=5, d_hidden=7), task, seed=0, dtype=torch.float64)


def test_it_is_the_formula_with_and_without_hooks() -> None:
    """The fast path maps each token once; hooks on the embedding take the slow one, and both see every edit."""
    task, model = small()
    E, W, U = model.W_E, model.blocks[0].W_in, model.W_U
    x, y = task.tokens.unbind(1)
    expected = torch.relu(E[x] @ W[:5] + E[y] @ W[5:]) @ U
    torch.testing.assert_close(model(task.tokens)[:, 0], expected, atol=1e-12, rtol=0)
    seen: list[torch.Size] = []
    for hook in ("hook_embed", "blocks.0.hook_sides", "blocks.0.hook_pre", "blocks.0.hook_post", "unembed.hook_in", "unembed.hook_out"):
        logits = model.run_with_hooks(task.tokens, fwd_hooks=[(hook, lambda value, hook: seen.append(value.shape))])
        torch.testing.assert_close(logits[:, 0], expected, atol=1e-12, rtol=0)
    assert seen == [(36, 2, 5), (36, 2, 7), (36, 1, 7), (36, 1, 7), (36, 1, 7), (36, 1, 6)]
    doubled = model.run_with_hooks(task.tokens, fwd_hooks=[("hook_embed", lambda value, hook: 2 * value)])
    torch.testing.assert_close(doubled[:, 0], 2 * expected, atol=1e-12, rtol=0)  # ReLU networks without biases are homogeneous
    model.embed.register_forward_hook(lambda module, inputs, output: 3 * output)
    torch.testing.assert_close(model(task.tokens)[:, 0], 3 * expected, atol=1e-12, rtol=0)


def test_gradients_of_both_paths_agree() -> None:
    task, model = small()
    found = []
    for hooks in ([], [("hook_embed", lambda value, hook: value)]):
        model.zero_grad()
        model.run_with_hooks(task.tokens, fwd_hooks=hooks).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    for fast, slow in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-12, rtol=1e-12)


def test_it_is_the_concatenated_mlp_without_biases() -> None:
    task, model = small()
    other = build_model(MLPConfig(n_layers=1, d_model=5, d_hidden=7, outputs="classes"), task, seed=1, dtype=torch.float64)
    with torch.no_grad():
        other.embed.W_E.copy_(model.W_E)
        other.blocks[0].W_in.copy_(model.blocks[0].W_in)
        other.blocks[0].b_in.zero_()
        other.unembed.W_U.copy_(model.W_U)
    torch.testing.assert_close(model(task.tokens), other(task.tokens), atol=1e-12, rtol=0)


def test_the_first_step_on_s5_is_the_published_one() -> None:
    """arXiv 2302.03025's recorded losses of S5_MLP_seed2 after one step: the same split, weights, numbering and optimizer."""
    config = presets.groups2023("S_5", seed=2)
    learner = ModuleLearner(config, config.task.build())
    learner.step(0, None)
    (metrics,) = learner.evaluate()
    assert metrics["train_loss"] == pytest.approx(4.78395765, abs=2e-8)
    assert metrics["test_loss"] == pytest.approx(4.79034795, abs=2e-8)


def test_one_hidden_layer_it_is() -> None:
    with pytest.raises(GrokinterpError, match="has one hidden layer; got n_layers = 2"):
        TwoSidedMLPConfig(n_layers=2)
