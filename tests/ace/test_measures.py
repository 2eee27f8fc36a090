"""The core as a measure: on a clock and a chain built by hand, and against the parts that it is made of."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grokinterp import Report, Run, ace, analyze, tasks
from grokinterp.models import ModelConfig, build_model
from grokinterp.snapshot import Snapshot
from grokinterp.tasks.markov import MarkovChain, markov_chain


@pytest.fixture(scope="module")
def clock(clock_model: Any) -> Report:
    """The clock with frequencies 2 and 3 of 11; a bias silences answers without a core, which would be read off rounding errors."""
    model, task = clock_model(11, (2, 3))
    model.unembed.b_U.data[0] = 1e-6
    measure = partial(ace.measure, hook="blocks.0.hook_mlp_out", energy=0.999)
    return analyze(model, [measure], task=task)


def test_the_clock_has_its_modes_on_the_ring_and_needs_them(clock: Report) -> None:
    last = clock.dataset.isel(step=0)
    assert float(last["core_size"].sel(rank="energy")) == 4
    assert float(last["core_size"].sel(rank="necessary")) == 4
    assert 2 <= float(last["core_size"].sel(rank="sufficient")) <= 4
    assert last["core_accuracy"].to_numpy() == pytest.approx([1, 1, 1 / 11])
    assert last["core_accuracy_by_rank"].sel(core_direction=4).to_numpy() == pytest.approx([1, 1, 1 / 11])
    assert (float(last["core_modes"]), float(last["core_ring_fraction"])) == (2, 1)
    turns = np.exp(2j * np.pi * np.array([2, -2, 3, -3]) / 11)
    values = last["core_eigenvalue"].to_numpy() @ np.array([1, 1j])
    np.testing.assert_allclose(np.sort_complex(values), np.sort_complex(turns), atol=1e-6)
    fits = dict(zip(last["fit"].to_numpy(), last["core_r2"].to_numpy(), strict=True))
    assert fits["fitted"] == pytest.approx(1, abs=1e-6)
    assert fits["held_out"] > 0.95
    assert fits["null"] <= fits["null_max"] < 0.3
    assert np.isnan(last["core_r2_of_oracle"])
    assert last["core_r2_of_oracle"].attrs["undefined"] == "the task is no Markov chain"
    assert float(last["core_energy"][3]) > 0.999
    assert last["core_mean"].shape == (11, 2)
    np.testing.assert_allclose(last["core_mean"].sum("core_class"), 0, atol=1e-9)


def test_a_chain_built_by_hand_has_its_eigenvalues_and_the_oracles_r_squared() -> None:
    """Logits are log-probabilities of the next state, read off a random embedding of the last one."""
    task = markov_chain(400, 20, seed=0)
    model = build_model(ModelConfig(d_model=12, n_heads=1, d_mlp=4, init="pytorch"), task, seed=0, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "embed.W_E":
                parameter.zero_()
        model.unembed.W_U.copy_(torch.linalg.pinv(model.W_E) @ (MarkovChain().matrix + 1e-3).log())
    found = ace.measure(Snapshot(model, task), energy=1 - 1e-6, refined=False)
    assert float(found["core_size"].sel(rank="energy")) == 3
    np.testing.assert_allclose(found["core_eigenvalue"].to_numpy(), [[0.75, 0.25], [0.75, -0.25], [0.5, 0]], atol=0.03)
    assert float(found["core_r2_of_oracle"]) == pytest.approx(1, abs=0.05)
    assert float(found["core_accuracy"].sel(edit="none")) == pytest.approx(0.75, abs=0.02)
    assert float(found["core_accuracy"].sel(edit="keep")) == pytest.approx(0.75, abs=0.02)
    assert found["core_mean"].shape == (4, 2)
    assert "cycle" in found["core_modes"].attrs["undefined"]
    assert np.isnan(found["core_r2"].sel(fit=["held_out", "null", "null_max"])).all()


def test_a_run_has_it_over_all_checkpoints_and_a_file_keeps_the_reasons(tiny_run: Run, tmp_path: Path) -> None:
    report = analyze(tiny_run, ["ace"], progress_bar=False)
    assert report.failures == {}
    assert report.undefined == {"core_r2_of_oracle": "the task is no Markov chain"}
    hook, task = "blocks.0.hook_resid_post", tiny_run.task
    core = ace.extract(tiny_run.model(20), task, hook, positions=task.readout)
    there = report["core_size"].sel(step=20)
    assert float(there.sel(rank="energy")) == core.rank
    sizes = ace.size(tiny_run.model(20), core, task)
    assert float(there.sel(rank="reported")) == max(core.rank, sizes.necessary or 0)
    np.testing.assert_array_equal(report["core_accuracy_by_rank"].sel(step=20, edit="remove"), sizes.remove)
    assert {"core_size[energy]", "core_accuracy[keep]", "core_r2[held_out]", "core_modes"} <= set(report.to_dataframe())
    loaded = Report.load(report.save(tmp_path / "report.nc"))
    assert "no Markov chain" in loaded["core_r2_of_oracle"].attrs["undefined"]
    assert list(loaded.figures)[2:6] == ["core_size", "core_r2", "core_eigenvalues", "core_clock"]


def test_a_task_without_a_group_has_a_core_and_no_cycle() -> None:
    task = tasks.modular_quadratic(7).split(0.5, seed=0)
    found = ace.measure(Snapshot(build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24), task, seed=0), task))
    assert float(found["core_size"].sel(rank="energy")) >= 1
    assert "neither a cyclic group" in found["core_modes"].attrs["undefined"]
    assert "core_r2" not in found


def test_figures_draw_the_numbers(clock: Report) -> None:
    eigenvalues, clock_face = clock.plot("core_eigenvalues"), clock.plot("core_clock")
    (dots,) = eigenvalues.data
    np.testing.assert_array_equal(np.stack([dots.x, dots.y], axis=1), clock["core_eigenvalue"][0])
    assert eigenvalues.layout.shapes[0].type == "circle"
    path, faces = clock_face.data
    np.testing.assert_array_equal(np.stack([faces.x, faces.y], axis=1), clock["core_mean"][0])
    np.testing.assert_array_equal(path.x, [*faces.x, faces.x[0]])
    assert "core_size" not in clock.figures  # one step is no line
    assert all(figure.layout.meta["caption"] for figure in clock.figures.values())
