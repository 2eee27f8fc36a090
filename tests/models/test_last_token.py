"""Reading the last token from cached keys and values gives the numbers of the whole model run with hooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from language_models import by_hooks, random_gpt2
from random_cores import edits_at
from torch import Tensor

from grokinterp import GrokinterpError
from grokinterp.language.prompts import agreement
from grokinterp.models.adapter import Adapter
from grokinterp.models.convert import bridge
from grokinterp.models.last_token import Resumed, Whole, last_tokens
from grokinterp.models.resume import laid_out, remembers
from grokinterp.tasks import Prompts

VARIANTS: list[dict[str, Any]] = [
    {},
    {"attn_only": True},
    {"normalization_type": None},
    {"act_fn": "gelu_new", "scale_attn_by_inverse_layer_idx": True},
]


@pytest.fixture(params=VARIANTS, ids=["plain", "attn-only", "no-LN", "gelu-new"])
def model(request: pytest.FixtureRequest) -> Any:
    return random_gpt2(**request.param)


@pytest.fixture
def prompts(model: Any) -> Prompts:
    return agreement(model.tokenizer, n=20)


@pytest.mark.parametrize("reader", [Resumed, Whole])
def test_logits_under_every_edit_are_those_of_the_whole_model(model: Any, prompts: Prompts, reader: Any) -> None:
    assert remembers(model)
    assert len(set(prompts.ends.tolist())) > 3
    edits = edits_at(Adapter(model).residual_hooks()[::-1], model.cfg.d_model)  # in an order that is not the layers'
    found = reader(model, prompts.tokens, prompts.ends).logits(edits)
    expected = torch.stack([by_hooks(model, prompts, edit) for edit in [None, *edits]])
    assert torch.allclose(found, expected, atol=1e-9)
    assert float((expected[1:] - expected[:1]).abs().amax((1, 2)).min()) > 0.1  # every edit changes something
    columns = reader(model, prompts.tokens, prompts.ends).logits(edits, prompts.verbs)
    assert torch.allclose(columns, expected[..., prompts.verbs], atol=1e-9)


@pytest.mark.parametrize("reader", [Resumed, Whole])
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_are_those_of_each_prompt_alone(model: Any, prompts: Prompts, reader: Any, frozen: bool) -> None:
    model.requires_grad_(not frozen)
    hooks = Adapter(model).residual_hooks()
    with torch.no_grad():
        activations, gradients = reader(model, prompts.tokens, prompts.ends, prompts.forms).gradients(hooks, prompts.signs)
    assert torch.allclose(activations, reader(model, prompts.tokens, prompts.ends).activations(hooks))
    for i in (0, 7, 19):
        tokens = prompts.tokens[i : i + 1, : int(prompts.ends[i]) + 1]
        for j, hook in enumerate(hooks):

            def margin(h: Tensor, name: str = hook, tokens: Tensor = tokens) -> Tensor:
                with model.hooks(fwd_hooks=[(name, lambda value, hook: torch.cat([value[:, :-1], h[None, None]], dim=1))]):
                    logits = model(tokens)[0, -1]
                return (logits[prompts.verbs[prompts.plural_verbs[0]]].sum() - logits[prompts.verbs[prompts.singular_verbs[0]]].sum()).double()

            _, cache = model.run_with_cache(tokens)
            assert torch.allclose(activations[j, i], cache[hook][0, -1], atol=1e-10)
            assert torch.allclose(gradients[j, i], torch.func.grad(margin)(activations[j, i]), atol=1e-8)


def test_single_precision_stays_within_the_promised_margin() -> None:
    model = random_gpt2(n_layers=6, dtype=torch.float32, d_model=48, n_heads=4, d_head=12)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3)
    prompts = agreement(model.tokenizer, n=20)
    edits = edits_at(Adapter(model).residual_hooks(), 48)
    found = Resumed(model, prompts.tokens, prompts.ends).logits(edits, prompts.verbs)
    margins = [(logits.double() * prompts.signs).sum(-1) for logits in found]
    for edit, margin in zip([None, *edits], margins, strict=True):
        assert torch.allclose(margin, (by_hooks(model, prompts, edit)[:, prompts.verbs].double() * prompts.signs).sum(-1), atol=1e-4)


def test_prompts_of_one_token_have_nothing_before_them() -> None:
    model = random_gpt2()
    tokens, ends = torch.tensor([[3], [5]]), torch.zeros(2, dtype=torch.int64)
    edits = edits_at(Adapter(model).residual_hooks(), model.cfg.d_model)
    assert torch.allclose(Resumed(model, tokens, ends).logits(edits), Whole(model, tokens, ends).logits(edits), atol=1e-10)


def kind_of(model: Any, hooks: list[str]) -> type:
    prompts = agreement(model.tokenizer, n=8)
    (kind,) = {type(reader) for _, reader in last_tokens(model, prompts.tokens, prompts.ends, hooks, 64)}
    return kind


POSITIONED: list[dict[str, Any]] = [
    {"positional_embedding_type": "rotary", "rotary_dim": 4},
    {"positional_embedding_type": "alibi"},
    {"use_local_attn": True, "window_size": 3, "attn_types": ["local", "global", "local"]},
    {"n_key_value_heads": 1, "positional_embedding_type": "rotary", "rotary_dim": 4},
    {"n_key_value_heads": 1},
    {"use_qk_norm": True, "normalization_type": "RMS"},
    {"output_logits_soft_cap": 2.0, "attn_scores_soft_cap": 1.0},
    {"use_attention_sinks": True},
]


def test_the_reader_is_the_fast_one_where_it_can_be() -> None:
    model = random_gpt2(dtype=torch.float32)
    assert kind_of(model, ["blocks.1.hook_resid_pre", "blocks.2.hook_resid_post"]) is Resumed
    assert kind_of(model, ["blocks.1.hook_mlp_out"]) is Whole
    for config in POSITIONED:
        assert kind_of(random_gpt2(**config), ["blocks.1.hook_resid_pre"]) is Resumed
    wrapped = bridge(model)
    wrapped.tokenizer = model.tokenizer
    assert kind_of(wrapped, ["blocks.1.hook_resid_pre"]) is Whole
    with model.hooks(fwd_hooks=[("blocks.0.hook_attn_out", lambda value, hook: None)]):
        assert kind_of(model, ["blocks.1.hook_resid_pre"]) is Whole
    assert kind_of(model, ["blocks.1.hook_resid_pre"]) is Resumed


@pytest.mark.parametrize("config", POSITIONED, ids=lambda config: "+".join(map(str, config.values())))
def test_blocks_that_know_positions_share_heads_or_cap_scores_come_along(config: dict[str, Any]) -> None:
    model = random_gpt2(**config)
    prompts = agreement(model.tokenizer, n=12)
    hooks = ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_post"]
    edits = edits_at(hooks, model.cfg.d_model)
    expected = torch.stack([by_hooks(model, prompts, edit) for edit in [None, *edits]])
    for examples, reader in last_tokens(model, prompts.tokens, prompts.ends, hooks, 5, prompts.forms):
        assert isinstance(reader, Resumed)
        assert torch.allclose(reader.logits(edits), expected[:, examples], atol=1e-9)
        activations, gradients = reader.gradients(hooks, prompts.signs[examples])
        whole = Whole(model, prompts.tokens[examples], prompts.ends[examples], prompts.forms)
        for found, slow in zip((activations, gradients), whole.gradients(hooks, prompts.signs[examples]), strict=True):
            assert torch.allclose(found, slow, atol=1e-9)


def test_a_hook_beside_the_stream_gets_the_same_numbers_slowly() -> None:
    model = random_gpt2(positional_embedding_type="rotary", rotary_dim=4)
    prompts = agreement(model.tokenizer, n=8)
    edits = edits_at(["blocks.0.hook_mlp_out", "blocks.1.hook_resid_post"], model.cfg.d_model)
    ((examples, reader),) = last_tokens(model, prompts.tokens, prompts.ends, [edit.hook for edit in edits], batch_size=8)
    expected = torch.stack([by_hooks(model, prompts, edit) for edit in [None, *edits]])
    assert torch.allclose(reader.logits(edits), expected[:, examples], atol=1e-9)


def test_what_cannot_be_read_is_said() -> None:
    model = random_gpt2()
    tokens, ends = torch.zeros(1, 4, dtype=torch.int64), torch.tensor([3])
    with pytest.raises(GrokinterpError, match=r"unknown hook 'blocks.7.hook_resid_post'; did you mean blocks"):
        next(last_tokens(model, tokens, ends, ["blocks.7.hook_resid_post"], 1))
    with pytest.raises(GrokinterpError, match="41 tokens and the model's context 40"):
        next(last_tokens(model, torch.zeros(1, 41, dtype=torch.int64), torch.tensor([40]), [], 1))
    with pytest.raises(GrokinterpError, match="attends to later tokens"):
        next(last_tokens(random_gpt2(attention_dir="bidirectional"), tokens, ends, [], 1))


@pytest.mark.parametrize("config", [{}, {"n_key_value_heads": 1}])
def test_weights_are_laid_out_for_a_while_and_are_the_same_numbers(config: dict[str, Any]) -> None:
    model = random_gpt2(**config)
    before = {name: (weight.data_ptr(), weight.detach().clone()) for name, weight in model.named_parameters()}
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    logits = model(tokens)

    def look() -> None:
        weight, output = model.blocks[0].attn.W_Q, model.blocks[0].attn.W_O
        assert weight.transpose(1, 2).reshape(-1, weight.shape[1]).data_ptr() == weight.data_ptr()  # a view, not a copy
        assert output.permute(2, 0, 1).reshape(output.shape[2], -1).data_ptr() == output.data_ptr()
        assert torch.allclose(model(tokens), logits, atol=1e-12)
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"), laid_out(model):
        look()
    for name, parameter in model.named_parameters():
        assert parameter.data_ptr() == before[name][0]
        assert torch.equal(parameter, before[name][1])
