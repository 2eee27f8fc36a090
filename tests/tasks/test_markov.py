"""Chains against their definition: frequencies of steps, the stationary state, and what the best predictor reaches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from grokinterp import GrokinterpError
from grokinterp.tasks import TaskConfig
from grokinterp.tasks.markov import MarkovChain, markov_chain

UNEVEN = ((0.6, 0.4, 0.0), (0.1, 0.2, 0.7), (0.5, 0.0, 0.5))


def test_the_default_chain_is_the_papers() -> None:
    chain = MarkovChain()
    np.testing.assert_allclose(chain.eigenvalues, [0.75 + 0.25j, 0.75 - 0.25j, 0.5], atol=1e-12)
    assert torch.allclose(chain.stationary, torch.full((4,), 0.25).double())
    assert chain.bayes_accuracy == pytest.approx(0.75)
    assert chain.oracle_r_squared() == pytest.approx(0.5)
    assert chain.oracle_r_squared("variance") == pytest.approx(0.5)


def test_the_stationary_distribution_stays() -> None:
    chain = MarkovChain(UNEVEN)
    assert torch.allclose(chain.stationary @ chain.matrix, chain.stationary)
    assert float(chain.stationary.sum()) == pytest.approx(1)
    assert float(chain.stationary.min()) > 0
    periodic = MarkovChain(((0.0, 1.0), (1.0, 0.0)))
    assert torch.allclose(periodic.stationary, torch.full((2,), 0.5).double())


def test_samples_step_with_the_chains_probabilities() -> None:
    states = MarkovChain(UNEVEN).sample(4_000, 20, seed=0)
    counts = torch.zeros(3, 3, dtype=torch.float64)
    counts.index_put_((states[:, :-1].flatten(), states[:, 1:].flatten()), torch.ones(4_000 * 19).double(), accumulate=True)
    np.testing.assert_allclose((counts / counts.sum(1, keepdim=True)).numpy(), UNEVEN, atol=0.01)
    assert float(counts[0, 2]) == 0
    starts = torch.bincount(states[:, 0]) / 4_000
    np.testing.assert_allclose(starts.numpy(), np.full(3, 1 / 3), atol=0.03)


@pytest.mark.parametrize("chain", [MarkovChain(), MarkovChain(UNEVEN)])
def test_the_exact_bayes_predictor_reaches_the_oracle(chain: MarkovChain) -> None:
    states = chain.sample(4_000, 60, seed=1)[:, 20:]
    before, after = states[:, :-1].flatten(), states[:, 1:].flatten()
    predicted, truth = chain.matrix[before], torch.eye(chain.n_states).double()[after]
    residual, variance = (truth - predicted).square().mean(0), truth.var(0, correction=0)
    assert float(1 - (residual / variance).mean()) / chain.oracle_r_squared() == pytest.approx(1, abs=0.02)
    assert float(1 - residual.sum() / variance.sum()) / chain.oracle_r_squared("variance") == pytest.approx(1, abs=0.02)
    accuracy = (predicted.argmax(1) == after).double().mean()
    assert float(accuracy) == pytest.approx(chain.bayes_accuracy, abs=0.01)


def test_the_task_asks_for_the_last_state() -> None:
    task = markov_chain(50, 9, seed=3)
    states = MarkovChain().sample(50, 9, seed=3)
    assert torch.equal(torch.cat([task.tokens, task.answers[:, None]], dim=1), states)
    assert torch.equal(task.targets, states[:, 1:])
    assert task.chain == MarkovChain()
    assert (task.n_vocab, task.n_classes, task.n_positions, task.readout) == (4, 4, 8, -1)
    assert torch.equal(task.tokens, markov_chain(50, 9, seed=3).tokens)
    assert not torch.equal(task.tokens, markov_chain(50, 9, seed=4).tokens)
    assert markov_chain(5, 4, transition=[[0.5, 0.5], [0.25, 0.75]]).n_vocab == 2


def test_whitened_r_squared_is_the_mean_over_decorrelated_states() -> None:
    """Independent route: regress the next state's whitened indicator on the present state's, with the chain's own probabilities."""
    for chain, expected in ((MarkovChain(), 0.5), (MarkovChain(UNEVEN), None)):
        pi, t = chain.stationary, chain.matrix
        values, vectors = torch.linalg.eigh(torch.diag(pi) - torch.outer(pi, pi))
        whiten = vectors[:, 1:] / values[1:].sqrt()  # the constant has no variance
        predicted = (t - pi) @ whiten
        explained = (pi[:, None] * predicted.square()).sum(0).mean()
        assert chain.oracle_r_squared("whitened") == pytest.approx(float(explained))
        if expected is not None:
            assert float(explained) == pytest.approx(expected)


def test_test_sequences_have_a_seed_of_their_own() -> None:
    task = TaskConfig("markov_chain", {"n_sequences": 20, "length": 9, "seed": 3, "test_seed": 4}, 0.5, split_seed=11, split_rule="first").build()
    assert torch.equal(task.tokens[task.indices("train")], markov_chain(20, 9, seed=3).tokens)
    assert torch.equal(task.tokens[task.indices("test")], markov_chain(20, 9, seed=4).tokens)


def test_a_control_with_random_targets_is_no_chain() -> None:
    task = markov_chain(400, 9).with_random_answers(5)
    assert task.chain is None
    assert task.targets is not None
    assert torch.equal(task.targets[:, -1], task.answers)
    right = markov_chain(400, 9).targets
    assert float((task.targets == right).double().mean()) == pytest.approx(0.25, abs=0.03)


def test_which_tasks_count_every_position_is_known_without_building_them() -> None:
    arguments: dict[str, dict[str, Any]] = {"markov_chain": {"n_sequences": 4, "length": 5}}
    known = {name: TaskConfig(name, arguments.get(name, {"p": 5}), 0.5) for name in ("markov_chain", "modular_addition", "modular_division")}
    for name, config in known.items():
        assert config.every_position == (config.build().targets is not None) == (name == "markov_chain")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MarkovChain(((0.5, 0.5),)), "square with at least 2 states"),
        (lambda: MarkovChain(((0.5, 0.4), (0.5, 0.5))), "row 0 .* sum to 1"),
        (lambda: MarkovChain(((1.5, -0.5), (0.5, 0.5))), "row 0"),
        (lambda: MarkovChain(((1.0, 0.0), (0.0, 1.0))), "several stationary distributions"),
        (lambda: markov_chain(0), "at least 1 sequence .* got 0 of 32"),
        (lambda: markov_chain(5, 1), "got 5 of 1"),
        (lambda: markov_chain(5, 4, seed=2, test_seed=2), "test on the training sequences"),
        (lambda: MarkovChain().oracle_r_squared("white"), "unknown average 'white'; did you mean whitened"),
        (lambda: replace(markov_chain(5, 4), targets=torch.zeros(5, 2, dtype=torch.int64)), "one class for each token"),
        (lambda: replace(markov_chain(5, 4), answers=(markov_chain(5, 4).answers + 1) % 4), "at the read-out position they are the answers"),
        (lambda: replace(markov_chain(5, 4), targets=markov_chain(5, 4).targets + torch.tensor([9, 0, 0])), "targets must lie in 0"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        call()
