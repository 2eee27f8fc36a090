"""Head diagnostics on patterns whose values are known, against numpy, and on models of any kind."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from grokinterp import GrokinterpError, NoAttention, analyze, tasks
from grokinterp.measures.heads import head_entropy, head_similarity, heads, participation_ratio
from grokinterp.models import ModelConfig, build_model
from grokinterp.snapshot import Snapshot

pytestmark = pytest.mark.lens4


def random_pattern(seed: int, shape: tuple[int, ...] = (5, 4, 3, 3)) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).softmax(-1)


def test_alike_heads() -> None:
    one = random_pattern(0)[:, :1]
    same = one.expand(-1, 4, -1, -1)
    assert float(head_similarity(same)) == pytest.approx(1)
    assert float(head_entropy(same).std(correction=0)) == pytest.approx(0, abs=1e-12)
    assert float(participation_ratio(same)) == pytest.approx(0, abs=1e-9)


def test_opposite_extremes() -> None:
    uniform, peaked = torch.full((2, 1, 3, 3), 1 / 3), torch.eye(3).expand(2, 1, 3, 3)
    pattern = torch.cat([uniform, peaked], dim=1)
    assert head_entropy(pattern).tolist() == pytest.approx([math.log(3), 0], abs=1e-6)
    assert float(head_entropy(pattern).std(correction=0)) == pytest.approx(math.log(3) / 2, abs=1e-6)
    assert float(head_similarity(pattern)) == pytest.approx(1 / math.sqrt(3), abs=1e-6)  # cosine of (1, 1, 1) and (1, 0, 0)
    assert float(participation_ratio(pattern)) == pytest.approx(0, abs=1e-6)  # only one of the two varies
    assert math.isnan(participation_ratio(uniform.expand(-1, 2, -1, -1)))


def test_equal_independent_heads_use_every_direction() -> None:
    rng = torch.Generator().manual_seed(0)
    pattern = torch.randn(4000, 4, 3, 3, generator=rng)  # as if; the formula does not need rows that sum to 1
    assert float(participation_ratio(pattern)) == pytest.approx(1, abs=0.01)


def test_against_plain_numpy() -> None:
    pattern = random_pattern(3)
    flat = pattern.numpy().astype(float).transpose(1, 0, 2, 3).reshape(4, -1)
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for i, a in enumerate(flat) for j, b in enumerate(flat) if i != j]
    assert float(head_similarity(pattern)) == pytest.approx(np.mean(cosines))
    eigenvalues = np.linalg.eigvalsh(np.cov(flat))
    assert float(participation_ratio(pattern)) == pytest.approx((eigenvalues.sum() ** 2 / (eigenvalues**2).sum() - 1) / 3)
    p = pattern.numpy().astype(float)
    assert head_entropy(pattern).numpy() == pytest.approx(-(p * np.log(p + 1e-12)).sum(-1).mean((0, 2)))


def test_measure_is_over_a_fixed_batch_of_test_examples() -> None:
    task = tasks.modular_addition(31).split(0.3, seed=0)
    model = build_model(ModelConfig(d_model=16, n_heads=2, n_layers=3), task, seed=0)
    result = analyze(model, ["heads"], task=task).dataset.isel(step=0)
    batch = task.fixed_batch(512)
    assert len(batch) == 512
    assert not bool(task.train[batch].any())
    _, cache = model.run_with_cache(task.tokens[batch])
    patterns = [cache[f"blocks.{layer}.attn.hook_pattern"].detach() for layer in range(3)]
    assert float(result["head_similarity"]) == pytest.approx(np.mean([float(head_similarity(pattern)) for pattern in patterns]))
    assert result["entropy_spread_layer"].to_numpy() == pytest.approx([float(head_entropy(pattern).std(correction=0)) for pattern in patterns])
    assert result["head_entropy"].shape == (3, 2)


def test_a_single_head_has_nothing_to_compare() -> None:
    task = tasks.modular_addition(7)
    with pytest.raises(GrokinterpError, match="has one"):
        heads(Snapshot(build_model(ModelConfig(d_model=16, n_heads=1), task, seed=0), task))


def test_a_model_without_attention_has_no_heads() -> None:
    """TransformerLens would give patterns all the same: those of zero weights."""
    task = tasks.modular_addition(7)
    model = build_model(ModelConfig(d_model=16, n_heads=2, interventions=(NoAttention(),)), task, seed=0)
    with pytest.raises(GrokinterpError, match=r"built with NoAttention\(\)"):
        heads(Snapshot(model, task))
