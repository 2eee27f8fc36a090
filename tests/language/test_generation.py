"""Generated text: the same tokens with and without a cache, strengths that do what they promise, grammar that stays but for the number."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from language_models import random_gpt2

from grokinterp import GrokinterpError, ace
from grokinterp.ace import Core, agreement_cores, best_core, generate
from grokinterp.language.generation import LIMIT
from grokinterp.language.grammar import Verb, parse, sentences_of
from grokinterp.language.prompts import agreement
from grokinterp.models.convert import bridge

PROMPT = "The keys to the cabinet"
LAST = "blocks.2.hook_resid_post"


@pytest.fixture(scope="module")
def model() -> Any:
    model = random_gpt2()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.6)  # else one token takes all probability
    return model


@pytest.fixture(scope="module")
def cores(model: Any) -> dict[str, Core]:
    return agreement_cores(model, agreement(model.tokenizer, n=40))


@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", LAST])
@pytest.mark.parametrize(("mode", "strength"), [("flip", "auto"), ("flip", 1.5), ("keep", 0.7), ("remove", 1.0)])
def test_a_cache_changes_no_token(model: Any, cores: dict[str, Core], hook: str, mode: Any, strength: Any) -> None:
    options: dict[str, Any] = {"n_tokens": 8, "threshold": 0.0, "seed": 3}
    cached, plain = (generate(model, PROMPT, cores[hook], mode, strength, cached=cached, **options) for cached in (True, False))
    assert cached.clean_tokens == plain.clean_tokens
    assert cached.edited_tokens == plain.edited_tokens
    assert cached.strengths == pytest.approx(plain.strengths, rel=1e-6)
    for form, probabilities in cached.probabilities.items():
        assert probabilities == pytest.approx(plain.probabilities[form], rel=1e-6)


def test_the_edit_is_position_wise(model: Any, cores: dict[str, Core]) -> None:
    """Tokens under a fixed strength are those of the whole model with every position from the prompt's last on edited."""
    core = cores["blocks.0.hook_resid_post"]
    found = generate(model, PROMPT, core, "flip", 0.8, n_tokens=6, temperature=0)
    tokens = model.tokenizer.encode(PROMPT)
    start = len(tokens) - 1

    def mirror(value: torch.Tensor, hook: Any) -> torch.Tensor:
        value = value.clone()
        for position in range(start, value.shape[1]):
            h = value[0, position]
            value[0, position] = h - 2 * 0.8 * core.basis[:, 0] * ((h - core.mean) @ core.basis[:, 0])
        return value

    for token in found.edited_tokens:
        with torch.no_grad():
            logits = model.run_with_hooks(torch.tensor([tokens]), fwd_hooks=[(core.hook, mirror)])
        tokens.append(int(logits[0, -1].argmax()))
        assert tokens[-1] == token
    clean = model.tokenizer.encode(PROMPT)
    for token in found.clean_tokens:
        with torch.no_grad():
            clean.append(int(model(torch.tensor([clean]))[0, -1].argmax()))
        assert clean[-1] == token


def test_a_bridge_and_a_hook_beside_the_stream_write_the_same() -> None:
    model = random_gpt2(dtype=torch.float32)
    prompts = agreement(model.tokenizer, n=24)
    core = best_core(model, prompts)
    ours, theirs = (generate(each, PROMPT, core, n_tokens=6, threshold=0.0, tokenizer=model.tokenizer) for each in (model, bridge(model)))
    assert (ours.clean, ours.edited) == (theirs.clean, theirs.edited)
    beside = agreement_cores(model, prompts, ["blocks.1.hook_mlp_out"])["blocks.1.hook_mlp_out"]
    assert len(generate(model, PROMPT, beside, n_tokens=3).edited_tokens) == 3


def test_nothing_changes_at_strength_0_and_below_the_threshold(model: Any, cores: dict[str, Core]) -> None:
    for options in ({"strength": 0.0}, {"threshold": 1.1}):
        found = generate(model, PROMPT, cores[LAST], n_tokens=8, **options)  # type: ignore[arg-type]
        assert found.clean_tokens == found.edited_tokens
        assert set(found.strengths) == {0.0}
    other = generate(model, PROMPT, cores[LAST], n_tokens=8, strength=0.0, seed=1)
    assert other.clean_tokens != found.clean_tokens


def test_the_automatic_strength_reaches_its_margin_where_the_tail_is_linear() -> None:
    """Without LayerNorm and with one verb a number, the margin behind the last block is linear: one secant step is exact."""
    model = random_gpt2(normalization_type=None)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.4)
    core = agreement_cores(model, agreement(model.tokenizer, n=24, verbs=(Verb("is", "are"), Verb("is", "are"))))[LAST]
    found = generate(model, PROMPT, core, n_tokens=1, verbs=(Verb("is", "are"),), threshold=0.0, epsilon=1.7)
    (clean_is, edited_is), (clean_are, edited_are) = found.probabilities["is"], found.probabilities["are"]
    assert abs(found.strengths[0]) < LIMIT
    assert math.log(edited_are / edited_is) == pytest.approx(-math.copysign(1.7, clean_are - clean_is), abs=1e-6)


