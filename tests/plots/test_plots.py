"""Figures draw exactly the numbers that a dataset holds, and exist exactly when it holds them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import xarray as xr

from grokinterp import GrokinterpError, plots
from grokinterp.reports.figures import figures

STEPS = np.array([0, 100, 300, 700, 1500])
KEYS = [2, 5]
COMPONENTS = ["1", "cos 1", "sin 1", "cos 2", "sin 2"]
NEEDS = {
    "progress": {"loss", "restricted_loss", "excluded_loss"},
    "key_frequencies_removed": {"excluded_loss_each"},
    "embedding_spectrum": {"W_E_norm"},
    "logit_map_spectrum": {"W_L_norm"},
    "logits_2d": {"logit_component_norm"},
    "neurons": {"neuron_frequency", "neuron_share"},
    "fve": {"fve"},
    "gini": {"gini"},
    "sum_of_squares": {"sum_of_squares"},
    "curvature": {"curvature"},
    "metric_weight_norm": {"metric_weight_norm"},
}


def make_dataset(n_steps: int = 5, recorded: bool = True) -> xr.Dataset:
    """A dataset as an analysis gives it, random numbers in every variable; `recorded` adds metrics of training."""
    rng = np.random.default_rng(0)
    sizes = {"step": n_steps, "split": 3, "key_frequency": 2, "form": 3, "frequency": 6, "matrix": 2, "kind": 2, "neuron": 40}
    sizes |= {"threshold": 2, "component_x": 5, "component_y": 5}
    dims = {
        "loss": ("split",),
        "accuracy": ("split",),
        "restricted_loss": ("split",),
        "excluded_loss": ("split",),
        "excluded_loss_each": ("key_frequency",),
        "fve": ("form",),
        "W_E_norm": ("frequency",),
        "W_L_norm": ("frequency",),
        "gini": ("matrix", "kind"),
        "neuron_share": ("neuron",),
        "neurons_above": ("threshold",),
        "sum_of_squares": (),
        "curvature": (),
        "logit_component_norm": ("component_x", "component_y"),
    }
    variables: dict[str, Any] = {
        name: (("step", *rest), rng.uniform(0.01, 1, [sizes[dim] for dim in ("step", *rest)])) for name, rest in dims.items()
    }
    frequency = rng.integers(1, 7, (n_steps, 40)).astype(float)
    frequency[:, :3] = np.nan
    variables["neuron_frequency"] = (("step", "neuron"), frequency)
    coordinates: dict[str, Any] = {
        "step": STEPS[-n_steps:],
        "split": ["all", "train", "test"],
        "key_frequency": KEYS,
        "form": ["raw", "row_centred", "class_centred"],
        "frequency": np.arange(1, 7),
        "matrix": ["W_E", "W_L"],
        "kind": ["components", "frequencies"],
        "threshold": [0.85, 0.9],
        "component_x": COMPONENTS,
        "component_y": COMPONENTS,
    }
    if recorded:
        coordinates["eval_step"] = np.arange(0, 1501, 10)
        for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "weight_norm"):
            values = rng.uniform(0.1, 1, 151)
            values[1::2] = np.nan
            variables[f"metric_{name}"] = (("eval_step",), values)
    ends = {"memorization_end": 100, "circuit_end": 700, "cleanup_end": 1200}
    return xr.Dataset(variables, coords=coordinates, attrs={"title": "A run", "phases": json.dumps(ends)})


def lines(figure: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {trace.name: (np.asarray(trace.x), np.asarray(trace.y)) for trace in figure.data}


def spans(figure: Any) -> list[tuple[str, int, int]]:
    return [(shape.name, shape.x0, shape.x1) for shape in figure.layout.shapes]


def test_every_figure_is_drawn_in_reading_order() -> None:
    assert list(figures(make_dataset())) == [
        *("losses", "accuracy", "progress", "key_frequencies_removed", "embedding_spectrum", "logit_map_spectrum", "neurons", "fve"),
        *("gini", "logits_2d", "curvature", "metric_weight_norm", "sum_of_squares"),
    ]


@pytest.mark.parametrize("name", NEEDS)
def test_a_figure_is_drawn_exactly_when_all_its_variables_are_there(name: str) -> None:
    dataset = make_dataset()
    for left_out in (set(), *({variable} for variable in NEEDS[name])):
        present = NEEDS[name] - left_out
        expected = {figure for figure, needed in NEEDS.items() if needed <= present}
        # Train and test loss need no more than the measured loss.
        assert set(figures(dataset[sorted(present)])) - {"losses"} == expected


def test_one_step_has_bars_and_no_lines() -> None:
    drawn = figures(make_dataset(1, recorded=False))
    assert list(drawn) == ["progress", "key_frequencies_removed", "embedding_spectrum", "logit_map_spectrum", "neurons", "logits_2d"]
    assert {trace.type for figure in drawn.values() for trace in figure.data} == {"bar", "heatmap"}


def test_an_empty_dataset_and_values_that_are_all_missing_draw_nothing() -> None:
    assert figures(xr.Dataset()) == {}
    dataset = make_dataset()
    assert "fve" not in figures(dataset.assign(fve=dataset["fve"] * np.nan))


def test_a_figure_without_its_variables_says_which() -> None:
    with pytest.raises(GrokinterpError, match=r"'fve' over at least 2 steps"):
        plots.fve(make_dataset(1))


def test_losses_are_the_recorded_metrics_or_else_the_measured_loss() -> None:
    dataset = make_dataset()
    x, y = lines(plots.losses(dataset))["test"]
    np.testing.assert_array_equal(x, np.arange(0, 1501, 20))
    np.testing.assert_array_equal(y, dataset["metric_test_loss"].dropna("eval_step"))

    x, y = lines(plots.losses(make_dataset(recorded=False)))["test"]
    np.testing.assert_array_equal(x, STEPS)
    np.testing.assert_array_equal(y, dataset["loss"][:, 2])


def test_progress_draws_four_losses_each_on_its_own_pairs() -> None:
    dataset = make_dataset()
    drawn = lines(plots.progress(dataset))
    wanted = {
        "train": dataset["loss"].values[:, 1],
        "test": dataset["loss"].values[:, 2],
        "restricted": dataset["restricted_loss"].values[:, 0],
        "excluded": dataset["excluded_loss"].values[:, 1],
    }
    assert list(drawn) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(drawn[name][0], STEPS)
        np.testing.assert_array_equal(drawn[name][1], values)
    (bars,) = plots.progress(dataset.isel(step=[2])).data
    assert dict(zip(bars.x, bars.y)) == {name: values[2] for name, values in wanted.items()}


def test_the_other_lines_and_cells_are_the_numbers_given() -> None:
    dataset = make_dataset()
    for i, key in enumerate(KEYS):
        np.testing.assert_array_equal(
            lines(plots.key_frequencies_removed(dataset))[f"frequency {key}"][1], dataset["excluded_loss_each"].values[:, i]
        )
    np.testing.assert_array_equal(lines(plots.fve(dataset))["class-centred"][1], dataset["fve"].values[:, 2])
    np.testing.assert_array_equal(lines(plots.gini(dataset))["W_L, components"][1], dataset["gini"].values[:, 1, 0])
    np.testing.assert_array_equal(lines(plots.scalar(dataset, "curvature"))["curvature"][1], dataset["curvature"].values)
    (cells,) = plots.embedding_spectrum(dataset).data
    np.testing.assert_array_equal(cells.z, dataset["W_E_norm"].values.T)
    np.testing.assert_array_equal(cells.x, STEPS)
    (cells,) = plots.logit_map_spectrum(dataset).data
    np.testing.assert_array_equal(cells.z, dataset["W_L_norm"].values.T)


def test_key_frequencies_stand_out_in_the_spectrum_of_one_model() -> None:
    dataset = make_dataset(1)
    bars = lines(plots.embedding_spectrum(dataset))
    norm = dataset["W_E_norm"].values[0]
    np.testing.assert_array_equal(bars["key frequencies"], [[2, 5], norm[[1, 4]]])
    np.testing.assert_array_equal(bars["other frequencies"], [[1, 3, 4, 6], norm[[0, 2, 3, 5]]])


def test_logits_2d_has_x_across_the_last_step_and_colours_that_the_constant_does_not_spoil() -> None:
    dataset = make_dataset()
    dataset["logit_component_norm"][-1, 0, 0] = 1e6
    (cells,) = plots.logits_2d(dataset).data
    last = dataset["logit_component_norm"].values[-1]
    assert cells.z[COMPONENTS.index("cos 2")][COMPONENTS.index("sin 1")] == last[2, 3]
    assert (list(cells.x), list(cells.y)) == (COMPONENTS, COMPONENTS)
    every = dataset["logit_component_norm"].values.reshape(len(STEPS), -1)[:, 1:]
    assert cells.zmax == every.max()  # of all steps, so that the colours of the frames mean the same


def test_neurons_are_counted_once_at_the_last_step_constant_ones_named_and_left_out() -> None:
    dataset = make_dataset()
    frequency, share = dataset["neuron_frequency"].values[-1], dataset["neuron_share"].values[-1]
    figure = plots.neurons(dataset)
    above, below = ({int(x): int(y) for x, y in zip(trace.x, trace.y)} for trace in figure.data)
    assert sum(above.values()) + sum(below.values()) == 37
    for k in range(1, 7):
        assert above.get(k, 0) == sum(1 for f, s in zip(frequency, share) if f == k and s > 0.85)
        assert above.get(k, 0) + below.get(k, 0) == list(frequency).count(k)
    assert "3 neurons that are constant" in figure.layout.meta["caption"]


@pytest.mark.parametrize(
    ("ends", "shaded"),
    [
        ((100, 700, 1200), [("memorization", 0, 100), ("circuit formation", 100, 700), ("cleanup", 700, 1200)]),
        ((100, 700, None), [("memorization", 0, 100), ("circuit formation", 100, 700)]),
        ((100, None, 1200), [("memorization", 0, 100)]),
        ((700, 100, 1200), [("memorization", 0, 700)]),
        ((None, 700, 1200), []),
    ],
)
def test_phases_are_shaded_as_far_as_they_were_found_in_order(ends: tuple[int | None, ...], shaded: list[tuple[str, int, int]]) -> None:
    dataset = make_dataset()
    dataset.attrs["phases"] = json.dumps(dict(zip(("memorization_end", "circuit_end", "cleanup_end"), ends)))
    assert spans(plots.losses(dataset)) == spans(plots.progress(dataset)) == shaded
    del dataset.attrs["phases"]
    assert spans(plots.losses(dataset)) == []


def test_a_long_line_keeps_its_ends_its_spikes_and_its_order() -> None:
    values = np.random.default_rng(1).normal(size=100_000)
    values[[41_234, 77_777]] = 50, -50
    kept = plots.thin(values)
    assert 1000 < len(kept) <= plots.MAX_POINTS
    assert {0, 41_234, 77_777, 99_999} <= set(kept)
    assert (np.diff(kept) > 0).all()
    assert np.diff(kept).max() < 300
    np.testing.assert_array_equal(plots.thin(values[:2000]), np.arange(2000))


def test_recorded_metrics_are_thinned_line_by_line() -> None:
    steps = np.arange(100_000)
    dataset = xr.Dataset({"metric_train_loss": (("eval_step",), np.exp(-steps / 1e4))}, coords={"eval_step": steps})
    x, y = lines(plots.losses(dataset))["train"]
    assert (x[0], x[-1]) == (0, 99_999)
    assert len(x) <= plots.MAX_POINTS
    np.testing.assert_allclose(y, np.exp(-x / 1e4))


@pytest.mark.parametrize("n_steps", [1, 5])
def test_every_figure_has_a_title_a_caption_and_named_axes(n_steps: int) -> None:
    for figure in figures(make_dataset(n_steps)).values():
        assert figure.layout.title.text
        assert figure.layout.meta["caption"].endswith(".")
        assert figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text
