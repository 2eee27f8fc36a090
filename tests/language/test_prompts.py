"""Prompts are balanced, their attractors mismatch, words are single tokens, halves keep apart what they should."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from grokinterp import GrokinterpError, tasks
from grokinterp.language.grammar import FRAMES, NOUNS, Noun, Verb, parse, vocabulary
from grokinterp.language.prompts import agreement, token_ids
from grokinterp.language.tiny import WordTokenizer
from grokinterp.measures.fsd import fsd
from grokinterp.measures.loss import loss
from grokinterp.measures.progress import progress
from grokinterp.snapshot import Snapshot
from grokinterp.tasks import Prompts, Task, read_prompts

GPT2 = Path(__file__).parents[3] / "shared" / "data" / "gpt2-tokenizer"


@pytest.fixture(scope="module")
def words() -> WordTokenizer:
    return WordTokenizer(vocabulary())


@pytest.fixture(scope="module")
def gpt2() -> Any:
    """GPT-2's tokenizer, whose files are not part of the repository."""
    if not GPT2.exists():
        pytest.skip("GPT-2's tokenizer is not beside the checkout (data/gpt2-tokenizer is missing)")
    from transformers import GPT2Tokenizer

    return GPT2Tokenizer(vocab=str(GPT2 / "vocab.json"), merges=str(GPT2 / "merges.txt"))


def test_the_design_is_balanced_and_every_attractor_mismatches(words: WordTokenizer) -> None:
    prompts = agreement(words, n=400, seed=3)
    assert len(prompts) == len(set(prompts.texts)) == 400
    assert int(prompts.plural.sum()) == int(prompts.extraction.sum()) == 200
    for half in ("extraction", "test"):
        own = prompts.half(half)
        past = [text.startswith("In the past,") for text in own.texts]
        assert set(Counter(zip(own.frames, own.plural.tolist(), past, strict=True)).values()) == {10}
    for text, plural, frame, head in zip(prompts.texts, prompts.plural.tolist(), prompts.frames, prompts.heads, strict=True):
        subject = parse(text + (" were" if plural else " was") + " old.").subject
        assert (subject.frame, subject.head.singular, subject.plural) == (frame, head, plural)
        assert subject.attractor_plural != plural
        assert subject.attractor != subject.head


def test_same_seed_same_prompts(words: WordTokenizer) -> None:
    assert agreement(words, n=40, seed=1).texts == agreement(words, n=40, seed=1).texts
    assert agreement(words, n=40, seed=1).texts != agreement(words, n=40, seed=2).texts


def test_tokens_end_where_the_text_ends_and_the_margin_reads_its_verbs(words: WordTokenizer) -> None:
    prompts = agreement(words, n=80)
    for i, text in enumerate(prompts.texts):
        end = int(prompts.ends[i])
        assert prompts.tokens[i, : end + 1].tolist() == words.encode(text)
        assert set(prompts.tokens[i, end:].tolist()) == {int(prompts.tokens[i, end])}
    by_word = {word: prompts.signs[:, i] for i, word in enumerate(prompts.words)}
    assert set(by_word) == {" is", " are", " was", " were"}
    for word, signs in by_word.items():
        assert bool((signs == (1 if word in (" are", " were") else -1)).all())
    past = torch.tensor([text.startswith("In the past") for text in prompts.texts])
    assert torch.equal(prompts.plural_verbs[:, 0] == prompts.words.index(" were"), past)
    assert prompts.forms.tokens == tuple((words.encode(word)[0],) for word in prompts.words)


def test_held_out_nouns_and_frames_stay_on_their_side(words: WordTokenizer) -> None:
    prompts = agreement(words, n=200, held_out_nouns=True, held_out_frames=("relative", "fronted"))
    test, extraction = prompts.half("test"), prompts.half("extraction")

    def nouns(half: Prompts) -> set[str]:
        subjects = [parse(text + " were old.").subject for text in half.texts]
        return {noun.singular for subject in subjects for noun in (subject.head, subject.attractor) if noun}

    assert not nouns(test) & nouns(extraction)
    assert set(test.frames) == {"relative", "fronted"}
    assert set(extraction.frames) == {"plain", "trailing", "there"}


def test_minimal_pairs_differ_in_one_verb_that_fits_the_tense(words: WordTokenizer) -> None:
    table = agreement(words, n=40).table()
    for _, row in table.iterrows():
        right, wrong = (parse(row[name] + " old.") for name in ("right", "wrong"))
        assert right.agrees
        assert not wrong.agrees
        assert right.subject == wrong.subject


