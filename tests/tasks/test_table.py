"""A task takes what people have: masks, indices and numbers of any type, as tensors, arrays and lists; anything else is refused with its value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grokinterp import GrokinterpError
from grokinterp.tasks import Task, modular_addition

N = 49
TRAINED = [3, 40, 0, 17, 48]  # not in order
MASK = torch.zeros(N, dtype=torch.bool)
MASK[TRAINED] = True
WHOLE = ("uint8", "int8", "int16", "int32", "int64")

MASKS: dict[str, Any] = {
    "bool tensor": MASK,
    "bool array": MASK.numpy(),
    "bool list": MASK.tolist(),
    "0 and 1 in a list": MASK.int().tolist(),
    **{f"{name} tensor": MASK.to(getattr(torch, name)) for name in WHOLE},
    **{f"{name} array": MASK.numpy().astype(name) for name in (*WHOLE, "uint16", "uint32", "uint64")},
}
INDICES: dict[str, Any] = {
    "list": TRAINED,
    "tuple": tuple(TRAINED),
    "range": range(7),
    **{f"{name} tensor": torch.tensor(TRAINED, dtype=getattr(torch, name)) for name in WHOLE},
    **{f"{name} array": np.array(TRAINED, dtype=name) for name in (*WHOLE, "uint16", "uint32", "uint64")},
}


@pytest.mark.parametrize("train", MASKS.values(), ids=MASKS)
def test_masks_of_every_kind_are_the_same_mask(train: Any) -> None:
    task = replace(modular_addition(7), train=train)
    assert task.train is not None
    assert task.train.dtype == torch.bool
    assert torch.equal(task.train, MASK)
    assert task.indices("train").tolist() == sorted(TRAINED)
    assert sorted(task.indices("train").tolist() + task.indices("test").tolist()) == list(range(N))


@pytest.mark.parametrize("train", INDICES.values(), ids=INDICES)
def test_indices_of_every_kind_name_the_training_examples(train: Any) -> None:
    task = replace(modular_addition(7), train=train)
    assert task.train is not None
    assert task.train.dtype == torch.bool
    assert task.indices("train").tolist() == sorted(int(i) for i in train)


REFUSED_TRAIN: dict[str, tuple[Any, str]] = {
    "a mask that is too short": (MASK[:-1], "one entry for each of the 49 examples; got 48"),
    "a mask that is too long": ([*MASK.tolist(), True], "one entry for each of the 49 examples; got 50"),
    "0 and 1, too short": (MASK[:-1].int(), "names examples 0 … 48, each once; got 48 numbers in 0 … 1, 2 of them different"),
    "a repeated index": ([3, 3, 5], "each once; got 3 numbers in 3 … 5, 2 of them different"),
    "an index behind the end": ([3, 49], "names examples 0 … 48, each once; got 2 numbers in 3 … 49"),
    "a negative index": ([-1, 3], r"got 2 numbers in -1 … 3"),
    "an index beyond int64": (np.array([2**63, 1], dtype=np.uint64), "names examples 0 … 48"),
    "0 and 255, as images have it": (MASK.to(torch.uint8) * 255, "each once; got 49 numbers in 0 … 255"),
    "all of them": (torch.ones(N, dtype=torch.bool), "holds 49 of 49 examples, which leaves one side of the split empty"),
    "all indices": (range(N), "holds 49 of 49 examples"),
    "none of them": (torch.zeros(N, dtype=torch.bool), "holds 0 of 49 examples"),
    "no indices": ([], "holds 0 of 49 examples"),
    "floats": (MASK.float(), r"one True or False for each, or their indices; got torch.float32 of shape \(49,\)"),
    "a grid": (MASK.reshape(7, 7), r"got torch.bool of shape \(7, 7\)"),
    "one number": (3, r"of shape \(\)"),
    "a fraction": (0.3, "got torch.float64"),
    "words": (["a", "b"], "must be a tensor, an array or a list of whole numbers; got list"),
    "a name": ("first", "got str"),
    "ragged": ([[1], [2, 3]], "got list"),
    "things": ([object()], "got list"),
}


@pytest.mark.parametrize(("train", "said"), REFUSED_TRAIN.values(), ids=REFUSED_TRAIN)
def test_what_is_neither_a_mask_nor_indices_is_refused(train: Any, said: str) -> None:
    with pytest.raises(GrokinterpError, match=said):
        replace(modular_addition(7), train=train)


@settings(max_examples=60)
@given(data=st.data(), n=st.integers(3, 12), kind=st.sampled_from([torch.tensor, np.array, list]))
def test_a_mask_its_numbers_and_its_indices_are_one_split(data: st.DataObject, n: int, kind: Callable[[list[int]], Any]) -> None:
    chosen = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n - 1, unique=True))
    task = Task("own", torch.arange(n)[:, None], torch.arange(n), n_vocab=n, n_classes=n)
    given = [[i in chosen for i in range(n)], [int(i in chosen) for i in range(n)], chosen]
    splits = [replace(task, train=kind(train)).indices("train").tolist() for train in given]
    assert splits == [sorted(chosen)] * 3


@pytest.mark.parametrize("kind", [list, np.array, lambda rows: np.array(rows, dtype=np.uint16), lambda rows: torch.tensor(rows, dtype=torch.int16)])
def test_tables_of_every_kind_are_int64(as_installed: None, kind: Callable[[Any], Any]) -> None:
    task = Task("own", kind([[0, 1], [1, 0]]), kind([1, 0]), n_vocab=2, n_classes=2, targets=kind([[0, 1], [1, 0]]))
    assert {value.dtype for value in (task.tokens, task.answers, task.targets) if value is not None} == {torch.int64}
    assert task.tokens.tolist() == [[0, 1], [1, 0]]


REFUSED_TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "float tokens": ({"tokens": torch.zeros(2, 2)}, "tokens are whole numbers; got torch.float32"),
    "true and false as answers": ({"answers": [True, False]}, "answers are whole numbers; got torch.bool"),
    "one dimension too few": ({"tokens": [0, 1]}, r"tokens have 2 dimensions; got the shape \(2,\)"),
    "one dimension too many": ({"answers": [[0], [1]]}, r"answers have 1 dimension; got the shape \(2, 1\)"),
    "nothing": ({"tokens": torch.zeros(0, 2, dtype=torch.int64), "answers": []}, "at least one example"),
    "empty inputs": ({"tokens": torch.zeros(2, 0, dtype=torch.int64)}, "at least one token"),
    "too few answers": ({"answers": [0]}, "got 2 inputs and 1 answers"),
    "a token too large": ({"tokens": [[0, 2], [0, 0]]}, "n_vocab − 1 = 1; got 0 … 2"),
    "a negative answer": ({"answers": [0, -1]}, "n_classes − 1 = 1; got -1 … 0"),
    "a read-out behind the end": ({"readout": 2}, "readout is a position of an input, −2 … 1; got 2"),
    "a read-out before the start": ({"readout": -3}, "got -3"),
    "a pair that does not exist": ({"pairs": [[0, 2]]}, "pairs hold indices of examples, 0 … 1; got 0 … 2"),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED_TABLES.values(), ids=REFUSED_TABLES)
def test_tables_that_hold_something_else_are_refused(as_installed: None, changes: dict[str, Any], said: str) -> None:
    table: dict[str, Any] = {"tokens": [[0, 1], [1, 0]], "answers": [1, 0], "n_vocab": 2, "n_classes": 2}
    Task("own", **table)
    with pytest.raises(GrokinterpError, match=said):
        Task("own", **table | changes)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan"), float("inf"), "0.3"])
def test_fractions_outside_0_and_1_are_refused(fraction: Any) -> None:
    with pytest.raises(GrokinterpError, match="train_fraction must lie strictly between 0 and 1; got"):
        modular_addition(7).split(fraction, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**63, 0.5, "0", None])
@pytest.mark.parametrize("rule", ["torch", "python"])
def test_seeds_that_are_no_seeds_are_refused(seed: Any, rule: Any) -> None:
    with pytest.raises(GrokinterpError, match="a seed is a whole number, 0 … 2⁶³ − 1; got"):
        modular_addition(7).split(0.5, seed, rule)


@pytest.mark.parametrize("rule", ["torch", "python", "first"])
def test_numpy_seeds_are_the_numbers_that_they_are(rule: Any) -> None:
    ours, theirs = (modular_addition(7).split(0.5, seed, rule).indices("train") for seed in (3, np.int64(3)))
    assert torch.equal(ours, theirs)


def test_a_misspelt_split_is_not_the_test_split() -> None:
    with pytest.raises(GrokinterpError, match="unknown split 'tset'; did you mean test"):
        modular_addition(7).split(0.5, 0).indices("tset")  # type: ignore[arg-type]
