"""The core of the authors' checkpoint of Nanda et al. 2023, which learned addition mod 113 with five frequencies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from grokinterp import Report, ace, analyze, published
from grokinterp.groups.fourier import frequency_projector

KEYS = np.array([6, 23, 37, 39, 41])
HOOK = "blocks.0.hook_resid_post"


@pytest.fixture(scope="module")
def report(published_path: Path) -> Report:
    return analyze(published_path, ["ace"])


def test_its_core_are_the_planes_of_its_key_frequencies(report: Report) -> None:
    last = report.dataset.isel(step=0)
    assert last["core_size"].to_numpy().tolist() == [10, 10, 7, 10]
    assert last["core_accuracy"].to_numpy() == pytest.approx([1, 1, 0.0137], abs=5e-4)
    values = last["core_eigenvalue"].to_numpy() @ np.array([1, 1j])
    frequencies = np.rint(np.abs(np.angle(values)) * 113 / (2 * np.pi))
    assert sorted(set(frequencies)) == KEYS.tolist()
    assert (float(last["core_modes"]), float(last["core_modes_null"]), float(last["core_ring_fraction"])) == (5, 0, 1)
    assert float(last["core_r2"].sel(fit="held_out")) == pytest.approx(0.9975, abs=1e-3)
    assert float(last["core_r2"].sel(fit="null_max")) < 0


def test_the_embeddings_plane_lies_in_it_no_more_than_by_chance(published_path: Path) -> None:
    """The model computes in directions of its own: 10 of 128 dimensions hold 8 % of the plane of W_E that it starts from."""
    found = published.load(published_path)
    core = ace.extract(found.model, found.task, HOOK, positions=-1)
    of_keys = frequency_projector(113, KEYS) @ found.model.W_E.detach()[:113].double()
    share = float((of_keys @ core.basis).square().sum() / of_keys.square().sum())
    assert share == pytest.approx(0.082, abs=0.002)
    assert share < 1.2 * core.rank / 128
    # Its neurons' output through the same frequencies lies in the core: there the answers are.
    means = ace.class_means(ace.Tail(found.model, HOOK, -1).activations(found.task.tokens)[:, 0], found.task.answers, 113)
    answers = frequency_projector(113, KEYS) @ (means - means.mean(0))
    assert float((answers @ core.basis).square().sum() / answers.square().sum()) > 0.99
    assert torch.linalg.matrix_rank(answers, rtol=1e-6) == 10
