"""What every paper does with its plan: train all of it, and read runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm

from grokinterp.errors import GrokinterpError
from grokinterp.training import executors
from grokinterp.training.config import RunConfig
from grokinterp.training.runs import Run
from grokinterp.training.sweep import default_workers, sweep

Result = TypeVar("Result")


def train_all(configs: Sequence[RunConfig], folder: Path, **options: Any) -> list[Run]:
    """Train what is not finished yet and open everything: one run each, in the order of the configs.

    Args:
        configs: what to train; may be empty.
        folder: of the run folders.
        options: of `sweep`.

    Raises:
        GrokinterpError: a run fails.
    """
    if not configs:
        return []
    for _, outcome in sweep(configs, folder, **options).iterrows():
        if outcome["state"] not in ("finished", "diverged"):
            raise GrokinterpError(f"the run {folder / outcome['digest']} is {outcome['state']}: {outcome['error']}; call again to go on")
    return [Run(folder / config.digest) for config in configs]


def finished(config: RunConfig, folder: Path) -> Run | None:
    """The run of a configuration in a folder of run folders, or None if it is not finished."""
    path = folder / config.digest
    run = Run(path) if (path / "config.json").exists() else None
    return run if run is not None and run.finished else None


def side_by_side(function: Callable[..., Result], arguments: Mapping[str, tuple[Any, ...]], workers: int | None) -> dict[str, Result]:
    """A function of each of several arguments, by name, with one torch thread each.

    Args:
        function: what other processes call.
        arguments: its arguments by name.
        workers: processes; None for as many as cores, 0 for this one, with its own number of threads.
    """
    if workers == 0 or not arguments:
        return {name: function(*each) for name, each in arguments.items()}
    calls = {name: (function, each) for name, each in arguments.items()}
    with tqdm(total=len(calls), unit="run", disable=None) as bar:
        return executors.side_by_side(calls, workers or default_workers("cpu"), done=lambda name: bar.update())
