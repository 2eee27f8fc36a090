"""Other libraries' models, bridged: the blocks run alone give the numbers of whole passes, for verbs of one token and of several, cached and not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from random_cores import core_at, edits_at
from torch import Tensor

from grokinterp import ace
from grokinterp.ace.core import Project
from grokinterp.language.generation import generate
from grokinterp.language.grammar import NOUNS, vocabulary
from grokinterp.language.prompts import agreement
from grokinterp.language.tiny import WordTokenizer
from grokinterp.models.adapter import Adapter
from grokinterp.models.forms import Forms
from grokinterp.models.last_token import Resumed, Whole, last_tokens
from grokinterp.models.resume import blocks_of

pytestmark = pytest.mark.lens4
WORDS = WordTokenizer(vocabulary(NOUNS[:20]))
SIZES = {"vocab_size": len(WORDS), "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
GROUPED = SIZES | {"num_key_value_heads": 2, "max_position_embeddings": 40}
GPT2 = {"vocab_size": len(WORDS), "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 40}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", GPT2),
    "llama": ("Llama", GROUPED),
    "gpt_neox, parallel": ("GPTNeoX", SIZES | {"max_position_embeddings": 40}),
    "mistral, window of 3": ("Mistral", GROUPED | {"sliding_window": 3, "head_dim": 6}),
    "gemma2, caps and windows": (
        "Gemma2",
        GROUPED | {"head_dim": 6, "sliding_window": 3, "final_logit_softcapping": 4.0, "query_pre_attn_scalar": 6},
    ),
    "qwen3": ("Qwen3", GROUPED | {"head_dim": 6}),
    "phi, parallel": ("Phi", GROUPED),
}
# Whatever a model's precision, transformers takes the norms or the attention patterns of the other families in float32.
IN_DOUBLE = ("gpt2",)


def equal(family: str, found: Tensor, slow: Tensor) -> bool:
    """To rounding of the precision that a family's norms are taken in."""
    return bool(torch.allclose(found, slow, rtol=0, atol=1e-9 if family in IN_DOUBLE else 1e-5))


def bridged(family: str) -> Any:
    """A tiny random model of transformers in float64, with TransformerLens's hooks, that reads the grammar's words."""
    import transformers
    from transformer_lens.model_bridge import TransformerBridge

    name, settings = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**settings, attn_implementation="eager", bos_token_id=0, eos_token_id=0, pad_token_id=None)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bridge = TransformerBridge.boot_transformers("tiny", hf_model=model, tokenizer=_stand_in(), dtype=torch.float64)
    bridge.requires_grad_(False)
    bridge._tokenizer = WORDS
    return bridge


def _stand_in() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<s>": 0}, unk_token="<s>")), **special, add_bos_token=True, name_or_path="tiny"
    )


@pytest.fixture(scope="module")
def built() -> Callable[[str], Any]:
    made: dict[str, Any] = {}
    return lambda family: made.setdefault(family, bridged(family) if family not in made else made[family])


def one_by_one(model: Any, tokens: Tensor, ends: Tensor, edit: Project | None, forms: Forms) -> Tensor:
    """log p of each form behind each prompt: one unpadded text with one form at a time through the whole model, the prompt's last token edited."""
    rows = []
    for own, end in zip(tokens, ends.tolist(), strict=True):

        def change(value: Tensor, hook: Any, at: int = end) -> Tensor:
            value = value.clone()
            value[:, at] = edit(value[:, at])
            return value

        row = []
        for form in forms.tokens:
            text = torch.cat([own[: end + 1], torch.tensor(form)])[None]
            with torch.no_grad():
                logits = model.run_with_hooks(text, fwd_hooks=[(edit.hook, change)] if edit else [])
            log_p = logits[0].log_softmax(-1)
            row.append(sum(log_p[end + k, token] for k, token in enumerate(form)))
        rows.append(torch.stack(row))
    return torch.stack(rows)


ONE = Forms(((5,), (9,), (3,)))
SEVERAL = Forms(((5,), (9, 4), (9, 4, 7), (2, 8)))


