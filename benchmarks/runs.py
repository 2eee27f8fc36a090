"""What it costs to keep a run: checksums beside the training that they protect, and the memory that reading checkpoints leaves behind.

``python -m benchmarks runs`` prints the table. Whatever is compared takes turns in one process.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import save

import grokinterp as gi
from benchmarks.engine import FULL_BATCH, stepper
from benchmarks.timing import Row, interleaved
from grokinterp.files import replacing, write_tensors
from grokinterp.training.engine.engine import Engine
from grokinterp.training.folder import state_facts
from grokinterp.training.learner import Weights
from grokinterp.training.sweep import torch_threads

CHECKPOINTS = 25


def rows(repeats: int = 15) -> list[Row]:
    """The share of training that checksums take, and how much memory grows a checkpoint."""
    return [*checksums(repeats), memory()]


def checksums(repeats: int) -> list[Row]:
    """Training at the default settings, checksums in its files against none: the steps between two checkpoints, and one checkpoint."""
    engine, every = Engine([FULL_BATCH], [FULL_BATCH.task.build()]), FULL_BATCH.checkpoints.every
    with torch_threads(1), tempfile.TemporaryDirectory() as folder:
        kept: list[Weights] = [engine.moments(0), engine.weights(0)]

        def with_checksums() -> None:
            for tensors in kept:
                write_tensors(Path(folder) / "sealed", tensors, state_facts("moments", 100, FULL_BATCH.digest))

        def without() -> None:
            for tensors in kept:
                with replacing(Path(folder) / "plain") as temporary:
                    temporary.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))

        step, sealed, plain = (median(own) for own in interleaved([stepper(engine, None), with_checksums, without], repeats))
    note = f"1 thread, {1e3 * step:.1f} ms a step, {1e3 * sealed:.1f} ms a checkpoint every {every} steps, {1e3 * plain:.1f} ms without"
    return [Row("training of nanda2023 with checksums against without", (every * step + sealed) / (every * step + plain), "times the time", note)]


def memory() -> Row:
    """Growth of resident memory over the later checkpoints of a run at p = 113 while `analyze` reads it; Linux alone."""
    resident: list[float] = []

    def watched(snapshot: gi.Snapshot) -> dict[str, float]:
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20)
        return {"resident": resident[-1]}

    with torch_threads(1), tempfile.TemporaryDirectory() as folder:
        config = gi.presets.nanda2023(p=113).with_(**{"steps": 2 * CHECKPOINTS, "eval_every": 2 * CHECKPOINTS, "checkpoints.every": 2})
        run = gi.train(config, Path(folder) / "run", progress_bar=False)
        with torch.no_grad():
            gi.analyze(run, ["progress", watched], progress_bar=False)
    early, late = median(resident[5:10]), median(resident[-5:])
    return Row(
        "memory that analyze keeps of a checkpoint at p = 113", (late - early) / (len(resident) - 10), "MiB a checkpoint", f"{late:.0f} MiB in all"
    )
