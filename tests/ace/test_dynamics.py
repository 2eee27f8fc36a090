"""Operators against systems whose operator, spectrum and predictability are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ace_models import orthogonal
from torch import Tensor

from grokinterp import GrokinterpError
from grokinterp.ace import Tail, class_means, cyclic_dynamics, extract, sequence_dynamics
from grokinterp.models import ModelConfig, build_model
from grokinterp.tasks.markov import MarkovChain, markov_chain

pytestmark = pytest.mark.lens4

P = 31


def circles(p: int, frequencies: tuple[int, ...], width: int = 12, noise: float = 0.0, repeats: int = 20) -> tuple[Tensor, Tensor]:
    """Vectors of examples whose answers go round one circle for each frequency, in a random basis."""
    generator = torch.Generator().manual_seed(0)
    answers = torch.arange(p).repeat(repeats)
    angle = 2 * torch.pi * answers[:, None].double() * torch.tensor(frequencies) / p
    z = torch.cat([angle.cos(), angle.sin()], dim=1) @ orthogonal(width)[: 2 * len(frequencies)]
    return z + 3 + noise * torch.randn(z.shape, generator=generator, dtype=torch.float64), answers


def test_a_linear_system_is_recovered() -> None:
    a = 0.9 * orthogonal(3)
    z = [torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)]
    z[0] -= z[0].mean(0)
    for _ in range(9):
        z.append(z[-1] @ a.T)
    fit = sequence_dynamics(torch.stack(z, dim=1))
    assert torch.allclose(fit.operator, a)
    assert fit.r_squared == pytest.approx(1)
    np.testing.assert_allclose(np.sort_complex(fit.eigenvalues), np.sort_complex(torch.linalg.eigvals(a).numpy()), atol=1e-10)
    assert fit.n_transitions == 360


def test_a_chain_has_its_own_eigenvalues_and_the_oracles_r_squared() -> None:
    chain = MarkovChain()
    states = chain.sample(3_000, 32, seed=0)
    indicators = torch.eye(4, dtype=torch.float64)[states]
    basis = torch.linalg.svd(torch.ones(1, 4, dtype=torch.float64)).Vh[1:].T  # off the constant
    fit = sequence_dynamics(indicators @ basis)
    np.testing.assert_allclose(fit.eigenvalues, chain.eigenvalues, atol=0.01)
    assert fit.relative_to(chain.oracle_r_squared()) == pytest.approx(1, abs=0.01)
    turned = sequence_dynamics(indicators @ basis @ orthogonal(3) + 5)
    assert turned.r_squared == pytest.approx(fit.r_squared)
    stretched = sequence_dynamics(indicators @ basis @ torch.tensor([[1.0, 0, 0], [3, 20, 0], [0, 1, 0.01]]).double())
    assert stretched.whitened_r_squared == pytest.approx(fit.whitened_r_squared)
    assert abs(stretched.r_squared - fit.r_squared) > 0.02
    np.testing.assert_allclose(turned.eigenvalues, fit.eigenvalues, atol=1e-10)
    assert str(fit).startswith(f"R² {fit.r_squared:.3f}, whitened {fit.whitened_r_squared:.3f}, over 93000 transitions; eigenvalues 0.7")


def test_a_model_that_predicts_a_chain_holds_its_dynamics_in_three_dimensions() -> None:
    """From tokens to eigenvalues: logits are log-probabilities of the next state, read off a random embedding of the last one."""
    chain = MarkovChain()
    task = markov_chain(500, 33, seed=0)
    model = build_model(ModelConfig(d_model=12, n_heads=1, d_mlp=4, init="pytorch"), task, seed=0, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "embed.W_E":
                parameter.zero_()
        model.unembed.W_U.copy_(torch.linalg.pinv(model.W_E) @ (chain.matrix + 1e-3).log())
    hook = "blocks.0.hook_resid_post"
    core = extract(model, task.tokens, hook, readout="all", energy=1 - 1e-6)
    assert core.rank == 3
    fit = sequence_dynamics(core.project(Tail(model, hook).activations(task.tokens)))
    np.testing.assert_allclose(fit.eigenvalues, chain.eigenvalues, atol=0.02)
    # The embedding is no isometry of the states, so that only the whitened R² is the oracle's.
    assert fit.relative_to(chain.oracle_r_squared()) == pytest.approx(1, abs=0.02)


def test_circles_are_the_modes_of_a_cycle() -> None:
    z, answers = circles(P, (2, 5, 11))
    fit = cyclic_dynamics(z, answers, P, ridge=1e-9)
    assert fit.modes == (2, 5, 11)
    assert fit.ring_fraction == 1
    expected = np.exp(2j * np.pi * np.array([2, 5, 11, -2, -5, -11]) / P)
    np.testing.assert_allclose(np.sort_complex(fit.eigenvalues), np.sort_complex(expected), atol=1e-9)
    assert fit.r_squared == pytest.approx(1)
    assert fit.held_out_r_squared == pytest.approx(1, abs=1e-6)
    assert len(fit.null) == len(fit.null_modes) == 20
    assert fit.null.max() < 0.2
    assert fit.null_modes.max() < 3


def test_noise_fits_in_sample_and_fails_on_held_out_transitions() -> None:
    generator = torch.Generator().manual_seed(0)
    z, answers = torch.randn(P, P - 4, generator=generator, dtype=torch.float64), torch.arange(P)
    fit = cyclic_dynamics(z, answers, P, truncation=1e-9)
    assert fit.r_squared > 0.8
    assert fit.held_out_r_squared < 0
    assert np.quantile(fit.null, 0.05) - 1 < fit.held_out_r_squared < np.quantile(fit.null, 0.95) + 1


def test_every_mean_vector_in_its_own_dimension_is_a_perfect_cycle_and_shows_nothing() -> None:
    fit = cyclic_dynamics(torch.eye(P).double(), torch.arange(P), P, n_shuffles=3)
    assert fit.r_squared == pytest.approx(1)
    assert fit.modes == tuple(range(1, P // 2 + 1))
    assert fit.null_modes.tolist() == [P // 2] * 3
    assert fit.held_out_r_squared <= 0


def test_noisy_circles_stay_modes_and_weak_directions_are_dropped() -> None:
    z, answers = circles(P, (3, 7), noise=0.05, repeats=100)
    fit = cyclic_dynamics(z, answers, P, truncation=0.1, n_shuffles=5)
    assert fit.modes == (3, 7)
    assert len(fit.operator) == 4
    assert fit.held_out_r_squared > 0.95
    assert str(fit).startswith(f"2 modes of {P // 2}; R² {fit.r_squared:.3f}, held out")


def test_nothing_depends_on_the_basis_or_the_origin() -> None:
    z, answers = circles(P, (3, 7), noise=0.3)
    fits = [cyclic_dynamics(x, answers, P, n_shuffles=2) for x in (z, 5 * z @ orthogonal(12, seed=8) - 4)]
    assert fits[0].held_out_r_squared == pytest.approx(fits[1].held_out_r_squared)
    assert fits[0].modes == fits[1].modes
    np.testing.assert_allclose(np.abs(fits[0].eigenvalues), np.abs(fits[1].eigenvalues), atol=1e-8)
    np.testing.assert_allclose(fits[0].null, fits[1].null, atol=1e-8)


def test_class_means_are_means() -> None:
    z, answers = torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([1, 0, 1])
    assert class_means(z, answers, 2).tolist() == [[3.0], [3.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sequence_dynamics(torch.zeros(4, 1, 2)), "two positions"),
        (lambda: sequence_dynamics(torch.ones(4, 3, 2)), "do not vary"),
        (lambda: cyclic_dynamics(torch.zeros(4, 2), torch.arange(4), 4), "at least 5 answers; got p = 4"),
        (lambda: cyclic_dynamics(torch.zeros(7, 2), torch.arange(7), 7, held_out=0.6), r"\(0, 0.5\]; got 0.6"),
        (lambda: cyclic_dynamics(torch.zeros(7, 2), torch.arange(7), 7), "does not tell answers apart"),
        (lambda: class_means(torch.zeros(3, 2), torch.tensor([0, 2, 2]), 3), "none of answer 1"),
        (lambda: class_means(torch.zeros(3, 2), torch.tensor([0, 3, 2]), 3), "p − 1 = 2; got 0 … 3"),
        (lambda: class_means(torch.zeros(3, 2), torch.tensor([0, 1]), 2), "got 2 answers and 3 vectors"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        call()
