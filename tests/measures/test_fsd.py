"""FSD on populations built by hand, its nulls, and the whole measure on models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from grokinterp import GrokinterpError, tasks
from grokinterp.measures.fsd import (
    degree,
    filtered_loss,
    fourier_rank,
    fsd,
    iid_test,
    neuron_shuffle_test,
    participation,
    permutation_test,
    signals,
    spectrum,
)
from grokinterp.models import ModelConfig, build_model
from grokinterp.snapshot import Snapshot


def waves(n: int, frequencies: list[int], seed: int = 0) -> torch.Tensor:
    """One neuron a frequency, each with a phase and an offset of its own, [element, neuron]."""
    rng = np.random.default_rng(seed)
    s, phase, offset = np.arange(n)[:, None], rng.uniform(0, 6, len(frequencies)), rng.normal(size=len(frequencies))
    return torch.from_numpy(np.cos(2 * np.pi * np.array(frequencies) * s / n + phase) + offset)


def noise(n: int, neurons: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, neurons)))


def fsd_of(phi: torch.Tensor, top: int = 1) -> float:
    return float(degree(participation(spectrum(phi)[0], top), top))


@given(st.integers(5, 60), st.data())
def test_one_frequency_is_full_synchronization(n: int, data) -> None:
    k = data.draw(st.integers(1, n // 2 - (n % 2 == 0)))
    phi = waves(n, [k] * 20)
    assert fsd_of(phi) == pytest.approx(1)
    assert fourier_rank(spectrum(phi)[0]) == 1
    assert int(participation(spectrum(phi)[0]).argmax()) + 1 == k


def test_two_equal_halves() -> None:
    phi = waves(13, [2] * 10 + [5] * 10)
    assert fsd_of(phi) == pytest.approx((0.5 - 1 / 6) / (1 - 1 / 6))
    power, _ = spectrum(phi)
    assert participation(power).tolist() == pytest.approx([0, 0.5, 0, 0, 0.5, 0])


def test_rank_counts_frequencies_up_to_the_share() -> None:
    mixed = waves(13, [1]) + 0.5 * waves(13, [2]) + 0.25 * waves(13, [3])  # power 16 : 4 : 1
    power, _ = spectrum(mixed)
    assert [fourier_rank(power, share) for share in (0.5, 0.76, 0.77, 0.9, 0.96)] == [1, 1, 2, 2, 3]


def test_silent_neurons_are_left_out_and_counted() -> None:
    phi = torch.cat([waves(11, [3] * 5), torch.full((11, 2), 7.0, dtype=torch.float64), 1e-9 * waves(11, [1])], dim=1)
    power, silent = spectrum(phi)
    assert (power.shape[1], silent) == (5, 3)
    assert fsd_of(phi) == pytest.approx(1)
    assert np.isnan(fsd_of(torch.ones(11, 4, dtype=torch.float64)))


def test_random_activations_lie_within_their_null() -> None:
    inside = 0
    for seed in range(20):
        phi = noise(59, 200, seed)
        test = permutation_test(phi, np.random.default_rng(seed), draws=200)
        low, high = np.quantile(test.null, [0.005, 0.995])
        inside += low <= test.observed <= high
        assert test.observed < 0.1
    assert inside >= 18


def test_p_values_under_the_null_are_uniform_and_false_alarms_at_their_rate() -> None:
    tests = [permutation_test(noise(23, 40, seed), np.random.default_rng(seed), draws=199) for seed in range(500)]
    randomised = np.array([test.p_randomised for test in tests])
    assert stats.kstest(randomised, "uniform").pvalue > 0.01
    assert 0.03 <= np.mean(randomised < 0.05) <= 0.07
    # FSD is discrete, so the plain p-value is conservative: never too many false alarms.
    assert np.mean([test.p_value <= 0.05 for test in tests]) <= 0.07


def test_the_permutation_null_is_that_of_permuting_each_neuron_by_itself() -> None:
    phi = waves(19, [1, 2, 3] * 10) + 0.3 * noise(19, 30, 1)
    fast = permutation_test(phi, np.random.default_rng(0), draws=1000).null
    rng = np.random.default_rng(1)
    slow = [fsd_of(torch.from_numpy(rng.permuted(phi.numpy(), axis=0))) for _ in range(1000)]
    assert stats.ks_2samp(fast, slow).pvalue > 0.01


def test_synchronization_is_significant_and_the_papers_own_test_never_says_so() -> None:
    phi = waves(59, [7] * 200)
    power, _ = spectrum(phi)
    rng = np.random.default_rng(0)
    assert permutation_test(phi, rng).p_value == pytest.approx(1 / 1001)
    assert iid_test(power, rng).p_value == pytest.approx(1 / 1001)
    for population in (phi, noise(59, 200, 0), waves(59, list(range(1, 30)))):
        assert neuron_shuffle_test(spectrum(population)[0], rng, draws=50).p_value == 1
    with pytest.raises(GrokinterpError, match="every neuron is silent"):
        permutation_test(torch.ones(11, 4, dtype=torch.float64), rng)


def test_iid_null_has_the_expected_chance_level() -> None:
    test = iid_test(spectrum(noise(59, 200, 3))[0], np.random.default_rng(0), draws=4000)
    rng = np.random.default_rng(1)
    expected = np.mean([(np.bincount(rng.integers(0, 29, 200)).max() / 200 - 1 / 29) / (28 / 29) for _ in range(4000)])
    assert test.null.mean() == pytest.approx(expected, abs=0.002)


@settings(max_examples=20)
@given(st.sampled_from(["modular_addition", "modular_subtraction", "modular_multiplication", "modular_division"]), st.integers(0, 5))
def test_signals_are_means_over_pairs_with_the_same_combination(name: str, seed: int) -> None:
    task = getattr(tasks, name)(11)
    model = build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=12, n_layers=2), task, seed=seed)
    snapshot = Snapshot(model, task)
    _, cache = model.run_with_cache(task.tokens)
    values = cache["blocks.0.mlp.hook_post"][:, -1].detach().double()
    elements = task.operation.token_of
    combined = elements[task.operation.combination()].flatten()
    flat = values[task.pairs.flatten()]
    by_element = torch.stack([flat[combined == token].mean(0) for token in task.operation.tokens])
    assert torch.allclose(signals(snapshot), by_element, atol=1e-6)
    by_answer = torch.stack([values[task.answers == answer].mean(0) for answer in range(11)])
    assert torch.allclose(signals(snapshot, order="residue"), by_answer, atol=1e-6)


def test_measure_on_a_clock(clock_model) -> None:
    model, task = clock_model(31, (4,))
    result = fsd(Snapshot(model, task), site="blocks.0.hook_mlp_out")
    assert float(result["fsd"].sel(top=1)) == pytest.approx(1)
    assert float(result["dominant_frequency"]) == 4
    assert float(result["fourier_rank"].sel(variance_share=0.9)) == 1
    assert int(result["silent_neurons"]) == 2  # the dimensions that hold the operands are not written
    assert float(result["fsd_set"].sel(set_size=2)) == pytest.approx(1)


def test_filtered_loss_of_a_clock_is_its_loss_and_without_its_frequency_it_is_not(clock_model) -> None:
    model, task = clock_model(31, (4,))
    snapshot = Snapshot(model, task)
    loss = torch.nn.functional.cross_entropy(snapshot.logits, task.answers).item()
    assert float(filtered_loss(snapshot, n_frequencies=15)["filtered_loss"]) == pytest.approx(loss, rel=1e-6)
    with torch.no_grad():
        assert float(filtered_loss(snapshot, n_frequencies=1)["filtered_loss"]) >= loss


def test_attention_only_models_are_read_at_the_attention_output() -> None:
    task = tasks.modular_addition(11)
    snapshot = Snapshot(build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=0), task, seed=0), task)
    assert signals(snapshot).shape == (11, 16)
    assert 0 <= float(fsd(snapshot)["fsd"].sel(top=1)) <= 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: fsd(s, site="blocks.0.mlp.hook_pots"), "did you mean blocks.0.mlp.hook_post"),
        (lambda s: fsd(s, site="blocks.0.attn.hook_z"), "one dimension of neurons"),
        (lambda s: fsd(s, order="log"), "unknown order 'log'"),
        (lambda s: spectrum(torch.ones(3, 2, dtype=torch.float64)), "at least 4 elements; got 3"),
    ],
)
def test_bad_input_is_named(call, message) -> None:
    task = tasks.modular_addition(7)
    with pytest.raises(GrokinterpError, match=message):
        call(Snapshot(build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=12), task, seed=0), task))
