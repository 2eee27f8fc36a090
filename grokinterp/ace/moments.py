"""The two matrices behind a core: how activations vary, and how strongly the outputs read each direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.models.adapter import Adapter
from grokinterp.models.resume import gradients
from grokinterp.models.tail import Tail
from grokinterp.shapes import Tokens

Square = Float64[Tensor, "d_model d_model"]
Outputs = Callable[[Tensor], Tensor]
"""Logits at the read-out, [..., vocab] -> the outputs that matter, [..., output]."""

MOST_OUTPUTS = 512  # backward passes for each batch; more want a sketch (chosen here)


class Moments:
    """Mean and covariance of a stream of vectors, float64, merged batch by batch (Chan et al. 1979): nothing is held but d² numbers."""

    def __init__(self) -> None:
        self.n = 0
        self._mean = torch.zeros(())
        self._scatter = torch.zeros(())

    def update(self, batch: Float[Tensor, "*batch d_model"]) -> None:
        """Take more vectors in, [..., d_model]."""
        x = batch.reshape(-1, batch.shape[-1]).double()
        mean = x.mean(0)
        x = x - mean
        if self.n == 0:
            self.n, self._mean, self._scatter = len(x), mean, x.T @ x
            return
        total, shift = self.n + len(x), mean - self._mean
        self._scatter += x.T @ x + torch.outer(shift, shift) * (self.n * len(x) / total)
        self._mean = self._mean + shift * (len(x) / total)
        self.n = total

    @property
    def mean(self) -> Float64[Tensor, "d_model"]:
        """Mean of all vectors so far, on the CPU."""
        return self._mean.cpu()

    @property
    def covariance(self) -> Square:
        """Their centred covariance over N − 1, on the CPU.

        Raises:
            GrokinterpError: fewer than two vectors.
        """
        if self.n < 2:
            raise GrokinterpError(f"a covariance needs at least 2 activations; got {self.n}")
        return self._scatter.cpu() / (self.n - 1)


def activation_moments(tail: Tail, tokens: Tokens, batch_size: int) -> Moments:
    """Moments of the activations at the tail's hook and positions; every chosen position of every example is one sample."""
    moments = Moments()
    for batch in torch.split(tokens, batch_size):
        moments.update(tail.activations(batch))
    return moments


def linear_observability(tail: Tail, n_outputs: int | None, n_positions: int) -> Square | None:
    """WWᵀ, for each position that is read, the exact observability of a linear tail, or None where the tail is not known to be linear.

    For what is linear see `Adapter.linear_readers`.

    Args:
        tail: from the hook to the logits.
        n_outputs: how many logits count, from the first; None for all.
        n_positions: tokens in one input.
    """
    if not tail.reads_itself(n_positions):
        return None
    readers = Adapter(tail.model).linear_readers(tail.hook)
    if readers is None:
        return None
    readers = readers[:, :n_outputs]
    times = n_positions if tail.positions == "all" and tail.readout == "all" else 1
    return times * (readers @ readers.T).cpu()


def sampled_observability(tail: Tail, outputs: Outputs, tokens: Tokens, batch_size: int, sketch: int | None, generator: torch.Generator) -> Square:
    """Mean over examples of JᵀJ, summed over positions, by vector-Jacobian products: one backward pass for a batch and a cotangent.

    Args:
        tail: from the hook to the logits.
        outputs: of the logits.
        tokens: the examples.
        batch_size: examples at once.
        sketch: random sign vectors for each example, an unbiased estimate, E[Jᵀssᵀ J] = JᵀJ; None for every output exactly.
        generator: of the signs.

    Raises:
        GrokinterpError: more than 512 outputs and no sketch.
    """
    total: Tensor | None = None
    for batch in torch.split(tokens, batch_size):
        h, logits = tail.resume(batch)
        h = h.detach().requires_grad_()
        with torch.enable_grad():
            y = outputs(logits(h))
        for cotangent in _cotangents(y.detach(), tail.pointwise, sketch, generator):
            (g,) = gradients(y, [h], cotangent)
            g = g.reshape(-1, g.shape[-1]).double()
            total = g.T @ g if total is None else total.addmm_(g.T, g)
    assert total is not None
    return total.cpu() / len(tokens)


def _cotangents(y: Tensor, pointwise: bool, sketch: int | None, generator: torch.Generator) -> Iterator[Tensor]:
    """Vectors s [example, (position,) output] whose products sᵀJ add up to JᵀJ."""
    if sketch is not None:
        for _ in range(sketch):
            signs = torch.randint(2, y.shape, generator=generator).mul_(2).sub_(1)
            yield signs.to(y) / sketch**0.5
        return
    # Behind the last attention positions do not mix: one pass serves them all.
    separate = y[0].numel() if y.ndim == 3 and not pointwise else y.shape[-1]
    if separate > MOST_OUTPUTS:
        raise GrokinterpError(
            f"{separate} outputs would cost {separate} backward passes a batch; pass a scalar score, or sketch=16 for random combinations of them"
        )
    for output in range(separate):
        one = torch.zeros(separate, dtype=y.dtype, device=y.device)
        one[output] = 1
        yield (one.reshape(y.shape[1:]) if separate == y[0].numel() else one).expand_as(y)
