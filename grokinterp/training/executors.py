"""Where many runs are trained: this process, processes of this machine, or anything like a `concurrent.futures.Executor`.

`drive` hands calls out and sees to it that each is done, though workers may die under it; `side_by_side` is the short way to processes of this
machine and back.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol, cast

import cloudpickle
import torch

from grokinterp.errors import GrokinterpError

MAX_TRIES = 3
POLL = 0.05  # seconds
LONGEST_PAUSE = 60.0  # seconds between two looks at a run that another process has
HINT = '(if all die at once: workers import the script that sweeps, so it must be a file, with its calls below `if __name__ == "__main__":`)'

_log = logging.getLogger(__name__)

Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and its arguments; what it returns is its result, or False if it has to be called again later."""


class SupportsSubmit(Protocol):
    """The one verb of `concurrent.futures.Executor` that is used; what it returns has ``done()``, ``result()`` and ``cancel()``."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """Have a function called, some time, somewhere."""


class InProcess:
    """An executor that does everything when it is asked, in this process."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """See `SupportsSubmit.submit`."""
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future


class LocalPool:
    """Spawned processes on this machine, replaced by fresh ones when one of them dies; a context.

    However this process ends, or leaves the context, its workers end too: they hold the other end of a pipe.

    Args:
        workers: number of processes.
        device: "cuda" gives each worker a GPU of its own, in turn.
    """

    def __init__(self, workers: int, device: str = "cpu") -> None:
        self._workers, self._device = workers, device
        self._open()

    def _open(self) -> None:
        context = get_context("spawn")
        self._held, self._lifeline = context.Pipe(duplex=False)
        arguments = (self._held, context.Value("i", 0), self._device)
        self._pool = ProcessPoolExecutor(self._workers, mp_context=context, initializer=_begin_worker, initargs=arguments)

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """See `SupportsSubmit.submit`."""
        try:
            return self._pool.submit(function, *arguments)
        except BrokenExecutor:
            self._close()
            self._open()
            return self._pool.submit(function, *arguments)

    def _close(self) -> None:
        self._lifeline.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._held.close()

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._pool.shutdown(wait=True)
        self._close()  # after an error without waiting for what is under way: runs survive being killed


def _begin_worker(lifeline: Connection, started: Any, device: str) -> None:
    def end_with_the_driver() -> None:
        try:
            lifeline.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=end_with_the_driver, daemon=True).start()
    if device == "cuda":
        with started.get_lock():
            torch.cuda.set_device(started.value % torch.cuda.device_count())
            started.value += 1


@dataclass(eq=False)
class _Job:
    position: int
    deaths: int = 0  # how often its worker has died
    pause: float = 1.0  # seconds until the next try, if another process has it
    not_before: float = 0.0  # on the monotonic clock

    def dies(self, error: Exception) -> bool:
        """Its worker has died; whether that was the last try."""
        self.deaths += 1
        if self.deaths < MAX_TRIES:
            _log.warning("a worker died (%s: %s); what it had begun is done again", type(error).__name__, error)
        return self.deaths == MAX_TRIES

    def waits(self) -> None:
        """Another process has its run, so it is looked at again later, and ever more seldom."""
        self.not_before = time.monotonic() + self.pause
        self.pause = min(2 * self.pause, LONGEST_PAUSE)


def drive(
    calls: Sequence[Call],
    executor: SupportsSubmit,
    at_once: int | None,
    *,
    done: Callable[[int, Any], object],
    failed: Callable[[int, str], object],
    is_death: Callable[[Exception], bool] = lambda error: True,
) -> None:
    """Have every call done, again where its worker dies, later where it says so.

    A call whose worker has died `MAX_TRIES` times is given up. With `at_once`, the last try is made with nothing
    beside it, so that a call that takes a whole pool down with it is not confused with its neighbours.

    Args:
        calls: what to do, in this order.
        executor: who does it.
        at_once: how many calls at most are submitted at a time; None for all.
        done: called with the position of a call that is done, and its result.
        failed: called with the position of one that is given up, and why.
        is_death: whether an exception out of the executor means that a worker died; what does not is raised here. Every one does unless given,
            for calls that never raise.

    Raises:
        GrokinterpError: the executor takes nothing more.
    """
    waiting = [_Job(position) for position in range(len(calls))]
    running: dict[_Job, Any] = {}
    try:
        while waiting or running:
            alone = at_once is not None and any(job.deaths == MAX_TRIES - 1 for job in (*waiting, *running))
            room = len(calls) if at_once is None else 1 if alone else at_once
            now = time.monotonic()
            for job in [job for job in waiting if job.not_before <= now][: max(0, room - len(running))]:
                waiting.remove(job)
                running[job] = _submit(executor, calls[job.position])
            finished = [job for job, future in running.items() if future.done()]
            for job in finished:
                try:
                    result = running.pop(job).result()
                except Exception as error:
                    if not is_death(error):
                        raise
                    if job.dies(error):
                        failed(job.position, f"its worker died {MAX_TRIES} times: {type(error).__name__}: {error} {HINT}")
                    else:
                        waiting.insert(0, job)
                    continue
                if result is False:
                    job.waits()
                    waiting.append(job)
                else:
                    done(job.position, result)
            if not finished:
                time.sleep(POLL)
    finally:
        for future in running.values():
            future.cancel()


def _submit(executor: SupportsSubmit, call: Call) -> Any:
    function, arguments = call
    try:
        return executor.submit(function, *arguments)
    except (BrokenExecutor, RuntimeError) as error:
        raise GrokinterpError(
            f"the executor takes no more work ({error}); call again with a fresh one, and only what is left will be done"
        ) from error


def side_by_side(calls: Mapping[str, Call], workers: int, *, threads: int = 1, done: Callable[[str], object] = lambda name: None) -> dict[str, Any]:
    """The results of calls that processes of this machine make, by name and in order; one whose worker dies is made again.

    Args:
        calls: by a name that an error can use, like "steps 0 … 40". Functions need not be importable: lambdas and those of a notebook work.
        workers: how many processes at most.
        threads: torch threads of each.
        done: called with the name of each call that is done.

    Raises:
        GrokinterpError: a call cannot be handed to another process, or its worker dies `MAX_TRIES` times.
        Exception: whatever a call raises.
    """
    names = list(calls)
    payloads = [_pickled(*calls[name]) for name in names]
    found: dict[int, Any] = {}

    def keep(position: int, result: Any) -> None:
        (found[position],) = result
        done(names[position])

    def give_up(position: int, reason: str) -> None:
        raise GrokinterpError(f"{names[position]}: {reason}; if the memory is too small for so many, use fewer workers, or workers=0")

    workers = min(workers, len(calls))
    with LocalPool(workers) as pool:
        work: list[Call] = [(_call, (payload, threads)) for payload in payloads]
        drive(work, pool, workers, done=keep, failed=give_up, is_death=lambda error: isinstance(error, BrokenExecutor))
    return {name: found[position] for position, name in enumerate(names)}


def _pickled(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    try:
        return cast(bytes, cloudpickle.dumps((function, arguments)))
    except Exception as error:  # pickling calls methods of any class, which raise what they like
        raise GrokinterpError(f"this work cannot be handed to other processes ({error}); use workers=0 to do it in this one") from error


def _call(payload: bytes, threads: int) -> tuple[Any]:
    """What a process does."""
    torch.set_num_threads(threads)
    function, arguments = pickle.loads(payload)
    return (function(*arguments),)  # in a tuple, because False on its own would mean: again, later
