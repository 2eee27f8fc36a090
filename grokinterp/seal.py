"""A seal: the SHA-256 of a whole safetensors file, kept in its own metadata, so that one flipped bit anywhere in it is noticed.

The sum is taken over the file as it stands, with the 64 digits of the sum itself set to 0. Files of other programs, and those that
older versions wrote, have no seal and are read as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

SEAL = "sha256"
_BLANK = b"0" * 64


def sealed(content: bytes, facts: Mapping[str, str]) -> bytes:
    """A safetensors file with these facts and a seal as its metadata, in alphabetical order: the same tensors and facts give the same bytes.

    Args:
        content: a whole safetensors file; its own metadata are replaced.
        facts: what the file says of itself, text by name.
    """
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted({**facts, SEAL: _BLANK.decode()}.items()))
    text = json.dumps({"__metadata__": header.pop("__metadata__"), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of eight bytes
    head, data = len(text).to_bytes(8, "little") + text, memoryview(content)[8 + size :]
    return head.replace(_mark(_BLANK), _mark(_sum(head, data)), 1) + data


def facts_of(content: bytes) -> dict[str, str]:
    """The metadata of a whole safetensors file, the seal among them; empty where there are none."""
    size = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + size]).get("__metadata__") or {})


def is_broken(content: bytes) -> bool:
    """Whether a safetensors file has a seal that its bytes do not fit."""
    seal = facts_of(content).get(SEAL)
    if seal is None:
        return False
    size = 8 + int.from_bytes(content[:8], "little")
    claimed = seal.encode()
    return _sum(content[:size].replace(_mark(claimed), _mark(_BLANK), 1), memoryview(content)[size:]) != claimed


def _mark(digits: bytes) -> bytes:
    return f'"{SEAL}":"'.encode() + digits + b'"'


def _sum(head: bytes, data: memoryview) -> bytes:
    total = hashlib.sha256(head)
    total.update(data)
    return total.hexdigest().encode()
