"""Prompt files as spreadsheets, editors and scripts write them are read by their standards; everything else is refused with its line."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grokinterp import GrokinterpError
from grokinterp.language.grammar import vocabulary
from grokinterp.language.prompt_files import read_prompts
from grokinterp.language.prompts import Prompts, agreement
from grokinterp.language.spelling import token_ids
from grokinterp.language.tiny import WordTokenizer

WORDS = WordTokenizer(vocabulary())
PLURAL = ["The keys to the cabinet", "The dogs near the cat"]
SINGULAR = ["The key to the cabinets", "The dog near the cats"]
TEXTS = [PLURAL[0], SINGULAR[0], PLURAL[1], SINGULAR[1]]
LINES = ["prompt,number", *(f"{text},{'singular' if text in SINGULAR else 'plural'}" for text in TEXTS)]
OBJECTS = [{"prompt": text, "number": "singular" if text in SINGULAR else "plural"} for text in TEXTS]


class Characters:
    """A tokenizer that knows every text: a token a character, so that a verb is several."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [ord(character) for character in text]


def read(path: Path, content: str | bytes, tokenizer: Any = WORDS, seed: int = 0) -> Prompts:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_prompts(path, tokenizer, seed)


CSV = "\n".join(LINES)
SAME_CSV: dict[str, str | bytes] = {
    "unix": CSV,
    "a line end at the end": CSV + "\n",
    "CRLF": CSV.replace("\n", "\r\n") + "\r\n",
    "CR alone": CSV.replace("\n", "\r"),
    "a byte order mark": b"\xef\xbb\xbf" + CSV.encode(),
    "everything in quotes": "\n".join(",".join(f'"{field}"' for field in line.split(",")) for line in LINES),
    "empty lines": CSV.replace("\n", "\n\n") + "\n\n\n",
    "spaces around": CSV.replace(",", " , ") + "  ",
    "columns the other way": "\n".join(",".join(reversed(line.split(","))) for line in LINES),
    "a column of its own": "\n".join(f"{line},{note}" for line, note in zip(LINES, ["note", *"abcd"], strict=True)),
    "an empty verb": "\n".join(f"{line},{more}" for line, more in zip(LINES, ["singular_verb,plural_verb", *[","] * 4], strict=True)),
    "capitals": CSV.replace(",plural", ",Plural").replace(",singular", ",SINGULAR"),
}
SAME_JSON: dict[str, tuple[str, str | bytes]] = {
    "lines": (".jsonl", "\n".join(json.dumps(row) for row in OBJECTS)),
    "lines with CRLF and a mark": (".jsonl", b"\xef\xbb\xbf" + "\r\n".join(json.dumps(row) for row in OBJECTS).encode()),
    "empty lines": (".jsonl", "\n\n".join(json.dumps(row) for row in OBJECTS) + "\n\n"),
    "lines in .json": (".json", "\n".join(json.dumps(row) for row in OBJECTS)),
    "a list": (".json", json.dumps(OBJECTS)),
    "a list over many lines": (".json", json.dumps(OBJECTS, indent=2)),
    "null for what there is not": (".jsonl", "\n".join(json.dumps(row | {"singular_verb": None, "half": None}) for row in OBJECTS)),
    "more keys": (".jsonl", "\n".join(json.dumps(row | {"id": 3, "tags": ["a"]}) for row in OBJECTS)),
    "a suffix in capitals": (".JSONL", "\n".join(json.dumps(row) for row in OBJECTS)),
}
SAME = {f"CSV, {name}": (".csv", content) for name, content in SAME_CSV.items()} | {f"JSON, {name}": value for name, value in SAME_JSON.items()}


@pytest.mark.parametrize("what", SAME)
def test_the_same_prompts_however_they_are_written(what: str, tmp_path: Path) -> None:
    suffix, content = SAME[what]
    prompts = read(tmp_path / f"own{suffix}", content)
    assert prompts.texts == tuple(TEXTS)
    assert prompts.plural.tolist() == [True, False, True, False]
    assert set(prompts.words) == {" is", " are", " was", " were"}


ODD = ["a,b", 'a "b" c', "a\nb", "a\r\nb", "a\u2028b", "a\x85b", "a\u2029\x0bb", '"', "ünï", "a'b", "a;b\tc", "NULL", "=1+1"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_characters_that_other_readers_break_lines_at_stay_inside(suffix: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"{text} {i}", "number": ("singular", "plural")[i % 2]} for i, text in enumerate(ODD)]
    prompts = read(tmp_path / f"own{suffix}", written(rows, suffix), Characters())
    assert prompts.texts == tuple(row["prompt"] for row in rows)


def written(rows: list[dict[str, str]], suffix: str) -> str:
    if suffix == ".csv":
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()
    return json.dumps(rows) if suffix == ".json" else "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda text: text.strip() and "\0" not in text)


