"""What is not defined is NaN with its reason, or refused in words: every measure on models that are frozen, half, broken, constant or too small."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from grokinterp import MEASURES, GrokinterpError, Report, Run, Snapshot, analyze, presets, tasks
from grokinterp.analysis import _measure
from grokinterp.cli import main
from grokinterp.files import write_tensors
from grokinterp.interventions import UniformAttention
from grokinterp.measures.fsd import filtered_loss, fsd
from grokinterp.measures.heads import head_entropy, heads
from grokinterp.measures.progress import progress
from grokinterp.models import ModelConfig, build_model
from grokinterp.reports.report import GROWING
from grokinterp.tasks import Task
from grokinterp.training.config import CheckpointSchedule
from grokinterp.training.folder import file_of, state_facts
from grokinterp.training.train import train

Edit = Callable[[Any], Any]


def model_of(task: Task, **changes: Any) -> Any:
    return build_model(ModelConfig(**{"d_model": 16, "n_heads": 2, "d_mlp": 24, **changes}), task, seed=0)


def zeroed(*names: str) -> Edit:
    def edit(model: Any) -> None:
        for name, parameter in model.named_parameters():
            if not names or name.split(".")[-1] in names:
                parameter.data.zero_()

    return edit


def with_entry(value: float) -> Edit:
    def edit(model: Any) -> None:
        model.blocks[0].mlp.W_in.data[0, 0] = value

    return edit


def dead(model: Any) -> None:
    model.blocks[0].mlp.b_in.data.fill_(-1e3)


EDITS: dict[str, Edit] = {
    "as it is": lambda model: None,
    "frozen": lambda model: model.requires_grad_(False),
    "float16": lambda model: model.half(),
    "bfloat16": lambda model: model.bfloat16(),
    "float64": lambda model: model.double(),
    "NaN": with_entry(math.nan),
    "infinite": with_entry(math.inf),
    "huge in float16": lambda model: (model.half(), model.unembed.W_U.data.fill_(6e4)),
    "constant": zeroed(),
    "no embedding": zeroed("W_E"),
    "no unembedding": zeroed("W_U"),
    "no attention scores": zeroed("W_Q", "W_K"),
    "dead MLP": dead,
}
TASKS = {
    "p = 3": tasks.modular_addition(3),
    "p = 4": tasks.modular_addition(4),
    "p = 7": tasks.modular_addition(7),
    "p = 11": tasks.modular_addition(11),
    "5 residues": tasks.modular_multiplication(5),
    "no group": tasks.modular_quadratic(5),
    "S3": tasks.permutations(3),
    "chain": tasks.markov_chain(30, 5),
}


def check(found: xr.Dataset) -> None:
    """No infinity anywhere; wherever there is NaN, or no name, the variable says why."""
    for name, array in found.data_vars.items():
        values = array.to_numpy()
        bad = values == "" if values.dtype.kind in "UO" else np.isnan(values) if values.dtype.kind == "f" else np.zeros(1, bool)
        assert not (values.dtype.kind == "f" and np.isinf(values).any()), name
        assert bool(bad.any()) == bool(array.attrs.get("undefined")), f"{name}: {values} {array.attrs}"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("edit", EDITS)
def test_every_number_is_one_or_has_its_reason(task: str, edit: str) -> None:
    table = TASKS[task].split(0.6, seed=0)
    model = model_of(table)
    EDITS[edit](model)
    for measure in MEASURES:
        report = refusal = None
        try:
            report = analyze(model, [measure], task=table)
        except GrokinterpError as error:
            refusal = str(error)
        if report is None:
            assert edit != "as it is" or measure in REFUSED.get(task, ()), f"{measure}: {refusal}"
            continue
        assert edit not in ("NaN", "infinite"), measure
        check(report.dataset)
        assert report.failures == {}


GROUPS = ("representations", "cosets")
PAIRS = ("neuron_maps", "attention_maps")
REFUSED = {
    "p = 3": ("fsd", "filtered_loss", "cosets"),  # a single frequency; a group of prime order has no cosets
    "p = 7": ("cosets",),
    "p = 11": ("cosets",),
    "5 residues": ("ace",),
    "no group": ("progress", "spectrum", "fsd", "filtered_loss", "algorithm", "equivalent", *GROUPS, *PAIRS),
    "S3": ("progress", "spectrum", "filtered_loss", "algorithm", "equivalent"),
    "chain": ("progress", "spectrum", "fsd", "filtered_loss", "algorithm", "equivalent", *GROUPS, *PAIRS),
}


def test_a_frozen_model_gives_the_same_numbers() -> None:
    task = TASKS["p = 7"].split(0.6, seed=0)
    model = model_of(task)
    before = analyze(model, list(MEASURES), task=task).dataset
    assert before["sum_of_squares"].item() > 1
    xr.testing.assert_identical(analyze(model.requires_grad_(False), list(MEASURES), task=task).dataset, before)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision_is_widened(dtype: torch.dtype, close: float) -> None:
    """Against the same rounded weights computed in float32."""
    task = TASKS["p = 7"].split(0.6, seed=0)
    model = model_of(task).to(dtype)
    half, wide = Snapshot(model, task), Snapshot(copy.deepcopy(model).float(), task)
    for name in ("loss", "head_entropy", "gini", "W_L_norm"):
        measure = heads if name.startswith("head") else progress
        np.testing.assert_allclose(measure(half)[name], measure(wide)[name], rtol=close, err_msg=name)


def test_entropies_of_half_precision_patterns_with_zeros() -> None:
    pattern = torch.tensor([1.0, 0, 0, 0, 0.5, 0.5, 0, 0]).view(1, 2, 1, 4)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        entropy = head_entropy(pattern.to(dtype))
        torch.testing.assert_close(entropy, torch.tensor([0, math.log(2)], dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("task", "defined"), [("p = 7", [1]), ("p = 11", [1, 3]), ("S3", [1]), ("p = 4", [1])])
def test_fsd_of_as_many_frequencies_as_there_are_is_not_defined(task: str, defined: list[int]) -> None:
    table = TASKS[task]
    value = fsd(Snapshot(model_of(table), table))["fsd"]
    assert value["top"].to_numpy()[np.isfinite(value)].tolist() == defined
    missing = [top for top in value["top"].to_numpy().tolist() if top not in defined]
    assert f"K = {', '.join(map(str, missing))}" in value.attrs["undefined"]


def test_a_dead_layer_has_no_filtered_loss() -> None:
    task = TASKS["p = 11"]
    model = model_of(task)
    assert np.isfinite(filtered_loss(Snapshot(model, task))["filtered_loss"])
    dead(model)
    found = filtered_loss(Snapshot(model, task))["filtered_loss"]
    assert np.isnan(found)
    assert "every neuron is silent" in found.attrs["undefined"]


def test_uniform_attention_varies_along_nothing() -> None:
    task = TASKS["p = 7"]
    found = heads(Snapshot(model_of(task, n_layers=2, causal=False, interventions=(UniformAttention(),)), task))
    assert np.isnan(found["participation_ratio"])
    assert found["participation_ratio"].attrs["undefined"] == "no head's pattern varies in layer 0, 1"
    check(found)


def test_weights_from_the_neurons_that_are_zero_have_no_key_frequencies() -> None:
    task = TASKS["p = 7"].split(0.6, seed=0)
    model = model_of(task)
    zeroed("W_out")(model)
    found = progress(Snapshot(model, task))
    assert found.sizes["key_frequency"] == 0
    assert found["restricted_loss"].attrs["undefined"] == "there are no key frequencies: W_L is zero"
    check(found)


def test_a_context_shorter_than_the_task_is_refused() -> None:
    short, task = tasks.modular_addition(7, equals=False), tasks.modular_addition(7)
    model = build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24), Task(**{**vars(short), "n_vocab": 8}), seed=0)
    with pytest.raises(GrokinterpError, match="context holds 2 tokens, too few for task 'modular_addition' with inputs of 3"):
        Snapshot(model, task)


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose last two of four checkpoints hold no numbers any more."""
    config = presets.nanda2023(p=7, steps=6).with_(model=ModelConfig(d_model=16, n_heads=2, d_mlp=24), eval_every=2)
    return broken(
        train(config.with_(checkpoints=CheckpointSchedule(every=2)), tmp_path_factory.mktemp("runs") / "diverged", progress_bar=False), 4, 6
    )


