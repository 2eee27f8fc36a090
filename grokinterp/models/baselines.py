"""MLP, LSTM and Mamba classifiers with hook points, so that every measure that needs no attention works on them.

Like a HookedTransformer a baseline maps tokens [example, position] to logits [example, position, output]; the MLP, which sees all tokens
at once, has a single position. Its hook points, l being a layer:

    hook_embed                          embeddings [example, position, d_model]
    MLP    blocks.l.hook_pre            before the ReLU [example, 1, d_hidden]
           blocks.l.hook_post           after it: the layer's neurons
    LSTM   blocks.l.hook_in             what the input adds to input, forget, cell and output gates [example, position, 4 · d_hidden]
           blocks.l.hook_hidden         hidden states [example, position, d_hidden]: the layer's neurons. An edit reaches the next layer,
                                        but not the layer's own later positions
    Mamba  blocks.l.hook_resid_pre      residual stream before the block [example, position, d_model]
           blocks.l.ln.hook_normalized  after LayerNorm, before its weight and bias
           blocks.l.hook_conv           what enters the scan [example, position, d_inner]
           blocks.l.hook_delta          step sizes Δ [example, position, d_inner]
           blocks.l.hook_scan           what leaves the scan, D's skip included
           blocks.l.hook_post           that times the gate: the layer's neurons, which W_out maps back to the residual stream
           blocks.l.hook_resid_post     residual stream after the block
           ln_final.hook_normalized     as in the blocks
    unembed.hook_in, unembed.hook_out   what is unembedded, and the logits
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional
from transformer_lens import HookedRootModule

from grokinterp.models.baseline_configs import Baselines, LSTMConfig, MambaConfig, MLPConfig
from grokinterp.models.scan import selective_scan
from grokinterp.models.toy import hook_point
from grokinterp.shapes import Tokens
from grokinterp.tasks import Task

Stream = Float[Tensor, "example position _"]


_JOINED: dict[str, Callable[[Tensor], Tensor]] = {
    "concatenated": lambda stream: stream.flatten(1)[:, None],
    "mean": lambda stream: stream.mean(1, keepdim=True),
    "sum": lambda stream: stream.sum(1, keepdim=True),
}


@dataclass(frozen=True)
class BaselineShape:
    """What measures ask of ``model.cfg``, under HookedTransformerConfig's names: d_model is the width of what is unembedded."""

    n_layers: int
    d_model: int
    d_vocab: int
    d_vocab_out: int
    n_ctx: int
    normalization_type: str | None
    n_heads: int = 0
    attn_only: bool = False


class Baseline(HookedRootModule):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """A classifier without attention: embedding, layers, unembedding; use `build_model`.

    Args:
        config: the architecture.
        task: gives vocabulary, context length and outputs.
        generator: draws every weight, on the CPU.
    """

    def __init__(self, config: Baselines, task: Task, generator: Generator) -> None:
        super().__init__()
        self.joined = config.inputs if isinstance(config, MLPConfig) else None
        self.embed = Embedding(nn.Parameter(torch.randn(task.n_vocab, config.d_model, generator=generator)))
        self.hook_embed = hook_point()
        self.blocks = nn.ModuleList(_layers(config, task.n_positions, generator))
        self.ln_final = LayerNorm(config.d_model) if isinstance(config, MambaConfig) else nn.Identity()
        width = config.d_model if isinstance(config, MambaConfig) else config.d_hidden
        self.unembed = Unembedding(_uniform(width, generator, width, config.n_outputs(task)))
        normalization = "LN" if isinstance(config, MambaConfig) else None
        self.cfg = BaselineShape(config.n_layers, width, task.n_vocab, config.n_outputs(task), task.n_positions, normalization)
        self.setup()  # type: ignore[no-untyped-call]

    def forward(self, tokens: Tokens, stop_at_layer: int | None = None) -> Float[Tensor, "example read _"]:
        """Logits [example, position, output]; with `stop_at_layer` what that layer would see instead."""
        stream = self.hook_embed(self.embed(tokens))
        if self.joined is not None:
            stream = _JOINED[self.joined](stream)
        for layer in self.blocks[:stop_at_layer]:
            stream = layer(stream)
        result: Tensor = stream if stop_at_layer is not None else self.unembed(self.ln_final(stream))
        return result

    @property
    def neuron_hooks(self) -> list[str]:
        """Hook name of each layer's neurons."""
        return [f"blocks.{i}.{'hook_hidden' if isinstance(layer, LSTMLayer) else 'hook_post'}" for i, layer in enumerate(self.blocks)]

    @property
    def neuron_logit_weights(self) -> Float[Tensor, "neuron output"]:
        """What each neuron of the last layer adds to each logit, a final LayerNorm left aside."""
        last = self.blocks[-1]
        return last.W_out @ self.W_U if isinstance(last, MambaBlock) else self.W_U

    @property
    def W_E(self) -> Float[Tensor, "token d_model"]:
        """The embedding."""
        return self.embed.W_E

    @property
    def W_U(self) -> Float[Tensor, "d output"]:
        """The unembedding."""
        return self.unembed.W_U


def _layers(config: Baselines, n_positions: int, generator: Generator) -> list[nn.Module]:
    if isinstance(config, MambaConfig):
        return [MambaBlock(config, generator) for _ in range(config.n_layers)]
    kind = LSTMLayer if isinstance(config, LSTMConfig) else DenseLayer
    seen = n_positions if isinstance(config, MLPConfig) and config.inputs == "concatenated" else 1
    widths = [seen * config.d_model, *[config.d_hidden] * (config.n_layers - 1)]
    return [kind(width, config.d_hidden, generator) for width in widths]


