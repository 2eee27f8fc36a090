"""A pizza and a clock built by hand as one-layer transformers, weight by weight."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from grokinterp.interventions import AttentionRate
from grokinterp.models import ModelConfig, build_model
from grokinterp.tasks import Task, modular_addition

ANGLES = 8  # at which neurons cut each circle


def pizza_transformer(p: int = 13, frequencies: tuple[int, ...] = (1, 3, 4), scale: float = 2.0) -> tuple[Any, Task]:
    """Constant attention adds the operands' circles; neurons relu(u · (E_a + E_b)) at 16 angles; logits |cos(w(a − b)/2)| cos w(a + b − c)."""
    k = len(frequencies)
    task = modular_addition(p, equals=False)
    config = ModelConfig(
        d_model=6 * k, n_heads=1, d_head=2 * k, d_mlp=2 * ANGLES * k, causal=False, biases=("mlp",), interventions=(AttentionRate(0.0),)
    )
    model = _empty(config, task)
    radii = _radii(k)
    identity = torch.eye(2 * k)
    model.embed.W_E[:, : 2 * k] = _circles(p, frequencies) * radii
    model.blocks[0].attn.W_V[0, : 2 * k] = identity / radii[:, None]
    model.blocks[0].attn.W_O[0, :, 2 * k : 4 * k] = identity
    _neurons(model, frequencies, 2 * k, 4 * k, math.pi / ANGLES, 2, 2 * ANGLES)
    model.unembed.W_U[4 * k :] = scale * _circles(p, frequencies).T
    return model, task


def clock_transformer(p: int = 13, frequencies: tuple[int, ...] = (1, 3, 4), scale: float = 2.0, strength: float = 0.5) -> tuple[Any, Task]:
    """Two heads of opposite sign multiply the circles: the second operand moves the pattern by tanh(cos w b), and the first is what is looked at."""
    k = len(frequencies)
    task = modular_addition(p, equals=False, separate=True)
    config = ModelConfig(d_model=8 * k + 1, n_heads=4 * k, d_head=2, d_mlp=ANGLES * k, causal=False, biases=("mlp",))
    model = _empty(config, task)
    radii, circles = _radii(k), _circles(p, frequencies)
    model.embed.W_E[:p, : 2 * k] = circles * radii
    model.embed.W_E[p:, 2 * k : 4 * k] = circles * radii
    model.pos_embed.W_pos[0, -1] = 1
    attn = model.blocks[0].attn
    for circle in range(k):
        cosine, sine = 2 * circle, 2 * circle + 1
        product = 4 * k + 2 * circle
        for part, writes in ((cosine, ((1.0, 0.0), (0.0, 1.0))), (sine, ((0.0, 1.0), (-1.0, 0.0)))):
            for sign in (1, -1):
                head = 2 * part + (sign < 0)
                attn.W_Q[head, 2 * k + part, 0] = sign * strength * math.sqrt(2) / radii[part]
                attn.W_K[head, -1, 0] = 1
                attn.W_V[head, cosine, 0], attn.W_V[head, sine, 1] = 1 / radii[cosine], 1 / radii[sine]
                attn.W_O[head, :, product : product + 2] = sign * 2 / strength * torch.tensor(writes)
    _neurons(model, frequencies, 4 * k, 6 * k, 2 * math.pi / ANGLES, 1, ANGLES)
    model.unembed.W_U[6 * k : 8 * k, :p] = scale * circles.T
    return model, task


def _empty(config: ModelConfig, task: Task) -> Any:
    model = build_model(config, task, seed=0, dtype=torch.float64).requires_grad_(False)
    for parameter in model.parameters():
        parameter.zero_()
    return model


def _circles(p: int, frequencies: tuple[int, ...]) -> Tensor:
    """cos w x and sin w x of each frequency, [x, 2 · circle]."""
    angle = 2 * math.pi * torch.arange(p).double()[:, None] * torch.tensor(frequencies) / p
    return torch.stack([angle.cos(), angle.sin()], 2).flatten(1)


def _radii(k: int) -> Tensor:
    """Of different sizes, so that no two circles share principal components, and small, so that what reads them is stronger than the skip connection,
    which carries the gradient of the second operand alone; [2 · circle]."""
    return 0.05 * torch.arange(k, 0, -1).double().repeat_interleave(2)


def _neurons(model: Any, frequencies: tuple[int, ...], read: int, write: int, step: float, multiple: int, count: int) -> None:
    """Neurons that cut each circle of the stream from `read` on at angles φ, and write cos and sin of a multiple of φ from `write` on."""
    phi = step * torch.arange(count).double()
    for circle in range(len(frequencies)):
        own, at = slice(circle * count, (circle + 1) * count), 2 * circle
        model.blocks[0].mlp.W_in[read + at : read + at + 2, own] = torch.stack([phi.cos(), phi.sin()])
        model.blocks[0].mlp.W_out[own, write + at : write + at + 2] = torch.stack([(multiple * phi).cos(), (multiple * phi).sin()], 1)
