"""Training, killed at random moments and resumed until it ends: nothing is lost, nothing is half read, the bits are the same.

A parent imports everything once and forks each training, so that a kill costs little more than the time until it. What has a final name must be
whole after every kill; at the end the folder must equal that of a training that nobody disturbed.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from grokinterp import ModelConfig, Run, RunConfig, presets, train
from grokinterp.files import read_tensors
from grokinterp.models import build_model
from grokinterp.training.config import CheckpointSchedule

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
CONFIG = presets.nanda2023(p=7, train_fraction=0.6, steps=400).with_(
    model=ModelConfig(d_model=16, n_heads=2, d_mlp=24), eval_every=3, checkpoints=CheckpointSchedule(every=5)
)


@dataclass(frozen=True)
class Outcome:
    """What became of one training.

    Attributes:
        kills: signals that ended a process.
        lost: kills after which a checkpoint that had been there was gone or a metrics row was.
        half_read: files under a final name that could not be read whole.
        different: files that differ from those of the undisturbed training at the end.
    """

    kills: int
    lost: int
    half_read: int
    different: int


def fingerprint(folder: Path) -> dict[str, str]:
    """Digest of everything that a run's config decides: metrics, weights, moments, how it ended."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in ("provenance.json", ".lock"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def killed(folder: Path, whole: dict[str, str], kills: int, kind: signal.Signals, seed: int, config: RunConfig = CONFIG) -> Outcome:
    """Train in a folder, kill it so many times, and compare what comes out.

    Args:
        folder: new.
        whole: `fingerprint` of the undisturbed training.
        kills: signals to send at most; a training that ends earlier ends the loop.
        kind: the signal.
        seed: of the moments at which it comes.
        config: what is trained.
    """
    torch.set_num_threads(1)
    build_model(config.model, config.task.build(), 0)  # so that a child starts at once
    clock = random.Random(seed)
    done = lost = half_read = 0
    kept: set[str] = set()
    while True:
        ends = _in_a_child(folder, config, kind if done < kills else None, clock)
        half_read += sum(not _readable(file) for file in folder.glob("*/step_*.safetensors"))
        names = {file.name for file in (folder / "checkpoints").glob("step_*.safetensors")}
        lost += bool(kept - names)
        kept |= names
        if ends:
            break
        done += 1
    now = fingerprint(folder)
    different = sum(now.get(name) != whole.get(name) for name in now.keys() | whole.keys())
    return Outcome(done, lost, half_read, different + (not Run(folder).finished))


def _in_a_child(folder: Path, config: RunConfig, kind: signal.Signals | None, clock: random.Random) -> bool:
    """Whether a training in a process of its own came to its end, before the signal if there is one."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts this in the background ignores it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            train(config, folder, progress_bar=False)
        except KeyboardInterrupt:
            os._exit(130)
        os._exit(0)
    if kind is not None:
        time.sleep(clock.uniform(0.01, 0.15))
        os.kill(child, kind)
    status = os.waitpid(child, 0)[1]
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0


def _readable(file: Path) -> bool:
    try:
        read_tensors(file)
    except ValueError:
        return False
    return True


def campaign(folder: Path, kills: int, places: dict[str, Path]) -> list[dict[str, object]]:
    """So many kills by every signal in every place, a training of up to 20 kills at a time; one row for each pair.

    Args:
        folder: for the undisturbed training.
        kills: signals in all, at least.
        places: folders by name, a disk and a tmpfs for example.
    """
    whole = fingerprint(train(CONFIG, folder / "whole", progress_bar=False).path)
    rows: list[dict[str, object]] = []
    pairs = [(name, place, signal_name) for name, place in places.items() for signal_name in SIGNALS]
    for name, place, signal_name in pairs:
        outcomes: list[Outcome] = []
        while sum(outcome.kills for outcome in outcomes) < kills / len(pairs):
            seed = len(outcomes)
            most = min(20, math.ceil(kills / len(pairs)))
            outcomes.append(killed(place / f"{signal_name}-{seed}", whole, most, SIGNALS[signal_name], seed))
        total = {field: sum(getattr(outcome, field) for outcome in outcomes) for field in ("kills", "lost", "half_read", "different")}
        rows.append({"place": name, "signal": signal_name, "runs": len(outcomes), **total})
        print(rows[-1], flush=True)
    return rows
