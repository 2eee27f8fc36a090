"""Many runs: a list of configs goes to any executor, and a table of results comes back.

Run folders are the only shared state. A worker takes a run by its lock, goes on from its last checkpoint and leaves
what it found there, so that killed workers, second drivers and other machines need no bookkeeping of ours.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from tqdm.auto import tqdm

from grokinterp.errors import GrokinterpError, os_errors_explained
from grokinterp.files import read_bytes, read_object, read_text, replacing, write_json
from grokinterp.outputs import PARQUET, check_output, output
from grokinterp.training.config import RunConfig, combinations
from grokinterp.training.executors import InProcess, LocalPool, SupportsSubmit, drive
from grokinterp.training.folder import read_metrics, read_status
from grokinterp.training.runs import Run, first_step, has_diverged
from grokinterp.training.train import check_device, has_ended, train_together, why_not_together
from grokinterp.training.writer import FolderInUse, open_for_writing

if TYPE_CHECKING:
    import pandas as pd

GROKKED = "test_accuracy >= 0.99"
ENSEMBLE_ON_GPU = 32  # members; chosen here without a measurement
TABLE = "results.parquet"
TABLE_LIMIT = 1 << 30  # bytes

_log = logging.getLogger(__name__)


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


@os_errors_explained()
def sweep(
    configs: Sequence[RunConfig],
    out: str | Path,
    *,
    executor: SupportsSubmit | None = None,
    workers: int | None = None,
    ensemble: int | None = None,
    threads: int = 1,
    device: str = "cpu",
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Train every config into ``out/<digest>`` and return one row of results for each; a second call trains only what is left.

    Finished runs are not trained again and unfinished ones go on. A run that fails leaves its traceback as error.txt and
    does not stop the others. Runs whose worker dies are submitted again. Each run that has not finished well in the end, because it failed or
    diverged, is named in the table and in the log of `logging`. Several processes, also on several machines with a common file system, can call
    this with the same arguments: each run is trained by one of them at a time. A process that finds a run taken trains another one and comes back.

    The folder's results.parquet accumulates: it has the rows of earlier calls too, also those with other configs, and every setting as a column.
    It is written when the sweep begins, where it lists what will be trained, and again at the end.

    The bits of a run depend on its config, the machine, `threads` and the ensemble it trains in, not on the executor.
    In an ensemble of more than one, float32 may round otherwise than alone (measured: the last bit, for widths that are no
    multiples of 16), so ensembles are cut from the list of configs as it stands, whatever is finished already.

    Args:
        configs: what to train; `grid` makes such a list.
        out: folder of the run folders and of results.parquet, a table of all runs that were ever swept into it.
        executor: anything with the interface of `concurrent.futures.Executor`: Dask's ``client.get_executor()``, a
            submitit executor. None for processes on this machine; a script then needs ``if __name__ == "__main__":``.
        workers: processes on this machine; by default as many as cores, or GPUs where device is "cuda". 0 trains in
            this process.
        ensemble: how many runs at most train as one tensor program; by default 1 on a CPU, 32 on a GPU.
        threads: torch threads of each run, wherever it is trained.
        device: "cpu" or "cuda".
        progress_bar: show a progress bar over runs on a terminal or in a notebook.

    Raises:
        GrokinterpError: bad arguments, a folder that cannot be written, a results.parquet that no sweep wrote, or an executor that takes
            nothing more.
    """
    if executor is None:
        check_device(device)
    elif workers is not None:
        raise GrokinterpError(f"workers={workers} says how many processes to start here, but an executor was given, which has its own; leave one out")
    ensemble = (1 if device == "cpu" else ENSEMBLE_ON_GPU) if ensemble is None else ensemble
    if (workers is not None and workers < 0) or ensemble < 1 or threads < 1:
        raise GrokinterpError(f"a sweep needs workers >= 0, ensemble >= 1 and threads >= 1; got {workers}, {ensemble} and {threads}")
    folder = Path(out).resolve()
    check_output(folder / TABLE, PARQUET)
    kept_rows(folder / TABLE)
    folder.mkdir(parents=True, exist_ok=True)
    configs = list({config.digest: config for config in configs}.values())
    left = [group for group in ensembles(configs, ensemble) if not all(_finished(folder / config.digest, config) for config in group)]
    if left:  # what is still absent stands in the table from the beginning, so that a reader knows how much there is to do
        _accumulate(configs, [_outcome(folder / config.digest, config) for config in configs], folder / TABLE)
    with tqdm(total=len(configs), initial=len(configs) - sum(map(len, left)), unit="run", disable=None if progress_bar else True) as bar:
        unwritten = _train(left, folder, executor, workers, threads, device, bar)
    rows = [_outcome(folder / config.digest, config, unwritten.get(config.digest)) for config in configs]
    for config, row in zip(configs, rows, strict=True):
        if row["state"] != "finished":
            _log.warning("%s %s: %s", folder / config.digest, row["state"], row["error"] or row["reason"])
    _accumulate(configs, rows, folder / TABLE)
    return _table(configs, rows)


