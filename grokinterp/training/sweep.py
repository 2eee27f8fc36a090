"""Many runs: a list of configs goes to any executor, and a table of results comes back.

Run folders are the only shared state. A worker takes a run by its lock, goes on from its last checkpoint and leaves
what it found there, so that killed workers, second drivers and other machines need no bookkeeping of ours.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from grokinterp.errors import GrokinterpError
from grokinterp.files import read_json, replacing, write_json
from grokinterp.training.config import RunConfig, combinations
from grokinterp.training.executors import Here, LocalPool, SupportsSubmit, drive
from grokinterp.training.folder import read_metrics
from grokinterp.training.runs import first_step
from grokinterp.training.train import check_device, train_together, why_not_together
from grokinterp.training.writer import FolderInUse, open_for_writing

if TYPE_CHECKING:
    import pandas as pd

GROKKED = "test_accuracy >= 0.99"
ENSEMBLE_ON_GPU = 32  # members; chosen here without a measurement


def grid(config: RunConfig, lists: Mapping[str, Any] | None = None, **more: Any) -> list[RunConfig]:
    """Every combination of settings: ``grid(config, weight_decay=[0.3, 1], seed=range(3))`` is six configs.

    Args:
        config: what all of them share.
        lists: values by full or short name, see `grokinterp.training.config.full_names`; the last varies fastest. Where seed is
            given and task.split_seed is not, the split follows the seed.
        more: further settings, for names without a dot.

    Raises:
        GrokinterpError: an unknown setting, a bad value or an empty list.
    """
    configs = []
    for settings in combinations(config, {**(lists or {}), **more}):
        split = {"task.split_seed": settings["seed"]} if "seed" in settings and "task.split_seed" not in settings else {}
        configs.append(config.with_(**settings, **split))
    return configs


def sweep(
    configs: Sequence[RunConfig],
    out: str | Path,
    *,
    executor: SupportsSubmit | None = None,
    workers: int | None = None,
    ensemble: int | None = None,
    threads: int = 1,
    device: str = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """Train every config into ``out/<digest>`` and return one row of results for each; again, and it does only what is left.

    Finished runs are not trained again and unfinished ones go on. A run that fails leaves its traceback as error.txt and
    does not stop the others. Runs whose worker dies are submitted again. Several processes, also on several machines
    with a common file system, can call this with the same arguments: each run is trained by one of them at a time, and
    who finds it taken does something else and comes back to it later.

    The bits of a run depend on its config, the machine, `threads` and the ensemble it trains in, not on the executor.
    In an ensemble of more than one, float32 may round otherwise than alone (measured: the last bit, for widths that are no
    multiples of 16), so ensembles are cut from the list of configs as it stands, whatever is finished already.

    Args:
        configs: what to train; `grid` makes such a list.
        out: folder of the run folders and of results.parquet.
        executor: anything with the interface of `concurrent.futures.Executor`: Dask's ``client.get_executor()``, a
            submitit executor. None for processes on this machine; a script then needs ``if __name__ == "__main__":``.
        workers: processes on this machine; by default as many as cores, or GPUs where device is "cuda". 0 trains in
            this process.
        ensemble: how many runs at most train as one tensor program; by default 1 on a CPU, 32 on a GPU.
        threads: torch threads of each run, wherever it is trained.
        device: "cpu" or "cuda".
        progress: show a progress bar over runs where somebody can see it.

    Raises:
        GrokinterpError: bad arguments, a full disk, or an executor that takes nothing more.
    """
    if executor is None:
        check_device(device)
    elif workers is not None:
        raise GrokinterpError(f"workers={workers} says how many processes to start here, but an executor was given, which has its own; leave one out")
    ensemble = (1 if device == "cpu" else ENSEMBLE_ON_GPU) if ensemble is None else ensemble
    if (workers is not None and workers < 0) or ensemble < 1 or threads < 1:
        raise GrokinterpError(f"a sweep needs workers >= 0, ensemble >= 1 and threads >= 1; got {workers}, {ensemble} and {threads}")
    folder = Path(out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    configs = list({config.digest: config for config in configs}.values())
    left = [group for group in ensembles(configs, ensemble) if not all(_finished(folder / config.digest) for config in group)]
    with tqdm(total=len(configs), initial=len(configs) - sum(map(len, left)), unit="run", disable=None if progress else True) as bar:
        _train(left, folder, executor, workers, threads, device, bar)
    table = results(configs, folder)
    with replacing(folder / "results.parquet") as temporary:
        table.to_parquet(temporary, engine="pyarrow")
    return table


def _train(
    groups: list[list[RunConfig]], out: Path, executor: SupportsSubmit | None, workers: int | None, threads: int, device: str, bar: Any
) -> None:
    """Have an executor do the groups."""

    def failed(position: int, reason: str) -> None:
        for config in groups[position]:
            if not _finished(out / config.digest):
                _leave_error(out / config.digest, config, reason)

    calls = [(train_group, (group, str(out), device, threads)) for group in groups]

    def hand_to(executor: SupportsSubmit, at_once: int | None) -> None:
        drive(calls, executor, at_once, done=lambda position: bar.update(len(groups[position])), failed=failed)

    if executor is not None:
        hand_to(executor, at_once=None)
    elif workers == 0:
        hand_to(Here(), at_once=1)
    elif groups:
        own = min(workers or default_workers(device), len(groups))
        with LocalPool(own, device) as pool:
            hand_to(pool, at_once=own)


def default_workers(device: str) -> int:
    """As many processes as this one may use cores, or as there are GPUs."""
    if device.startswith("cuda"):
        return 1 if ":" in device else torch.cuda.device_count()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ensembles(configs: Sequence[RunConfig], size: int) -> list[list[RunConfig]]:
    """Cut configs into groups of at most `size` that can train together: a function of this list and nothing else."""
    kinds: list[list[RunConfig]] = []
    for config in configs:
        fitting = next((kind for kind in kinds if why_not_together([kind[0], config]) is None), None)
        if fitting is None:
            kinds.append([config])
        else:
            fitting.append(config)
    return [kind[start : start + size] for kind in kinds for start in range(0, len(kind), size)]


def train_group(configs: list[RunConfig], out: str, device: str, threads: int) -> bool:
    """What a worker does: train those of a group that are not finished; False where another process has one of them.

    Whatever a run raises is left in its folder. A group that fails is tried again in halves, so that one bad run fails alone.
    """
    left = [config for config in configs if not _finished(Path(out) / config.digest)]
    try:
        with torch_threads(threads):
            _train_left(left, Path(out), device)
        return True
    except FolderInUse:
        return False
    except Exception:
        reason = traceback.format_exc()
    if len(left) == 1:
        _leave_error(Path(out) / left[0].digest, left[0], reason)
        return True
    middle = len(left) // 2
    first, second = (train_group(half, out, device, threads) for half in (left[:middle], left[middle:]))
    return first and second


def _train_left(configs: list[RunConfig], out: Path, device: str) -> None:
    """Train a group, all of whose folders are held before any is trained; members that stand far apart go one after the other."""
    with contextlib.ExitStack() as stack:
        held = [(config, stack.enter_context(open_for_writing(out / config.digest, config))) for config in configs]
        # The process that held one before may have finished it meanwhile.
        left = [(config, writer, [point.position for point in writer.points()]) for config, writer in held if not _finished(writer.path)]
        while left:
            earliest = min(max(positions) for _, _, positions in left)
            abreast = [(config, writer) for config, writer, points in left if earliest in points]
            left = [member for member in left if earliest not in member[2]]
            chosen, writers = [config for config, _ in abreast], [writer for _, writer in abreast]
            train_together(chosen, [config.task.build() for config in chosen], writers, device, progress=False)
            for writer in writers:
                (writer.path / "error.txt").unlink(missing_ok=True)


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Run with so many torch threads, then with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _finished(folder: Path) -> bool:
    return _status(folder).get("state") == "finished"


def _status(folder: Path) -> dict[str, Any]:
    file = folder / "status.json"
    return dict(read_json(file)) if file.exists() else {}


def _leave_error(folder: Path, config: RunConfig, reason: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.json").exists():
        write_json(folder / "config.json", config.to_dict())
    with replacing(folder / "error.txt") as temporary:
        temporary.write_text(reason)


def results(configs: Sequence[RunConfig], out: str | Path) -> pd.DataFrame:
    """What a sweep has come to so far, one row a config; reading disturbs no one.

    Columns: digest; the settings that vary, by dotted name; state (finished, failed, unfinished, absent), reason, step and
    error, the last line of error.txt; the newest metrics (losses in nats); grokked_at, the first evaluated step with
    test_accuracy >= 0.99.
    """
    import pandas as pd

    settings = [_flat(config.to_dict()) for config in configs]
    names = list(dict.fromkeys(name for own in settings for name in own if name != "parent.path"))
    columns = {name: [own.get(name) for own in settings] for name in names}
    varying = {name: _of_one_type(values) for name, values in columns.items() if any(value != values[0] for value in values)}
    outcomes = pd.DataFrame([_outcome(Path(out) / config.digest) for config in configs])
    digests = {"digest": [config.digest for config in configs]}
    table: pd.DataFrame = pd.concat([pd.DataFrame({**digests, **varying}), outcomes.astype({"step": "Int64", "grokked_at": "Int64"})], axis=1)
    return table


def _outcome(folder: Path) -> dict[str, Any]:
    """How far a run has come."""
    error, status, rows = folder / "error.txt", _status(folder), read_metrics(folder)
    failed = error.exists() and not status
    return {
        "state": status.get("state") or ("failed" if failed else "unfinished" if folder.exists() else "absent"),
        "reason": status.get("reason"),
        "error": error.read_text().strip().splitlines()[-1] if failed else None,
        **(rows[-1] if rows else {"step": None}),
        "grokked_at": first_step(rows, GROKKED),
    }


def _of_one_type(values: list[Any]) -> list[Any]:
    """A column that Parquet can hold: text where some are text and some are not."""
    if len({isinstance(value, str) for value in values if value is not None}) < 2:
        return values
    return [None if value is None else str(value) for value in values]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name; lists, like betas, as text."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value) if isinstance(value, list) else value
    return flat
