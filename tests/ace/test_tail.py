"""A tail that resumes late gives the numbers of the whole model, on every road through it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from ace_models import PLAIN, PRE_LN

from grokinterp import GrokinterpError
from grokinterp.ace import Tail
from grokinterp.models import build_model
from grokinterp.models.convert import bridge
from grokinterp.tasks import Task

HOOKS = ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", "blocks.1.hook_resid_pre", "blocks.1.hook_resid_post", "blocks.0.hook_mlp_out"]


def through_hooks(model: Any, task: Task, hook: str, positions: Any, change: Any) -> torch.Tensor:
    """The same edit as a plain hook on the whole model."""

    def edit(value: torch.Tensor, hook: Any) -> torch.Tensor:
        value = value.clone()
        at = slice(None) if positions == "all" else positions
        value[:, at] = change(value[:, at])
        return value

    with torch.no_grad():
        return model.run_with_hooks(task.tokens, fwd_hooks=[(hook, edit)])


@pytest.mark.parametrize("hook", [*HOOKS, "unembed.hook_in", "ln_final.hook_normalized", "hook_embed"])
@pytest.mark.parametrize("positions", ["all", 0, -1])
@pytest.mark.parametrize("readout", ["all", 1, -1])
def test_resuming_equals_running_with_a_hook(model: Any, task: Task, hook: str, positions: Any, readout: Any) -> None:
    if hook not in model.hook_dict:
        pytest.skip("the plain model has no final LayerNorm")
    expected = through_hooks(model, task, hook, positions, lambda h: 1.5 * h - 0.1)
    expected = expected if readout == "all" else expected[:, readout]
    with torch.no_grad():
        h, logits = Tail(model, hook, positions, readout).resume(task.tokens)
        assert torch.allclose(logits(1.5 * h - 0.1), expected, atol=1e-10)
        assert torch.allclose(logits(h), model(task.tokens) if readout == "all" else model(task.tokens)[:, readout], atol=1e-10)
    assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("positions", ["all", 1, -1])
def test_attention_both_ways_needs_every_position(task: Task, positions: Any) -> None:
    model = build_model(replace(PLAIN, causal=False), task, seed=0, dtype=torch.float64)
    hook = "blocks.0.hook_resid_post"
    h, logits = Tail(model, hook, positions, -1).resume(task.tokens)
    assert torch.allclose(logits(2 * h), through_hooks(model, task, hook, positions, lambda h: 2 * h)[:, -1], atol=1e-10)


def test_only_the_readout_position_goes_on_where_nothing_else_can_matter(task: Task) -> None:
    model = build_model(PRE_LN, task, seed=0)
    seen: list[tuple[int, ...]] = []
    hook, last = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"
    for tail in (Tail(model, hook, -1, -1), Tail(model, last, "all", -1), Tail(model, hook, 1, 1)):
        h, logits = tail.resume(task.tokens)
        with model.hooks(fwd_hooks=[("ln_final.hook_normalized", lambda value, hook: seen.append(tuple(value.shape)))]):
            logits(h)
    assert seen == [(49, 1, 16)] * 3


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("positions", ["all", -1])
def test_a_bridge_gives_the_same_tail_and_gradient(task: Task, hook: str, positions: Any) -> None:
    model = build_model(PRE_LN, task, seed=0)
    results = []
    for subject in (model, bridge(model)):
        tail = Tail(subject, hook, positions, -1)
        h, logits = tail.resume(task.tokens)
        h = h.detach().requires_grad_()
        y = logits(h)
        (gradient,) = torch.autograd.grad(y[:, 2].sum(), h)
        results.append((y.detach(), gradient[:, -1], tail.activations(task.tokens)))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, atol=2e-5)


def test_hooks_that_hold_no_activations_are_named(model: Any, task: Task) -> None:
    with pytest.raises(GrokinterpError, match=r"did you mean blocks\.1\.hook_resid_pre"):
        Tail(model, "blocks.1.resid_pre")
    with pytest.raises(GrokinterpError, match=r"hook_z has \(49, 3, 2, 8\)"):
        Tail(model, "blocks.0.attn.hook_z").activations(task.tokens)
    with pytest.raises(GrokinterpError, match="position 5 is not in a sequence of 3"):
        Tail(model, "blocks.0.hook_resid_post", positions=5).activations(task.tokens)
