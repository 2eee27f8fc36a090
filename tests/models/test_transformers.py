"""Initialisation against the authors' recorded initial loss and against closed forms; weights in and out."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from grokinterp import GrokinterpError, presets, tasks
from grokinterp.models import ModelConfig, build_model, load_weights, trained_parameters


def test_initialisation_reproduces_the_published_initial_loss() -> None:
    """Seed 1 of the published run: recorded initial train loss 4.7769121628."""
    config = presets.nanda2023(p=113, seed=1)
    task = config.task.build()
    model = build_model(config.model, task, seed=1)
    train = task.indices("train")
    with torch.no_grad():
        logits = model(task.tokens[train])[:, -1].double()
    assert cross_entropy(logits, task.answers[train]).item() == pytest.approx(4.7769121628, abs=1e-8)


def test_pytorch_initialisation_has_its_distributions() -> None:
    task = tasks.modular_addition(97)
    config = ModelConfig(n_layers=2, act_fn="gelu", normalization="pre", biases=("attn", "mlp", "unembed"), init="pytorch")
    weights = trained_parameters(build_model(config, task, seed=0))
    assert weights["embed.W_E"].std().item() == pytest.approx(1.0, abs=0.02)
    for name, fan_in in [("blocks.0.attn.W_Q", 128), ("blocks.1.attn.b_O", 128), ("blocks.1.mlp.W_out", 512), ("unembed.W_U", 128)]:
        values, bound = weights[name], 1 / math.sqrt(fan_in)
        assert values.abs().max() <= bound
        assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.25)
    assert bool((weights["ln_final.w"] == 1).all())
    assert bool((weights["blocks.0.ln1.b"] == 0).all())


def test_absent_biases_are_zero_and_not_trained() -> None:
    model = build_model(ModelConfig(biases=("mlp",), init="pytorch"), tasks.modular_addition(7), seed=0)
    names = set(trained_parameters(model))
    assert "blocks.0.mlp.b_in" in names
    assert not names & {"blocks.0.attn.b_Q", "unembed.b_U"}
    assert bool((model.unembed.b_U == 0).all())


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    task = tasks.modular_addition(7)
    one, same, other = (build_model(ModelConfig(), task, seed=seed).W_E for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    task = tasks.modular_addition(7)
    model = build_model(ModelConfig(d_model=16, n_heads=2), task, seed=0)
    weights = {name: value.clone() for name, value in trained_parameters(model).items()}
    with pytest.raises(GrokinterpError, match=r"missing: blocks.0.mlp.b_in$"):
        load_weights(model, {name: value for name, value in weights.items() if name != "blocks.0.mlp.b_in"})
    with pytest.raises(GrokinterpError, match=r"of another shape: embed.W_E \(3, 16\), wanted \(8, 16\)$"):
        load_weights(model, weights | {"embed.W_E": weights["embed.W_E"][:3]})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_layers": 0}, "n_layers must be at least 1; got 0"),
        ({"d_model": 30, "n_heads": 4}, "30 is not a multiple of n_heads 4"),
        ({"act_fn": "silu"}, "unknown act_fn 'silu'"),
        ({"biases": ("atn",)}, "did you mean attn"),
        ({"init": "nanda"}, "did you mean nanda2023"),
        ({"d_mlp": -1}, "got -1"),
    ],
)
def test_bad_settings_name_the_value(settings, message) -> None:
    with pytest.raises(GrokinterpError, match=message):
        ModelConfig(**settings)