class DenseLayer(nn.Module):
    """relu(x W_in + b_in)."""

    def __init__(self, d_in: int, d_hidden: int, generator: Generator) -> None:
        super().__init__()
        self.W_in, self.b_in = _uniform(d_in, generator, d_in, d_hidden), _uniform(d_in, generator, d_hidden)
        self.hook_pre, self.hook_post = hook_point(), hook_point()

    def forward(self, x: Stream) -> Stream:
        """The layer's neurons."""
        return self.hook_post(functional.relu(self.hook_pre(x @ self.W_in + self.b_in)))


class LSTMLayer(nn.Module):
    """i, f, o = σ(·), g = tanh(·) of x W_in + b_in + h W_h + b_h; c ← f c + i g, h ← o tanh(c), from h = c = 0."""

    def __init__(self, d_in: int, d_hidden: int, generator: Generator) -> None:
        super().__init__()
        self.W_in, self.W_h = (_uniform(d_hidden, generator, width, 4 * d_hidden) for width in (d_in, d_hidden))
        self.b_in, self.b_h = (_uniform(d_hidden, generator, 4 * d_hidden) for _ in range(2))
        self.hook_in, self.hook_hidden = hook_point(), hook_point()

    def forward(self, x: Stream) -> Stream:
        """The layer's hidden states."""
        added = self.hook_in(x @ self.W_in + self.b_in)
        hidden: list[Tensor] = []
        cell = added.new_zeros(())
        for position in added.unbind(1):
            gates = position + self.b_h + (hidden[-1] @ self.W_h if hidden else 0)
            i, f, g, o = gates.chunk(4, dim=-1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden.append(o.sigmoid() * cell.tanh())
        return self.hook_hidden(torch.stack(hidden, 1))


class MambaBlock(nn.Module):
    """x + W_out(SSM(silu(conv(u))) · silu(z)) with (u, z) = W_in LayerNorm(x) (arXiv 2312.00752, figure 3)."""

    def __init__(self, config: MambaConfig, generator: Generator) -> None:
        super().__init__()
        d, inner, n, rank, seen = config.d_model, config.d_inner, config.d_state, config.dt_rank, config.d_conv
        self.split = [rank, n, n]
        self.ln = LayerNorm(d)
        self.W_in = _uniform(d, generator, d, 2 * inner)
        self.W_conv, self.b_conv = _uniform(seen, generator, seen, inner), _uniform(seen, generator, inner)  # lag 0 first
        self.W_select = _uniform(inner, generator, inner, sum(self.split))
        self.W_delta = _uniform(rank, generator, rank, inner)
        low, high = math.log(1e-3), math.log(1e-1)
        step = torch.empty(inner).uniform_(low, high, generator=generator).exp()
        self.b_delta = nn.Parameter(step + (-(-step).expm1()).log())  # softplus gives the step
        self.A_log = nn.Parameter(torch.arange(1.0, n + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.W_out = _uniform(inner, generator, inner, d)
        self.hook_resid_pre, self.hook_resid_post, self.hook_post = hook_point(), hook_point(), hook_point()
        self.hook_conv, self.hook_delta, self.hook_scan = hook_point(), hook_point(), hook_point()

    def forward(self, x: Stream) -> Stream:
        """The residual stream after the block."""
        x = self.hook_resid_pre(x)
        u, z = (self.ln(x) @ self.W_in).chunk(2, dim=-1)
        neurons = self.hook_post(self._state_space(self.hook_conv(functional.silu(self._convolved(u)))) * functional.silu(z))
        return self.hook_resid_post(x + neurons @ self.W_out)

    def _convolved(self, u: Stream) -> Stream:
        """Each channel's weighted sum over this and earlier positions."""
        n_positions = u.shape[1]
        lags = range(min(len(self.W_conv), n_positions))
        return self.b_conv + sum(functional.pad(u[:, : n_positions - lag], (0, 0, lag, 0)) * self.W_conv[lag] for lag in lags)

    def _state_space(self, u: Stream) -> Stream:
        rank, b, c = torch.split(u @ self.W_select, self.split, dim=-1)
        delta = self.hook_delta(functional.softplus(rank @ self.W_delta + self.b_delta))
        return self.hook_scan(selective_scan(delta * u, delta, -self.A_log.exp(), b, c) + self.D * u)


class Embedding(nn.Module):
    """Rows of W_E, [token, d_model]."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.W_E = weight

    def forward(self, tokens: Tokens) -> Stream:
        """The embedding of each token."""
        return functional.embedding(tokens, self.W_E)


class Unembedding(nn.Module):
    """Logits x W_U, without a bias; W_U is [width, output]."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.W_U = weight
        self.hook_in, self.hook_out = hook_point(), hook_point()

    def forward(self, x: Stream) -> Stream:
        """The logits."""
        return self.hook_out(self.hook_in(x) @ self.W_U)


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 over the last dimension, times w plus b; ε is 1e-5."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.hook_normalized = hook_point()

    def forward(self, x: Stream) -> Stream:
        """The normalised stream."""
        return self.hook_normalized(functional.layer_norm(x, x.shape[-1:])) * self.w + self.b


def _uniform(fan_in: int, generator: Generator, *shape: int) -> nn.Parameter:
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound, generator=generator))
