"""Verbs of several tokens, a beginning-of-text token, SentencePiece's spaces and padding: the numbers are those of single, whole texts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from language_models import random_gpt2
from random_cores import core_at
from torch import Tensor

from grokinterp import GrokinterpError, ace
from grokinterp.language.generation import generate
from grokinterp.language.grammar import NOUNS, Noun, vocabulary
from grokinterp.language.prompts import ATTRACTORS, agreement
from grokinterp.language.spelling import ids_in_front, spellings, token_ids
from grokinterp.language.tiny import WordTokenizer
from grokinterp.models.forms import Forms
from grokinterp.models.last_token import Resumed, Whole, last_tokens

PIECES = {"were": ("we", "re"), "is": ("i", "s"), "dogs": ("dog", "gs"), "cats": ("cat", "gs")}


class Pieces(WordTokenizer):
    """The grammar's words, some of them spelled by two tokens, with tokens that begin a text and pad it."""

    bos_token_id = pad_token_id = 0
    bos_token = pad_token = "<s>"

    def __init__(self, adds_bos: bool = False) -> None:
        words = [word for word in vocabulary(NOUNS[:60]) if word not in PIECES]
        super().__init__(["<s>", *words, *dict.fromkeys(piece for pair in PIECES.values() for piece in pair if piece not in words)])
        self.adds_bos = adds_bos

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        spelled = " ".join(" ".join(PIECES.get(word, (word,))) for word in text.lower().replace(",", " ,").split() or ["the"])
        front = [0] if self.adds_bos and add_special_tokens else []
        return front + super().encode("the" if spelled == "a" else spelled)


@pytest.fixture(scope="module")
def model() -> Any:
    model = random_gpt2(d_vocab=len(Pieces()))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.6)
    model.tokenizer = Pieces()
    return model


@pytest.fixture(scope="module", params=["standard", "rotary"])
def either(request: pytest.FixtureRequest, model: Any) -> Any:
    if request.param == "standard":
        return model
    rotary = random_gpt2(d_vocab=len(Pieces()), positional_embedding_type="rotary", rotary_dim=4, n_key_value_heads=1)
    rotary.tokenizer = Pieces()
    return rotary


# Spelling


def test_verbs_are_spelled_as_the_tokenizer_does_behind_the_prompt(model: Any) -> None:
    prompts = agreement(model.tokenizer, n=16)
    encoded = {word: tuple(model.tokenizer.encode(word)) for word in ("is", "are", "was", "were")}
    assert dict(zip(prompts.words, prompts.forms.tokens, strict=True)) == {f" {word}": tokens for word, tokens in encoded.items()}
    assert sorted(map(len, prompts.forms.tokens)) == [1, 1, 2, 2]


class Joined(Pieces):
    """A tokenizer that merges the last letter of a text with the word behind it."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        ids = super().encode(text, add_special_tokens)
        return [*ids[:-2], ids[-2] + ids[-1]] if text.endswith(" was") else ids


def test_a_verb_that_runs_into_the_prompt_is_refused() -> None:
    with pytest.raises(GrokinterpError, match="'The door' and the verb 'was' run into each other under this tokenizer"):
        spellings(Joined(), ["The door"], [["was"]])


@pytest.mark.parametrize(("adds", "asked", "expected"), [(True, None, [0]), (False, None, []), (True, False, []), (False, True, [0])])
def test_a_text_begins_as_asked_or_as_the_tokenizer_does_by_itself(adds: bool, asked: bool | None, expected: list[int]) -> None:
    tokenizer = Pieces(adds)
    assert ids_in_front(tokenizer, asked) == expected
    prompts = agreement(tokenizer, n=8, bos=asked)
    assert prompts.bos == bool(expected)
    for i, text in enumerate(prompts.texts):
        assert prompts.tokens[i, : int(prompts.ends[i]) + 1].tolist() == expected + token_ids(tokenizer, text)


def test_a_token_that_the_tokenizer_lacks_is_not_put_in_front() -> None:
    with pytest.raises(GrokinterpError, match="this WordTokenizer has none; leave bos out"):
        agreement(WordTokenizer(vocabulary()), n=8, bos=True)


def test_nouns_are_chosen_by_their_tokens_and_what_is_left_out_is_said() -> None:
    single = agreement(Pieces(), n=40, nouns=NOUNS[:60])
    assert single.dropped == {"dog": "2 tokens", "cat": "2 tokens"}
    assert not {"dog", "cat"} & set(single.heads)
    assert agreement(Pieces(), n=40, nouns=NOUNS[:60], single_tokens=False).dropped == {}
    few = tuple(noun for noun in NOUNS if noun.singular in ("dog", "cat", "door"))
    with pytest.raises(GrokinterpError, match="1 of 3 can be used under this tokenizer; single_tokens=False takes those of several"):
        agreement(Pieces(), n=8, nouns=few, single_tokens=True)
    assert set(agreement(Pieces(), n=8, nouns=few).heads) <= {"dog", "cat", "door"}  # fewer than half are one token
    assert agreement(Pieces(), n=8, nouns=(*NOUNS[:9], Noun("axolotl", "axolotls"))).dropped["axolotl"] == "not known to the tokenizer"


# Scores


def log_p(model: Any, tokens: list[int], form: tuple[int, ...], edit: Any = None) -> float:
    """The log-probability of a form behind one text, through the whole model, the text's last token edited."""
    at = len(tokens) - 1

    def change(value: Tensor, hook: Any) -> Tensor:
        value = value.clone()
        value[:, at] = edit(value[:, at])
        return value

    with torch.no_grad():
        text = torch.tensor([[*tokens, *form]])
        logits = model.run_with_hooks(text, fwd_hooks=[(edit.hook, change)] if edit else [], padding_side="right")
    own = logits[0].double().log_softmax(-1)
    return float(sum(own[at + k, token] for k, token in enumerate(form)))


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_scores_are_those_of_single_texts_whatever_the_padding(either: Any, bos: bool, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(either.tokenizer), "padding_side", side, raising=False)
    prompts = agreement(either.tokenizer, n=12, bos=bos, attractors=ATTRACTORS)
    assert len(set(prompts.ends.tolist())) == 3
    edit = core_at("blocks.1.hook_resid_post", either.cfg.d_model, 0).flip()
    found = ace.verb_probabilities(either, prompts, [edit], batch_size=5).log()
    for i in (0, 5, 11):
        text = prompts.tokens[i, : int(prompts.ends[i]) + 1].tolist()
        for j, form in enumerate(prompts.forms.tokens):
            assert float(found[0, i, j]) == pytest.approx(log_p(either, text, form), abs=1e-9)
            assert float(found[1, i, j]) == pytest.approx(log_p(either, text, form, edit), abs=1e-9)
    margins = ace.margins(prompts, ace.verb_scores(either, prompts, [edit], batch_size=4))
    assert torch.allclose(margins, (found * prompts.signs).sum(-1), atol=1e-9)


