"""What measures cost, beside one plain forward pass of HookedTransformer where there is one to compare with.

``python -m benchmarks.measures`` prints the table.
"""

from __future__ import annotations

from statistics import median

import numpy as np
import torch

from benchmarks.timing import Row, interleaved, ratio, show
from grokinterp import presets
from grokinterp.laws import logistic_boundary
from grokinterp.measures.algorithm import algorithm
from grokinterp.measures.fsd import permutation_test, signals
from grokinterp.measures.heads import BATCH, heads
from grokinterp.measures.progress import progress
from grokinterp.models import ModelConfig, build_model
from grokinterp.snapshot import Snapshot
from grokinterp.training.sweep import torch_threads

KEYS = [6, 23, 37, 39, 41]  # as many as a grokked model has; each costs one pass of cross-entropy over the training pairs


def rows(repeats: int = 11) -> list[Row]:
    """The progress family, clock or pizza, the permutation test of FSD, the head diagnostics and the bootstrap of a boundary."""
    return [*progress_family(repeats), *clock_or_pizza(repeats), *permutations(repeats), *head_diagnostics(repeats), *boundaries(repeats)]


def progress_family(repeats: int) -> list[Row]:
    """On one p = 113 snapshot with five key frequencies, with and without the pass that fills the snapshot."""
    config = presets.nanda2023(p=113)
    task = config.task.build()
    model = build_model(config.model, task, seed=0)
    filled = Snapshot(model, task)
    _ = filled.logit_table, filled.answer_table

    @torch.no_grad()
    def plain() -> None:
        model(task.tokens)

    with torch_threads(2):
        functions = [plain, lambda: progress(Snapshot(model, task), KEYS), lambda: progress(filled, KEYS)]
        forward, family, alone = interleaved([lambda f=f: f() and None for f in functions], repeats)
    note = f"2 threads, {1e3 * median(forward):.0f} ms a plain pass"
    return [
        Row("progress family with its own pass, p = 113, against a plain forward pass", ratio(family, forward), "forward passes", note),
        Row("progress family on a filled snapshot, against a plain forward pass", ratio(alone, forward), "forward passes", note),
    ]


def clock_or_pizza(repeats: int) -> list[Row]:
    """All of the measure on one p = 113 model, against two plain forward passes and a backward pass of HookedTransformer."""
    task = presets.pizza2023(p=113).task.build()
    model = build_model(presets.pizza2023(p=113).model, task, seed=0)

    def plain() -> None:
        with torch.no_grad():
            model(task.tokens)
        leaves: list[torch.Tensor] = []
        with model.hooks(fwd_hooks=[("hook_embed", lambda value, hook: leaves.append(value.detach().requires_grad_()) or leaves[-1])]):
            logits = model(task.tokens)[:, -1]
        torch.autograd.grad(logits.gather(1, task.answers[:, None]).sum(), leaves)

    with torch_threads(2):
        passes, measured = interleaved([plain, lambda: algorithm(Snapshot(model, task)) and None], repeats)
    note = f"2 threads, {1e3 * median(passes):.0f} ms the passes; 56 circles, as random weights have them"
    return [Row("clock or pizza, all of it, p = 113, against two forward passes and a backward pass", ratio(measured, passes), "passes", note)]


def permutations(repeats: int) -> list[Row]:
    """The whole test of one snapshot: the pass over all pairs, the signals, and 1,000 draws of the null."""
    config = presets.fsd2026(p=113)
    task = config.task.build()
    model = build_model(config.model, task, seed=0)

    def test() -> None:
        permutation_test(signals(Snapshot(model, task)), np.random.default_rng(0), 1_000)

    with torch_threads(1):
        (seconds,) = interleaved([test], repeats)
    return [Row("FSD with 1,000 permutations on one p = 113 snapshot", median(seconds), "seconds", "1 thread")]


def head_diagnostics(repeats: int) -> list[Row]:
    """A forward pass of the small model of arXiv 2605.20441 with the diagnostics read off it, against the same pass without."""
    task = presets.fsd2026(p=97).task.build()
    model = build_model(ModelConfig(n_layers=4, n_heads=8, act_fn="gelu", normalization="pre", init="pytorch"), task, seed=0)
    snapshot, batch = Snapshot(model, task), task.tokens[task.fixed_batch(BATCH)]

    @torch.no_grad()
    def plain() -> None:
        model(batch)

    @torch.no_grad()
    def diagnosed() -> None:
        heads(snapshot)

    with torch_threads(1):
        forward, both = interleaved([plain, diagnosed], 5 * repeats)
    note = f"1 thread, {1e3 * median(forward):.0f} ms a pass"
    return [Row("head diagnostics on top of a forward pass of the same 512 examples", 100 * (ratio(both, forward) - 1), "percent", note)]


def boundaries(repeats: int) -> list[Row]:
    """1,500 logistic fits of a boundary in weight decay, four runs at each of six decays."""
    decay = np.repeat([1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0], 4)
    grokked = np.array([0] * 8 + [0, 0, 0, 1, 0, 0, 1, 1] + [1] * 8)
    (seconds,) = interleaved([lambda: logistic_boundary(decay, grokked, rng=np.random.default_rng(0), n_bootstrap=1_500) and None], repeats)
    return [Row("boundary in weight decay with 1,500 resamples", median(seconds), "seconds", "24 runs")]


if __name__ == "__main__":
    show(rows())
