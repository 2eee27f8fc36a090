"""The page of ten runs with forty checkpoints each, which the tests weigh and the benchmarks open."""

from __future__ import annotations

import numpy as np
import xarray as xr

from grokinterp import Comparison, Report

STEPS, RUNS = 40, 10


def ten_runs(n: int = 113) -> Comparison:
    """Runs of numbers drawn at random, which pack worse than any that were measured; all show the same figures, so that these are drawn once.

    Args:
        n: elements of the group.
    """
    rng = np.random.default_rng(0)
    names = ["1", *(f"{part} {k}" for k in range(1, (n + 1) // 2) for part in ("cos", "sin"))]
    maps = rng.gamma(1.0, size=(STEPS, n, n)).astype(np.float32)
    dataset = xr.Dataset(
        {
            "logit_component_norm": (("step", "component_x", "component_y"), maps),
            "neuron_activation": (("step", "shown_neuron", "x", "y"), rng.normal(size=(STEPS, 4, n, n)).astype(np.float32)),
            "attention_map": (("step", "layer", "head", "key", "x", "y"), rng.uniform(size=(STEPS, 1, 4, 1, n, n)).astype(np.float32)),
            **{f"metric_{split}_loss": ("eval_step", rng.uniform(0.1, 1, 4000)) for split in ("train", "test")},
        },
        coords={"step": 100 * np.arange(STEPS), "eval_step": np.arange(4000), "component_x": names, "component_y": names, "shown_neuron": range(4)},
    )
    dataset.attrs = {"title": "run", "summary": "", "config": "{}", "provenance": "{}", "failures": "{}"}
    one = Report(dataset)
    return Comparison({f"run {i}": one for i in range(RUNS)})