def test_gradients_go_through_every_token_of_a_verb(either: Any) -> None:
    prompts = agreement(either.tokenizer, n=8)
    hooks = ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_post"]
    for examples, reader in last_tokens(either, prompts.tokens, prompts.ends, hooks, 8, prompts.forms):
        assert isinstance(reader, Resumed)
        whole = Whole(either, prompts.tokens[examples], prompts.ends[examples], prompts.forms)
        (h, slopes), slow = reader.gradients(hooks, prompts.signs[examples]), whole.gradients(hooks, prompts.signs[examples])
        assert torch.allclose(h, slow[0], atol=1e-9)
        assert torch.allclose(slopes, slow[1], atol=1e-9)
        i, step = int(examples[0]), 1e-5
        text = prompts.tokens[i, : int(prompts.ends[i]) + 1].tolist()
        direction = torch.randn(either.cfg.d_model, generator=torch.Generator().manual_seed(0)).double()

        class Step:
            hook = hooks[1]

            def __init__(self, size: float, along: Tensor) -> None:
                self.size, self.along = size, along

            def __call__(self, value: Tensor) -> Tensor:
                return value + self.size * self.along

        def margin(size: float, text: list[int] = text, i: int = i, along: Tensor = direction) -> float:
            scores = [log_p(either, text, form, Step(size, along)) for form in prompts.forms.tokens]
            return float((torch.tensor(scores, dtype=torch.float64) * prompts.signs[i]).sum())

        assert float(slopes[1, 0] @ direction) == pytest.approx((margin(step) - margin(-step)) / (2 * step), rel=1e-4)


def test_paths_serve_every_word_and_no_more_than_needed() -> None:
    assert Forms(((1,), (2,))).paths == ((),)
    assert Forms(((1,), (2, 3))).paths == ((2,),)
    assert set(Forms(((1,), (2, 3), (2, 3, 4), (5, 6))).paths) == {(2, 3), (5,)}
    with pytest.raises(GrokinterpError, match="spelled by at least one token"):
        Forms(((1,), ()))


# What is written


@pytest.mark.parametrize("strength", ["auto", 0.7])
@pytest.mark.parametrize("bos", [False, True])
def test_a_cache_changes_no_token_of_what_is_written(either: Any, strength: Any, bos: bool) -> None:
    core = core_at("blocks.1.hook_resid_post", either.cfg.d_model, 1).with_rank(1)
    options: dict[str, Any] = {"n_tokens": 6, "threshold": 0.0, "temperature": 0.0, "bos": bos}
    cached, plain = (generate(either, "The doors", core, strength=strength, cached=cached, **options) for cached in (True, False))
    assert (cached.clean_tokens, cached.edited_tokens) == (plain.clean_tokens, plain.edited_tokens)
    assert cached.strengths == pytest.approx(plain.strengths, rel=1e-5)
    text = ([0] if bos else []) + either.tokenizer.encode("The doors")
    for form, (clean, edited) in cached.probabilities.items():
        spelled = tuple(either.tokenizer.encode(form))
        assert clean == pytest.approx(torch.tensor(log_p(either, text, spelled)).exp().item(), rel=1e-6)
        assert edited == pytest.approx(plain.probabilities[form][1], rel=1e-6)


def test_that_nothing_was_edited_is_said(model: Any) -> None:
    core = core_at("blocks.1.hook_resid_post", model.cfg.d_model, 1).with_rank(1)
    quiet = generate(model, "The doors", core, n_tokens=3, threshold=1.5)
    assert set(quiet.strengths) == {0.0}
    assert len(quiet.mass) == 3
    said = f"nothing was edited: the verbs is, are, was, were together have a probability of at most {max(quiet.mass):.3g} at each of the 3 tokens"
    assert quiet.note.startswith(said)
    assert str(quiet).endswith(quiet.note)
    for options in ({"threshold": 0.0}, {"strength": 0.0}, {"strength": 1.0}):
        loud = generate(model, "The doors", core, n_tokens=3, **options)  # type: ignore[arg-type]
        assert loud.note == ""
        assert "nothing was edited" not in str(loud)