def test_the_strength_is_capped(model: Any, cores: dict[str, Core]) -> None:
    readers = model.W_U[:, [model.tokenizer.encode(form)[0] for form in ("is", "are", "was", "were")]].detach()
    gain = torch.cat([model.ln_final.w.detach()[:, None] * readers, torch.ones(24, 1).double(), cores[LAST].mean[:, None]], dim=1)
    blind = torch.linalg.qr(gain, mode="complete").Q[:, -1:]  # a direction that no verb reads
    core = replace(cores[LAST], directions=blind, rank=1)
    found = generate(model, PROMPT, core, n_tokens=1, threshold=0.0, epsilon=30.0)
    assert abs(found.strengths[0]) == LIMIT


def test_temperature_and_top_k(model: Any, cores: dict[str, Core]) -> None:
    greedy = generate(model, PROMPT, cores[LAST], n_tokens=5, temperature=0)
    assert generate(model, PROMPT, cores[LAST], n_tokens=5, top_k=1, seed=9).edited_tokens == greedy.edited_tokens
    counts = torch.zeros(model.cfg.d_vocab)
    for seed in range(150):
        counts[generate(model, PROMPT, cores[LAST], strength=0.0, n_tokens=1, top_k=3, seed=seed).clean_tokens[0]] += 1
    with torch.no_grad():
        top = model(torch.tensor([model.tokenizer.encode(PROMPT)]))[0, -1].topk(3)
    assert set(torch.nonzero(counts).flatten().tolist()) <= set(top.indices.tolist())
    assert torch.allclose(counts[top.indices].double() / 150, top.values.softmax(-1), atol=0.13)


def test_the_verb_changes_its_number_and_the_sentence_stays_grammatical(grammar_model: Any) -> None:
    prompts = agreement(grammar_model.tokenizer, n=80, held_out_nouns=True)
    core = best_core(grammar_model, prompts)
    test = prompts.half("test")
    outcome = {"flipped": 0, "clean agrees": 0, "unfinished or ungrammatical": 0}
    for seed, text in enumerate(test.texts):
        found = generate(grammar_model, text, core, n_tokens=12, seed=seed, temperature=0.5)
        firsts = [sentences_of(each)[:1] for each in (found.clean, found.edited)]
        try:
            clean, edited = (parse(first[0]) for first in firsts)
        except (GrokinterpError, IndexError):
            outcome["unfinished or ungrammatical"] += 1
            continue
        outcome["clean agrees"] += clean.agrees
        outcome["flipped"] += not edited.agrees
    assert outcome["unfinished or ungrammatical"] <= 4
    assert outcome["flipped"] >= 36
    assert outcome["clean agrees"] >= 36


def test_what_is_printed(grammar_model: Any) -> None:
    core = best_core(grammar_model, agreement(grammar_model.tokenizer, n=40))
    lines = str(generate(grammar_model, PROMPT, core, n_tokens=4)).splitlines()
    assert lines[0].split() == ["clean", "edited"]
    assert [line.split()[0] for line in lines[1:5]] == ["is", "are", "was", "were"]
    clean, edited = map(float, lines[2].split()[1:])
    assert clean > 0.2 > 0.05 > edited
    assert lines[-2].startswith("clean   the keys to the cabinet ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": "The kees"}, "unknown word 'kees'; did you mean keys"),
        ({"mode": "flop"}, "unknown mode 'flop'; did you mean flip"),
        ({"mode": "remove"}, "give 'remove' a number"),
        ({"strength": "much"}, "strength is a number or \"auto\"; got 'much'"),
        ({"n_tokens": 0}, "n_tokens must be at least 1; got 0"),
        ({"n_tokens": 36}, "5 tokens of prompt and 36 to generate do not fit into the context of 40"),
        ({"temperature": -1.0}, "temperature must be at least 0; got -1.0"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"verbs": (Verb("seems", "seem"),)}, "unknown word 'seems'"),
    ],
)
def test_what_cannot_be_generated_is_said(model: Any, cores: dict[str, Core], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        generate(model, **({"prompt": PROMPT, "core": cores[LAST], "n_tokens": 5} | arguments))


def test_a_core_of_another_model_is_refused(model: Any, cores: dict[str, Core]) -> None:
    wide = random_gpt2(d_model=48, n_heads=3, d_head=16)
    with pytest.raises(GrokinterpError, match="lives in 24 dimensions and the model in 48"):
        generate(wide, PROMPT, cores[LAST])
    with pytest.raises(GrokinterpError, match=r"unknown hook 'blocks.9.hook_resid_post'; did you mean"):
        generate(model, PROMPT, replace(cores[LAST], hook="blocks.9.hook_resid_post"))
    assert ace.generate is generate