@pytest.mark.parametrize("forms", [ONE, SEVERAL], ids=["one token", "several"])
@pytest.mark.parametrize("family", FAMILIES)
def test_words_behind_a_prompt_are_those_of_whole_passes(built: Callable[[str], Any], family: str, forms: Forms) -> None:
    model, prompts = built(family), agreement(WORDS, n=8)
    prompts = prompts.take(torch.tensor([0, 1, 2, 6]))
    assert len(set(prompts.ends.tolist())) == 2
    hooks = [Adapter(model).residual_hooks()[i] for i in (0, 2, 3)]
    edits = edits_at(hooks, 24)[::4]
    expected = torch.stack([one_by_one(model, prompts.tokens, prompts.ends, edit, forms) for edit in (None, *edits)])
    assert float((expected[1:] - expected[:1]).abs().amax((1, 2)).min()) > 0.01  # every edit changes something
    signs = torch.randn(len(prompts), len(forms), generator=torch.Generator().manual_seed(0)).double()
    for examples, reader in last_tokens(model, prompts.tokens, prompts.ends, hooks, 5, forms):
        assert isinstance(reader, Resumed)
        assert equal(family, reader.scores(edits, normalised=True), expected[:, examples])
        whole = Whole(model, prompts.tokens[examples], prompts.ends[examples], forms)
        assert equal(family, whole.scores(edits, normalised=True), expected[:, examples])
        plain = reader.scores(edits)
        assert equal(family, plain - plain[..., :1], expected[:, examples] - expected[:, examples, :1])
        assert equal(family, reader.logits(edits), whole.logits(edits))
        pairs = zip(reader.gradients(hooks, signs[examples]), whole.gradients(hooks, signs[examples]), strict=True)
        assert all(equal(family, found, slow) for found, slow in pairs)
        assert equal(family, reader.activations(hooks), whole.activations(hooks))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cache_changes_no_token(built: Callable[[str], Any], family: str) -> None:
    model = built(family)
    core = core_at("blocks.1.hook_resid_post", 24, seed=2).with_rank(1)
    options: dict[str, Any] = {"n_tokens": 6, "threshold": 0.0, "temperature": 0.0}
    for strength in ("auto", 0.7):
        cached, plain = (generate(model, "The keys", core, strength=strength, cached=cached, **options) for cached in (True, False))
        assert (cached.clean_tokens, cached.edited_tokens) == (plain.clean_tokens, plain.edited_tokens)
        assert cached.strengths == pytest.approx(plain.strengths, rel=1e-5)
        assert cached.mass == pytest.approx(plain.mass, rel=1e-6)


def test_where_something_hangs_the_blocks_are_not_run_alone(built: Callable[[str], Any]) -> None:
    model, prompts = built("llama"), agreement(WORDS, n=8)
    core = core_at("blocks.1.hook_resid_post", 24, seed=2)
    clean = ace.verb_scores(model, prompts, [core.flip()])
    with model.hooks(fwd_hooks=[("blocks.0.hook_mlp_out", lambda value, hook: 0.5 * value)]):
        assert blocks_of(model) is None
        changed = ace.verb_scores(model, prompts, [core.flip()])
    assert blocks_of(model) is not None
    assert float((clean - changed).abs().max()) > 1e-3
    assert torch.equal(clean, ace.verb_scores(model, prompts, [core.flip()]))


def test_a_model_that_computes_otherwise_behind_a_cache_is_run_whole(built: Callable[[str], Any]) -> None:
    model = built("llama")

    class Odd(torch.nn.Module):
        """Adds what depends on how many tokens come."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out = self.inner(*args, **kwargs)
            first = out[0] if isinstance(out, tuple) else out
            return first + first.shape[1]

    norm = model.original_model.model.norm
    model.original_model.model.norm = Odd(norm)
    try:
        assert blocks_of(model) is None
    finally:
        model.original_model.model.norm = norm
    assert blocks_of(model) is not None
