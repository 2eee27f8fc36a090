"""Composition of permutations against itertools; the representations of S_n against hook lengths, fixed points and signs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from grokinterp import GrokinterpError, tasks
from grokinterp.groups.families import symmetric
from grokinterp.groups.young import partitions
from grokinterp.interventions import FourierAblation
from grokinterp.measures.progress import progress
from grokinterp.models import ModelConfig, build_model
from grokinterp.snapshot import Snapshot
from grokinterp.tasks import TaskConfig


@pytest.mark.parametrize("n", [2, 3, 4])
def test_answers_compose_the_second_operand_first(n: int) -> None:
    task = tasks.permutations(n)
    elements = list(itertools.permutations(range(n)))
    composed = [elements.index(tuple(g[h[i]] for i in range(n))) for g in elements for h in elements]
    assert task.answers.tolist() == composed
    assert task.tokens[:, :2].tolist() == [[g, h] for g in range(len(elements)) for h in range(len(elements))]
    assert bool((task.tokens[:, 2] == len(elements)).all())
    assert (task.n_vocab, task.n_classes) == (len(elements) + 1, len(elements))
    assert tasks.permutations(n, equals=False).tokens.shape == (len(elements) ** 2, 2)


def test_s5_is_the_papers_table() -> None:
    task = TaskConfig("permutations", {"n": 5}, train_fraction=0.3).build()
    assert (len(task), task.n_classes, len(task.indices("train"))) == (14_400, 120, 4_320)
    assert torch.equal(task.tokens[task.pairs][..., 0], torch.arange(120)[:, None].expand(120, 120))
    assert torch.equal(task.answers[task.pairs], task.operation.group.product)
    random = TaskConfig("permutations", {"n": 5}, answer_seed=1).build()
    assert random.structure == task.structure
    assert (random.answers == task.answers).double().mean() < 0.03


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_dimensions_follow_from_hook_lengths(n: int) -> None:
    group = symmetric(n)
    for shape, rho in zip(partitions(n), group.irreps.values(), strict=True):
        columns = [sum(length > j for length in shape) for j in range(shape[0])]
        hooks = [shape[i] - j + columns[j] - i - 1 for i in range(len(shape)) for j in range(shape[i])]
        assert rho.dimension == math.factorial(n) // math.prod(hooks)
    assert sum(rho.dimension**2 for rho in group.irreps.values()) == group.order


def test_s6_is_a_homomorphism_on_random_pairs() -> None:
    group = symmetric(6)
    x, y = torch.randint(720, (2, 500), generator=torch.Generator().manual_seed(0))
    product = group.product[x, y]
    for rho in group.irreps.values():
        assert float((rho.matrices[product] - rho.matrices[x] @ rho.matrices[y]).abs().max()) < 1e-12


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_fixed_points_and_signs_are_characters(n: int) -> None:
    """The permutation representation is the trivial one and (n − 1, 1); the determinant of a permutation matrix is (1, …, 1)."""
    group = symmetric(n)
    letters = torch.tensor([list(map(int, name)) for name in group.elements])
    fixed = (letters == torch.arange(n)).sum(1).double()
    signs = torch.from_numpy(np.linalg.det(np.eye(n)[letters]))
    assert torch.allclose(group.irreps[f"({n - 1},1)"].character, fixed - 1, atol=1e-12)
    assert torch.allclose(list(group.irreps.values())[-1].matrices[:, 0, 0], signs, atol=1e-12)


def test_what_needs_a_cyclic_group_says_so() -> None:
    task = tasks.permutations(3).split(0.5, seed=0)
    snapshot = Snapshot(build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=12), task, seed=0), task)
    with pytest.raises(GrokinterpError, match="no cyclic group"):
        progress(snapshot)
    with pytest.raises(GrokinterpError, match="no cyclic group"):
        FourierAblation("logits", (1,)).hooks(snapshot.model, task)


@pytest.mark.parametrize("n", [1, 7, 5.0, True, "5"])
def test_other_groups_are_refused(n) -> None:
    with pytest.raises(GrokinterpError, match=r"at least 2 letters; got|whole numbers n from 1 to 6; got"):
        tasks.permutations(n)
