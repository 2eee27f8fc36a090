"""The embedded language model: it learns, the same way every time, and is kept whole in a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grokinterp import GrokinterpError
from grokinterp.ace import margins, pair_accuracy, verb_scores
from grokinterp.files import read_json
from grokinterp.language.grammar import MISMATCH, parse, sentences_of, vocabulary
from grokinterp.language.prompts import agreement
from grokinterp.language.tiny import TinyConfig, WordTokenizer, cache_folder, sample_sequences, tiny, train_tiny

QUICK = TinyConfig(n_layers=1, d_model=16, n_heads=2, n_ctx=16, n_nouns=6, steps=3, batch_size=4)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GROKINTERP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_trained_model_has_learned_agreement_across_attractors(grammar_model: Any) -> None:
    prompts = agreement(grammar_model.tokenizer, n=200, seed=5)
    logits = verb_scores(grammar_model, prompts)[0]
    assert float(pair_accuracy(prompts, logits)) > 0.98
    assert bool(((margins(prompts, logits) > 0) == prompts.plural).double().mean() > 0.98)
    assert not any(parameter.requires_grad for parameter in grammar_model.parameters())


def test_it_is_gpt2s_architecture(grammar_model: Any) -> None:
    cfg = grammar_model.cfg
    assert (cfg.act_fn, cfg.normalization_type, cfg.positional_embedding_type, cfg.attention_dir) == ("gelu_new", "LN", "standard", "causal")


def test_training_sequences_are_sentences_with_both_kinds_of_attractor() -> None:
    tokenizer = WordTokenizer(vocabulary())
    sequences = sample_sequences(TinyConfig(batch_size=60, n_nouns=100), tokenizer, np.random.default_rng(0))
    assert sequences.shape == (60, 65)
    sentences = [parse(text) for row in sequences.tolist() for text in sentences_of(tokenizer.decode(row))]
    assert all(sentence.agrees for sentence in sentences)
    subjects = [sentence.subject for sentence in sentences if sentence.subject.attractor]
    mismatch = np.mean([subject.plural != subject.attractor_plural for subject in subjects])
    assert abs(mismatch - MISMATCH) < 0.08


def test_the_same_configuration_gives_the_same_weights() -> None:
    one, other, third = train_tiny(QUICK), train_tiny(QUICK), train_tiny(TinyConfig(**{**QUICK.__dict__, "seed": 1}))
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(one.W_E, third.W_E)


def test_the_second_call_reads_the_cache(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = tiny(QUICK)
    (folder,) = own_cache.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert read_json(folder / "config.json")["d_model"] == 16
    monkeypatch.setattr("grokinterp.language.tiny.train_tiny", lambda *_, **__: pytest.fail("trained again"))
    again = tiny(QUICK)
    tokens = torch.tensor([again.tokenizer.encode("the keys to the box")])
    assert torch.equal(trained(tokens), again(tokens))
    assert again.tokenizer.words == trained.tokenizer.words


def test_an_interrupted_training_leaves_nothing_that_is_read(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("grokinterp.language.tiny.write_tensors", stop)
        with pytest.raises(KeyboardInterrupt):
            tiny(QUICK)
    assert tiny(QUICK).cfg.d_model == 16


def test_a_damaged_file_is_named(own_cache: Path) -> None:
    tiny(QUICK)
    (weights,) = own_cache.rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(GrokinterpError, match=r"the cached model is damaged .* delete .* and it is trained again"):
        tiny(QUICK)


def test_where_the_cache_lies(own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == own_cache
    monkeypatch.delenv("GROKINTERP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "grokinterp"
    assert QUICK.folder != TinyConfig(**{**QUICK.__dict__, "lr": 1e-4}).folder


def test_words_go_in_and_come_out() -> None:
    tokenizer = WordTokenizer(vocabulary())
    text = "In the past, the keys next to the box were old."
    assert tokenizer.decode(tokenizer.encode(text)) == text.lower()
    assert tokenizer(" are")["input_ids"] == tokenizer.encode("are")
    assert len(tokenizer.encode(text)) == 13
    with pytest.raises(GrokinterpError, match="unknown word 'cabinnet'; did you mean cabinet"):
        tokenizer.encode("the cabinnet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"d_model": 30}, "30 is not a multiple"), ({"n_nouns": 3}, "n_nouns lies in 4 …"), ({"steps": 0}, "steps must be at least 1; got 0")],
)
def test_bad_configurations_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        TinyConfig(**changes)
