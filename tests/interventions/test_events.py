"""Interventions at a fork: what they change and what they leave, to the bit, and that they happen once."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from grokinterp import ClipNorm, GrokinterpError, ModelConfig, ReinitialiseHeads, ResetHeadMoments, Run, RunConfig, presets, train
from grokinterp.interventions import NoAttention, UniformAttention, attention_norm
from grokinterp.interventions.events import Event
from grokinterp.models import build_model, trained_parameters
from grokinterp.training.config import CheckpointSchedule, ParentConfig
from grokinterp.training.fork import children, fork
from grokinterp.training.learner import ModuleLearner
from grokinterp.training.resume import parent_state

PER_HEAD = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")
MODEL = ModelConfig(n_layers=2, d_model=16, n_heads=4, d_mlp=24, biases=("attn", "mlp"), init="pytorch")


@pytest.fixture(scope="module")
def config() -> RunConfig:
    base = presets.nanda2023(p=7, train_fraction=0.6, steps=60)
    return base.with_(model=MODEL, eval_every=20, checkpoints=CheckpointSchedule(every=20, moments=True), dtype="float64")


@pytest.fixture(scope="module")
def parent(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(config, tmp_path_factory.mktemp("events") / "parent", progress_bar=False)


def state(run: Run, edit: Event | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return parent_state(ParentConfig(str(run.path), run.config.digest, 20, edit=edit), run.config.optimizer)


def heads_that_differ(one: Tensor, other: Tensor) -> list[int]:
    return [head for head in range(len(one)) if not torch.equal(one[head], other[head])]


def of_heads(name: str) -> bool:
    return name.split(".")[-1] in PER_HEAD


def test_reinitialised_heads_are_drawn_again_and_nothing_else_moves(parent: Run) -> None:
    (old, old_moments), (new, new_moments) = state(parent, None), state(parent, ReinitialiseHeads(n_heads=2, seed=3))
    assert old.keys() == new.keys()
    assert old_moments.keys() == new_moments.keys()
    chosen: dict[str, list[int]] = {}
    for name, weight in old.items():
        if not of_heads(name):
            assert torch.equal(weight, new[name])
            continue
        layer, which = name.split(".")[1], name.split(".")[-1]
        heads = heads_that_differ(weight, new[name])
        assert len(heads) == 2
        assert chosen.setdefault(layer, heads) == heads  # the same heads in all of a layer's parameters
        bound = 1 / math.sqrt(16)
        fresh = new[name][heads]
        assert fresh.abs().max() <= bound
        assert fresh.std() == pytest.approx(bound / math.sqrt(3), rel=0.35 if which.startswith("b") else 0.2)
        assert not new[name].requires_grad
        for moment in (f"exp_avg.{name}", f"exp_avg_sq.{name}"):
            assert not new_moments[moment][heads].any()
            assert heads_that_differ(old_moments[moment], new_moments[moment]) == heads
    assert set(chosen) == {"0", "1"}
    for name, moment in old_moments.items():
        if not of_heads(name):
            assert torch.equal(moment, new_moments[name])


def test_new_heads_are_neither_those_of_the_beginning_nor_those_of_another_seed(parent: Run, config: RunConfig) -> None:
    initial = trained_parameters(build_model(config.model, parent.task, config.seed, dtype=torch.float64))
    (one, _), (same, _), (other, _) = (state(parent, ReinitialiseHeads(4, seed)) for seed in (0, 0, 1))
    for name in filter(of_heads, one):
        assert torch.equal(one[name], same[name])
        assert heads_that_differ(one[name], other[name]) == [0, 1, 2, 3]
        assert heads_that_differ(one[name], initial[name]) == [0, 1, 2, 3]


def test_the_sham_chooses_the_same_heads_and_changes_moments_alone(parent: Run) -> None:
    weights, moments = state(parent, ResetHeadMoments(2, seed=3))
    _, expected = state(parent, ReinitialiseHeads(2, seed=3))
    old, _ = state(parent, None)
    assert all(torch.equal(weights[name], old[name]) for name in old)
    assert moments.keys() == expected.keys()
    assert all(torch.equal(moments[name], expected[name]) for name in expected)


def test_choices_differ_between_layers_and_seeds(parent: Run) -> None:
    seen = set()
    for seed in range(20):
        new, old = state(parent, ReinitialiseHeads(2, seed))[0], parent.weights(20)
        seen.add(tuple(tuple(heads_that_differ(old[f"blocks.{i}.attn.W_Q"], new[f"blocks.{i}.attn.W_Q"])) for i in (0, 1)))
    assert len(seen) > 10  # of 36
    assert any(first != second for first, second in seen)


def test_clipping_scales_attention_weights_together_to_the_norm(parent: Run) -> None:
    old, old_moments = state(parent, None)
    attention = [name for name in old if ".attn.W_" in name]
    norm = torch.cat([old[name].flatten() for name in attention]).norm().item()
    assert len(attention) == 8
    assert attention_norm(old) == pytest.approx(norm, rel=1e-12)
    new, moments = state(parent, ClipNorm(0.5 * norm))
    assert attention_norm(new) == pytest.approx(0.5 * norm, rel=1e-12)
    for name, weight in old.items():
        assert torch.allclose(new[name], 0.5 * weight, rtol=1e-14, atol=0) if name in attention else torch.equal(new[name], weight)
    assert all(torch.equal(moments[name], old_moments[name]) for name in old_moments)
    names = sorted(old)
    assert len({attention_norm({name: old[name] for name in names[i:] + names[:i]}) for i in range(len(names))}) == 1  # in any order
    within, _ = state(parent, ClipNorm(1.01 * norm))
    assert all(torch.equal(within[name], old[name]) for name in old)


def test_a_child_is_the_edited_checkpoint_trained_on(parent: Run, config: RunConfig, tmp_path: Path) -> None:
    edit = ReinitialiseHeads(1, seed=5)
    (child,) = fork(parent, 20, tmp_path, edit=edit, steps=40, progress_bar=False)
    assert child.path.name == "edit=reinitialise_heads,steps=40"
    assert child.provenance["parent"]["edit"] == {"n_heads": 1, "seed": 5, "kind": "reinitialise_heads"}
    weights, moments = state(parent, edit)
    assert all(torch.equal(child.weights(20)[name], weights[name]) for name in weights)
    assert all(torch.equal(child.moments(20)[name], moments[name]) for name in moments)
    by_hand = ModuleLearner(config, parent.task)
    by_hand.load(0, weights, moments)
    for step in range(20, 40):
        by_hand.step(step, None)
    for name, weight in by_hand.weights(0).items():
        torch.testing.assert_close(child.weights(40)[name], weight, rtol=0, atol=1e-10)
    assert (child.weights(40)["blocks.0.attn.W_Q"] - parent.weights(40)["blocks.0.attn.W_Q"]).abs().max() > 1e-2


@pytest.mark.parametrize("cut", [(60,), (40, 60), (20, 40, 60)])
def test_a_killed_child_is_edited_once(parent: Run, tmp_path: Path, cut: Sequence[int]) -> None:
    (whole,) = fork(parent, 20, tmp_path / "whole", edit=ClipNorm(0.5 * attention_norm(parent.weights(20))), progress_bar=False)
    shutil.copytree(whole.path, tmp_path / "cut")
    (tmp_path / "cut" / "status.json").unlink()
    for step in cut:
        for kind in ("checkpoints", "moments"):
            (tmp_path / "cut" / kind / f"step_{step:08d}.safetensors").unlink()
    if 20 in cut:
        (tmp_path / "cut" / "metrics.jsonl").unlink()  # killed before the first evaluation
    resumed = train(whole.config, tmp_path / "cut", progress_bar=False)
    for step in (20, 40, 60):
        assert all(torch.equal(resumed.weights(step)[name], weight) for name, weight in whole.weights(step).items())


def test_an_edit_is_part_of_the_identity(parent: Run, tmp_path: Path) -> None:
    edits: list[Event | None] = [None, ReinitialiseHeads(), ReinitialiseHeads(seed=1), ResetHeadMoments(), ClipNorm(1.0), ClipNorm(2.0)]
    configs = [next(iter(children(parent, 20, edit=edit).values())) for edit in edits]
    assert len({config.digest for config in configs}) == len(edits)
    for config, edit in zip(configs, edits, strict=True):
        again = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
        assert again == config
        assert again.parent is not None
        assert again.parent.edit == edit
        assert ("edit" in config.to_dict()["parent"]) == (edit is not None)
    fork(parent, 20, tmp_path, edit=edits[1], steps=30, progress_bar=False)
    with pytest.raises(GrokinterpError, match=r"another config \(parent.edit.seed is 0 there, 1 here\)"):
        fork(parent, 20, tmp_path, edit=edits[2], steps=30, progress_bar=False)


def test_what_cannot_be_done_is_said_before_anything_is_trained(parent: Run, config: RunConfig, tmp_path: Path) -> None:
    def run_with(*interventions: NoAttention | UniformAttention) -> Run:
        return train(config.with_(steps=20, **{"model.interventions": interventions}), tmp_path / interventions[0].kind, progress_bar=False)

    blind, uniform = run_with(NoAttention()), run_with(UniformAttention())
    for run, edit, message in (
        (parent, ReinitialiseHeads(5), "cannot choose 5 heads in every layer of a model with 4"),
        (blind, ReinitialiseHeads(), "of a model with 0"),
        (blind, ClipNorm(1.0), "have no attention"),
        (parent, "clip", "must be ResetHeadMoments or ReinitialiseHeads or ClipNorm.*; got 'clip'"),
    ):
        with pytest.raises(GrokinterpError, match=message):
            fork(run, 20, tmp_path / "out", edit=edit, steps=40, progress_bar=False)  # type: ignore[arg-type]
    with pytest.raises(GrokinterpError, match="ResetHeadMoments changes nothing"):
        fork(parent, 20, tmp_path / "out", edit=ResetHeadMoments(), moments="reset", progress_bar=False)
    for make in (lambda: ReinitialiseHeads(0), lambda: ResetHeadMoments(1, -1), lambda: ClipNorm(0.0), lambda: ClipNorm(math.nan)):
        with pytest.raises(GrokinterpError, match="got"):
            make()
    assert not (tmp_path / "out").exists()
    new, _ = state(uniform, ReinitialiseHeads(4))
    changed = [name for name, weight in uniform.weights(20).items() if not torch.equal(weight, new[name])]
    assert sorted({name.split(".")[-1] for name in changed}) == ["W_O", "W_V", "b_V"]  # all that such a head has
