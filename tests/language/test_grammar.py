"""The grammar's sampler and parser against each other, and against sentences written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from grokinterp import GrokinterpError
from grokinterp.language.grammar import (
    FRAMES,
    MISMATCH,
    NOUNS,
    Noun,
    parse,
    sample_sentence,
    sample_subject,
    sentences_of,
    spelled,
    vocabulary,
    words_of,
)


def test_what_is_sampled_is_parsed_back_and_agrees() -> None:
    rng = np.random.default_rng(0)
    sentences = [sample_sentence(NOUNS, rng) for _ in range(500)]
    assert all(parse(str(sentence)) == sentence == parse(spelled(str(sentence))) for sentence in sentences)
    assert all(sentence.agrees for sentence in sentences)
    assert {sentence.subject.frame for sentence in sentences} == {"bare", *FRAMES}
    assert {word for sentence in sentences for word in words_of(str(sentence))} <= set(vocabulary())
    with_attractor = [sentence.subject for sentence in sentences if sentence.subject.attractor]
    same = np.mean([subject.plural == subject.attractor_plural for subject in with_attractor])
    assert abs(1 - same - MISMATCH) < 0.08


@pytest.mark.parametrize(
    ("text", "frame", "head", "plural", "verb", "agrees"),
    [
        ("The keys to the cabinet are very old.", "plain", "key", True, "are", True),
        ("the keys to the cabinet is very old .", "plain", "key", True, "is", False),
        ("Next to the boxes, the key was not ready.", "fronted", "key", False, "was", True),
        ("The men near the box over there were late.", "trailing", "man", True, "were", True),
        ("In the past, there key near the boxes were gone.", "there", "key", False, "were", False),
        ("The child that the wolves followed is in front of the door.", "relative", "child", False, "is", True),
        ("The shelves are big.", "bare", "shelf", True, "are", True),
    ],
)
def test_sentences_by_hand(text: str, frame: str, head: str, plural: bool, verb: str, agrees: bool) -> None:
    sentence = parse(text)
    subject = sentence.subject
    assert (subject.frame, subject.head.singular, subject.plural, sentence.verb, sentence.agrees) == (frame, head, plural, verb, agrees)
    assert subject.past == text.startswith("In the past")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("The keys to the cabinet.", "expected a form of be and found '.' after 'the keys to the cabinet'"),
        ("In the past, the key is old.", "expected a past form of be and found 'is'"),
        ("The key are.", "expected an adjective or a place and found '.'"),
        ("The key is old. The", "expected nothing more and found 'the'"),
        ("There near the key is old.", "expected a noun and found 'near'"),
        ("The key that the boxes is old.", "expected a verb of a relative clause and found 'is'"),
        ("", "expected a subject and found the end"),
    ],
)
def test_the_first_word_that_does_not_fit_is_named(text: str, message: str) -> None:
    with pytest.raises(GrokinterpError, match="not a sentence of the grammar") as raised:
        parse(text)
    assert message in str(raised.value)


def test_a_text_is_cut_into_its_finished_sentences() -> None:
    assert sentences_of("The key is old. The keys are new. In the") == ["The key is old .", "The keys are new ."]


def test_word_lists_hold_no_form_twice() -> None:
    forms = [form for noun in NOUNS for form in noun]
    assert len(forms) == len(set(forms))
    assert Noun("box", "boxes") in NOUNS


def test_unknown_frames_are_named() -> None:
    with pytest.raises(GrokinterpError, match="unknown frame 'plane'; did you mean plain"):
        sample_subject("plane", True, False, False, NOUNS, np.random.default_rng(0))
