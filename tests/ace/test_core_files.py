"""A core file gives back what was saved, or one sentence: no fact stands in for a tensor, and every value lies in its range."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ace_models import orthogonal
from safetensors.torch import save_file

from grokinterp import GrokinterpError
from grokinterp.ace import Core

TENSORS = {"directions": orthogonal(8, 0).contiguous(), "spectrum": torch.arange(8, 0, -1).double(), "mean": torch.ones(8).double()}
FACTS: dict[str, Any] = {"rank": 2, "hook": "blocks.0.hook_resid_post", "positions": -1, "centred": True, "provenance": {"data": "addition"}}
FORMAT = "grokinterp core 1"


def saved(path: Path, tensors: dict[str, Any] | None = None, facts: Any = None, form: str | None = FORMAT) -> Path:
    said = {} if form is None else {"format": form}
    text = facts if isinstance(facts, str) else json.dumps(FACTS if facts is None else facts)
    save_file({name: value.contiguous() for name, value in (tensors or TENSORS).items()}, path, said | {"core": text})
    return path


def test_the_file_that_others_spoil_is_good(tmp_path: Path) -> None:
    core = Core.load(saved(tmp_path / "core.safetensors"))
    assert (core.rank, core.hook, core.positions, core.centred, core.provenance) == tuple(FACTS.values())
    core.save(tmp_path / "again.safetensors")
    assert torch.equal(Core.load(tmp_path / "again.safetensors").directions, TENSORS["directions"])
    assert core.with_rank(np.int64(3)).basis.shape == (8, 3)  # type: ignore[arg-type]


def nan(name: str, at: Any = 0) -> dict[str, Any]:
    spoilt = {key: value.clone() for key, value in TENSORS.items()}
    spoilt[name][at] = math.nan
    return spoilt


BAD_TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "NaN in the mean": (nan("mean"), "the mean of a core are finite float64 numbers in 1 dimensions"),
    "NaN in the spectrum": (nan("spectrum"), "the spectrum of a core are finite"),
    "NaN in a direction": (nan("directions", (0, 0)), "the directions of a core are finite"),
    "inf": (TENSORS | {"mean": torch.full((8,), math.inf).double()}, "the mean of a core are finite"),
    "another precision": (TENSORS | {"mean": torch.ones(8)}, r"got torch.float32 of shape \(8,\)"),
    "whole numbers": (TENSORS | {"spectrum": torch.ones(8).long()}, "got torch.int64"),
    "a matrix as the mean": (TENSORS | {"mean": torch.ones(8, 1).double()}, r"got torch.float64 of shape \(8, 1\)"),
    "a vector as directions": (TENSORS | {"directions": torch.ones(8).double()}, "the directions of a core are finite float64 numbers in 2"),
    "directions that are not orthonormal": (TENSORS | {"directions": torch.ones(8, 8).double()}, "orthonormal"),
    "a mean of another width": (TENSORS | {"mean": torch.ones(7).double()}, "the mean has 7 dimensions and the directions have 8"),
    "a spectrum that rises": (TENSORS | {"spectrum": torch.arange(8).double()}, "the spectrum of a core is at least 0 and descends; got"),
    "a negative spectrum": (TENSORS | {"spectrum": -torch.arange(8).double()}, "is at least 0 and descends"),
    "no spectrum": (TENSORS | {"spectrum": torch.ones(0).double()}, "is at least 0 and descends"),
    "a tensor less": ({"directions": TENSORS["directions"]}, r"its tensors are directions, mean, spectrum; got \['directions'\]"),
    "a tensor more": (TENSORS | {"rank": torch.ones(1)}, "its tensors are directions, mean, spectrum"),
}
BAD_FACTS: dict[str, tuple[Any, str]] = {
    "a fact that overrides a tensor": (FACTS | {"mean": [0.0] * 8}, "its facts are centred, hook, positions, provenance, rank; got"),
    "a fact less": ({"rank": 2}, r"its facts are centred, .*; got \['rank'\]"),
    "a list": ([1], r"its facts are .*; got \[1\]"),
    "null": (None, "its facts are"),
    "no JSON": ("{", "the core in .* is not readable as JSON"),
    "5,000 digits": ('{"rank": ' + "1" * 5_000 + "}", "a number of 5000 digits"),
    "deep nesting": ("[" * 10_000, "nested too deep"),
    "rank 0": (FACTS | {"rank": 0}, r"lies in 1 … 8, .*; got 0"),
    "rank 9": (FACTS | {"rank": 9}, "got 9"),
    "half a rank": (FACTS | {"rank": 1.5}, "got 1.5"),
    "a rank of true": (FACTS | {"rank": True}, "got True"),
    "a rank of text": (FACTS | {"rank": "2"}, "got '2'"),
    "positions 1.5": (FACTS | {"positions": 1.5}, 'the positions of a core are "all" or the index of one; got 1.5'),
    "positions of text": (FACTS | {"positions": "last"}, "got 'last'"),
    "positions true": (FACTS | {"positions": True}, "got True"),
    "positions null": (FACTS | {"positions": None}, "got None"),
    "a hook of numbers": (FACTS | {"hook": 3}, "the hook of a core must be str; got 3"),
    "centred as text": (FACTS | {"centred": "no"}, "centred, of a core, must be bool; got 'no'"),
    "provenance as a list": (FACTS | {"provenance": []}, "the provenance of a core must be an object"),
    "provenance of numbers": (FACTS | {"provenance": {"data": 3}}, "the provenance of a core, 'data', must be str; got 3"),
}


@pytest.mark.parametrize("what", BAD_TENSORS)
def test_tensors_that_are_no_cores_are_refused(as_installed: None, what: str, tmp_path: Path) -> None:
    tensors, said = BAD_TENSORS[what]
    refused(saved(tmp_path / "core.safetensors", tensors), said)


@pytest.mark.parametrize("what", BAD_FACTS)
def test_facts_that_are_no_cores_are_refused(what: str, tmp_path: Path) -> None:
    facts, said = BAD_FACTS[what]
    refused(saved(tmp_path / "core.safetensors", facts="null" if facts is None else facts), said)


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights": (lambda path: saved(path, form=None), "holds no core: its format is 'not given'"),
    "another format": (lambda path: saved(path, form="core 2"), "holds no core: its format is 'core 2'"),
    "no metadata": (lambda path: save_file(TENSORS, path), "holds no core"),
    "text": (lambda path: path.write_text("no core"), "is cut short or not a safetensors file"),
    "half": (lambda path: path.write_bytes(saved(path).read_bytes()[:-8]), "is cut short"),
    "a pipe": (os.mkfifo, "is a pipe, not a file"),
    "a folder": (Path.mkdir, "is a folder, not a file"),
}


@pytest.mark.parametrize("what", FILES)
def test_files_that_are_no_cores_are_refused(what: str, tmp_path: Path) -> None:
    make, said = FILES[what]
    make(tmp_path / "core.safetensors")
    refused(tmp_path / "core.safetensors", said)


def test_a_flipped_bit_anywhere_is_noticed_or_harmless(tmp_path: Path) -> None:
    Core.load(saved(tmp_path / "core.safetensors")).save(tmp_path / "core.safetensors")
    whole = (tmp_path / "core.safetensors").read_bytes()
    for place in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        (tmp_path / "core.safetensors").write_bytes(damaged)
        with pytest.raises(GrokinterpError):
            Core.load(tmp_path / "core.safetensors")


def refused(path: Path, said: str) -> None:
    with pytest.raises(GrokinterpError) as caught:
        Core.load(path)
    assert re.search(said, str(caught.value)), str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
