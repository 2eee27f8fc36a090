"""The toy transformer on HookedRootModule against HookedTransformer: equal weights, values, gradients and hooks."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from grokinterp import GrokinterpError
from grokinterp.models.hooked import has_hooked_transformer, hooked_transformer
from grokinterp.models.toy import ToyConfig, ToyTransformer

pytestmark = pytest.mark.lens4

BEHIND_FLAGS = ("hook_result", "hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input", "hook_mlp_in")
KINDS = list(itertools.product((False, True), (None, "LN"), ("causal", "bidirectional"), ("relu", "gelu")))


def settings(attn_only: bool, norm: str | None, direction: str, act_fn: str) -> dict[str, Any]:
    sizes: dict[str, Any] = {"n_layers": 2, "d_model": 12, "n_heads": 3, "d_head": 4, "d_mlp": None if attn_only else 16}
    sizes |= {"n_ctx": 4, "d_vocab": 7, "d_vocab_out": 5, "device": "cpu"}
    return sizes | {"act_fn": act_fn, "normalization_type": norm, "attention_dir": direction, "attn_only": attn_only}


def pair(kind: tuple[bool, str | None, str, str]) -> tuple[Any, ToyTransformer, Tensor]:
    """A HookedTransformer and a toy with the same weights, float64, and tokens."""
    if not has_hooked_transformer():
        pytest.skip("TransformerLens 4 has no HookedTransformer to compare with")
    hooked = hooked_transformer(**settings(*kind)).to(torch.float64, print_details=False)
    toy = ToyTransformer(ToyConfig(**settings(*kind))).to(torch.float64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for own, other in zip(toy.parameters(), hooked.parameters(), strict=True):
            own.copy_(torch.randn(own.shape, generator=generator, dtype=torch.float64) / 4)
            other.copy_(own)
    return hooked, toy, torch.randint(7, (5, 4), generator=generator)


def changed(value: Tensor, hook: Any) -> Tensor:
    return torch.where(value.isneginf(), value, 0.7 * value + 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_values_gradients_and_every_hook_are_those_of_a_hooked_transformer(kind: tuple[bool, str | None, str, str]) -> None:
    hooked, toy, tokens = pair(kind)
    assert [name for name, _ in toy.named_parameters()] == [name for name, _ in hooked.named_parameters()]
    assert set(hooked.hook_dict) - set(toy.hook_dict) == {name for name in hooked.hook_dict if name.endswith(BEHIND_FLAGS)} | (
        {"blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"} if kind[0] else set()
    )
    for name in toy.hook_dict:
        hooks = [(name, changed)]
        torch.testing.assert_close(toy.run_with_hooks(tokens, fwd_hooks=hooks), hooked.run_with_hooks(tokens, fwd_hooks=hooks), atol=1e-10, rtol=0)
    for model in (toy, hooked):
        model(tokens).square().sum().backward()
    for own, other in zip(toy.parameters(), hooked.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", [(False, "LN", "causal", "gelu"), (True, None, "bidirectional", "relu")])
def test_cached_activations_and_layers_are_those_of_a_hooked_transformer(kind: tuple[bool, str | None, str, str]) -> None:
    hooked, toy, tokens = pair(kind)
    own, other = toy.run_with_cache(tokens)[1], hooked.run_with_cache(tokens)[1]
    for name in toy.hook_dict:
        torch.testing.assert_close(own[name], other[name], atol=1e-12, rtol=0)
    for layer in (0, 1, 2):
        stopped = toy(tokens, stop_at_layer=layer)
        torch.testing.assert_close(stopped, hooked(tokens, stop_at_layer=layer), atol=1e-12, rtol=0)
        torch.testing.assert_close(toy(stopped, start_at_layer=layer), toy(tokens), atol=1e-12, rtol=0)
    for name in ("W_E", "W_pos", "W_U", "b_U", "W_Q", "W_O", "b_V"):
        torch.testing.assert_close(getattr(toy, name), getattr(hooked, name))


def test_what_a_toy_lacks_is_said() -> None:
    toy = ToyTransformer(ToyConfig(**settings(False, None, "causal", "relu")))
    with pytest.raises(GrokinterpError, match="unknown activation 'silu'"):
        ToyTransformer(ToyConfig(**settings(False, None, "causal", "silu")))
    with pytest.raises(GrokinterpError, match="5 tokens do not fit into the context of 4"):
        toy(torch.zeros(1, 5, dtype=torch.long))
    with pytest.raises(AttributeError):
        _ = toy.W_nothing
    assert toy.to(torch.float64).cfg.dtype is torch.float64