@settings(max_examples=60)
@given(texts=st.lists(TEXT.map(str.strip), min_size=4, max_size=10), suffix=st.sampled_from([".csv", ".jsonl", ".json"]), seed=st.integers(0, 5))
def test_any_prompt_comes_back_and_no_prompt_is_in_both_halves(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], suffix: str, seed: int
) -> None:
    # The number follows from the text, so that a text that is drawn twice does not contradict itself.
    rows = [{"prompt": text, "number": ("singular", "plural")[ord(text[0]) % 2]} for text in [*texts, "0a", "0b", "1a", "1b"]]
    prompts = read(tmp_path_factory.mktemp("any") / f"own{suffix}", written(rows, suffix), Characters(), seed)
    assert prompts.texts == tuple(row["prompt"] for row in rows)
    halves = [set(prompts.half(half).texts) for half in ("extraction", "test")]
    assert not halves[0] & halves[1]
    for number in (True, False):
        counts = [len({text for text in half if ord(text[0]) % 2 == number}) for half in halves]
        assert counts[0] - counts[1] in (0, 1)


def test_prompts_of_the_same_tokens_share_a_half(tmp_path: Path) -> None:
    more = [f"{text.upper()},{'singular' if text in SINGULAR else 'plural'}" for text in TEXTS]  # this tokenizer ignores case
    for seed in range(6):
        prompts = read(tmp_path / "own.csv", "\n".join([*LINES, *more]), seed=seed)
        assert prompts.extraction[:4].tolist() == prompts.extraction[4:].tolist()
        assert prompts.extraction[:4].tolist() == read(tmp_path / "own.csv", CSV, seed=seed).extraction.tolist()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_a_table_is_read_back_as_it_was(suffix: str, tmp_path: Path) -> None:
    prompts = agreement(WORDS, n=40, seed=2)
    again = read(tmp_path / f"own{suffix}", written(prompts.table().to_dict("records"), suffix), seed=9)
    assert (again.texts, again.frames, again.heads) == (prompts.texts, prompts.frames, prompts.heads)
    assert again.extraction.tolist() == prompts.extraction.tolist()


def lines(*more: str, header: str = LINES[0]) -> str:
    return "\n".join([header, *LINES[1:], *more])


