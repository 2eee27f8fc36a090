"""Laws read sweeps, forks and reports themselves, and get what the arrays would give; what is open or censored is counted as such."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import grokinterp as gi
from grokinterp import GrokinterpError, Run, ace, laws
from grokinterp.laws.subjects import times_in_sweep
from grokinterp.training.config import CheckpointSchedule
from grokinterp.training.sweep import grid, sweep


def sweep_table(n_seeds: int = 6) -> pd.DataFrame:
    """A sweep in which half of the runs grok at λ = 0.3, none below, all above; later for smaller λ; one run is still open."""
    rows = []
    for decay in (0.1, 0.3, 1.0, 3.0):
        for seed in range(n_seeds):
            groks = decay > 0.3 or (decay == 0.3 and seed % 2 == 0)
            row = {"optimizer.weight_decay": decay, "optimizer.lr": 1e-3, "seed": seed, "state": "finished", "step": 2000}
            rows.append(row | {"grokked_at": round(600 / decay) if groks else pd.NA})
    open_ = {"optimizer.weight_decay": 0.1, "optimizer.lr": 1e-3, "seed": 99, "state": "unfinished", "step": 700, "grokked_at": pd.NA}
    return pd.DataFrame([*rows, open_]).astype({"step": "Int64", "grokked_at": "Int64"})


def test_a_boundary_reads_a_sweeps_table() -> None:
    table = sweep_table()
    found = laws.logistic_boundary(table, n_bootstrap=50)
    closed = table[table["state"] == "finished"]
    same = laws.logistic_boundary(closed["optimizer.weight_decay"].to_numpy(float), closed["grokked_at"].notna().to_numpy(), n_bootstrap=50)
    assert found.boundary == same.boundary
    assert (found.n_open, same.n_open, found.n_runs) == (1, 0, 24)
    # At a horizon of 650 the run that is open at 700 counts as one that has not grokked, and those at λ = .3 have not yet.
    early = laws.logistic_boundary(table, horizon=650, n_bootstrap=50)
    assert (early.n_open, early.n_runs, early.n_grokked, early.horizon) == (0, 25, 12, 650)
    with pytest.raises(GrokinterpError, match="lacks grokked_at"):
        laws.logistic_boundary(table.drop(columns="grokked_at"))
    with pytest.raises(GrokinterpError, match="unknown column of the table 'weight_decay'"):
        laws.logistic_boundary(table.drop(columns="optimizer.weight_decay"))
    with pytest.raises(GrokinterpError, match=r"0 of 24 runs grok .* grok where its grokked_at has a step"):
        laws.logistic_boundary(table.assign(grokked_at=pd.array([pd.NA] * len(table), dtype="Int64")))
    for given_ in ((table, [True] * len(table)), ([1.0, 2.0], None)):
        with pytest.raises(GrokinterpError, match="a sweep's table alone, or λ and whether each run grokked"):
            laws.logistic_boundary(*given_)


@given(
    st.lists(st.tuples(st.sampled_from(["finished", "diverged", "unfinished", "failed"]), st.integers(0, 100), st.integers(0, 100) | st.none())),
    st.none() | st.integers(1, 120),
)
def test_each_run_of_a_sweep_has_grokked_or_not_or_is_open(runs: list[tuple[str, int, int | None]], horizon: int | None) -> None:
    rows = [{"state": state, "step": step, "grokked_at": None if at is None else min(at, step)} for state, step, at in runs]
    table = pd.DataFrame(rows, columns=["state", "step", "grokked_at"]).astype({"step": "Int64", "grokked_at": "Int64"})
    found = times_in_sweep(table, horizon)
    for (state, step, at), row in zip(runs, found.to_dict("records"), strict=True):
        limit = np.inf if horizon is None else horizon
        groks = at is not None and min(at, step) <= limit
        assert row["grokked"] == groks
        assert row["open"] == (not groks and state in ("unfinished", "failed") and step < limit)
        assert row["time"] == (min(at, step) if groks and at is not None else min(step, limit))


def test_a_phase_diagram_counts_cells() -> None:
    table = sweep_table()
    found = laws.phase_diagram(table, "weight_decay", "lr")
    cells = found.table().set_index("weight_decay")
    assert cells["grokked"].tolist() == [0, 3, 6, 6]
    assert cells["n"].tolist() == [6, 6, 6, 6]
    assert cells["median_step"].tolist()[1:] == [2000, 600, 200]
    assert np.isnan(cells["median_step"].iloc[0])
    assert (cells["low"] <= cells["rate"]).all()
    assert (cells["rate"] <= cells["high"]).all()
    (map_,) = found.figure().data
    np.testing.assert_array_equal(map_.z, [[0, 0.5, 1, 1]])
    assert map_.text[0, 1] == "3/6<br>2,000"
    assert "1 left out" in str(found)
    with pytest.raises(GrokinterpError, match="two settings; got 'seed' twice"):
        laws.phase_diagram(table, "seed", "seed")


def test_a_phase_diagram_counts_by_outcomes_of_ones_own_and_names_its_criterion() -> None:
    table = sweep_table().assign(grokked_at=pd.array([pd.NA] * 25, dtype="Int64"), test_accuracy=[0.1] * 12 + [0.8] * 12 + [0.2])
    by_table, by_outcome = laws.phase_diagram(table), laws.phase_diagram(table, grokked=table["test_accuracy"] >= 0.7)
    assert by_table.cells["rate"].tolist() == [0, 0, 0, 0]
    assert by_outcome.cells["rate"].tolist() == [0, 0, 1, 1]
    assert by_outcome.n_open == 1  # a run that goes on may still come there
    assert by_outcome.cells["median_step"].isna().all()
    for found, criterion in ((by_table, "by test_accuracy >= 0.99, the table's grokked_at"), (by_outcome, "by the outcomes given")):
        assert criterion in str(found)
        assert criterion in found.figure().layout.meta["caption"]
    assert "the step by which" not in by_outcome.figure().layout.meta["caption"]
    with pytest.raises(GrokinterpError, match="grokked"):
        laws.phase_diagram(table, grokked=[True, False])


def test_a_survival_boundary_reads_a_sweeps_table() -> None:
    table = sweep_table()
    absent = {"optimizer.weight_decay": 3.0, "seed": 100, "state": "absent", "step": pd.NA, "grokked_at": pd.NA}
    longer = pd.concat([table, pd.DataFrame([absent]).astype({"step": "Int64", "grokked_at": "Int64"})], ignore_index=True)
    found = laws.survival_boundary(longer, n_bootstrap=5)
    censored = table["grokked_at"].isna().to_numpy()
    times = table["grokked_at"].fillna(table["step"]).to_numpy(float)
    same = laws.survival_boundary(table["optimizer.weight_decay"].to_numpy(float), times, censored, 2000, n_bootstrap=5)
    np.testing.assert_array_equal(found.fits, same.fits)
    assert (found.horizons, found.n_runs, found.n_censored, found.n_left_out) == ((2000.0,), 25, 10, 1)
    with pytest.raises(GrokinterpError, match=r"at 3 different λ .* by test_accuracy >= 0.99, where its grokked_at has a step"):
        laws.survival_boundary(table.assign(grokked_at=pd.array([pd.NA] * len(table), dtype="Int64")))
    for given_ in ((table, times, censored), ([1.0, 2.0],), ([1.0, 2.0], [3.0, 4.0]), (table, None, censored)):
        with pytest.raises(GrokinterpError, match="a sweep's table without time and censored, or λ, time and censored"):
            laws.survival_boundary(*given_)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory, tiny_run: Run) -> Run:
    config = tiny_run.config.with_(checkpoints=CheckpointSchedule(every=20, moments=True))
    return gi.train(config, tmp_path_factory.mktemp("parents") / "tiny", progress_bar=False)


def test_a_fork_law_reads_the_forks(parent: Run, tmp_path: Path) -> None:
    children = gi.fork(parent, 20, tmp_path, weight_decay=[0.5, 1.0, 2.0], progress_bar=False)
    law = "train_loss < 2.0"
    onsets = [child.first(law) for child in children]
    assert all(at is None or at > 20 for at in onsets), onsets
    found = laws.fork_law(tmp_path, condition=law, n_bootstrap=20, n_permutations=20)
    assert sorted(found.draws["weight_decay"]) == [0.5, 1.0, 2.0]
    assert found.draws["censored"].tolist() == [at is None for at in onsets]
    assert found.draws["delay"].tolist() == [40 if at is None else at - 20 for at in onsets]
    assert list(found.groups) == ["tiny"]
    with pytest.raises(GrokinterpError, match="is no fork"):
        laws.fork_law([parent])
    with pytest.raises(GrokinterpError, match="at its fork, step 20, already"):
        laws.fork_law(children, condition="train_loss < 100")
    with pytest.raises(GrokinterpError, match="0 of 3 draws grok by 'train_loss < 1e-9'"):
        laws.fork_law(children, condition="train_loss < 1e-9")
    with pytest.raises(GrokinterpError, match="leave out what is beside the list"):
        laws.fork_law(children, [1.0, 2.0, 3.0])
    with pytest.raises(GrokinterpError, match="needs the delay of each draw"):
        laws.fork_law([1.0, 2.0])


def test_onsets_of_runs_reports_and_folders_agree(tiny_run: Run, tmp_path: Path) -> None:
    sweep(grid(tiny_run.config, seed=[0, 1, 2]), tmp_path, workers=0, progress_bar=False)
    condition = "train_loss < 1.7"
    of_folder = laws.onsets(tmp_path, condition, n_bootstrap=50)
    comparison = gi.analyze(tmp_path, ["loss"], steps=[60], progress_bar=False)
    of_reports = laws.onsets(comparison, condition, n_bootstrap=50)
    pd.testing.assert_frame_equal(of_folder.runs, of_reports.runs)
    assert of_folder.runs["seed"].tolist() == [0, 1, 2]
    assert of_folder.runs["followed"].tolist() == [60, 60, 60]
    for run in [Run(path.parent) for path in tmp_path.glob("*/config.json")]:
        first = run.first(condition)
        found = of_folder.runs.set_index("seed").loc[run.config.seed, "onset"]
        assert (np.isnan(found) and first is None) or found == first
    table = pd.read_csv(of_folder.to_csv(tmp_path / "onsets.csv"))
    assert table["run"].tolist() == [*of_folder.runs.index, "median"]
    np.testing.assert_array_equal(table["onset"], [*of_folder.runs["onset"], of_folder.median.value])
    assert table["seed"].tolist()[:3] == [0, 1, 2]
    assert f"{table['run'][0]} & ".replace("_", r"\_") in of_folder.to_latex()
    assert (table["low"].iloc[-1], table["high"].iloc[-1]) == of_folder.median[1:]
    never = laws.onsets([Run(path.parent) for path in tmp_path.glob("*/config.json")], "test_loss < 1e-9", n_bootstrap=50)
    assert (never.n_reached, never.n_censored, never.median.value) == (0, 3, np.inf)
    assert {trace.name for trace in never.figure().data} == {"test_loss < 1e-09: not by then"}
    with pytest.raises(GrokinterpError, match="seed=0: unknown quantity over steps 'nothing'"):
        laws.onsets(tmp_path, "nothing > 1")
    with pytest.raises(GrokinterpError, match="got a int"):
        laws.onsets([3], condition)


def test_cores_that_say_the_same_correlate_and_others_do_not(clock_model: Callable[..., tuple[Any, Any]]) -> None:
    one, same, other = clock_model(11, (2,)), clock_model(11, (2,), scale=5.0), clock_model(11, (3,))
    found = ace.compare({"one": one, "same": same, "other": other}, rank=2)
    pairs = found.pairs.set_index(["a", "b"])
    assert pairs.loc[("one", "same"), "correlation"] == pytest.approx(1, abs=1e-6)
    assert pairs.loc[("one", "other"), "correlation"] < 0.1
    assert ((pairs["low"] <= pairs["correlation"]) & (pairs["correlation"] <= pairs["high"])).all()
    assert (pairs["chance"] < 0.5).all()
    assert found.sizes.loc["one", "accuracy"] == 1
    assert found.figures().keys() == {"canonical_correlations", "principal_angles", "core_sizes", "eigenvalues"}
    np.testing.assert_allclose(np.abs(found.eigenvalues["one"]), 1, atol=1e-3)
    assert len(found.table()) == 4
    broken, task = clock_model(11, (2,))
    for weights in broken.parameters():
        torch.nn.init.constant_(weights, float("nan"))
    with pytest.raises(GrokinterpError, match=r"^second: the activations at .* has diverged do; leave it out"):
        ace.compare({"one": one, "second": (broken, task)})
    with pytest.raises(GrokinterpError, match="at least 2 runs of one table of inputs; got one, odd"):
        ace.compare({"one": one, "odd": clock_model(7, (2,))})
