"""What extracting a core costs beside the forward and backward passes that it needs, and how much memory it takes.

``python -m benchmarks.cores`` prints the table.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Row, ratio, show
from grokinterp import ace
from grokinterp.models import ModelConfig, build_model
from grokinterp.tasks import Task
from grokinterp.training.sweep import torch_threads

D_MODEL, N_SEQUENCES, LENGTH, N_VOCAB = 768, 3_125, 32, 512
N_JACOBIANS, BATCH = 1_000, 128
HOOK = "blocks.0.hook_resid_post"
MIB = 2**20


def rows(repeats: int = 2) -> list[Row]:
    """Extraction at D = 768 from 100,000 activations with a scalar score: time against its passes, and the peak memory of a fresh process."""
    model, tokens = subject()
    with torch_threads(1):
        extracting, passing = alternated([lambda: extract(model, tokens), lambda: passes(model, tokens)], repeats)
    note = f"1 thread, {median(extracting):.0f} s"
    name = f"core at D = {D_MODEL} from {N_SEQUENCES * LENGTH:,} activations, scalar score"
    return [
        Row(f"{name}: extraction against its passes", ratio(extracting, passing), "times the passes", note),
        Row(f"{name}: peak memory", peak() / MIB, "MiB", "of a fresh process, libraries and model included"),
    ]


def subject() -> tuple[Any, Tensor]:
    """Two blocks of GPT-2 Small's shape, random, and random tokens; the hook lies between the blocks."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(N_VOCAB, (N_SEQUENCES, LENGTH), generator=generator)
    task = Task("random", tokens, tokens[:, -1].contiguous(), n_vocab=N_VOCAB, n_classes=N_VOCAB)
    config = ModelConfig(n_layers=2, d_model=D_MODEL, n_heads=12, d_mlp=4 * D_MODEL, act_fn="gelu", normalization="pre", init="pytorch")
    return build_model(config, task, seed=0), tokens


def score(logits: Tensor) -> Tensor:
    """The margin of two outputs over two others."""
    return logits[..., 0] + logits[..., 1] - logits[..., 2] - logits[..., 3]


def extract(model: Any, tokens: Tensor) -> None:
    """What is timed."""
    ace.extract(model, tokens, HOOK, score=score, n_jacobians=N_JACOBIANS, batch_size=BATCH)


def passes(model: Any, tokens: Tensor) -> None:
    """Forward to the hook for every sequence; forward to the score and back to the hook for those with a gradient."""
    with torch.no_grad():
        for batch in torch.split(tokens, BATCH):
            model(batch, stop_at_layer=1)
    for batch in torch.split(tokens[:N_JACOBIANS], BATCH):
        with torch.no_grad():
            h = model(batch, stop_at_layer=1)
        h.requires_grad_()
        torch.autograd.grad(score(model(h, start_at_layer=1)[:, -1]).sum(), h)


def alternated(functions: list[Callable[[], None]], rounds: int) -> list[list[float]]:
    """Seconds of each function in each round, taking turns; each takes so long that nothing needs warming up."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, own in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            own.append(time.perf_counter() - start)
    return seconds


def peak() -> float:
    """Bytes at most in use by a process that does nothing but extract."""
    program = "from benchmarks import cores; cores.report_peak()"
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


def report_peak() -> None:
    """Extract, and print this process's peak."""
    with torch_threads(1):
        extract(*subject())
    in_bytes = 1 if sys.platform == "darwin" else 1024
    print(in_bytes * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    show(rows())
