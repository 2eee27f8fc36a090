"""Agreement prompts of one's own, from CSV and JSON files as other programs write them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grokinterp.checks import shown
from grokinterp.errors import GrokinterpError
from grokinterp.files import parse_json, read_text
from grokinterp.language.grammar import VERBS, Verb
from grokinterp.language.prompts import Prompts, prompts_of
from grokinterp.language.spelling import token_ids

COLUMNS = ("prompt", "number", "singular_verb", "plural_verb", "half", "frame", "head")
"""The columns that are read; `Prompts.table` writes all of them."""

_LONGEST = 131_072  # characters of a field, the CSV reader's own limit


@dataclass(frozen=True)
class _Row:
    where: str
    prompt: str
    plural: bool
    verb: Verb | None
    half: str
    frame: str
    head: str


def read_prompts(path: str | Path, tokenizer: Any, seed: int = 0, *, bos: bool | None = None) -> Prompts:
    """Prompts of one's own, from a CSV or JSON file in UTF-8.

    The columns are ``prompt`` and ``number``, "singular" or "plural"; and, each in all rows or in none, ``singular_verb`` with ``plural_verb``
    (is/are and was/were without them) and ``half``, "extraction" or "test"; ``frame`` and ``head`` are kept as they are. So what `Prompts.table`
    writes is read back as it was. Other columns are left alone. White space around a value is no part of it: the space between a prompt and
    its verb is the verb's.

    Args:
        path: ``.csv`` as in RFC 4180, with a header, commas, and quotes around fields that hold commas, quotes (written twice) or line breaks;
            ``.jsonl`` with one object a line; ``.json`` with those or with one list of objects.
        tokenizer: with ``encode(text, add_special_tokens=False)``.
        seed: of the split into extraction and test where there is no ``half``: half of the different prompts of each number (rounded up)
            for extraction. Prompts of the same tokens are always in the same half.
        bos: begin every prompt with the beginning-of-text token; None as the tokenizer does by itself.

    Raises:
        GrokinterpError: a file that cannot be read, is above 16 MiB or has another suffix; a row with more or fewer fields than the header, a value
            that is no text or longer than 131,072 characters, a missing column, an empty prompt, an unknown number; a verb that is not one
            token, or the same in both numbers; one prompt with two numbers or in two halves; fewer than 2 different prompts of either
            number, or a half without one of them.
    """
    path = Path(path)
    rows = [_row(where, values) for where, values in _rows(path)]
    for row in rows:
        for name in ("verb", "half"):
            if bool(getattr(row, name)) != bool(getattr(rows[0], name)):
                what = {"verb": "singular_verb and plural_verb are given together", "half": "half is given"}[name]
                raise GrokinterpError(f"{row.where}: {what}, in all rows or in none")
    first = _first_of_each(rows, tokenizer)
    plural = np.array([row.plural for row in rows], dtype=bool)
    for name, count in (("plural", len(set(first[plural]))), ("singular", len(set(first[~plural])))):
        if count < 2:
            raise GrokinterpError(
                f"{path} has {count} {name} prompts; agreement needs at least 2 of each number, one to extract from and one to test"
            )
    extraction = np.array([row.half == "extraction" for row in rows]) if rows[0].half else _drawn_half(first, plural, seed)
    for is_plural in (False, True):
        if len(set(extraction[plural == is_plural].tolist())) < 2:
            raise GrokinterpError(f"{path}: one half has no {'plural' if is_plural else 'singular'} prompts; give both halves some of each number")
    return prompts_of(
        path.name,
        [row.prompt for row in rows],
        plural.tolist(),
        extraction,
        [VERBS if row.verb is None else (row.verb,) for row in rows],
        tokenizer,
        bos=bos,
        frames=tuple(row.frame for row in rows),
        heads=tuple(row.head for row in rows),
    )


def _row(where: str, values: Mapping[str, Any]) -> _Row:
    found: dict[str, str] = {}
    for name in COLUMNS:
        value = values.get(name)
        if value is not None and not isinstance(value, str):
            raise GrokinterpError(f"{where}: {name} is text; got {shown(value)}")
        if len(value or "") > _LONGEST:
            raise GrokinterpError(f"{where}: {name} has {len(value or ''):,} characters; at most {_LONGEST:,} are read")
        found[name] = (value or "").strip()
    if not found["prompt"]:
        raise GrokinterpError(f"{where}: the prompt is empty")
    if found["number"].lower() not in ("singular", "plural"):
        raise GrokinterpError(f'{where}: number is "singular" or "plural"; got {shown(found["number"])}')
    if found["half"] not in ("", "extraction", "test"):
        raise GrokinterpError(f'{where}: half is "extraction" or "test"; got {shown(found["half"])}')
    verb = Verb(found["singular_verb"], found["plural_verb"])
    if bool(verb.singular) != bool(verb.plural):
        raise GrokinterpError(f"{where}: singular_verb and plural_verb are given together, in all rows or in none")
    if verb.singular and verb.singular == verb.plural:
        raise GrokinterpError(f"{where}: the verb is {shown(verb.singular)} in both numbers, so it tells nothing; give two forms")
    kept = verb if verb.singular else None
    return _Row(where, found["prompt"], found["number"].lower() == "plural", kept, found["half"], found["frame"], found["head"])


def _first_of_each(rows: Sequence[_Row], tokenizer: Any) -> np.ndarray:
    """For each row the first one whose prompt has the same tokens; they have to agree in number and half."""
    seen: dict[tuple[int, ...], int] = {}
    first = [seen.setdefault(tuple(token_ids(tokenizer, row.prompt)), i) for i, row in enumerate(rows)]
    for row, i in zip(rows, first, strict=True):
        other = rows[i]
        if row.plural != other.plural:
            numbers = [("singular", "plural")[one.plural] for one in (row, other)]
            raise GrokinterpError(f"{row.where}: {shown(row.prompt)} is {numbers[0]} here and {numbers[1]} in {other.where}")
        if row.half != other.half:
            raise GrokinterpError(f"{row.where}: {shown(row.prompt)} is in the half {row.half!r} here and in {other.half!r} in {other.where}")
    return np.array(first, dtype=np.int64)


def _drawn_half(first: np.ndarray, plural: np.ndarray, seed: int) -> np.ndarray:
    chosen: set[int] = set()
    for is_plural in (False, True):
        own = np.random.default_rng(seed).permutation(np.unique(first[plural == is_plural]))
        chosen |= set(own[: (len(own) + 1) // 2].tolist())
    return np.array([int(i) in chosen for i in first])


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row with the place to name in an error."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl", ".json"):
        raise GrokinterpError(f"prompts are read from .csv, or from .jsonl with one object a line; got {path}")
    text = read_text(path)
    rows = list(_csv_rows(path, text) if suffix == ".csv" else _json_rows(path, text))
    if not rows:
        raise GrokinterpError(f"{path} holds no prompts; write one a line, with its number")
    return iter(rows)


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    # Not text.splitlines(): it breaks lines inside quotes, and at U+2028 and NEL, which are characters like any other here.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        where = f"{path}, line {reader.line_num + 1}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise GrokinterpError(f"{where}: {error}; close every quote, and write one that is part of a field twice") from error
        if fields is None:
            break
        if not fields:
            continue
        if header is None:
            header = [name.strip() for name in fields]
            if missing := {"prompt", "number"} - set(header):
                raise GrokinterpError(f"{path} has no column {' or '.join(sorted(missing))}; its header is {', '.join(header)[:200]}")
            if twice := sorted({name for name in header if name in COLUMNS and header.count(name) > 1}):
                raise GrokinterpError(f"{path} has two columns {twice[0]}; leave one")
        elif len(fields) != len(header):
            raise GrokinterpError(f"{where}: {len(fields)} fields under a header of {len(header)}; put a field that holds a comma in quotes")
        else:
            yield where, dict(zip(header, fields, strict=True))
    if header is None:
        raise GrokinterpError(f"{path} has no column number or prompt; its header is empty")


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix.lower() == ".json" and text.lstrip().startswith("["):
        found = [(f"{path}, entry {i}", row) for i, row in enumerate(parse_json(text, str(path)), start=1)]
    else:  # lines end with \n alone, as JSON lines have it
        lines = enumerate(text.split("\n"), start=1)
        found = [(f"{path}, line {i}", parse_json(line, f"{path}, line {i}")) for i, line in lines if line.strip()]
    for where, row in found:
        if not isinstance(row, dict) or not {"prompt", "number"} <= row.keys():
            raise GrokinterpError(f"{where}: needs an object with prompt and number; got {shown(row)}")
        yield where, row
