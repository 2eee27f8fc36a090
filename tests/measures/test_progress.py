"""Progress measures on a model that computes cos(w(a + b − c)) by construction, on random weights, and by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from clock import clock_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from grokinterp import GrokinterpError, presets, tasks
from grokinterp.groups.fourier import fourier_basis
from grokinterp.measures.progress import key_frequencies, progress
from grokinterp.measures.spectrum import spectrum
from grokinterp.models import ModelConfig, build_model
from grokinterp.snapshot import Snapshot

pytestmark = pytest.mark.lens4


@settings(max_examples=25)
@given(st.integers(3, 60), st.data())
def test_a_clock_is_found_whole(clock_model, p: int, data) -> None:
    every = list(range(1, p // 2 + 1))
    keys = tuple(sorted(data.draw(st.sets(st.sampled_from(every), min_size=1, max_size=min(5, len(every))))))
    model, task = clock_model(p, keys)
    result = progress(Snapshot(model, task))
    assert result["key_frequency"].to_numpy().tolist() == list(keys)
    assert result["fve"].to_numpy() == pytest.approx([1, 1, 1], abs=1e-9)
    for split in ("all", "train", "test"):
        loss, restricted, excluded = (float(result[name].sel(split=split)) for name in ("loss", "restricted_loss", "excluded_loss"))
        assert restricted == pytest.approx(loss, rel=1e-6, abs=1e-12)
        assert excluded >= math.log(p) - 1e-9
    assert result["key_power_share"].sel(matrix="W_L").item() == pytest.approx(1)
    assert float(result["loss"].sel(split="all")) == pytest.approx(_clock_loss(p, keys), rel=1e-6, abs=1e-10)


def _clock_loss(p: int, keys: tuple[int, ...]) -> float:
    c = np.arange(p)
    logits = sum(float(weight) * np.cos(2 * np.pi * k * c / p) for weight, k in zip(clock_weights(p, keys), keys))
    return float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[0])


@pytest.mark.parametrize("build", [tasks.modular_addition, tasks.modular_subtraction, tasks.modular_multiplication, tasks.modular_division])
def test_every_group_against_brute_force_projections(build) -> None:
    """Restricted and excluded losses from explicit unit vectors over pairs, for each operation and its own group."""
    task = build(13).split(0.4, seed=1)
    model = build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=32), task, seed=3, dtype=torch.float64)
    snapshot = Snapshot(model, task)
    n, keys = task.operation.order, [1, task.operation.order // 2]
    result = progress(snapshot, frequencies=keys)

    with torch.no_grad():
        full = model(task.tokens)[:, -1, : task.n_classes]
    pairs, elements = task.pairs.flatten(), task.operation.token_of
    logits = full[pairs][:, elements]
    answers = task.operation.combination().flatten()
    basis = fourier_basis(n)
    rows = [2 * k - 1 for k in keys] + [2 * k for k in keys if 2 * k < n]
    waves = basis[rows][:, answers]  # cos and sin of the combination, over pairs
    waves = waves / waves.norm(dim=1, keepdim=True)
    part = waves.T @ (waves @ logits)
    train = task.train[pairs]
    restricted, excluded = part + logits.mean(0), logits - part
    assert float(result["group_loss"].sel(split="all")) == pytest.approx(cross_entropy(logits, answers).item(), rel=1e-10)
    assert float(result["restricted_loss"].sel(split="all")) == pytest.approx(cross_entropy(restricted, answers).item(), rel=1e-10)
    assert float(result["excluded_loss"].sel(split="train")) == pytest.approx(cross_entropy(excluded[train], answers[train]).item(), rel=1e-10)
    # The two parts are the logits.
    assert torch.allclose(restricted - logits.mean(0) + excluded, logits, atol=1e-12)


def test_random_weights_have_no_circuit() -> None:
    config = presets.nanda2023(p=59, seed=5)
    task = config.task.build()
    result = progress(Snapshot(build_model(config.model, task, seed=5), task))
    assert result["fve"].to_numpy().max() < 0.05
    assert int(result["neurons_above"].sel(threshold=0.85)) == 0


def test_variance_explained_is_that_of_a_regression() -> None:
    task = tasks.modular_addition(11).split(0.5, seed=0)
    model = build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=32), task, seed=1, dtype=torch.float64)
    snapshot = Snapshot(model, task)
    result = progress(snapshot, frequencies=[2, 4])
    logits = snapshot.logit_table.numpy()
    s, c = task.operation.combination().numpy()[:, :, None], np.arange(11)
    design = np.stack([np.cos(2 * np.pi * k * (s - c) / 11).ravel() for k in (2, 4)], axis=1)
    forms = {"raw": logits - logits.mean(), "row_centred": logits - logits.mean(2, keepdims=True)}
    forms["class_centred"] = forms["row_centred"] - forms["row_centred"].mean((0, 1))
    for form, values in forms.items():
        y = values.ravel()
        residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        assert float(result["fve"].sel(form=form)) == pytest.approx(1 - residual @ residual / (y @ y), abs=1e-10)


def test_random_answers_are_scored_as_they_are() -> None:
    task = tasks.modular_addition(11).with_random_answers(0).split(0.5, seed=0)
    model = build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=32), task, seed=1, dtype=torch.float64)
    result = progress(Snapshot(model, task))
    with torch.no_grad():
        expected = cross_entropy(model(task.tokens)[:, -1, :11], task.answers).item()
    assert float(result["group_loss"].sel(split="all")) == pytest.approx(expected, rel=1e-10)


def test_key_frequencies_come_from_the_reference(clock_model) -> None:
    (early, task), (late, _) = clock_model(13, (2,)), clock_model(13, (5,))
    result = progress(Snapshot(early, task, step=0, reference=Snapshot(late, task, step=10)))
    assert result["key_frequency"].to_numpy().tolist() == [5]
    assert float(result["excluded_loss"].sel(split="all")) == pytest.approx(float(result["group_loss"].sel(split="all")))


def test_spectrum_of_a_clock_lies_on_its_frequencies(clock_model) -> None:
    model, task = clock_model(13, (3,))
    norm = spectrum(Snapshot(model, task))["logit_component_norm"]
    strong = norm.where(norm > 1e-3 * norm.max(), drop=True)
    assert strong["component_x"].to_numpy().tolist() == ["cos 3", "sin 3"]
    assert strong["component_y"].to_numpy().tolist() == ["cos 3", "sin 3"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: progress(_snapshot(tasks.modular_quadratic(7).split(0.5, 0))), "no cyclic group"),
        (lambda: progress(_snapshot(tasks.modular_addition(7))), "needs a train/test split"),
        (lambda: progress(_snapshot(tasks.modular_addition(7).split(0.5, 0)), frequencies=[4]), "lie in 1 … 3; got 4"),
        (lambda: progress(_snapshot(tasks.modular_addition(7).split(0.5, 0)), rule="W_l"), "did you mean W_L"),
        (lambda: progress(_snapshot(tasks.modular_addition(7).split(0.5, 0), d_mlp=0)), "attention-only"),
        (lambda: key_frequencies(_snapshot(tasks.modular_addition(7), d_mlp=0), "published"), "attention-only"),
        (lambda: Snapshot(_snapshot(tasks.modular_addition(7)).model, tasks.modular_addition(11)), "too few for task"),
        (lambda: _snapshot(tasks.modular_addition(7)).readout("blocks.0.mlp.hook_pst"), "did you mean blocks.0.mlp.hook_post"),
    ],
)
def test_what_does_not_apply_says_so(call, message) -> None:
    with pytest.raises(GrokinterpError, match=message):
        call()


def _snapshot(task, d_mlp: int = 24) -> Snapshot:
    return Snapshot(build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=d_mlp), task, seed=0), task)
