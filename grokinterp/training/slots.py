"""Many trainings in a fixed number of places of one engine: as one ends, the next begins in its place.

What is compiled and captured for one number of members stays in use until the queue is empty. Nothing is written while
training; what was seen of each run is kept in memory, and `Slots.save` writes it, with what is needed to go on.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from grokinterp.conditions import Condition
from grokinterp.errors import GrokinterpError
from grokinterp.files import read_json, read_tensors, regular_file, replacing, write_json, write_tensors
from grokinterp.tasks import Task
from grokinterp.training.config import RunConfig
from grokinterp.training.engine.engine import Engine
from grokinterp.training.learner import Moments, Weights
from grokinterp.training.train import BatchOrder, why_it_ends


@dataclass(eq=False)
class Job:
    """One training in the queue.

    Attributes:
        name: unique; what its rows are filed under.
        config: what to train. Its stop condition ends it, its checkpoints are not kept.
        least: the fewest steps that it takes, though its stop condition may be met before.
        step: where it stands.
        state: weights and Adam's moments at that step while it waits; None for the initial ones.
        rows: what was seen at each evaluation, ``step`` and the metrics; none at the step that it began at.
        reason: why it ended; empty until then.
        notes: further facts about it, as plain JSON values; "parent" is the name of the job that it follows from.
        marked: gives weights and moments to go back to, see `Slots.mark`; "marked" in the notes is their step.
    """

    name: str
    config: RunConfig
    least: int = 0
    step: int = 0
    state: tuple[Weights, Moments] | None = field(default=None, repr=False)
    rows: list[dict[str, float]] = field(default_factory=list, repr=False)
    reason: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    marked: Callable[[], tuple[Weights, Moments]] | None = field(default=None, repr=False)


class Slots:
    """A queue of trainings in a fixed number of places.

    Subclass it to look at more than losses and accuracies (`measure`), to remember a moment (`seen`) or to queue what follows from a finished
    training (`follow`).

    Args:
        jobs: what to train, in order; their configs share model, table of inputs, sizes of the split, batch size and rhythm of evaluation.
        places: how many train at once.
        device: "cpu" or "cuda".
        compiled: see `Engine`.

    Raises:
        GrokinterpError: jobs that cannot share an engine, or two of one name.
    """

    def __init__(self, jobs: Sequence[Job], places: int, device: str = "cpu", *, compiled: bool = False) -> None:
        if not jobs or places < 1:
            raise GrokinterpError(f"a queue needs at least one job and one place; got {len(jobs)} jobs and {places} places")
        if warming := [job for job in jobs if job.config.optimizer.warmup_steps]:
            steps = warming[0].config.optimizer.warmup_steps
            raise GrokinterpError(f"trainings that begin at different times share no warm-up; set optimizer.warmup_steps to 0, got {steps}")
        if len({job.name for job in jobs}) < len(jobs):
            raise GrokinterpError(f"two of the jobs {', '.join(job.name for job in jobs)} have one name; give each its own")
        self.jobs, self._queue, self._compiled = {job.name: job for job in jobs}, deque(job for job in jobs if not job.reason), compiled
        first = jobs[0].config
        self._tasks: dict[str, Task] = {}
        n_train = len(self._task(first).indices("train"))
        self._batch_size = first.batch_size or n_train
        self._per_epoch, self._every, self._device = math.ceil(n_train / self._batch_size), first.eval_every, device
        if self._every % self._per_epoch:
            raise GrokinterpError(f"evaluations every {self._every} steps do not fall on the ends of epochs of {self._per_epoch} steps")
        places = min(places, max(1, len(self._queue)))
        self.engine = Engine([first] * places, [self._task(first)] * places, device, compiled=compiled)
        self.members: list[Job | None] = [None] * places
        self._orders = [self._order_of(first)] * places  # each place gets its job's own before it trains
        self.member_steps, self.seconds = 0, 0.0

    # --- what a subclass may add -----------------------------------------------------------------------------------------------------

    def measure(self) -> list[Mapping[str, float]]:
        """More numbers of each member for its row, NaN for members without a job."""
        return [{} for _ in self.members]

    def seen(self, member: int, job: Job) -> None:
        """A job has a new row."""

    def follow(self, job: Job) -> Iterable[Job]:
        """What to train next, before everything else in the queue, now that a job has ended."""
        return ()

    # --- the loop --------------------------------------------------------------------------------------------------------------------

    def run(self, seconds: float = math.inf, now_and_then: Callable[[], None] | None = None) -> bool:
        """Train until the queue is empty, or until the first evaluation after so many seconds; whether it is empty.

        Args:
            seconds: after which to stop.
            now_and_then: called about once a minute.
        """
        begun, told, self.seconds = time.monotonic(), 0.0, 0.0
        for member in range(len(self.members)):
            if self.members[member] is None:
                self._fill(member)
        while any(self.members) and self.seconds < seconds:
            self._advance()
            self._look()
            self.seconds = time.monotonic() - begun
            if now_and_then is not None and self.seconds > told + 60:
                told = self.seconds
                now_and_then()
        return not any(self.members)

    def mark(self, member: int, job: Job) -> None:
        """Remember a member's weights and moments as they are now."""
        job.marked, job.notes["marked"] = partial(self.engine.named, self.engine.state(member)), job.step

    def _task(self, config: RunConfig) -> Task:
        key = str(config.to_dict()["task"])
        if key not in self._tasks:
            self._tasks[key] = config.task.build()
        return self._tasks[key]

    def _order_of(self, config: RunConfig) -> BatchOrder:
        return BatchOrder(self._task(config).indices("train"), self._batch_size, config.seed)

    def _fill(self, member: int) -> None:
        """Give a place to the next job; without one its weights train on, unseen."""
        self.members[member] = None
        if not self._queue:
            return
        job = self._queue.popleft()
        self.engine.put(member, job.config, self._task(job.config))
        if job.state is not None:
            self.engine.load(member, *job.state)
            job.state = None
        self.members[member] = job
        self._orders[member] = self._order_of(job.config)

    def _look(self) -> None:
        """Evaluate, and let the next jobs begin where some have ended."""
        for member, (found, more) in enumerate(zip(self.engine.evaluate(), self.measure(), strict=True)):
            if (job := self.members[member]) is None:
                continue
            job.rows.append({"step": job.step, **found, **more})
            self.seen(member, job)
            job.reason = self._reason(job)
            if job.reason:
                following = list(self.follow(job))
                job.marked = None
                self.jobs |= {each.name: each for each in following}
                self._queue.extendleft(reversed(following))
                self._fill(member)
        self._shrink()

    def _reason(self, job: Job) -> str:
        row = job.rows[-1]
        stopped = job.config.stop is not None and row["step"] >= job.least and Condition.parse(job.config.stop).first_in(job.rows) is not None
        return why_it_ends(job.config, row, stopped) or ""

    def _shrink(self) -> None:
        """Leave out empty places once half are; not where that would have everything compiled again."""
        going = [member for member, job in enumerate(self.members) if job is not None]
        if not self._compiled and 0 < len(going) <= len(self.members) // 2:
            self.engine.keep(going)
            self.members, self._orders = [self.members[i] for i in going], [self._orders[i] for i in going]

    def _advance(self) -> None:
        """Train to the next evaluation. Nothing here waits for a GPU, so that the next epoch's order is drawn while it computes."""
        for epoch in range(self._every // self._per_epoch):
            begun = [0 if job is None else job.step // self._per_epoch for job in self.members]
            stacked = torch.stack([order.of_epoch(before + epoch) for order, before in zip(self._orders, begun, strict=True)])
            if self._device != "cpu":
                stacked = stacked.pin_memory().to(self._device, non_blocking=True)
            for batch in torch.split(stacked, self._batch_size, dim=1):
                self.engine.step(0, batch)
        for job in filter(None, self.members):
            job.step += self._every
            self.member_steps += self._every

    def __str__(self) -> str:
        ended = sum(bool(job.reason) for job in self.jobs.values())
        training = [job.step for job in self.members if job is not None]
        where = f"at steps {min(training)} to {max(training)}" if training else "none training"
        waiting = f"{len(self._queue)} waiting, {len(training)} in {len(self.members)} places {where}"
        return f"{self.seconds:.0f} s: {ended} of {len(self.jobs)} ended, {waiting}; {self.member_steps:,} steps in all"

    # --- going on later --------------------------------------------------------------------------------------------------------------

    def save(self, folder: Path, states: bool = True) -> None:
        """Write the jobs and what was seen of them; with the weights and moments of those that have not ended, if these are wanted."""
        import pandas as pd

        folder.mkdir(parents=True, exist_ok=True)
        if states:
            training = {job.name: self.engine.named(self.engine.state(i)) for i, job in enumerate(self.members) if job is not None}
            waiting = {job.name: job.state for job in self._queue if job.state is not None}
            marked = {f"{job.name}.marked": job.marked() for job in self.jobs.values() if job.marked is not None}
            for name, state in (training | waiting | marked).items():
                _save_state(folder / f"{name}.safetensors", *state)
        rows = pd.concat([pd.DataFrame(job.rows).assign(job=job.name) for job in self.jobs.values() if job.rows])
        with replacing(folder / "rows.parquet") as temporary:
            rows.astype({"step": "int32", "job": "category"}).to_parquet(temporary, engine="pyarrow", index=False)
        fields = ("name", "least", "step", "reason", "notes")
        write_json(
            folder / "jobs.json", [{"config": job.config.to_dict()} | {name: getattr(job, name) for name in fields} for job in self.jobs.values()]
        )


def load_jobs(folder: Path, planned: Sequence[Job]) -> list[Job]:
    """The jobs of a plan as `Slots.save` left them, with those that followed from them; as planned where nothing is saved.

    A job whose weights were not kept begins again, and so does one that others followed from whose weights were not kept.
    """
    if not (folder / "jobs.json").exists():
        return list(planned)
    import pandas as pd

    rows = dict(list(pd.read_parquet(regular_file(folder / "rows.parquet")).groupby("job", observed=True)))
    known: dict[str, Job] = {}
    again: set[str] = set()
    for values in read_json(folder / "jobs.json"):
        job = Job(**{**values, "config": RunConfig.from_dict(values["config"])})
        if not job.reason:
            state, marked = (folder / f"{job.name}{suffix}.safetensors" for suffix in ("", ".marked"))
            if not state.exists() or ("marked" in job.notes and not marked.exists()):
                again.add(job.notes.get("parent", job.name))
                continue
            job.state, job.marked = _load_state(state), partial(_load_state, marked) if "marked" in job.notes else None
        if job.name in rows:
            job.rows = rows[job.name].drop(columns="job").dropna(axis=1, how="all").to_dict("records")
        known[job.name] = job
    known = {name: job for name, job in known.items() if name not in again and job.notes.get("parent") not in again}
    names = {job.name for job in planned}
    return [job for name, job in known.items() if name not in names] + [known.get(job.name, job) for job in planned]


def _save_state(path: Path, weights: Weights, moments: Moments) -> None:
    write_tensors(path, {f"weights.{name}": value for name, value in weights.items()} | {f"moments.{name}": value for name, value in moments.items()})


def _load_state(path: Path) -> tuple[Weights, Moments]:
    tensors = read_tensors(path)
    weights, moments = ({n.removeprefix(kind): v for n, v in tensors.items() if n.startswith(kind)} for kind in ("weights.", "moments."))
    return weights, moments
