"""The transform on S_n against sums over elements and its theorems: inversion, Plancherel, convolution, Schur's lemma."""

from __future__ import annotations

import pytest
import torch

from grokinterp import GrokinterpError
from grokinterp.groups.fourier import frequency_power
from grokinterp.groups.symmetric_fourier import inverse_transform, irrep_basis, irrep_power, product_mean, representation_power, transform
from grokinterp.tasks import SymmetricGroup


def functions(order: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(order, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_transform_is_the_sum_over_elements_and_has_an_inverse(n: int) -> None:
    group = SymmetricGroup(n)
    f = functions(group.order, 2, 3)
    coefficients = transform(group, f)
    for shape, rho in group.irreps.items():
        expected = sum(rho[g][:, :, None, None] * f[g] for g in range(group.order))
        assert torch.allclose(coefficients[shape], expected, atol=1e-12)
    assert torch.allclose(inverse_transform(group, coefficients), f, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_plancherel(n: int) -> None:
    group = SymmetricGroup(n)
    f = functions(group.order, 4)
    power = irrep_power(group, f)
    assert torch.allclose(power.sum(0), f.square().sum(0), rtol=1e-12)
    by_hand = [rho.shape[1] / group.order * matrix.square().sum((0, 1)) for rho, matrix in zip(group.irreps.values(), transform(group, f).values())]
    assert torch.allclose(power, torch.stack(by_hand), rtol=1e-10)
    assert torch.allclose(power, torch.stack([representation_power(rho, f) for rho in group.irreps.values()]), rtol=1e-10)
    basis = irrep_basis(group)
    assert torch.allclose(basis @ basis.T, torch.eye(group.order, dtype=torch.float64), atol=1e-12)


def test_convolutions_become_products() -> None:
    group = SymmetricGroup(4)
    f, g = functions(24, seed=1), functions(24, seed=2)
    quotient = group.product[:, group.inverse]  # x∘y⁻¹
    convolved = (f[quotient] * g).sum(1)
    ours, left, right = (transform(group, values) for values in (convolved, f, g))
    for shape in group.partitions:
        assert torch.allclose(ours[shape], left[shape] @ right[shape], atol=1e-10)


def test_class_functions_transform_to_multiples_of_the_identity() -> None:
    group = SymmetricGroup(5)
    f = functions(7, seed=3)[group.classes]
    for (shape, matrix), character in zip(transform(group, f).items(), group.characters, strict=True):
        d = group.irreps[shape].shape[1]
        assert torch.allclose(matrix, (f * character[group.classes]).sum() / d * torch.eye(d, dtype=torch.float64), atol=1e-10)


def test_a_part_of_the_coefficients_gives_a_projection() -> None:
    group = SymmetricGroup(4)
    f = functions(24, 5)
    part = inverse_transform(group, {(3, 1): transform(group, f)[(3, 1)]})
    assert torch.allclose(irrep_power(group, part)[1], irrep_power(group, f)[1])
    assert float(irrep_power(group, part)[[0, 2, 3, 4]].max()) < 1e-20
    assert float((part * (f - part)).sum(0).abs().max()) < 1e-12


def test_power_does_not_change_when_the_group_acts() -> None:
    group = SymmetricGroup(4)
    f = functions(24, 3)
    for moved in (f[group.product[7]], f[group.product[:, 7]]):
        assert torch.allclose(irrep_power(group, moved), irrep_power(group, f))


def test_rotations_of_a_cycle_give_its_frequencies() -> None:
    """Two-dimensional rotations are complex-reducible: their power is twice that of cos and sin, at every frequency alike."""
    angle = 2 * torch.pi * torch.arange(11, dtype=torch.float64) * torch.arange(1, 6)[:, None] / 11
    rotations = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(5, 11, 2, 2)
    f = functions(11, 6)
    assert torch.allclose(torch.stack([representation_power(rho, f) for rho in rotations]), 2 * frequency_power(f))


def test_product_means_are_means_over_pairs() -> None:
    group = SymmetricGroup(3)
    table = functions(6, 6, 4).float()
    expected = torch.stack([table[group.product == c].double().mean(0) for c in range(6)])
    assert torch.allclose(product_mean(table, group), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda group: transform(group, torch.ones(5)), "has 6 values, elements first; got 5"),
        (lambda group: irrep_power(group, torch.ones(5, 6)), "got 5"),
        (lambda group: inverse_transform(group, {(4, 1): torch.ones(4, 4)}), r"S_3 has no irreducible representation \(4, 1\)"),
        (lambda group: inverse_transform(group, {}), "at least one"),
    ],
)
def test_bad_input_is_named(call, message) -> None:
    with pytest.raises(GrokinterpError, match=message):
        call(SymmetricGroup(3))
