"""Weights of one's own: wrappers are taken off, all that does not fit is in one message, and after a refusal the model is as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from grokinterp import GrokinterpError
from grokinterp.models import ModelConfig, build_model, load_weights, trained_parameters
from grokinterp.models.layouts import listed
from grokinterp.tasks import modular_addition

CONFIG = ModelConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=24)
Weights = dict[str, Tensor]


def fresh(seed: int = 0, config: ModelConfig = CONFIG) -> Any:
    return build_model(config, modular_addition(7), seed=seed)


def weights_of(model: Any) -> Weights:
    return {name: value.detach().clone() for name, value in trained_parameters(model).items()}


READ: dict[str, Callable[[Any], Any]] = {
    "trained parameters": weights_of,
    "the whole state dict": lambda model: model.state_dict(),
    "torch.compile": lambda model: {f"_orig_mod.{name}": value for name, value in weights_of(model).items()},
    "DataParallel": lambda model: {f"module.{name}": value for name, value in model.state_dict().items()},
    "both": lambda model: {f"module._orig_mod.{name}": value for name, value in weights_of(model).items()},
    "parameters": lambda model: dict(model.named_parameters()),
    "another precision": lambda model: {name: value.double() for name, value in weights_of(model).items()},
}


@pytest.mark.parametrize("layout", READ)
def test_the_same_weights_in_another_wrapping_are_read(layout: str) -> None:
    source, model = fresh(seed=1), fresh(seed=2)
    load_weights(model, READ[layout](source))
    for name, value in source.named_parameters():
        assert torch.equal(dict(model.named_parameters())[name], value), name


def test_a_frozen_model_takes_all_its_weights() -> None:
    source, model = fresh(seed=1), fresh(seed=2).requires_grad_(False)
    load_weights(model, source.state_dict())
    assert torch.equal(model.W_E, source.W_E)


def without(*names: str) -> Callable[[Weights], Any]:
    return lambda weights: {name: value for name, value in weights.items() if name not in names}


def with_(**changes: Any) -> Callable[[Weights], Any]:
    return lambda weights: weights | {name.replace("__", "."): value for name, value in changes.items()}


REFUSED: dict[str, tuple[Callable[[Weights], Any], str]] = {
    "one missing": (without("pos_embed.W_pos"), "missing: pos_embed.W_pos$"),
    "many missing": (without("blocks.0.mlp.b_in", "blocks.1.mlp.b_in", "embed.W_E"), "missing: blocks.0…1.mlp.b_in, embed.W_E$"),
    "one too many": (with_(ln_final__w=torch.ones(16)), "not in the model: ln_final.w$"),
    "everything at once": (
        lambda weights: without("embed.W_E")(weights) | {"x.y": torch.ones(1), "unembed.W_U": torch.zeros(3, 4)},
        r"missing: embed.W_E; not in the model: x.y; of another shape: unembed.W_U \(3, 4\), wanted \(16, 8\)$",
    ),
    "transposed": (
        lambda weights: {name: value.transpose(-1, -2) if value.ndim > 1 else value for name, value in weights.items()},
        r"of another shape: .*mlp.W_in \(24, 16\), wanted \(16, 24\).*; they are laid out outputs first, .*: transpose each of them; published.load",
    ),
    "of GPT-2": (lambda _: {"transformer.h.0.attn.c_attn.weight": torch.ones(1)}, r"names of Hugging Face's GPT-2: load_model\(folder\) reads it"),
    "one level down": (
        lambda weights: {"state_dict": weights, "epoch": 3},
        "a checkpoint that holds the weights one level down; pass what is under 'state_dict'",
    ),
    "a whole model": (lambda _: fresh(), r"these weights are a whole \w+; pass its state_dict\(\)"),
    "a list": (lambda weights: list(weights.values()), "must be tensors by name; got a list"),
    "arrays": (lambda weights: {name: value.numpy() for name, value in weights.items()}, "must be tensors by name; .* is a ndarray"),
    "whole numbers": (lambda weights: {name: value.long() for name, value in weights.items()}, "is a torch.strided tensor of torch.int64"),
    "sparse": (with_(embed__W_E=torch.zeros(8, 16).to_sparse()), "embed.W_E is a torch.sparse_coo tensor"),
    "without values": (with_(embed__W_E=torch.zeros(8, 16, device="meta")), "embed.W_E is a meta tensor without values"),
    "a frozen bias of another value": (
        with_(**{"blocks__0__attn__b_Q": torch.ones(2, 8), "unembed__b_U": torch.ones(8)}),
        "it keeps blocks.0.attn.b_Q, unembed.b_U fixed at other values; build it with their biases and mask",
    ),
    "another mask": (with_(blocks__1__attn__mask=torch.ones(3, 3, dtype=torch.bool)), "it keeps blocks.1.attn.mask fixed at other values"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_said_whole_and_changes_nothing(what: str) -> None:
    change, said = REFUSED[what]
    model = fresh(seed=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(GrokinterpError, match=said):
        load_weights(model, change(weights_of(fresh(seed=1))))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_names_of_many_layers_are_written_short() -> None:
    names = [f"h.{layer}.attn.bias" for layer in (0, 1, 2, 5, 11)] + ["h.3.mlp", "wte", "h.4"]
    assert listed(names) == "h.0…2,5,11.attn.bias, h.3.mlp, h.4, wte"
