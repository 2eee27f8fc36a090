"""The measures work on transformer-lens 3.9's TransformerBridge too, with equal numbers, so that 4.0 stays a change to one folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from grokinterp import FourierAblation, GrokinterpError, Snapshot, analyze, tasks
from grokinterp.ace import Core
from grokinterp.interventions import CosineUnembed, Intervention, MeanPool, NoAttention, PostNorm, Sphere, UniformAttention
from grokinterp.models import ModelConfig, build_model, convert
from grokinterp.tasks import Task

SHAPES = [
    ModelConfig(d_model=16, n_heads=2, d_mlp=24),
    ModelConfig(d_model=16, n_heads=2, d_mlp=24, n_layers=2, normalization="pre", act_fn="gelu", biases=("attn", "mlp", "unembed"), init="pytorch"),
]


@pytest.fixture(params=SHAPES, ids=["plain", "pre-LN"])
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any, Task]:
    task = tasks.modular_addition(11).split(0.5, seed=0)
    model = build_model(request.param, task, seed=0)
    return model, convert.bridge(model), task


def test_logits_are_equal(pair: tuple[Any, Any, Task]) -> None:
    model, bridge, task = pair
    with torch.no_grad():
        assert torch.allclose(model(task.tokens), bridge(task.tokens), atol=1e-5)


def test_every_measure_is_equal(pair: tuple[Any, Any, Task]) -> None:
    model, bridge, task = pair
    measures = ["progress", "spectrum", "fsd", "filtered_loss", "heads"]
    ours, theirs = (analyze(subject, measures, task=task).dataset for subject in (model, bridge))
    for name in set(ours.data_vars) - {"parameter_squares"}:  # the bridge names its parameters otherwise
        np.testing.assert_allclose(ours[name].to_numpy(), theirs[name].to_numpy(), rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("site", ["embed", "neurons", "logits"])
def test_ablation_is_equal(pair: tuple[Any, Any, Task], site: str) -> None:
    model, bridge, task = pair
    ablated = []
    for subject in (model, bridge):
        with torch.no_grad(), FourierAblation(site, (2, 3)).applied(subject, task):
            ablated.append(subject(task.tokens)[:, -1].double())
    assert torch.allclose(*ablated, atol=1e-5)


def logits_under(subject: Any, task: Task, intervention: Any) -> torch.Tensor:
    with torch.no_grad(), intervention.applied(subject, task):
        found: torch.Tensor = subject(task.tokens)
    return found


def core_at(hook: str) -> Core:
    directions = torch.linalg.qr(torch.randn(16, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    return Core(directions=directions, rank=3, spectrum=torch.ones(3).double(), mean=torch.ones(16).double(), hook=hook, centred=True)


INTERVENTIONS = [Sphere(), UniformAttention(), NoAttention(), MeanPool(), CosineUnembed(3.0)]
INTERVENTIONS += [core_at(f"blocks.0.{name}").remove() for name in ("hook_resid_pre", "hook_resid_mid", "hook_attn_out", "hook_resid_post")]


@pytest.mark.parametrize("intervention", INTERVENTIONS, ids=lambda intervention: getattr(intervention, "hook", "") or type(intervention).__name__)
def test_an_intervention_is_equal_or_refused(pair: tuple[Any, Any, Task], intervention: Any) -> None:
    model, bridge, task = pair
    if isinstance(intervention, CosineUnembed):
        for subject in (model, bridge):
            with torch.no_grad():
                subject.unembed.b_U.zero_()
    ours, theirs = (logits_under(subject, task, intervention) for subject in (model, bridge))
    assert torch.allclose(ours, theirs, atol=2e-5)
    assert not torch.allclose(ours, model(task.tokens), atol=1e-2)
    assert torch.allclose(bridge(task.tokens), model(task.tokens), atol=1e-5)  # nothing is left behind


def test_values_under_an_edit_between_attention_and_mlp_are_equal(pair: tuple[Any, Any, Task]) -> None:
    model, bridge, task = pair
    names = [f"blocks.0.hook_{name}" for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")]
    found = []
    for subject in (model, bridge):
        with Sphere().applied(subject, task):
            found.append([Snapshot(subject, task).readout(name) for name in names])
    for name, ours, theirs in zip(names, *found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5), name


def test_what_a_bridge_would_do_otherwise_is_refused(pair: tuple[Any, Any, Task]) -> None:
    _, bridge, task = pair
    with pytest.raises(GrokinterpError, match=r"hook_pattern changes nothing on this TransformerBridge, whose model attends by itself"):
        logits_under(bridge, task, Hooks(("blocks.0.attn.hook_pattern",)))
    with pytest.raises(GrokinterpError, match=r"PostNorm.* is exact on HookedTransformer; this model is a TransformerBridge"):
        logits_under(bridge, task, PostNorm())


@dataclass(frozen=True)
class Hooks(Intervention):
    names: tuple[str, ...]

    def hooks(self, model: Any, task: Task) -> list[tuple[str, Any]]:
        return [(name, lambda value, hook: 0.5 * value) for name in self.names]


def test_an_edit_that_never_fires_is_an_error(pair: tuple[Any, Any, Task]) -> None:
    for subject in pair[:2]:
        with pytest.raises(GrokinterpError, match=r"unknown hook 'blocks.0.hook_resid_pst'; did you mean blocks.0.hook_resid_post"):
            logits_under(subject, pair[2], Hooks(("blocks.0.hook_resid_pst",)))
        with pytest.raises(GrokinterpError, match=r"never fires on this model; call model.set_use_hook_mlp_in\(True\) first"):
            logits_under(subject, pair[2], Hooks(("blocks.0.hook_mlp_in",)))
        with pytest.raises(GrokinterpError, match="without a hook changes nothing"):
            logits_under(subject, pair[2], Hooks(()))
    model, _, task = pair
    with (
        pytest.raises(GrokinterpError, match=r"blocks.0.hook_resid_post never fired in 1 passes"),
        Hooks(("blocks.0.hook_resid_post",)).applied(model, task),
    ):
        model(task.tokens, stop_at_layer=0)
    with Hooks(("blocks.0.hook_resid_post",)).applied(model, task):
        pass  # nothing ran
    with pytest.raises(RuntimeError, match="stop"), Hooks(("blocks.0.hook_resid_post",)).applied(model, task):
        raise RuntimeError("stop")
