"""The field's pictures hold the numbers that they claim: neurons and heads over pairs, and a path whose distances are the weights'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import grokinterp as gi
from grokinterp import GrokinterpError, Run, plots
from grokinterp.groups.fourier import neuron_frequency_shares
from grokinterp.measures.pictures import principal_path
from grokinterp.models.transformers import trained_parameters
from grokinterp.snapshot import Snapshot


@pytest.fixture(scope="module")
def report(tiny_run: Run) -> gi.Report:
    return gi.analyze(tiny_run, ["neuron_maps", "attention_maps", "weights_path"], progress_bar=False)


def test_a_neuron_over_both_operands_is_its_activation(tiny_run: Run) -> None:
    snapshot = Snapshot(tiny_run.model(), tiny_run.task, 60)
    found = gi.measures.neuron_maps(snapshot, neurons=[3, 5])
    task = snapshot.task
    _, cache = snapshot.model.run_with_cache(task.tokens)
    whole = cache["blocks.0.mlp.hook_post"][:, -1]
    for i, (a, b) in enumerate(task.tokens[:, :2].tolist()):
        np.testing.assert_allclose(found["neuron_activation"].sel(x=a, y=b), whole[i, [3, 5]].numpy(), atol=1e-6)
    with pytest.raises(GrokinterpError, match=r"are 0 … 23; got \[24\]"):
        gi.measures.neuron_maps(snapshot, neurons=[24])


def test_the_neurons_of_a_clock_are_at_its_frequencies(clock_model: Callable[..., tuple[Any, Any]]) -> None:
    model, task = clock_model(11, (2,))
    found = gi.measures.neuron_maps(Snapshot(model, task))
    assert 1 <= found.sizes["shown_neuron"] <= 4
    table = Snapshot(model, task).table(Snapshot(model, task).readout("blocks.0.mlp.hook_post"))
    shares = neuron_frequency_shares(table, Snapshot(model, task).operation)[:, found["shown_neuron"].values.tolist()]
    np.testing.assert_allclose(found["shown_share"], shares.max(0).values)
    np.testing.assert_array_equal(found["shown_frequency"], shares.argmax(0) + 1)
    drawn = gi.measures.neuron_maps.plot(Snapshot(model, task))
    assert [trace.name for trace in drawn.data] == [
        f"neuron {n}, k = {k:.0f}" for n, k in zip(found["shown_neuron"].values, found["shown_frequency"].values)
    ]
    wave = np.cos(2 * np.pi * 2 * (np.arange(11)[:, None] + np.arange(11)) / 11)
    one = xr.Dataset(
        {"neuron_activation": (("step", "shown_neuron", "x", "y"), wave[None, None]), "shown_frequency": (("step", "shown_neuron"), [[2.0]])},
        coords={"step": [0], "shown_neuron": [7]},
    )
    (cells,) = gi.measures.pictures.neuron_spectrum(one).data
    bright = {(cells.y[i], cells.x[j]) for i, j in zip(*np.nonzero(cells.z > 1e-6))}
    assert bright == {("cos 2", "cos 2"), ("sin 2", "sin 2")}


def test_attention_over_both_operands_is_the_pattern(tiny_run: Run, report: gi.Report) -> None:
    _, cache = tiny_run.model().run_with_cache(tiny_run.task.tokens)
    rows = cache["blocks.0.attn.hook_pattern"][:, :, -1]  # [example, head, key]
    for i, (a, b) in enumerate(tiny_run.task.tokens[:, :2].tolist()):
        np.testing.assert_allclose(report["attention_map"].isel(step=-1, layer=0).sel(x=a, y=b), rows[i].numpy(), atol=1e-6)
    np.testing.assert_allclose(report["attention_map"].sum("key"), 1, atol=1e-5)
    first, second = report.plot("attention_maps").data
    np.testing.assert_array_equal(first.z, report["attention_map"].isel(step=-1, layer=0, head=0, key=0))
    assert (second.name, second.xaxis) == ("head 1", "x2")


def test_distances_along_the_path_are_those_of_the_weights(tiny_run: Run, report: gi.Report) -> None:
    whole = torch.stack(
        [torch.cat([p.detach().double().flatten() for p in trained_parameters(tiny_run.model(step)).values()]) for step in tiny_run.steps]
    )
    sketch = torch.from_numpy(report["weight_sketch"].to_numpy())
    true, kept = torch.cdist(whole, whole), torch.cdist(sketch, sketch)
    upper = torch.triu(torch.ones_like(true), 1).bool()
    np.testing.assert_allclose(kept[upper], true[upper], rtol=0.1)
    path, shares = principal_path(whole.numpy())
    again, same = principal_path(report["weight_sketch"].to_numpy())
    np.testing.assert_allclose(same, shares, atol=0.05)
    assert np.abs(np.abs(again) - np.abs(path)).max() < 0.15 * np.abs(path).max()
    assert "training" in {trace.name for trace in report.plot("weights_path").data}


def test_every_frame_is_the_figure_of_its_step(report: gi.Report) -> None:
    for name in ("neuron_map", "neuron_spectrum", "attention"):
        drawn = report.plot(name)
        assert [frame.name for frame in drawn.frames] == [str(step) for step in report["step"].values]
        for i, frame in enumerate(drawn.frames):
            alone = gi.Report(report.dataset.isel(step=[i])).plot(name)
            assert not alone.frames
            for moving, still in zip(frame.data, alone.data, strict=True):
                np.testing.assert_array_equal(moving.z, still.z)
        ((low, high),) = {(trace.zmin, trace.zmax) for trace in drawn.data}  # the frames' colours are the figure's
        assert low == min(trace.z.min() for frame in drawn.frames for trace in frame.data)
        assert high == max(trace.z.max() for frame in drawn.frames for trace in frame.data)


def test_a_mark_stands_where_the_condition_first_holds(report: gi.Report, tiny_run: Run) -> None:
    condition = "train_accuracy >= 0.2"
    marked = report.plot("losses", mark=[condition, "test_loss < 1e-9"])
    before = report.plot("losses")
    (line,) = [shape for shape in marked.layout.shapes if shape not in before.layout.shapes]
    assert line.x0 == line.x1 == tiny_run.first(condition) == report.onset(condition)
    (text,) = [note.text for note in marked.layout.annotations]
    assert text == f"{condition}: {line.x0:,.0f}"
    with pytest.raises(GrokinterpError, match="unknown quantity over steps"):
        plots.mark(before, report.dataset, "nothing > 3")


def test_a_figure_of_a_measure_is_one_call_from_a_snapshot(tiny_run: Run) -> None:
    snapshot = Snapshot(tiny_run.model(), tiny_run.task, 60)
    assert gi.measures.spectrum.plot(snapshot).data[0].type == "heatmap"
    assert len(gi.measures.progress.plot(snapshot, "neurons").data) == 2
    with pytest.raises(GrokinterpError, match="has no figure nothing; its figures are progress"):
        gi.measures.progress.plot(snapshot, "nothing")
