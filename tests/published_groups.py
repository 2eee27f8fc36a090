"""Published models of arXiv 2302.03025, which have no licence and so no copy here: read from a checkout that an environment variable points to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from grokinterp import presets, tasks
from grokinterp.models import ModelConfig, build_model
from grokinterp.snapshot import Snapshot

VARIABLE = "GROKINTERP_UNIVERSALITY"
GROUPS = {"S5": "S_5", "S6": "S_6", "A5": "A_5", "D59": "D_59", "C113": "Z_113"}
SHARES = {"S5_T": 0.6, "C113_T": 0.3, "A5_T": 0.6, "D59_T": 0.3}


def published(name: str) -> Snapshot:
    """The snapshot of a final model, "S5_MLP_seed2", with its task and split; float64."""
    root = os.environ.get(VARIABLE)
    if not root:
        pytest.skip(f"no checkout of bilal-chughtai/rep-theory-mech-interp: set {VARIABLE} to its folder")
    file = Path(root) / "rep_theory" / "batch_experiments" / name / "model.pt"
    if not file.exists():
        pytest.skip(f"{file} is missing")
    state = torch.load(file, map_location="cpu", weights_only=True)
    group, architecture, seed = name.split("_")
    return _mlp(state, GROUPS[group], int(seed[4:])) if architecture == "MLP" else _transformer(state, group, int(seed[4:]))


def _mlp(state: dict[str, torch.Tensor], group: str, seed: int) -> Snapshot:
    config = presets.groups2023(group, seed)
    task = config.task.build()
    model = build_model(config.model, task, seed, dtype=torch.float64)
    with torch.no_grad():
        model.embed.W_E.copy_(torch.cat([state["W_x"], state["W_y"]]))
        model.blocks[0].W_in.copy_(state["W"])
        model.unembed.W_U.copy_(state["W_U"])
    return Snapshot(model, task)


def _transformer(state: dict[str, torch.Tensor], group: str, seed: int) -> Snapshot:
    name = GROUPS[group]
    numbering = "published" if name in ("S_5", "S_6", "A_5") else "own"
    task = tasks.composition(name, numbering=numbering).split(SHARES[f"{group}_T"], seed)
    model: Any = build_model(ModelConfig(biases=(), outputs="classes"), task, 0, dtype=torch.float64)
    names = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in state.items():
            if name in names and not name.startswith(("x_embed", "y_embed")):
                assert names[name].shape == value.shape, name
                names[name].copy_(value)
    return Snapshot(model, task)
