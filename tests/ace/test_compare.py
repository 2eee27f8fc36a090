"""Comparisons against scipy, against scikit-learn and against subspaces at angles that were chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ace_models import orthogonal
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from sklearn.cross_decomposition import CCA
from torch import Tensor

from grokinterp import GrokinterpError
from grokinterp.ace import Core, align, canonical_correlations, consensus, overlap, principal_angles


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=30)
@given(d=st.integers(2, 12), data=st.data(), seed=st.integers(0, 1000))
def test_angles_are_scipys_and_overlap_is_their_cosines(d: int, data: st.DataObject, seed: int) -> None:
    r_a, r_b = data.draw(st.integers(1, d)), data.draw(st.integers(1, d))
    a, b = orthogonal(d, seed)[:, :r_a], orthogonal(d, seed + 1)[:, :r_b]
    angles = principal_angles(a, b)
    expected = np.sort(np.rad2deg(subspace_angles(a.numpy(), b.numpy())))
    np.testing.assert_allclose(angles.numpy(), expected, atol=1e-5)
    assert overlap(a, b) == pytest.approx(float(torch.deg2rad(angles).cos().square().sum()) / (r_a * r_b) ** 0.5)
    assert overlap(a, b) == pytest.approx(overlap(b, a))
    assert overlap(a, a) == pytest.approx(1)


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 1.0, 45.0, 89.999999, 90.0])
def test_small_and_right_angles_keep_their_digits(degrees: float) -> None:
    axes, angle = orthogonal(5), torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    turned = angle.cos() * axes[:, :1] + angle.sin() * axes[:, 1:2]
    assert float(principal_angles(axes[:, :1], turned)) == pytest.approx(degrees, rel=1e-8, abs=1e-13)


def test_cores_and_their_bases_are_the_same_to_it() -> None:
    q = orthogonal(6)
    core = Core(directions=q, rank=2, spectrum=torch.ones(6).double(), mean=torch.zeros(6).double(), hook="h")
    assert overlap(core, q[:, 2:4]) == pytest.approx(0, abs=1e-20)
    assert principal_angles(core, q[:, 1:3]).tolist() == pytest.approx([0, 90], abs=1e-5)


def test_canonical_correlations_are_scikit_learns_on_well_conditioned_data() -> None:
    shared = noise(500, 3)
    a = shared @ noise(3, 3, seed=1) + 0.2 * noise(500, 3, seed=2)
    b = shared @ noise(3, 4, seed=3) + 0.5 * noise(500, 4, seed=4) + 7
    ours = canonical_correlations(a, b).numpy()
    x, y = CCA(n_components=3, max_iter=20_000, tol=1e-10).fit_transform(a.numpy(), b.numpy())
    theirs = np.sort([np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(3)])[::-1]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert ours[0] > ours[-1]


def test_canonical_correlations_are_blind_to_invertible_maps() -> None:
    a, b = noise(100, 3), noise(100, 2, seed=1)
    b[:, 0] += a[:, 0]
    mapped = canonical_correlations(a @ noise(3, 3, seed=5) - 4, 1e-3 * b @ noise(2, 2, seed=6))
    assert torch.allclose(mapped, canonical_correlations(a, b))
    assert torch.allclose(canonical_correlations(a, a @ noise(3, 3, seed=7)), torch.ones(3).double())


def test_alignment_finds_a_planted_rotation_and_the_sign() -> None:
    z, r = noise(50, 3), orthogonal(3)
    found = align(z, z @ r + 2)
    assert torch.allclose(found.rotation, r)
    assert torch.allclose(found(z), z @ r + 2)
    assert found.r_squared == pytest.approx(1)
    assert float(align(z[:, :1], -z[:, :1]).rotation) == pytest.approx(-1)
    wide = align(z, (z @ r)[:, :2])
    assert torch.allclose(wide.rotation.T @ wide.rotation, torch.eye(2).double())
    assert align(z, noise(50, 3, seed=9)).r_squared < 0.2


def test_a_consensus_of_two_is_their_canonical_correlation() -> None:
    a, b = noise(200, 3), noise(200, 4, seed=1)
    b[:, :2] += a[:, 1:]
    common = consensus([a, b], rank=3)
    assert torch.allclose(common.agreement, (1 + canonical_correlations(a, b)) / 2)


def test_a_consensus_finds_what_all_models_share_and_nothing_else() -> None:
    shared = noise(400, 2)
    models = [torch.cat([shared, noise(400, 2, seed=10 + i)], dim=1) @ noise(4, 4, seed=20 + i) for i in range(3)]
    common = consensus(models, rank=4)
    assert torch.allclose(common.agreement[:2], torch.ones(2).double())
    assert float(common.agreement[2]) < 0.5
    assert torch.allclose(canonical_correlations(common.variates[:, :2], shared), torch.ones(2).double())
    for z, weights in zip(models, common.weights, strict=True):
        assert torch.allclose((z - z.mean(0)) @ weights[:, :2], common.variates[:, :2], atol=1e-10)


def test_a_consensus_inside_one_model_is_the_plane_that_the_shared_variates_move() -> None:
    n, d = 300, 7
    shared = noise(n, 1)
    centred = shared - shared.mean(0)
    private = noise(n, 1, seed=3)
    private = private - private.mean(0)
    private = private - centred * (centred.T @ private) / centred.square().sum()
    axes = orthogonal(d)
    h = centred @ axes[:, :1].T + private @ axes[:, 1:2].T
    core = Core(directions=axes[:, :2] @ orthogonal(2, seed=4), rank=2, spectrum=torch.ones(2).double(), mean=torch.zeros(d).double(), hook="h")
    other = torch.cat([centred, noise(n, 1, seed=5)], dim=1)
    inside = consensus([core.project(h), other], rank=1).restrict(0, core)
    assert float(principal_angles(inside, axes[:, :1])) < 1e-5
    with pytest.raises(GrokinterpError, match="came with 2 coordinates"):
        consensus([core.project(h), other], rank=1).restrict(0, core.with_rank(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: overlap(torch.ones(3, 2).double(), orthogonal(3)), "orthonormal columns"),
        (lambda: principal_angles(orthogonal(3), orthogonal(4)), "4 and 3 dimensions have no angle"),
        (lambda: canonical_correlations(noise(5, 2), noise(6, 2)), "same inputs; got 5, 6 examples"),
        (lambda: canonical_correlations(noise(3, 3), noise(3, 1)), "more than 3 examples"),
        (lambda: canonical_correlations(noise(9, 1).expand(9, 2), noise(9, 2)), "linearly dependent"),
        (lambda: align(noise(9, 2), torch.ones(9, 2)), "do not vary"),
        (lambda: consensus([noise(9, 2)], 1), "at least 2 models; got 1"),
        (lambda: consensus([noise(9, 2), noise(9, 3)], 3), "lies in 1 … 2"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        call()