def broken(run: Run, *steps: int) -> Run:
    for step in steps:
        weights = {name: weight * math.nan for name, weight in run.weights(step).items()}
        write_tensors(file_of(run.path, "checkpoints", step), weights, state_facts("checkpoints", step, run.config.digest))
    return run


def inline(calls: Mapping[str, Any], workers: int, **_: Any) -> dict[str, Any]:
    """In place of processes, which would take seconds to start."""
    return {name: function(*arguments) for name, (function, arguments) in calls.items()}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_diverged_keeps_the_steps_before(diverged: Run, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grokinterp.analysis.side_by_side", inline)
    report = analyze(diverged, ["progress", "heads"], workers=workers, progress_bar=False)
    loss, keys = report["loss"].sel(split="train"), report["key_frequency"]
    assert np.isfinite(loss).to_numpy().tolist() == [True, True, False, False]
    assert keys.size  # those of the last step with finite weights
    assert "hold NaN or infinities" in report.failures["progress"]
    assert report.failures["progress"].endswith("(step 4, 6)")
    assert report.failures["heads"] == report.failures["progress"]
    assert Report.load(report.save(tmp_path / "report.nc")).failures == report.failures
    assert "%" not in report.summary
    report.to_html(tmp_path / "page.html")


def test_only_broken_checkpoints_are_refused(diverged: Run) -> None:
    with pytest.raises(GrokinterpError, match=r"weights \(embed.W_E first\) hold NaN"):
        analyze(diverged, ["progress"], steps=[4, 6], progress_bar=False)


def test_reasons_reach_report_page_notebook_and_shell(diverged: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = analyze(diverged, ["fsd", "heads"], steps=[0, 2], progress_bar=False)
    reason = report.undefined["fsd"]
    assert report.failures == {}
    assert "every neuron counts for all of them at K = 3, 5" in reason
    assert report["fsd"].attrs["undefined"] == reason
    assert reason in report.to_html(tmp_path / "page.html").read_text()
    assert "fsd is not defined" in report._repr_html_()
    assert main(["analyze", str(diverged.path), "--measures", "fsd", "--steps", "0", "2"]) == 0
    assert f"fsd is not defined: {reason}" in capsys.readouterr().out


def test_reasons_name_the_steps_that_they_hold_of() -> None:
    def late(snapshot: Snapshot) -> xr.Dataset:
        found = xr.Dataset({"late": float(snapshot.step) if snapshot.step else math.nan})
        if not snapshot.step:
            found["late"].attrs["undefined"] = "it is too early"
        return found

    def never(snapshot: Snapshot) -> dict[str, float]:
        raise GrokinterpError("it does not apply")

    run_steps = {step: Snapshot(model_of(TASKS["p = 7"]), TASKS["p = 7"], step) for step in (0, 1)}
    found, reasons = _measure(run_steps.values(), {"late": late, "never": never})
    assert found["late"].to_numpy().tolist() == pytest.approx([math.nan, 1], nan_ok=True)
    assert reasons == {("variable", "late"): {"it is too early": [0]}, ("measure", "never"): {"it does not apply": [0, 1]}}


def test_columns_of_the_table_do_not_depend_on_the_size() -> None:
    def columns(p: int, **changes: Any) -> list[str]:
        task = tasks.modular_addition(p).split(0.6, seed=0)
        return list(analyze(model_of(task, **changes), ["progress", "spectrum", "fsd", "filtered_loss", "heads"], task=task).to_dataframe())

    expected = columns(5)
    assert {"loss[train]", "unseen_accuracy", "fsd[1]", "fsd_set[2]", "gini[W_E, components]"} <= set(expected)
    assert columns(7) == columns(37, d_mlp=40, n_heads=4) == columns(7, n_layers=2) == expected


def test_growing_dimensions_are_those_that_grow() -> None:
    sizes = []
    for p, changes in ((5, {}), (37, {"d_mlp": 40, "n_heads": 4, "n_layers": 2})):
        task = tasks.modular_addition(p).split(0.6, seed=0)
        sizes.append(analyze(model_of(task, **changes), list(MEASURES), task=task).dataset.sizes)
    assert {str(name) for name in sizes[0] if sizes[0][name] != sizes[1][name]} <= GROWING
