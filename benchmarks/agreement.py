"""How fast agreement cores are extracted, swept over layers and generated with, against one full pass for every number.

``python -m benchmarks.agreement`` prints the table. Both models have GPT-2 small's sizes and random weights: a HookedTransformer of its architecture,
and a LLaMA of transformers' with rotary positions and grouped queries behind a TransformerBridge. Prompts are words of the grammar.
"""

from __future__ import annotations

import math
import warnings
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Row, interleaved, ratio, show
from grokinterp.ace import agreement_cores, generate, verb_scores
from grokinterp.ace.core import Core, Project
from grokinterp.language.grammar import vocabulary
from grokinterp.language.prompts import agreement
from grokinterp.language.tiny import WordTokenizer
from grokinterp.tasks import Prompts
from grokinterp.training.sweep import torch_threads

N_TOKENS = 20
PROMPT = "The keys to the cabinet"


def rows(repeats: int = 3) -> list[Row]:
    """Sweep, extraction and generation on two threads, for each model."""
    found = []
    for name, build in {"": gpt2_small, "LLaMA: ": llama_small}.items():
        model = build()
        with torch_threads(2):
            found += [Row(name + row.name, row.value, row.unit, row.note) for row in _of(model, repeats)]
    return found


def _of(model: Any, repeats: int) -> list[Row]:
    prompts = agreement(model.tokenizer, n=120)
    cores = agreement_cores(model, prompts)
    edits = [edit for core in cores.values() for edit in (core.keep(), core.remove(), core.flip())]
    test, many = prompts.half("test"), agreement(model.tokenizer, n=1_200).half("test")
    one_pass, sweep, extraction = interleaved(
        [
            lambda: full_pass(model, test, edits[-1]),
            lambda: void(verb_scores(model, test, edits)),
            lambda: void(agreement_cores(model, prompts)),
        ],
        repeats,
    )
    (large,) = interleaved([lambda: void(verb_scores(model, many, edits))], 1)
    core = list(cores.values())[9]
    cached, passes = interleaved([lambda: written(model, core, True), lambda: written(model, core, False)], repeats)
    n_passes = 1 + len(edits)
    longest = int(test.ends.max()) + 1
    of = f"2 threads, {len(test)} prompts of at most {longest} tokens"
    by_passes = f"{n_passes} full passes of {median(one_pass):.2f} s"
    return [
        Row("agreement sweep, 13 hooks, 4 modes, against full passes", ratio([n_passes * t for t in one_pass], sweep), "times faster", by_passes),
        Row("agreement sweep, 13 hooks, 4 modes", median(sweep), "s", of),
        Row("agreement sweep, 13 hooks, 4 modes, 600 prompts", median(large), "s", "2 threads"),
        Row("agreement cores at 13 hooks", median(extraction), "s", of),
        Row(
            f"{N_TOKENS} tokens, automatic strength, against full passes", ratio(passes, cached), "times faster", f"{median(passes):.2f} s by passes"
        ),
        Row(f"{N_TOKENS} tokens, automatic strength", median(cached), "s", "2 threads, every token edited, clean text included"),
    ]


def void(result: Any) -> None:
    """Drop a result."""


def written(model: Any, core: Core, cached: bool) -> None:
    """Both texts, every token edited."""
    generate(model, PROMPT, core, n_tokens=N_TOKENS, threshold=0.0, cached=cached)


def full_pass(model: Any, prompts: Prompts, edit: Project) -> None:
    """The margin under one edit as one would write it: all prompts through the whole model with a hook."""
    examples = torch.arange(len(prompts))

    def hook_function(value: Tensor, hook: Any) -> Tensor:
        value[examples, prompts.ends] = edit(value[examples, prompts.ends])
        return value

    with torch.no_grad():
        logits = model.run_with_hooks(prompts.tokens, fwd_hooks=[(edit.hook, hook_function)])
    void((logits[examples, prompts.ends][:, prompts.verbs] * prompts.signs).sum(-1))


def gpt2_small() -> Any:
    """GPT-2 small's sizes with random weights of the published initialisation, reading the grammar's words."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    cfg = HookedTransformerConfig(
        n_layers=12,
        d_model=768,
        n_heads=12,
        d_head=64,
        d_mlp=3072,
        n_ctx=1024,
        d_vocab=50257,
        act_fn="gelu_new",
        normalization_type="LN",
        init_weights=False,
        device="cpu",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        model = HookedTransformer(cfg)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            match name.rsplit(".", 1)[-1]:
                case "w":
                    parameter.fill_(1.0)
                case last if last.startswith("b"):
                    parameter.zero_()
                case last:
                    parameter.normal_(0, 0.02 / (math.sqrt(24) if last in ("W_O", "W_out") else 1), generator=generator)
    model.tokenizer = _words(cfg.d_vocab)
    return model.requires_grad_(False)


def llama_small() -> Any:
    """A LLaMA of GPT-2 small's sizes behind a TransformerBridge, 12 heads over 4 of keys and values, random weights, reading the grammar's words."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from grokinterp.models.bridged import wrapped  # as load_model does, without files

    config = LlamaConfig(
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        intermediate_size=2048,
        max_position_embeddings=1024,
        vocab_size=50257,
        attn_implementation="eager",
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    model = wrapped(LlamaForCausalLM(config).requires_grad_(False).eval(), "llama of GPT-2 small's size", "cpu")
    model._tokenizer = _words(config.vocab_size)
    return model


def _words(n_vocab: int) -> WordTokenizer:
    """The grammar's words, and others up to that number: what a random model writes need not be words of the grammar."""
    tokenizer = WordTokenizer(vocabulary())
    tokenizer.words += [f"w{token}" for token in range(len(tokenizer), n_vocab)]
    return tokenizer


if __name__ == "__main__":
    show(rows())
