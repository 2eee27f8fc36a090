"""S_n against itertools, representation theory's theorems, hook lengths, and the character tables of the literature."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from grokinterp import GrokinterpError, tasks
from grokinterp.interventions import FourierAblation
from grokinterp.measures.progress import progress
from grokinterp.models import ModelConfig, build_model
from grokinterp.snapshot import Snapshot
from grokinterp.tasks import SymmetricGroup, TaskConfig

CLASSES = ((1, 1, 1, 1, 1), (2, 1, 1, 1), (3, 1, 1), (4, 1), (5,), (2, 2, 1), (3, 2))
SIZES = (1, 10, 20, 30, 24, 15, 20)
# Fulton and Harris, Representation Theory, section 3.1: U, U', V, V', the exterior square of V, W, W' as partitions.
S5 = {
    (5,): (1, 1, 1, 1, 1, 1, 1),
    (1, 1, 1, 1, 1): (1, -1, 1, -1, 1, 1, -1),
    (4, 1): (4, 2, 1, 0, -1, 0, -1),
    (2, 1, 1, 1): (4, -2, 1, 0, -1, 0, 1),
    (3, 1, 1): (6, 0, 0, 0, 1, -2, 0),
    (3, 2): (5, 1, -1, -1, 0, 1, 1),
    (2, 2, 1): (5, -1, -1, 1, 0, 1, -1),
}


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
    assert torch.equal(task.answers[task.pairs], task.symmetric_group.product)
    random = TaskConfig("permutations", {"n": 5}, answer_seed=1).build()
    assert random.symmetric_group == task.symmetric_group
    assert (random.answers == task.answers).double().mean() < 0.03


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_products_are_those_of_a_group(n: int) -> None:
    group = SymmetricGroup(n)
    x, y, z = torch.randint(group.order, (3, 200), generator=torch.Generator().manual_seed(n))
    product, everything = group.product, torch.arange(group.order)
    assert torch.equal(product[product[x, y], z], product[x, product[y, z]])
    assert torch.equal(product[0], everything)
    assert torch.equal(product[everything, group.inverse], torch.zeros(group.order, dtype=torch.int64))
    assert [len(set(row)) for row in product.tolist()] == [group.order] * group.order


def test_classes_of_s5() -> None:
    group = SymmetricGroup(5)
    sizes = dict(zip(group.partitions, torch.bincount(group.classes).tolist(), strict=True))
    assert sizes == dict(zip(CLASSES, SIZES, strict=True))
    x, y = torch.randint(120, (2, 300), generator=torch.Generator().manual_seed(0))
    conjugate = group.product[group.product[y, x], group.inverse[y]]
    assert torch.equal(group.classes[conjugate], group.classes[x])


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_irreps_are_orthogonal_homomorphisms(n: int) -> None:
    group = SymmetricGroup(n)
    for rho in group.irreps.values():
        products = torch.einsum("gij,hjk->ghik", rho, rho)
        assert float((rho[group.product] - products).abs().max()) < 1e-12
        assert float((rho @ rho.mT - torch.eye(rho.shape[1])).abs().max()) < 1e-12


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_irreps_are_complete_and_orthogonal_to_each_other(n: int) -> None:
    """Schur: Σ_g ρ(g)_ij σ(g)_kl = |G|/d where everything agrees, else 0; so no two are equivalent and none is reducible."""
    group = SymmetricGroup(n)
    entries = torch.cat([(rho.shape[1] / group.order) ** 0.5 * rho.flatten(1) for rho in group.irreps.values()], dim=1)
    assert entries.shape == (group.order, group.order)
    assert float((entries.T @ entries - torch.eye(group.order)).abs().max()) < 1e-12


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_dimensions_follow_from_hook_lengths(n: int) -> None:
    group = SymmetricGroup(n)
    for shape, rho in group.irreps.items():
        columns = [sum(length > j for length in shape) for j in range(shape[0])]
        hooks = [shape[i] - j + columns[j] - i - 1 for i in range(len(shape)) for j in range(shape[i])]
        assert rho.shape[1] == math.factorial(n) // math.prod(hooks)
    assert sum(rho.shape[1] ** 2 for rho in group.irreps.values()) == group.order


def test_s6_is_a_homomorphism_on_random_pairs() -> None:
    group = SymmetricGroup(6)
    x, y = torch.randint(720, (2, 500), generator=torch.Generator().manual_seed(0))
    product = group.product[x, y]
    for rho in group.irreps.values():
        assert float((rho[product] - rho[x] @ rho[y]).abs().max()) < 1e-12


def test_characters_of_s5_are_those_of_the_literature() -> None:
    group = SymmetricGroup(5)
    order = [group.partitions.index(conjugacy) for conjugacy in CLASSES]
    for shape, row in zip(group.partitions, group.characters, strict=True):
        assert row[order].tolist() == pytest.approx(S5[shape], abs=1e-12)
    for rho, row in zip(group.irreps.values(), group.characters, strict=True):
        traces = rho.diagonal(dim1=1, dim2=2).sum(1)
        assert torch.allclose(traces, row[group.classes], atol=1e-12)  # the same all over a class


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_fixed_points_and_signs_are_characters(n: int) -> None:
    """The permutation representation is the trivial one and (n − 1, 1); the determinant of a permutation matrix is (1, …, 1)."""
    group = SymmetricGroup(n)
    fixed = (group.elements == torch.arange(n)).sum(1).double()
    signs = torch.from_numpy(np.linalg.det(np.eye(n)[group.elements]))
    assert torch.allclose(group.irreps[(n - 1, 1)].diagonal(dim1=1, dim2=2).sum(1), fixed - 1, atol=1e-12)
    assert torch.allclose(group.irreps[(1,) * n][:, 0, 0], signs, atol=1e-12)


def test_what_needs_a_cyclic_group_says_so() -> None:
    task = tasks.permutations(3).split(0.5, seed=0)
    snapshot = Snapshot(build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=12), task, seed=0), task)
    with pytest.raises(GrokinterpError, match="no cyclic group"):
        progress(snapshot)
    with pytest.raises(GrokinterpError, match="no cyclic group"):
        FourierAblation("logits", (1,)).hooks(snapshot.model, task)


@pytest.mark.parametrize("n", [1, 7, 5.0, True, "5"])
def test_other_groups_are_refused(n) -> None:
    with pytest.raises(GrokinterpError, match="from 2 to 6 letters; got"):
        tasks.permutations(n)
