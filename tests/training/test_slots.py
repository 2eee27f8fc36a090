"""Trainings that queue for places: each is the training that it would be alone, whatever trains beside it and however often it is interrupted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

from grokinterp.errors import GrokinterpError
from grokinterp.models import ModelConfig
from grokinterp.tasks import TaskConfig
from grokinterp.training.config import CheckpointSchedule, RunConfig
from grokinterp.training.optimizers import AdamW
from grokinterp.training.slots import Job, Slots, load_jobs
from grokinterp.training.train import train

MODEL = ModelConfig(n_layers=1, d_model=16, n_heads=2, d_mlp=16, normalization="pre", biases=("attn", "mlp", "unembed"), init="pytorch")
BASE = RunConfig(  # 29 training pairs: epochs of 3 steps, the last with 5 pairs
    TaskConfig("modular_addition", {"p": 7}, 0.6), MODEL, AdamW(lr=1e-2), steps=60, batch_size=12, eval_every=6, dtype="float64"
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plan() -> list[Job]:
    """Five trainings of different lengths, one of another operation, one that stops early and one that may not."""
    changes = [
        {"seed": 0},
        {"seed": 1, "task.split_seed": 1, "steps": 24},
        {"seed": 2, "optimizer.lr": 3e-3, "optimizer.weight_decay": 0.1},
        {"seed": 3, "stop": "train_loss < 1.9"},
        {"seed": 4, "task.name": "modular_subtraction", "steps": 36},
    ]
    jobs = [Job(f"run-{i}", BASE.with_(**change)) for i, change in enumerate(changes)]
    return [*jobs, Job("patient", BASE.with_(seed=3, stop="train_loss < 1.9"), least=48)]


class Forked(Slots):
    """Marks run-0 at step 30 and follows it from there once it has ended."""

    def seen(self, member: int, job: Job) -> None:
        if job.name == "run-0" and job.step == 30:
            self.mark(member, job)

    def follow(self, job: Job) -> Iterable[Job]:
        if job.name == "run-0":
            assert job.marked is not None
            yield Job("again", job.config.with_(steps=48), step=30, state=job.marked(), notes={"parent": "run-0"})


@pytest.mark.parametrize("places", [1, 2, 4, 9])
def test_each_is_the_training_that_it_is_alone(places: int, tmp_path: Path) -> None:
    slots = Slots(plan(), places)
    assert slots.run()
    for name, job in slots.jobs.items():
        if name == "patient":
            continue
        run = train(job.config.with_(checkpoints=CheckpointSchedule(every=1_000)), tmp_path / name, progress_bar=False)
        alone = run.metrics[run.metrics["step"] > 0].to_dict("records")
        assert [row["step"] for row in job.rows] == [row["step"] for row in alone]
        for found, expected in zip(job.rows, alone, strict=True):
            assert found == pytest.approx(expected, rel=1e-9)
    assert slots.jobs["run-3"].reason == slots.jobs["patient"].reason == "stop: train_loss < 1.9"
    assert slots.jobs["run-3"].step < slots.jobs["patient"].step == 48


@pytest.mark.parametrize("states", [True, False])
def test_interrupted_at_every_evaluation_it_is_the_same(states: bool, tmp_path: Path) -> None:
    whole = Forked(plan(), 2)
    assert whole.run()
    assert whole.jobs["again"].rows == [row for row in whole.jobs["run-0"].rows if 30 < row["step"] <= 48], "the mark is the state at its step"
    for call in range(200):
        jobs = load_jobs(tmp_path, plan())
        if all(job.reason for job in jobs) and any(job.name == "again" for job in jobs):
            break
        parts = Forked(jobs, 2)
        # Without weights an interrupted training begins again, so it must be given the time to end.
        parts.run(0.01 if states or call == 0 else 60)
        parts.save(tmp_path, states=states)
    again = {job.name: job.rows for job in load_jobs(tmp_path, plan())}
    assert again == {name: job.rows for name, job in whole.jobs.items()}
    assert {job.name: job.reason for job in jobs} == {name: job.reason for name, job in whole.jobs.items()}


def test_what_cannot_queue_is_refused_in_words() -> None:
    with pytest.raises(GrokinterpError, match="at least one job"):
        Slots([], 2)
    with pytest.raises(GrokinterpError, match="warmup_steps"):
        Slots([Job("a", BASE.with_(**{"optimizer.warmup_steps": 3}))], 1)
    with pytest.raises(GrokinterpError, match="one name"):
        Slots([Job("a", BASE), Job("a", BASE)], 1)
    with pytest.raises(GrokinterpError, match="epochs of 3 steps"):
        Slots([Job("a", BASE.with_(eval_every=10))], 1)
    other = Slots([Job("a", BASE), Job("b", BASE.with_(**{"model.d_mlp": 8}))], 1)
    with pytest.raises(GrokinterpError, match="share one model"):
        other.run()


def test_one_that_diverges_ends_and_the_others_go_on() -> None:
    slots = Slots([Job("wild", BASE.with_(**{"optimizer.lr": 1e300})), Job("tame", BASE.with_(steps=12))], 2)
    assert slots.run()
    assert slots.jobs["wild"].reason.startswith("diverged")
    assert slots.jobs["tame"].reason == "all 12 steps done"
