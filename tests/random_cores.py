"""Random cores at hooks of a model, and all that can be done with them."""

from __future__ import annotations

import torch

from grokinterp.ace import Core
from grokinterp.ace.core import Project


def core_at(hook: str, d_model: int, seed: int) -> Core:
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(d_model, 2, generator=generator, dtype=torch.float64)).Q
    mean = torch.randn(d_model, generator=generator, dtype=torch.float64)
    return Core(directions=directions, rank=2, spectrum=torch.ones(2).double(), mean=mean, hook=hook, positions=-1, centred=True)


def edits_at(hooks: list[str], d_model: int) -> list[Project]:
    return [edit for i, hook in enumerate(hooks) for core in [core_at(hook, d_model, i)] for edit in (core.keep(), core.remove(), core.flip())]
