"""Initial weights without the model are those of the model."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import product
from typing import Literal

import pytest
import torch

from grokinterp.interventions import PostNorm
from grokinterp.models.initial import initial_weights
from grokinterp.models.transformers import BiasSite, ModelConfig, build_model, trained_parameters
from grokinterp.tasks import TaskConfig

TASK = TaskConfig("modular_addition", {"p": 7}, 0.6).build()
TINY = ModelConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=32)
BIASES: tuple[tuple[BiasSite, ...], ...] = ((), ("mlp",), ("attn", "mlp", "unembed"))


def assert_same(config: ModelConfig) -> None:
    expected = trained_parameters(build_model(config, TASK, 3))
    found = initial_weights(config, TASK, 3)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], weight) and not found[name].requires_grad for name, weight in expected.items())


@pytest.mark.parametrize("init", ["nanda2023", "pytorch"])
def test_they_are_the_bits_that_the_model_is_built_with(init: Literal["nanda2023", "pytorch"]) -> None:
    norms: tuple[Literal["none", "pre"], ...] = ("none", "pre")
    outputs: tuple[Literal["vocab", "classes"], ...] = ("vocab", "classes")
    for normalization, d_mlp, biases, out, d_head in product(norms, (0, 32), BIASES, outputs, (None, 5)):
        assert_same(replace(TINY, init=init, normalization=normalization, d_mlp=d_mlp, biases=biases, outputs=out, d_head=d_head))


def test_with_an_intervention_in_force_they_are_the_models_too() -> None:
    assert_same(replace(TINY, interventions=(PostNorm("rms"),)))


def test_a_machine_without_transformer_lens_can_train_and_diagnose() -> None:
    """Nor without what only figures, pages and the command line need."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("transformer_lens", "plotly", "tyro", "h5netcdf"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
import torch
from grokinterp import presets
from grokinterp.papers.weightdecay2026 import gpu
torch.set_num_threads(1)
base = presets.weightdecay2026(p=11).with_(batch_size=30, eval_every=20, **{"model.n_layers": 1, "model.d_model": 16, "model.d_mlp": 16})
grid = gpu.Grid(base, (1.0,), (42,), 20, example=(1.0, 20))
sweep = gpu.Sweep(grid, gpu.plan(grid), 1)
assert sweep.run()
assert len(gpu.run_table(sweep.jobs.values())) == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)
