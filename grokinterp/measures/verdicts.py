"""Clock, pizza or neither in words, by the thresholds of arXiv 2306.17844, at one step and over training; see `grokinterp.measures.algorithm`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

CIRCULAR = 0.995  # circularity from which on an embedding is circular (the paper)
CLOCK = 0.4  # distance irrelevance from which on a model reads as a clock (the paper's reading)
SYMMETRIC = 0.98  # gradient symmetricity above which a model is no clock (the paper's regression over runs)
READ = {"gradient_symmetricity", "distance_irrelevance", "right_answers", "circularity"}


def verdict(last: xr.Dataset) -> str:
    """Clock, pizza or neither in words, each with its values and the thresholds; no verdict where the numbers do not hold one.

    The paper's reading: a model that answers every pair and whose embedding is circular (at least 0.995) is a pizza for q below 0.4 and a clock
    from there on. A symmetricity above 0.98 speaks against a clock; where the two disagree q decides, and the words say so.

    Args:
        last: `algorithm` at one step.
    """
    s, q, answered = (float(last[name]) for name in ("gradient_symmetricity", "distance_irrelevance", "right_answers"))
    circle = float(np.min(last["circularity"].to_numpy()))
    if answered < 1:
        return f"no verdict: the model answers {answered:.1%} of the pairs, and the thresholds are for models that answer all"
    missing = {"gradient symmetricity": s, "distance irrelevance": q, "circularity": circle}
    if undefined := [name for name, value in missing.items() if np.isnan(value)]:
        return f"no verdict: {' and '.join(undefined)} not defined"
    if circle < CIRCULAR:
        return f"neither: circularity {circle:.4f} < {CIRCULAR}, the embedding is not circular (q {q:.3f}, symmetricity {s:.3f})"
    clock, symmetric = q >= CLOCK, s > SYMMETRIC
    values = f"q {q:.3f} {'≥' if clock else '<'} {CLOCK}, symmetricity {s:.3f} {'>' if symmetric else '≤'} {SYMMETRIC}, circularity {circle:.4f}"
    doubt = "; the two disagree and q decides, the model may be a hybrid" if clock == symmetric else ""
    return f"{'clock' if clock else 'pizza'}: {values}{doubt}"


def verdicts(dataset: xr.Dataset) -> list[str]:
    """The verdict's first words at every step: "clock", "pizza", "neither" or "no verdict".

    Args:
        dataset: `algorithm` over steps.
    """
    return [verdict(dataset.isel(step=i)).partition(":")[0] for i in range(dataset.sizes["step"])]


def stretches(dataset: xr.Dataset) -> list[tuple[int, str]]:
    """Where the verdict changes: the first step of each stretch of steps with the same one, and the verdict.

    Args:
        dataset: `algorithm` over steps.
    """
    steps = zip(dataset["step"].to_numpy().tolist(), verdicts(dataset), strict=True)
    return [(int(next(each)[0]), word) for word, each in groupby(steps, key=lambda pair: pair[1])]


def in_words(dataset: xr.Dataset) -> str:
    """Each stretch and where it begins: "no verdict from step 0, neither from step 200, clock from step 1,600".

    Args:
        dataset: `algorithm` over steps.
    """
    return ", ".join(f"{word} from step {step:,}" for step, word in stretches(dataset))
