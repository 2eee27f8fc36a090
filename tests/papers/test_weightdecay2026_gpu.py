"""The rehearsal of the GPU's part: the same code on the CPU, at toy size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from grokinterp.analysis import analyze
from grokinterp.errors import GrokinterpError
from grokinterp.papers import reproduce
from grokinterp.papers.tables import Tables, read_tables
from grokinterp.papers.weightdecay2026 import gpu, paper, runs
from grokinterp.training.config import CheckpointSchedule
from grokinterp.training.fork import fork
from grokinterp.training.train import train

GRID = gpu.Grid(
    runs.plan("smoke").smaller.configs[0].with_(seed=7),
    decays=(0.05, 1.0, 2.0),
    seeds=(7, 42),
    horizon=30,
    operations=(),
    intervened=(0.05,),
    window=20,
    early=10,
    collapsing=(10.0,),
    example=(2.0, 30),
    fewer={1.0: 1},
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu")


@pytest.fixture(scope="module")
def rehearsed(folder: Path) -> Tables:
    tables = gpu.tables(gpu.train(GRID, folder), GRID)
    gpu.write_tables(tables, folder)
    return tables


def test_the_plan_trains_each_once_for_as_long_as_who_follows_it_longest() -> None:
    replicated = replace(GRID, replicated=(1.0, 2.0), n_replicated=1, operations=("addition", "subtraction"))
    jobs = {job.name: job for job in gpu.plan(replicated)}
    epoch = runs.steps_per_epoch(GRID.base)
    wanted = {name: (job.least // epoch, job.config.steps // epoch) for name, job in jobs.items()}
    assert wanted == {
        "addition-0_05-7": (30, 30),
        "addition-0_05-42": (30, 30),
        "addition-1-7": (0, 60),
        "addition-2-7": (0, 60),
        "addition-2-42": (30, 30),
        "addition-10-7": (3, 3),
        "addition-10-42": (3, 3),
        "subtraction-1-7": (0, 60),
        "subtraction-2-7": (0, 60),
    }
    published = gpu.plan(gpu.published())
    assert len(published) == 145
    assert all(job.config.seed == job.config.task.split_seed for job in published)
    assert sum("forks" in job.notes for job in published) == 20


def test_a_rehearsal_leaves_tables_that_the_claims_are_read_off(rehearsed: Tables, folder: Path) -> None:
    table = rehearsed["canonical-runs"]
    assert len(table) == 7
    assert set(table["how"]) == {"CPU"}
    found = paper.from_tables("gpu", read_tables(folder, "weightdecay2026", paper.SOURCES)).found
    assert {"rate_0_05", "rate_1", "reinit_difference_0_05", "collapse", "time_2", "boundary"} <= found.keys()
    assert not {"rate_0_1", "horizon", "control_0_015"} & found.keys()
    assert found["rate_2"].n == 2
    assert found["rate_2"].note == "CPU"
    assert found["collapse"].value == 1


def test_another_budget_counts_what_a_gpu_has_left(rehearsed: Tables, folder: Path, tmp_path: Path) -> None:
    """Interventions and diagnostics that "cpu" does not plan included."""
    direct = paper.from_tables("gpu", rehearsed)
    through = reproduce("weightdecay2026", "cpu", tmp_path, tables=folder, train=False)
    left = {name for name in direct.found if name.startswith(("rate_", "reinit_", "control_", "calibration_", "boundary"))}
    assert "reinit_d_0_05" in left
    assert left <= through.found.keys()
    assert {name: str(through.found[name]) for name in left} == {name: str(direct.found[name]) for name in left}


def test_a_second_call_only_reads(rehearsed: Tables, folder: Path) -> None:
    again = gpu.tables(gpu.train(GRID, folder, seconds=0), GRID)
    assert again.keys() == rehearsed.keys()
    for name, table in again.items():
        pd.testing.assert_frame_equal(table, rehearsed[name])


def test_what_is_known_from_a_gpu_is_not_trained_again() -> None:
    """The rows have the digests of the same trainings in run folders; those at λ = 0.015 and 10 are followed otherwise."""
    full = runs.plan("full")
    assert full.canonical is not None
    planned = {config.digest for config in full.canonical.configs}
    jobs = [job for job in gpu.plan(gpu.published()) if job.config.optimizer.weight_decay not in (0.015, 10.0)]
    assert {job.config.with_(stop=None).digest for job in jobs} <= planned


def test_a_run_and_its_arms_are_those_of_the_slow_path(rehearsed: Tables, tmp_path: Path) -> None:
    """Trained, diagnosed and forked one by one, through run folders."""
    job = next(job for job in gpu.plan(GRID) if job.name == "addition-0_05-42")
    epoch = runs.steps_per_epoch(GRID.base)
    schedule = CheckpointSchedule(every=10 * epoch, moments=True)
    run = train(job.config.with_(stop=None, checkpoints=schedule), tmp_path / "run", progress_bar=False)
    heads = analyze(run, ["heads"], progress_bar=False).dataset
    spread = heads["entropy_spread"].to_pandas()
    row = rehearsed["canonical-runs"].query("operation == 'addition' and weight_decay == 0.05 and seed == 42").iloc[0]
    assert row["entropy_spread"] == pytest.approx(spread.loc[30 * epoch], rel=1e-3)
    assert row["head_similarity"] == pytest.approx(float(heads["head_similarity"].sel(step=30 * epoch)), rel=1e-4)
    pair = rehearsed["pairs-0_05"].query("seed == 42").iloc[0]
    at = int(pair["at"] * epoch)
    later = spread[spread.index > GRID.early * epoch]
    assert at == later.index[int(np.argmax(later.to_numpy()))]
    for arm, config in runs.arms(run, at, GRID.window * epoch).items():
        if arm not in ("control", "reinit"):  # the norm that "clip" has is the median over other steps
            continue
        assert config.parent is not None
        (forked,) = fork(run, at, tmp_path / arm, edit=config.parent.edit, steps=config.steps, progress_bar=False)
        read = analyze(forked, ["heads"], progress_bar=False).dataset["entropy_spread"].to_pandas()
        assert pair[arm] == pytest.approx(read[read.index > at].max(), rel=1e-2)


def test_only_those_λ_count_at_which_every_run_is_decided() -> None:
    table = pd.DataFrame(
        {
            "operation": "addition",
            "weight_decay": [0.1, 0.1, 1.0, 1.0, 2.0, 2.0],
            "seed": [7, 42] * 3,
            "name": "developmental",
            "grok": [math.nan, 50.0, math.nan, 20.0, 80.0, 20.0],
            "followed": [90.0, 50.0, 60.0, 20.0, 80.0, 20.0],
        }
    )
    found = gpu.decided(table, "addition", dict.fromkeys((0.1, 1.0, 2.0), (7, 42)), 70)
    assert found["weight_decay"].tolist() == [0.1, 0.1, 2.0, 2.0]
    assert found["grok"].isna().tolist() == [True, False, True, False]
    assert found["followed"].max() == 70
    assert found["name"].tolist()[2] == "memorization"
    assert gpu.decided(table, "addition", {1.0: (7, 42)}, 70).empty


def test_what_belongs_to_another_budget_or_paper_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GrokinterpError, match="nanda2023 has no budget 'gpu'"):
        reproduce("nanda2023", "gpu", tmp_path)
    with pytest.raises(GrokinterpError, match="are for the budget 'gpu'"):
        reproduce("weightdecay2026", "smoke", tmp_path, tf32=True)
