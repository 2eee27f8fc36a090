"""Whatever stands where a file should be is read whole, or refused in one sentence that names it; nothing blocks and nothing large is allocated."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from grokinterp.errors import GrokinterpError
from grokinterp.files import (
    TENSORS_LIMIT,
    TEXT_LIMIT,
    parse_json,
    read_bytes,
    read_facts,
    read_json,
    read_object,
    read_tensors,
    read_text,
    regular_file,
)


def sparse(path: Path, size: int) -> None:
    with open(path, "wb") as handle:
        handle.truncate(size)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


# What stands at the path, and the words that say so.
NO_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda path: None, "does not exist"),
    "a folder": (Path.mkdir, "is a folder, not a file"),
    "a pipe": (os.mkfifo, "is a pipe, not a file"),
    "a socket": (listening, "is a socket, not a file"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    "a dangling link": (lambda path: path.symlink_to("annex/key"), "it is a link to annex/key, which is not there"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "is a link that leads back to itself"),
    "a sparse file": (lambda path: sparse(path, TENSORS_LIMIT + 1), f"has {TENSORS_LIMIT + 1:,} bytes"),
}
READERS = {
    "regular_file": lambda path: regular_file(path, TENSORS_LIMIT),
    "read_bytes": lambda path: read_bytes(path, TENSORS_LIMIT),
    "read_text": read_text,
    "read_json": read_json,
    "read_object": read_object,
    "read_tensors": read_tensors,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", NO_FILES)
def test_what_is_no_file_is_called_by_its_name(what: str, reader: str, tmp_path: Path) -> None:
    make, said = NO_FILES[what]
    path = tmp_path / "x"
    make(path)
    with pytest.raises(GrokinterpError) as caught:
        READERS[reader](path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", READERS)
def test_paths_that_no_system_takes(reader: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    for path, said in (
        (tmp_path / ("x" * 300), "is too long for its file system"),
        (tmp_path / "file" / "inside", "leads through something that is not a folder"),
        (Path("nul\0"), "is no path: embedded null"),
    ):
        with pytest.raises(GrokinterpError, match=said):
            READERS[reader](path)


def test_links_are_followed_and_limits_are_exact(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    (tmp_path / "link").symlink_to("file")
    assert regular_file(str(tmp_path / "link"), 4) == tmp_path / "link"
    assert read_bytes(tmp_path / "link", 4) == b"1234"
    for reader in (regular_file, read_bytes):
        with pytest.raises(GrokinterpError, match="has 4 bytes, and a file here has at most 3"):
            reader(tmp_path / "link", 3)


BAD_JSON = {
    "": "Expecting value",
    "{": "Expecting property name",
    "[1, 2": "delimiter",
    '{"a": 1} {}': "Extra data",
    "[" * 100_000: "nested too deep",
    "[" * 200 + "]" * 200: "nested too deep, beyond 100 levels",
    '{"a":' * 200 + "1" + "}" * 200: "nested too deep, beyond 100 levels",
    "9" * 5_000: "a number of 5000 digits, 999999999999…",
    '{"a": -' + "1" * 41 + "}": "a number of 41 digits, -11111111111…",
    '{"lr": 1, "lr": 2}': "'lr' is 1 in one place and 2 in another",
    r'["\ud800"]': "surrogates not allowed",
    r'{"\udfff": 1}': "surrogates not allowed",
}


@pytest.mark.parametrize("text", BAD_JSON, ids=lambda text: text[:16] or "empty")
def test_json_that_no_program_writes_is_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(GrokinterpError) as caught:
        read_json(path)
    assert BAD_JSON[text] in str(caught.value)
    assert str(caught.value).startswith(f"{path} is not readable as JSON (")
    assert len(str(caught.value)) < 400


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for content in (b"\xff\xfe{\x00}\x00", b'{"a": "\xe9"}'):
        path.write_bytes(content)
        with pytest.raises(GrokinterpError, match=r"cannot be read as text .* save it as UTF-8"):
            read_json(path)


@pytest.mark.parametrize("value", [None, [], [1], "text", 3, True], ids=repr)
def test_an_object_is_an_object(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value))
    assert read_json(path) == value
    with pytest.raises(GrokinterpError, match=r"must hold an object with named fields; got "):
        read_object(path)


def test_a_byte_order_mark_and_repeated_equal_names_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1, "a": 1}')
    assert read_object(path) == {"a": 1}
    sparse(path, TEXT_LIMIT)
    with pytest.raises(GrokinterpError, match="is not readable as JSON"):
        read_json(path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**39), 10**39) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=100)
@given(value=VALUES, text=st.text(alphabet='{}[]",:\\u0123456789eE+-. \nalftrsn'))
def test_json_comes_back_as_it_was_and_anything_else_is_one_error(value: Any, text: str) -> None:
    assert parse_json(json.dumps(value), "x") == value
    with contextlib.suppress(GrokinterpError):
        parse_json(text, "x")


def header(entries: Any, data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + data


BAD_TENSORS = {
    "empty": b"",
    "text": b"not safetensors",
    "cut": save({"a": torch.zeros(100)})[:-1],
    "longer": save({"a": torch.zeros(100)}) + b"\0",
    "header of 2^60 bytes": (1 << 60).to_bytes(8, "little") + b"{}",
    "tensor of 2^60 elements": header({"a": {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 1 << 62]}}),
    "size that overflows": header({"a": {"dtype": "F32", "shape": [1 << 63, 2], "data_offsets": [0, 0]}}),
    "negative size": header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}),
    "overlap": header({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}, b"\0" * 4),
    "unknown type": header({"a": {"dtype": "F3", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
    "known to the format alone": header({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"\0"),
    "null": header(None),
    "list": header([]),
    "nested without end": (1 << 16).to_bytes(8, "little") + b"[" * (1 << 16),
    "nested": header(json.loads("[" * 500 + "]" * 500)),
}


@pytest.mark.parametrize("what", BAD_TENSORS)
def test_damaged_tensor_files_are_one_sentence(what: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(BAD_TENSORS[what])
    with pytest.raises(GrokinterpError, match="is cut short or not a safetensors file"):
        read_tensors(path)


@pytest.mark.parametrize("what", BAD_TENSORS)
def test_facts_of_damaged_files_are_facts_or_one_sentence(what: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(BAD_TENSORS[what])
    try:
        found = read_facts(path)
    except GrokinterpError as error:
        sentence = str(error)
        assert "is cut short or not a safetensors file" in sentence
    else:
        assert found == {}