def _train(
    groups: list[list[RunConfig]], out: Path, executor: SupportsSubmit | None, workers: int | None, threads: int, device: str, bar: Any
) -> dict[str, str]:
    """Have an executor do the groups; the reasons of failures that could not be written down, by digest."""
    unwritten: dict[str, str] = {}

    def done(position: int, reasons: Mapping[str, str]) -> None:
        unwritten.update(reasons)
        bar.update(len(groups[position]))

    def failed(position: int, reason: str) -> None:
        done(position, _leave_errors([config for config in groups[position] if not _finished(out / config.digest, config)], out, reason))

    calls = [(train_group, (group, str(out), device, threads)) for group in groups]

    def hand_to(executor: SupportsSubmit, at_once: int | None) -> None:
        drive(calls, executor, at_once, done=done, failed=failed)

    if executor is not None:
        hand_to(executor, at_once=None)
    elif workers == 0:
        hand_to(InProcess(), at_once=1)
    elif groups:
        own = min(workers or default_workers(device), len(groups))
        with LocalPool(own, device) as pool:
            hand_to(pool, at_once=own)
    return unwritten


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


def train_group(configs: list[RunConfig], out: str, device: str, threads: int) -> dict[str, str] | Literal[False]:
    """What a worker does: train those of a group that are not finished.

    Whatever a run raises is left in its folder. A group that fails is tried again in halves, so that one bad run fails alone.

    Returns:
        The reasons of failures that could not be left in the folders, by digest; False where another process has a run of the group.
    """
    left = [config for config in configs if not _finished(Path(out) / config.digest, config)]
    try:
        with torch_threads(threads):
            _train_left(left, Path(out), device)
        return {}
    except FolderInUse:
        return False
    except Exception:
        reason = traceback.format_exc()
    if len(left) == 1:
        return _leave_errors(left, Path(out), reason)
    middle = len(left) // 2
    first, second = (train_group(half, out, device, threads) for half in (left[:middle], left[middle:]))
    return False if first is False or second is False else first | second


def _train_left(configs: list[RunConfig], out: Path, device: str) -> None:
    """Train a group, all of whose folders are held before any is trained; members that stand far apart go one after the other."""
    with contextlib.ExitStack() as stack:
        held = [(config, stack.enter_context(open_for_writing(out / config.digest, config))) for config in configs]
        # The process that held one before may have finished it meanwhile.
        left = [(config, writer, [point.position for point in writer.points()]) for config, writer in held if not _finished(writer.path, config)]
        while left:
            earliest = min(max(positions) for _, _, positions in left)
            together = [(config, writer) for config, writer, points in left if earliest in points]
            left = [member for member in left if earliest not in member[2]]
            chosen, writers = [config for config, _ in together], [writer for _, writer in together]
            train_together(chosen, [config.task.build() for config in chosen], writers, device, progress_bar=False)
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


def _finished(folder: Path, config: RunConfig) -> bool:
    """Whether a run is; one whose files cannot be read is not, and says why when it is tried."""
    try:
        return has_ended(folder, config)
    except (GrokinterpError, OSError):
        return False


def _leave_errors(configs: list[RunConfig], out: Path, reason: str) -> dict[str, str]:
    """Write down in the folders of runs why they failed; the reason by digest where that cannot be written."""
    unwritten = {}
    for config in configs:
        folder = out / config.digest
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "config.json").exists():
                if any(not entry.name.startswith(".") for entry in folder.iterdir()):
                    raise GrokinterpError(f"{folder} holds files of other programs")
                write_json(folder / "config.json", config.to_dict())
            with replacing(folder / "error.txt") as temporary:
                temporary.write_text(reason)
        except (GrokinterpError, OSError):
            unwritten[config.digest] = reason
    return unwritten


@os_errors_explained()
def runs_in(folder: str | Path) -> list[Run]:
    """The runs whose folders lie in a folder, such as a sweep's or that of forks, by name.

    Raises:
        GrokinterpError: there are none.
    """
    found = [Run(config.parent) for config in sorted(Path(folder).glob("*/config.json"))]
    if not found:
        raise GrokinterpError(f"{folder} is neither a run nor a folder of runs: neither it nor a folder in it has a config.json")
    return found


