"""What a prompt shows of an object is one short line: no array is printed with the result that holds it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import numpy as np
import pandas as pd
import xarray as xr
from torch import Tensor

import grokinterp
from grokinterp import Run, ace, presets, tasks
from grokinterp.language.grammar import vocabulary
from grokinterp.language.prompts import agreement
from grokinterp.language.tiny import WordTokenizer
from grokinterp.training.fork import children

LONG = (Tensor, np.ndarray, pd.DataFrame, pd.Series, xr.Dataset, xr.DataArray)


def results() -> Iterator[type]:
    """Every dataclass of the package; what papers keep between their steps is nobody's prompt."""
    for found in pkgutil.walk_packages(grokinterp.__path__, "grokinterp."):
        if not found.name.startswith(("grokinterp.papers", "grokinterp.training.engine")):
            module = importlib.import_module(found.name)
            for name, value in vars(module).items():
                if inspect.isclass(value) and is_dataclass(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                    yield value


def is_long(hint: Any) -> bool:
    """Whether a type is that of an array, or holds one."""
    kind = getattr(hint, "array_type", hint)  # of jaxtyping's
    return (inspect.isclass(kind) and issubclass(kind, LONG)) or any(is_long(part) for part in get_args(hint))


def test_no_result_prints_its_arrays() -> None:
    complaints, seen = {}, 0
    for cls in results():
        if inspect.unwrap(cls.__repr__).__code__.co_filename != "<string>":  # where dataclasses make theirs; others are written by hand
            continue
        try:
            hints = get_type_hints(cls)
        except (
            NameError,
            TypeError,
        ):  # TypeError: array.array takes no element type before Python 3.12; NameError: a type that only type checkers import, pandas as a rule
            hints = {field.name: pd.Series if "pd." in str(field.type) else None for field in fields(cls)}
        shown = [field.name for field in fields(cls) if field.repr and is_long(hints[field.name])]
        seen += 1
        if shown:
            complaints[f"{cls.__module__}.{cls.__name__}"] = f"prints {', '.join(shown)}; hide them with field(repr=False)"
    assert not complaints, complaints
    assert seen > 40


def test_what_one_looks_at_is_a_line(tiny_run: Run) -> None:
    s5, config = presets.geometric2026_s5().task.build(), presets.nanda2023(p=113, seed=3)
    core = ace.extract(tiny_run.model(), tiny_run.task, "blocks.0.hook_resid_post", rank=3, n_jacobians=4)
    prompts = agreement(WordTokenizer(vocabulary()), 20, 0)
    (child,) = children(tiny_run, tiny_run.steps[-1], steps=80).values()
    lines = {
        repr(tasks.modular_addition(7)): "Task(modular_addition: 49 inputs of 3 tokens, 7 answers, not split)",
        repr(s5): "Task(permutations: 14,400 inputs of 3 tokens, 120 answers, 4,320 to train on)",
        repr(config): f"RunConfig({config.digest}: modular_addition p = 113, ModelConfig, lr 0.001, weight decay 1, 40,000 steps, seed 3)",
        repr(child): f"RunConfig({child.digest}: modular_addition p = 7, ModelConfig, lr 0.001, weight decay 1, 80 steps, seed 0, forked at step 60)",
        repr(core): f"Core({core.hook}, all positions: {core.rank} of 16 dimensions)",
        repr(prompts): "Prompts(agreement: 20, 10 with a plural head, 10 to extract from)",
    }
    for shown, expected in lines.items():
        assert shown == expected
    for value in (tiny_run, core.flip()):
        assert len(repr(value)) < 200
        assert "\n" not in repr(value)
