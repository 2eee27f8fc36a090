"""``rng`` means the same everywhere: a seed or a generator, with a default, so that a number can be had again."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import grokinterp
from grokinterp import GrokinterpError, fsd, laws
from grokinterp.chance import Rng, generator
from grokinterp.reports.report import Report

DECAY, TIMES = np.repeat([0.1, 0.3, 1.0], 4), np.array([9, 8, 7, 9, 4, 3, 5, 4, 1, 2, 1, 1.5])
GROKS = np.array([0, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1, 1])
SIGNALS = torch.randn(11, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SCORES = np.random.default_rng(1).random((60, 5))
REACHED = np.where(np.arange(60) < 40, np.nan, 5.0)
RUNS = [
    Report(
        xr.Dataset(
            {"metric_test_loss": ("eval_step", [2.0, loss])},
            coords={"eval_step": [0, 10]},
            attrs={"title": f"run {seed}", "config": json.dumps({"seed": seed}), "failures": "{}", "summary": ""},
        )
    )
    for seed, loss in enumerate((0.5, 0.7, 3.0))
]
CALLS: dict[str, Callable[..., Any]] = {
    "discrimination": lambda **rng: laws.discrimination(np.arange(12.0).reshape(3, 4), np.array([[0, 1, 0, 1]] * 3), n_bootstrap=20, **rng),
    "fork_law": lambda **rng: laws.fork_law(DECAY, TIMES, n_bootstrap=20, n_permutations=20, **rng),
    "grokking_time_in_p": lambda **rng: laws.grokking_time_in_p(np.repeat([53, 71, 97, 113], 3), TIMES, n_bootstrap=20, **rng),
    "lead_times": lambda **rng: laws.lead_times(TIMES, 2 * TIMES, n_bootstrap=20, **rng),
    "logistic_boundary": lambda **rng: laws.logistic_boundary(DECAY, GROKS, n_bootstrap=20, **rng),
    "onsets": lambda **rng: laws.onsets(RUNS, "test_loss < 1", n_bootstrap=20, **rng),
    "detection": lambda **rng: laws.detection(list(SCORES), [np.arange(5)] * 60, REACHED, false_alarm_rate=0.2, n_bootstrap=20, **rng),
    "survival_boundary": lambda **rng: laws.survival_boundary(DECAY, TIMES, TIMES > 8, 10.0, n_bootstrap=20, **rng),
    "iid_test": lambda **rng: fsd.iid_test(fsd.spectrum(SIGNALS)[0], draws=20, **rng),
    "neuron_shuffle_test": lambda **rng: fsd.neuron_shuffle_test(fsd.spectrum(SIGNALS)[0], draws=20, **rng),
    "permutation_test": lambda **rng: fsd.permutation_test(SIGNALS, draws=20, **rng),
}


def drawing() -> dict[str, Callable[..., Any]]:
    """Every function that the package offers and that takes an rng."""
    rooms = [getattr(grokinterp, name) for name in grokinterp.__all__ if inspect.ismodule(getattr(grokinterp, name))]
    offered = {name: getattr(room, name) for room in rooms for name in getattr(room, "__all__", vars(room))}
    functions = {name: each for name, each in offered.items() if inspect.isfunction(each) and each.__module__.startswith("grokinterp")}
    return {name: each for name, each in functions.items() if "rng" in inspect.signature(each).parameters}


def test_every_rng_may_be_left_out() -> None:
    found = drawing()
    assert set(found) == set(CALLS)  # a new one is to be called below
    for name, function in found.items():
        parameter = inspect.signature(function).parameters["rng"]
        assert (parameter.default, parameter.annotation) == (0, "Rng"), name


@pytest.mark.parametrize("name", CALLS)
def test_a_seed_is_the_generator_that_it_seeds_and_0_is_the_default(name: str) -> None:
    alone, seeded, drawn = (repr(CALLS[name](**rng)) for rng in ({}, {"rng": 0}, {"rng": np.random.default_rng(0)}))
    assert alone == seeded == drawn


def test_a_generator_goes_on_and_a_seed_begins_anew() -> None:
    going = np.random.default_rng(1)
    assert generator(going) is going
    assert generator(1).random() == generator(np.int64(1)).random() == going.random() != going.random()


@pytest.mark.parametrize("rng", [None, -1, 1.0, "0", True, np.random.RandomState(0), np.random])
def test_what_is_neither_is_named(rng: Rng) -> None:
    with pytest.raises(GrokinterpError, match="rng is a seed of 0 or more, or a numpy Generator"):
        generator(rng)