@os_errors_explained()
def results(configs: Sequence[RunConfig], out: str | Path) -> pd.DataFrame:
    """The results of a sweep so far, one row a config; it may be called while the sweep runs.

    Columns: digest; the settings that vary, by dotted name; state (finished, diverged, failed, unfinished, absent), reason, step and
    error, the last line of error.txt or what cannot be read; the newest metrics (losses in nats); grokked_at, the first evaluated step with
    test_accuracy >= 0.99.
    """
    return _table(configs, [_outcome(Path(out) / config.digest, config) for config in configs])


def _table(configs: Sequence[RunConfig], rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The settings that vary beside the outcomes."""
    settings = [flat_settings(config.to_dict()) for config in configs]
    names = list(dict.fromkeys(name for own in settings for name in own if name != "parent.path"))
    varying = [name for name in names if any(own.get(name) != settings[0].get(name) for own in settings)]
    chosen = [{name: own.get(name) for name in varying} for own in settings]
    return _frame([{"digest": config.digest, **own, **row} for config, own, row in zip(configs, chosen, rows, strict=True)])


def _accumulate(configs: Sequence[RunConfig], rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Put rows in the folder's table, in the place of those with the same digest."""
    from filelock import FileLock

    with FileLock(file.with_name(".results.lock")):  # another driver may do the same
        table = kept_rows(file)
        for config, row in zip(configs, rows, strict=True):
            table[config.digest] = {"digest": config.digest, **flat_settings(config.to_dict()), **row}
        with output(file, PARQUET) as temporary:
            temporary.write_bytes(_frame(list(table.values())).to_parquet(engine="pyarrow"))  # which cannot write to every path


def kept_rows(file: Path) -> dict[str, dict[str, Any]]:
    """The rows of results.parquet by digest, with all settings of those whose folder is there; none where there is no table yet.

    Raises:
        GrokinterpError: it cannot be read, or is the table of something else.
    """
    import pyarrow
    import pyarrow.parquet

    if not file.exists():
        return {}
    try:
        rows = pyarrow.parquet.read_table(io.BytesIO(read_bytes(file, TABLE_LIMIT))).to_pylist()
        table = {str(row["digest"]): row for row in rows}
    except (pyarrow.ArrowException, OSError, KeyError, TypeError) as error:
        raise GrokinterpError(f"{file} is not the table of a sweep ({error}); move it away, and a new one is written") from error
    for digest, row in table.items():
        if not row.keys() >= _ALWAYS:  # written when only settings that varied were
            with contextlib.suppress(GrokinterpError):
                table[digest] = {**flat_settings(read_object(file.with_name(digest) / "config.json")), **row}
    return table


_ALWAYS = {"seed", "steps", "eval_every", "dtype"}  # settings of every config


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A table with every column of one type."""
    import pandas as pd

    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: _of_one_type([row.get(name) for row in rows]) for name in names}
    frame: pd.DataFrame = pd.DataFrame(columns).astype({name: "Int64" for name in ("step", "grokked_at") if name in columns})
    return frame


def _outcome(folder: Path, config: RunConfig, unwritten: str | None = None) -> dict[str, Any]:
    """How far a run has come.

    Args:
        folder: of the run.
        config: of the run.
        unwritten: why it failed, where that could not be written into its folder.
    """
    try:
        file, status, rows, ended = folder / "error.txt", read_status(folder), read_metrics(folder), has_ended(folder, config)
        error = "" if ended else unwritten or (read_text(file).strip() or "error.txt is empty" if file.exists() else "")
        if ended:
            state = "diverged" if has_diverged(status) else "finished"
        else:
            state = "failed" if error else "unfinished" if folder.exists() else "absent"
        return {
            "state": state,
            "reason": status.get("reason"),
            "error": error.strip().splitlines()[-1] if error else None,
            **(rows[-1] if rows else {"step": None}),
            "grokked_at": first_step(rows, GROKKED),
        }
    except (OSError, ValueError) as problem:  # one bad folder is one bad row
        return {"state": "failed", "reason": None, "error": f"{type(problem).__name__}: {problem}", "step": None, "grokked_at": None}


def _of_one_type(values: list[Any]) -> list[Any]:
    """A column that Parquet can hold: text where some are text and some are not."""
    if len({isinstance(value, str) for value in values if value is not None}) < 2:
        return values
    return [None if value is None else str(value) for value in values]


def flat_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name; lists, like betas, as text.

    Args:
        values: a config as a dict of dicts.
        prefix: of the names.
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flat_settings(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value) if isinstance(value, list) else value
    return flat
