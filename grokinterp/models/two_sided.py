"""The MLP whose hidden layer adds what each operand brings: logits = relu(Σ_i W_E[t_i] W_i) W_U (arXiv 2302.03025).

Its hook points:

    hook_embed                          embeddings [example, position, d_model]
    blocks.0.hook_sides                 what the token at each position adds to each neuron [example, position, d_hidden]
    blocks.0.hook_pre                   their sum, before the ReLU [example, 1, d_hidden]
    blocks.0.hook_post                  after it: the neurons
    unembed.hook_in, unembed.hook_out   what is unembedded, and the logits
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional
from transformer_lens import HookedRootModule

from grokinterp.models.baseline_configs import TwoSidedMLPConfig
from grokinterp.models.baselines import BaselineShape, Embedding, Unembedding
from grokinterp.models.hanging import hanging
from grokinterp.models.toy import hook_point
from grokinterp.shapes import Tokens
from grokinterp.tasks import Task


class TwoSidedMLP(HookedRootModule):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """See the module; use `build_model`.

    Args:
        config: widths and outputs.
        task: gives vocabulary, number of operands and answers.
        generator: draws every weight, on the CPU, in the order W_E, W_in, W_U.
    """

    def __init__(self, config: TwoSidedMLPConfig, task: Task, generator: Generator) -> None:
        super().__init__()
        seen, outputs = task.n_positions * config.d_model, config.n_outputs(task)
        embedding = _normal(config.d_model, generator, task.n_vocab, config.d_model)
        sides = _Sides(_normal(seen, generator, seen, config.d_hidden))
        self.embed, self.unembed = Embedding(embedding), Unembedding(_normal(config.d_hidden, generator, config.d_hidden, outputs))
        self.hook_embed, self.blocks = hook_point(), nn.ModuleList([sides])
        self.cfg = BaselineShape(1, config.d_hidden, task.n_vocab, outputs, task.n_positions, None)
        self.setup()  # type: ignore[no-untyped-call]

    def forward(self, tokens: Tokens, stop_at_layer: int | None = None) -> Float[Tensor, "example read _"]:
        """Logits [example, 1, output]; with `stop_at_layer` what that layer would see instead."""
        layer: Any = self.blocks[0]
        result: Tensor
        if stop_at_layer == 0 or hanging(self.embed) or hanging(self.hook_embed):
            result = self.hook_embed(self.embed(tokens))
            if stop_at_layer == 0:
                return result
            sides = torch.einsum("epd,pdh->eph", result, layer.by_position(tokens.shape[1]))
        else:
            # One row a token is mapped instead of one an example, which takes a tenth of the time.
            table = self.side_weights
            sides = torch.stack([functional.embedding(at, own) for at, own in zip(tokens.unbind(1), table, strict=True)], dim=1)
        result = layer(sides)
        return result if stop_at_layer == 1 else self.unembed(result)  # type: ignore[no-any-return, unused-ignore]

    @property
    def neuron_hooks(self) -> list[str]:
        """Hook name of the hidden layer's neurons."""
        return ["blocks.0.hook_post"]

    @property
    def neuron_logit_weights(self) -> Float[Tensor, "neuron output"]:
        """What each neuron adds to each logit."""
        return self.W_U

    @property
    def side_weights(self) -> Float[Tensor, "position token neuron"]:
        """What each token adds to each neuron, by its position."""
        maps = cast("_Sides", self.blocks[0]).by_position(self.cfg.n_ctx)
        return torch.einsum("td,pdh->pth", self.W_E, maps)

    @property
    def W_E(self) -> Float[Tensor, "token d_model"]:
        """The embedding."""
        return self.embed.W_E

    @property
    def W_U(self) -> Float[Tensor, "neuron output"]:
        """The unembedding."""
        return self.unembed.W_U


class _Sides(nn.Module):
    """relu of what the positions add; W_in is [position · d_model, neuron]."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.W_in = weight
        self.hook_sides, self.hook_pre, self.hook_post = hook_point(), hook_point(), hook_point()

    def by_position(self, n_positions: int) -> Float[Tensor, "position d_model neuron"]:
        return self.W_in.view(n_positions, -1, self.W_in.shape[1])

    def forward(self, sides: Float[Tensor, "example position neuron"]) -> Float[Tensor, "example 1 neuron"]:
        return self.hook_post(functional.relu(self.hook_pre(self.hook_sides(sides).sum(1, keepdim=True))))


def _normal(fan_in: int, generator: Generator, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=generator) / fan_in**0.5)
