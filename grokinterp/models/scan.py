"""The selective scan of Mamba (arXiv 2312.00752, section 3): a linear state space whose step size, input and read-out depend on the token.

    h_t = exp(Δ_t A) h_{t−1} + B_t u_t        y_t = C_t · h_t        with u_t = Δ_t x_t and h_{−1} = 0

for every channel by itself, with d_state states; A is diagonal. Arrays with a state dimension, d_state times the size of the rest, are
what costs; channels come last in them, so that products run over long rows.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Channels = Float[Tensor, "example position channel"]
Selected = Float[Tensor, "example position state"]

SHORT = 3  # positions up to which pairs are cheaper than states (chosen here)


def selective_scan(u: Channels, delta: Channels, a: Float[Tensor, "channel state"], b: Selected, c: Selected) -> Channels:
    """y_t = C_t · h_t of the selective state space, differentiable in every argument.

    Args:
        u: Δ_t x_t.
        delta: Δ_t, positive.
        a: the diagonal of A, negative.
        b: B_t, how a token enters the states.
        c: C_t, how it reads them.
    """
    by_state = a.T.contiguous()
    return _by_pairs(u, delta, by_state, b, c) if u.shape[1] <= SHORT else _by_states(u, delta, by_state, b, c)


def _by_pairs(u: Channels, delta: Channels, a: Float[Tensor, "state channel"], b: Selected, c: Selected) -> Channels:
    """y_t = Σ_{s ≤ t} u_s Σ_n C_tn B_sn exp(A_n (Δ_{s+1} + … + Δ_t)): one array with states for each pair s < t, none for s = t."""
    outputs = []
    for t in range(u.shape[1]):
        y = (c[:, t] * b[:, t]).sum(-1, keepdim=True) * u[:, t]
        elapsed = torch.zeros_like(u[:, t])
        for s in reversed(range(t)):
            elapsed = elapsed + delta[:, s + 1]
            y = y + u[:, s] * _read(c[:, t] * b[:, s], (elapsed[:, None] * a).exp())
        outputs.append(y)
    return torch.stack(outputs, 1)


def _by_states(u: Channels, delta: Channels, a: Float[Tensor, "state channel"], b: Selected, c: Selected) -> Channels:
    """The recurrence itself."""
    h = b[:, 0, :, None] * u[:, 0, None]
    outputs = [_read(c[:, 0], h)]
    for t in range(1, u.shape[1]):
        h = (delta[:, t, None] * a).exp() * h + b[:, t, :, None] * u[:, t, None]
        outputs.append(_read(c[:, t], h))
    return torch.stack(outputs, 1)


def _read(weights: Float[Tensor, "example state"], states: Float[Tensor, "example state channel"]) -> Float[Tensor, "example channel"]:
    """A weighted sum over states."""
    return (weights[:, None] @ states)[:, 0]