def test_gpt2_holds_every_noun_as_one_token(gpt2: Any) -> None:
    prompts = agreement(gpt2, n=1_200)
    assert prompts.dropped == {}
    assert prompts.tokens.shape[1] <= 17
    assert len(NOUNS) > 100
    few = agreement(gpt2, n=8, nouns=(*NOUNS[:4], Noun("marmot", "marmots"), Noun("xylophone", "xylophones")))
    assert few.dropped == {"marmot": "3 tokens", "xylophone": "4 tokens"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 10}, "a multiple of 4 and at least 8; got 10"),
        ({"n": 8, "held_out_frames": ("relativ",)}, "unknown frame 'relativ'; did you mean relative"),
        ({"n": 8, "held_out_frames": tuple(FRAMES)}, "every frame is held out"),
        ({"n": 8, "nouns": (Noun("marmot", "marmots"),)}, "0 of 1 can be used under this tokenizer"),
        ({"n": 8, "nouns": NOUNS[:3], "held_out_nouns": True}, "each half needs 2 nouns"),
        ({"n": 4_000, "nouns": NOUNS[:2]}, "different prompts; ask for fewer"),
        ({"n": 8, "verbs": (Verb("is", "are"), Verb("seems", "seem"))}, "unknown word 'seems'"),
    ],
)
def test_what_cannot_be_made_is_said(words: WordTokenizer, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        agreement(words, **arguments)


ROWS = [
    {"prompt": "The keys to the cabinet", "number": "plural"},
    {"prompt": "The key to the cabinets", "number": "singular"},
    {"prompt": "The dogs near the cat ", "number": "Plural"},
    {"prompt": "The dog near the cats", "number": "singular"},
]


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    if path.suffix == ".csv":
        columns = list(dict.fromkeys(name for row in rows for name in row))
        path.write_text("\n".join([",".join(columns), *(",".join(row.get(name, "") for name in columns) for row in rows)]))
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_ones_own_prompts_are_read(words: WordTokenizer, tmp_path: Path, suffix: str) -> None:
    prompts = read_prompts(written(tmp_path / f"own{suffix}", ROWS), words)
    assert prompts.texts == tuple(row["prompt"].strip() for row in ROWS)
    assert prompts.plural.tolist() == [True, False, True, False]
    for half in ("extraction", "test"):
        assert sorted(prompts.half(half).plural.tolist()) == [False, True]
    assert set(prompts.words) == {" is", " are", " was", " were"}


def test_verbs_of_ones_own_differ_by_row(words: WordTokenizer, tmp_path: Path) -> None:
    pairs = [("is", "are"), ("was", "were"), ("is", "are"), ("was", "were")]
    rows = [row | {"singular_verb": a, "plural_verb": b} for row, (a, b) in zip(ROWS, pairs, strict=True)]
    prompts = read_prompts(written(tmp_path / "own.csv", rows), words)
    assert prompts.signs.abs().sum(1).tolist() == [2.0] * 4
    again = read_prompts(written(tmp_path / "again.jsonl", prompts.table().to_dict("records")), words)
    assert torch.equal(again.signs, prompts.signs)
    assert again.texts == prompts.texts


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, {"prompt": " ", "number": "plural"}], "line 6: the prompt is empty"),
        ([*ROWS, {"prompt": "The dog", "number": "dual"}], 'line 6: number is "singular" or "plural"; got \'dual\''),
        ([row for row in ROWS if row["number"] != "singular"], "has 0 singular prompts; agreement needs at least 2 of each"),
        ([*ROWS, {"prompt": "The zebra", "number": "plural"}], "unknown word 'zebra'"),
        ([row | {"singular_verb": "is"} for row in ROWS], "given together, in all rows or in none"),
        ([*ROWS, ROWS[0] | {"singular_verb": "is", "plural_verb": "are"}], "given together, in all rows or in none"),
        ([{"text": "The dog", "number": "plural"}], "no column prompt; its header is text, number"),
    ],
)
def test_bad_files_are_said_with_their_line(words: WordTokenizer, tmp_path: Path, rows: list[dict[str, str]], message: str) -> None:
    with pytest.raises(GrokinterpError) as raised:
        read_prompts(written(tmp_path / "own.csv", rows), words)
    assert message in str(raised.value)


def test_files_that_are_no_prompts(words: WordTokenizer, tmp_path: Path) -> None:
    with pytest.raises(GrokinterpError, match=r"read from \.csv"):
        read_prompts(tmp_path / "own.txt", words)
    with pytest.raises(GrokinterpError, match=r"none\.csv does not exist"):
        read_prompts(tmp_path / "none.csv", words)
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "The dog", "number"')
    with pytest.raises(GrokinterpError, match="line 1 is not readable as JSON"):
        read_prompts(broken, words)


def test_prompts_are_a_subject_of_their_own_and_no_task(words: WordTokenizer) -> None:
    prompts = agreement(words, n=8)
    assert not any(hasattr(prompts, field.name) for field in fields(Task) if field.name not in ("name", "tokens", "n_vocab"))
    snapshot = Snapshot(SimpleNamespace(cfg=SimpleNamespace(d_vocab=prompts.n_vocab)), prompts)
    assert snapshot.subject is prompts
    for measure in (fsd, loss, progress):
        with pytest.raises(GrokinterpError, match=r"reads a task, and Prompts\(agreement: 8, .*\) is not a task"):
            measure(snapshot)
    with pytest.raises(GrokinterpError, match="too few for 'agreement' with"):
        Snapshot(SimpleNamespace(cfg=SimpleNamespace(d_vocab=3)), prompts)
    with pytest.raises(GrokinterpError, match="unknown half 'tset'"):
        prompts.half("tset")


def test_a_prompt_needs_words_and_a_tokenizer(words: WordTokenizer) -> None:
    assert tasks.agreement is agreement
    with pytest.raises(GrokinterpError, match="the prompt is empty"):
        token_ids(words, "  ")
    with pytest.raises(GrokinterpError, match="has no tokenizer"):
        agreement(None)