VERBS = "prompt,number,singular_verb,plural_verb"
HALVES = "prompt,number,half"
REFUSED: dict[str, tuple[str, str | bytes, str]] = {
    "a stray quote": (".csv", lines('"The dog" near the cats,singular'), r"line 6: .*expected after.*close every quote"),
    "a quote that is never closed": (".csv", lines('"The dog,singular'), r"line 6: unexpected end of data; close every quote"),
    "one in a file of 170 KB": (".csv", lines('"The dog,singular', *LINES[1:] * 1_700), r"line 6: field larger than field limit \(131072\); close"),
    "a long field": (".csv", lines("x" * 131_073 + ",plural"), "line 6: field larger than field limit"),
    "a long value": (".jsonl", json.dumps({"prompt": "x" * 131_073, "number": "plural"}), "line 1: prompt has 131,073 characters"),
    "a comma without quotes": (".csv", lines("In the past, the dogs,plural"), "line 6: 3 fields under a header of 2; put a field that holds a comma"),
    "one in the last column": (".csv", "number,prompt\nplural,In the past, the dogs", "line 2: 3 fields under a header of 2"),
    "a field too few": (".csv", lines("The dogs"), "line 6: 1 fields under a header of 2"),
    "a column twice": (".csv", "prompt,number,prompt\na,plural,b", "has two columns prompt; leave one"),
    "no header": (".csv", "\n".join(LINES[1:]), "has no column number or prompt; its header is The keys"),
    "semicolons": (".csv", CSV.replace(",", ";"), "has no column number or prompt; its header is prompt;number"),
    "nothing": (".csv", "", "its header is empty"),
    "a header alone": (".csv", LINES[0], "holds no prompts"),
    "no objects": (".jsonl", "\n\n", "holds no prompts"),
    "an empty list": (".json", "[]", "holds no prompts"),
    "UTF-16": (".csv", CSV.encode("utf-16"), "cannot be read as text .* save it as UTF-8"),
    "Latin-1": (".csv", "prompt,number\nCafé,plural".encode("latin-1"), "cannot be read as text"),
    "the same verb twice": (".csv", f"{VERBS}\nThe dog,singular,can,can", "line 2: the verb is 'can' in both numbers"),
    "half of a pair": (".csv", f"{VERBS}\nThe dog,singular,is,", "line 2: singular_verb and plural_verb are given together"),
    "a verb in some rows": (".csv", f"{VERBS}\nThe dog,singular,is,are\nThe dogs,plural,,", "line 3: .* in all rows or in none"),
    "a contradiction": (".csv", lines(f"{PLURAL[0]},singular"), f"line 6: '{PLURAL[0]}' is singular here and plural in .*line 2"),
    "one in other spelling": (".csv", lines(f"{PLURAL[0].lower()},singular"), "is singular here and plural in .*line 2"),
    "a prompt in both halves": (
        ".csv",
        f"{HALVES}\nThe dog,singular,test\nThe dog,singular,extraction",
        "line 3: .* 'extraction' here and in 'test'",
    ),
    "an unknown half": (".csv", f"{HALVES}\nThe dog,singular,train", 'line 2: half is "extraction" or "test"; got \'train\''),
    "a half in some rows": (".csv", f"{HALVES}\nThe dog,singular,test\nThe dogs,plural,", "line 3: half is given, in all rows or in none"),
    "a half without one number": (
        ".csv",
        "\n".join([HALVES, *(f"{line},{'test' if 'plural' in line else 'extraction'}" for line in LINES[1:])]),
        "one half has no singular prompts",
    ),
    "one prompt many times": (".csv", "\n".join([*LINES[:3], LINES[1], LINES[2]]), "has 1 plural prompts; agreement needs at least 2"),
    "a number as a prompt": (".jsonl", '{"prompt": 3, "number": "plural"}', "line 1: prompt is text; got 3"),
    "a list as a number": (".jsonl", '{"prompt": "The dog", "number": ["plural"]}', r"line 1: number is text; got \['plural'\]"),
    "no object": (".jsonl", '["The dog", "plural"]', "line 1: needs an object with prompt and number; got"),
    "a list of texts": (".json", '["The dog"]', "entry 1: needs an object with prompt and number; got 'The dog'"),
    "two objects on a line": (".jsonl", json.dumps(OBJECTS[0]) * 2, "line 1 is not readable as JSON"),
    "half an object": (".jsonl", json.dumps(OBJECTS[0]) + "\n" + json.dumps(OBJECTS[1])[:-3], "line 2 is not readable as JSON"),
    "one name with two values": (".jsonl", '{"prompt": "a", "number": "plural", "number": "singular"}', "line 1 .*'number' is 'plural' in one place"),
    "half a character": (".jsonl", r'{"prompt": "\ud800", "number": "plural"}', "line 1 .*surrogates not allowed"),
    "deep nesting": (".jsonl", "[" * 100_000, "line 1 .*nested too deep"),
    "5,000 digits": (".jsonl", '{"prompt": "a", "number": ' + "9" * 5_000 + "}", "line 1 .*a number of 5000 digits"),
    "another suffix": (".xlsx", CSV, r"prompts are read from \.csv"),
    "an unknown word": (".csv", lines("The zebra,plural"), "unknown word 'zebra'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_said_with_its_line(what: str, tmp_path: Path) -> None:
    suffix, content, said = REFUSED[what]
    with pytest.raises(GrokinterpError) as caught:
        read(tmp_path / f"own{suffix}", content)
    assert re.search(said, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_what_is_no_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "own.csv")
    with pytest.raises(GrokinterpError, match="is a pipe, not a file"):
        read_prompts(tmp_path / "own.csv", WORDS)


def test_prompts_that_padding_would_blow_up_are_refused(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}", "number": ("singular", "plural")[i % 2]} for i in range(1_000)] + [{"prompt": "x" * 100_000, "number": "plural"}]
    with pytest.raises(GrokinterpError, match="1,001 prompts of up to 100,000 tokens do not fit into memory side by side"):
        read(tmp_path / "own.jsonl", written(rows, ".jsonl"), Characters())


class Blind(Characters):
    """A tokenizer that knows some characters, and takes verbs of either number for one."""

    unk_token_id, unk_token = 0, "<unk>"

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        text = re.sub(r" (is|are|was|were)$", "\x07", text)
        return [ord(character) if character.isascii() else 0 for character in text]


def test_what_the_tokenizer_does_not_tell_apart_is_said(tmp_path: Path) -> None:
    with pytest.raises(GrokinterpError, match="the verbs are, is, was, were are the same tokens in both numbers"):
        read(tmp_path / "own.csv", CSV, Blind())
    with pytest.raises(GrokinterpError, match="'The ünits' has a word that this tokenizer does not know"):
        token_ids(Blind(), "The ünits")
    assert token_ids(Blind(), "<unk>") == [ord(character) for character in "<unk>"]


@pytest.mark.parametrize("end", [" ", "\t", "\u00a0"])
def test_a_space_at_the_end_of_a_prompt_is_answered(end: str) -> None:
    with pytest.raises(GrokinterpError, match=r"the prompt 'The dogs.*' ends in a space, which the next word brings along; take it off"):
        token_ids(WORDS, "The dogs" + end)
