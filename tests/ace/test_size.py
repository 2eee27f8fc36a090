"""Sizes against the definition, evaluated by running the whole model with hooks at every rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ace_models import PLAIN, PRE_LN

from grokinterp import GrokinterpError
from grokinterp.ace import Core, extract, size
from grokinterp.models import build_model
from grokinterp.models.convert import bridge
from grokinterp.tasks import Task, markov_chain


def accuracy(model: Any, task: Task, core: Core, mode: str) -> float:
    with torch.no_grad(), getattr(core, mode)().applied(model):
        logits = model(task.tokens)[:, task.readout, : task.n_classes]
    return float((logits.argmax(-1) == task.answers).double().mean())


@pytest.mark.parametrize("positions", ["all", -1])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"])
def test_the_curve_is_the_accuracy_under_each_intervention(model: Any, task: Task, positions: Any, centred: bool, hook: str) -> None:
    core = extract(model, task, hook, positions=positions, centred=centred, rank=2)
    measured = size(model, core, task, batch_size=20)
    for mode in ("keep", "remove"):
        expected = [accuracy(model, task, core.with_rank(rank), mode) for rank in range(1, 16)]
        np.testing.assert_allclose(getattr(measured, mode)[:15], expected, atol=1e-12)
    assert measured.base == measured.keep[-1] == pytest.approx(accuracy(model, task, core.with_rank(16), "keep"))
    some = size(model, core, task, ranks=[2, 5, 11])
    np.testing.assert_array_equal(some.keep, measured.keep[[1, 4, 10]])
    np.testing.assert_array_equal(some.remove, measured.remove[[1, 4, 10]])


def test_where_every_position_counts_accuracy_is_over_every_position() -> None:
    task = markov_chain(40, 9, seed=1)
    model = build_model(PLAIN, task, seed=0, dtype=torch.float64)
    core = extract(model, task, "blocks.0.hook_resid_post", rank=2)
    assert (core.positions, core.provenance["readout"]) == ("all", "all")
    measured = size(model, core, task, ranks=[1, 3, 9], batch_size=17)
    for mode in ("keep", "remove"):
        expected = []
        for rank in (1, 3, 9):
            with torch.no_grad(), getattr(core.with_rank(rank), mode)().applied(model):
                expected.append(float((model(task.tokens)[..., :4].argmax(-1) == task.targets).double().mean()))
        np.testing.assert_allclose(getattr(measured, mode), expected, atol=1e-12)


def test_the_clock_needs_the_circles_that_it_was_built_from(clock_model: Any) -> None:
    model, task = clock_model(11, (2, 3))
    model.unembed.b_U.data[0] = 1e-6  # silence answers 0; without it the answer would be read off rounding errors
    core = extract(model, task, "blocks.0.hook_mlp_out", energy=0.999, positions=-1)
    assert core.rank == 4  # cosine and sine of two frequencies
    measured = size(model, core, task)
    assert measured.base == measured.keep[3] == 1
    assert measured.remove[3] == pytest.approx(1 / 11)
    assert measured.sufficient is not None
    assert 2 <= measured.sufficient <= 4
    assert measured.necessary is not None
    assert measured.necessary <= 4
    assert list(measured.table().columns) == ["rank", "keep", "remove"]
    assert str(measured).startswith(f"energy rank {measured.energy}, necessary {measured.necessary}, sufficient {measured.sufficient}")


def test_necessary_counts_from_the_energy_rank_and_absence_is_none(clock_model: Any) -> None:
    model, task = clock_model(11, (2, 3))
    core = extract(model, task, "blocks.0.hook_resid_post")
    assert size(model, core, task, energy=0.1, chance=1.0).necessary == 1
    late = size(model, core, task, energy=1 - 1e-12, chance=1.0)
    assert late.necessary == late.energy
    assert size(model, core, task, ranks=[1], chance=-1.0).necessary is None
    assert size(model, core, task, ranks=[1], tolerance=-2.0).sufficient is None


def test_a_bridge_has_the_same_size(task: Task) -> None:
    model = build_model(PRE_LN, task, seed=0, dtype=torch.float64)
    core = extract(model, task, "blocks.0.hook_resid_post", rank=2)
    ours, theirs = (size(subject, core, task, ranks=[1, 3, 9]) for subject in (model, bridge(model).double()))
    np.testing.assert_allclose(ours.keep, theirs.keep, atol=1e-12)
    np.testing.assert_allclose(ours.remove, theirs.remove, atol=1e-12)


@pytest.mark.parametrize("ranks", [[], [0, 1], [3, 2], [17]])
def test_bad_ranks_are_named(model: Any, task: Task, ranks: list[int]) -> None:
    core = extract(model, task, "blocks.0.hook_resid_post", rank=2)
    with pytest.raises(GrokinterpError, match="must ascend within 1 … 16"):
        size(model, core, task, ranks=ranks)
