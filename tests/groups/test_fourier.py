"""Fourier analysis against numpy's FFT, Parseval's theorem and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grokinterp import GrokinterpError
from grokinterp.groups.families import cyclic
from grokinterp.groups.fourier import (
    component_frequencies,
    component_names,
    cosine_coefficients,
    fourier_basis,
    fourier_components,
    frequency_power,
    frequency_projector,
    gini,
    neuron_frequency_shares,
    pair_spectrum,
)
from grokinterp.groups.operation import Operation, combined_mean

orders = st.integers(3, 60)
seeds = st.integers(0, 2**31)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def group(n: int, minus: bool = False) -> Operation:
    return Operation(cyclic(n), signs=(1, -1 if minus else 1))


@given(orders)
def test_basis_is_orthonormal_and_named(n: int) -> None:
    basis = fourier_basis(n)
    assert torch.allclose(basis @ basis.T, torch.eye(n, dtype=torch.float64), atol=1e-12)
    assert component_names(n)[:3] == ["1", "cos 1", "sin 1"]
    assert component_frequencies(n).max() == n // 2
    x = torch.arange(n)
    for row, name in zip(basis, component_names(n)):
        if name != "1":
            kind, k = name.split()
            wave = getattr(torch, kind)(2 * torch.pi * int(k) * x / n)
            assert torch.allclose(row, (wave / wave.norm()).double(), atol=1e-5)


@given(orders, seeds)
def test_power_is_that_of_numpys_fft_and_keeps_the_norm(n: int, seed: int) -> None:
    values = normal(seed, n, 3)
    power = frequency_power(values)
    transform = np.abs(np.fft.rfft(values.numpy(), axis=0)[1:]) ** 2 / n
    expected = 2 * transform
    if n % 2 == 0:
        expected[-1] /= 2  # the last frequency has no sine
    assert power.numpy() == pytest.approx(expected, abs=1e-10)
    centred = values - values.mean(0)
    assert power.sum(0).numpy() == pytest.approx(centred.square().sum(0).numpy(), rel=1e-10)
    assert fourier_components(values).square().sum().item() == pytest.approx(values.square().sum().item())


@given(orders, seeds)
def test_projectors_are_idempotent_and_add_up(n: int, seed: int) -> None:
    values = normal(seed, n)
    some = np.arange(1, n // 2 + 1)[:: 1 + seed % 3]
    rest = np.setdiff1d(np.arange(1, n // 2 + 1), some)
    projector, other = frequency_projector(n, some), frequency_projector(n, rest)
    assert torch.allclose(projector @ projector, projector, atol=1e-12)
    assert torch.allclose(projector @ values + other @ values + values.mean(), values, atol=1e-10)


@given(st.integers(3, 12), seeds, st.booleans())
def test_combined_mean_is_the_mean_over_matching_pairs(n: int, seed: int, minus: bool) -> None:
    table, g = normal(seed, n, n, 2), group(n, minus)
    for opposite in (False, True):
        expected = torch.zeros(n, 2, dtype=torch.float64)
        sign = -1 if minus != opposite else 1
        for x in range(n):
            for y in range(n):
                expected[(x + sign * y) % n] += table[x, y] / n
                assert g.combination(opposite)[x, y] == (x + sign * y) % n
        assert torch.allclose(combined_mean(table, g, opposite), expected)


@settings(max_examples=30)
@given(st.integers(3, 25), seeds, st.booleans())
def test_neuron_shares_are_the_blocks_of_the_full_transform(n: int, seed: int, minus: bool) -> None:
    table = normal(seed, n, n, 4).abs()
    power = pair_spectrum(table - table.mean((0, 1))).square()
    frequency = torch.from_numpy(component_frequencies(n))
    shares = neuron_frequency_shares(table, group(n, minus))
    for k in range(1, n // 2 + 1):
        index = torch.nonzero((frequency == 0) | (frequency == k)).squeeze(1)
        block = power[index][:, index].sum((0, 1)) / power.sum((0, 1))
        assert torch.allclose(shares[k - 1], block, atol=1e-10)


def test_a_constant_neuron_has_no_share() -> None:
    table = torch.ones(7, 7, 2)
    table[0, 0, 1] = 2.0
    shares = neuron_frequency_shares(table, group(7))
    assert bool(shares[:, 0].isnan().all())
    assert not bool(shares[:, 1].isnan().any())


@given(st.integers(3, 20), seeds)
def test_pair_spectrum_keeps_the_norm(n: int, seed: int) -> None:
    table = normal(seed, n, n, 3)
    assert pair_spectrum(table).square().sum().item() == pytest.approx(table.square().sum().item())


@settings(max_examples=30)
@given(st.integers(3, 15), seeds)
def test_cosine_coefficients_are_inner_products_with_unit_functions(n: int, seed: int) -> None:
    logits, g = normal(seed, n, n, n), group(n)
    coefficients = cosine_coefficients(combined_mean(logits, g), n_pairs=n)
    s, c = g.combination()[:, :, None], torch.arange(n)
    for k in range(1, n // 2 + 1):
        wave = torch.cos(2 * torch.pi * (k * (s - c) % n).double() / n)
        assert coefficients[k - 1].item() == pytest.approx((logits * wave / wave.norm()).sum().item(), abs=1e-9)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50).filter(lambda values: sum(values) > 1e-3))
def test_gini_is_the_mean_absolute_difference(values: list[float]) -> None:
    """The independent definition: Σ_ij |c_i − c_j| / (2 N Σ c)."""
    array = np.array(values)
    expected = np.abs(array[:, None] - array[None, :]).sum() / (2 * len(array) * array.sum())
    assert gini(torch.tensor(values, dtype=torch.float64)) == pytest.approx(expected, abs=1e-9)


def test_gini_closed_forms_and_errors() -> None:
    assert gini(torch.ones(10)) == pytest.approx(0)
    assert gini(torch.eye(10)[0]) == pytest.approx(0.9)
    for bad in (torch.zeros(3), torch.tensor([-1.0, 2.0])):
        with pytest.raises(GrokinterpError, match="non-negative"):
            gini(bad)


def test_frequencies_outside_the_group_are_named() -> None:
    with pytest.raises(GrokinterpError, match=r"frequencies of Z_7 lie in 1 … 3; got 4"):
        frequency_projector(7, np.array([1, 4]))
    with pytest.raises(GrokinterpError, match="got n = 1"):
        fourier_basis(1)


def test_angles_stay_exact_for_large_groups() -> None:
    n = 997
    row = fourier_basis(n)[2 * 498 - 1]  # cos 498
    expected = [math.cos(2 * math.pi * ((498 * x) % n) / n) for x in range(n)]
    assert row.numpy() == pytest.approx(np.array(expected) / np.linalg.norm(expected), abs=1e-14)
