"""Where many runs are trained: this process, processes of this machine, or anything like a `concurrent.futures.Executor`.

`drive` hands calls out and sees to it that each is done, though workers may die under it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol

import torch

from grokinterp.errors import GrokinterpError

MAX_TRIES = 3
POLL = 0.05  # seconds
LONGEST_PAUSE = 60.0  # seconds between two looks at a run that another process has
HINT = '(if all die at once: workers import the script that sweeps, so it must be a file, with its calls below `if __name__ == "__main__":`)'

Call = tuple[Callable[..., bool], tuple[Any, ...]]
"""A function and its arguments; it says whether it is done (True) or has to be called again later (False)."""


class SupportsSubmit(Protocol):
    """The one verb of `concurrent.futures.Executor` that is used; what it returns has ``done()``, ``result()`` and ``cancel()``."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """Have a function called, some time, somewhere."""


class Here:
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
    lost: int = 0  # how often its worker has died
    pause: float = 1.0  # seconds until the next try, if another process has it
    not_before: float = 0.0  # on the monotonic clock


def drive(
    calls: Sequence[Call],
    executor: SupportsSubmit,
    at_once: int | None,
    *,
    done: Callable[[int], object],
    failed: Callable[[int, str], object],
) -> None:
    """Have every call done, again where its worker dies, later where it says so.

    A call whose worker has died `MAX_TRIES` times is given up. With `at_once`, the last try is made with nothing
    beside it, so that a call that takes a whole pool down with it is not confused with its neighbours.

    Args:
        calls: what to do, in this order.
        executor: who does it.
        at_once: how many calls at most are submitted at a time; None for all.
        done: called with the position of a call that is done or given up.
        failed: called before that with the position of one that is given up, and why.

    Raises:
        GrokinterpError: the executor takes nothing more.
    """
    waiting = [_Job(position) for position in range(len(calls))]
    flying: dict[_Job, Any] = {}
    try:
        while waiting or flying:
            delicate = at_once is not None and any(job.lost == MAX_TRIES - 1 for job in (*waiting, *flying))
            room = len(calls) if at_once is None else 1 if delicate else at_once
            now = time.monotonic()
            for job in [job for job in waiting if job.not_before <= now][: max(0, room - len(flying))]:
                waiting.remove(job)
                flying[job] = _submit(executor, calls[job.position])
            landed = [job for job, future in flying.items() if future.done()]
            for job in landed:
                if _settle(job, flying.pop(job), failed):
                    done(job.position)
                else:
                    waiting.insert(0, job) if job.lost else waiting.append(job)
            if not landed:
                time.sleep(POLL)
    finally:
        for future in flying.values():
            future.cancel()


def _submit(executor: SupportsSubmit, call: Call) -> Any:
    function, arguments = call
    try:
        return executor.submit(function, *arguments)
    except (BrokenExecutor, RuntimeError) as error:
        raise GrokinterpError(
            f"the executor takes no more work ({error}); call again with a fresh one, and only what is left will be done"
        ) from error


def _settle(job: _Job, future: Any, failed: Callable[[int, str], object]) -> bool:
    """Whether a call that came back needs no other try."""
    try:
        if future.result():
            return True
    except Exception as error:  # the call's own are caught where it runs, so this is the worker's
        job.lost += 1
        if job.lost < MAX_TRIES:
            return False
        failed(job.position, f"its worker died {job.lost} times: {type(error).__name__}: {error} {HINT}")
        return True
    job.not_before = time.monotonic() + job.pause
    job.pause = min(2 * job.pause, LONGEST_PAUSE)
    return False
