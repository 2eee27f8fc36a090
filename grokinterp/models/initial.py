"""The weights that a toy transformer begins with, without the model: what training many of them at once needs, and no more.

Nothing here imports TransformerLens, so that a machine without it can train.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from grokinterp.models.transformers import ModelConfig, build_model, initialise, is_absent, trained_parameters
from grokinterp.tasks import Task


def initial_weights(config: ModelConfig, task: Task, seed: int) -> dict[str, Tensor]:
    """The trained parameters of ``build_model(config, task, seed)``, by the same names, in the same order, bit for bit, in float32.

    Args:
        config: the architecture.
        task: gives vocabulary, context length and outputs.
        seed: of the CPU generator that draws every weight.
    """
    if config.interventions:  # some add parameters, or write some of their own
        return {name: weight.detach() for name, weight in trained_parameters(build_model(config, task, seed)).items()}
    bare = _Bare(config, task)
    initialise(bare, config.init, torch.Generator().manual_seed(seed))
    return {name: weight.detach() for name, weight in bare.named_parameters() if not is_absent(name, config)}


class _Bare(nn.Module):
    """Parameters alone, where `initialise` looks for them."""

    def __init__(self, config: ModelConfig, task: Task) -> None:
        super().__init__()
        d, h, e, n_out = config.d_model, config.n_heads, config.head_width, config.n_outputs(task)
        self.cfg = SimpleNamespace(
            d_model=d,
            n_heads=h,
            d_head=e,
            d_mlp=config.d_mlp,
            d_vocab=task.n_vocab,
            d_vocab_out=n_out,
            n_ctx=task.n_positions,
            attn_only=not config.d_mlp,
        )
        self.embed, self.pos_embed = _holding(W_E=(task.n_vocab, d)), _holding(W_pos=(task.n_positions, d))
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.n_layers))
        if config.normalization == "pre":
            self.ln_final = _holding(w=(d,), b=(d,))
        self.unembed = _holding(W_U=(d, n_out), b_U=(n_out,))


def _block(config: ModelConfig) -> nn.Module:
    d, h, e = config.d_model, config.n_heads, config.head_width
    block = nn.Module()
    if config.normalization == "pre":
        block.ln1 = _holding(w=(d,), b=(d,))
        if config.d_mlp:
            block.ln2 = _holding(w=(d,), b=(d,))
    block.attn = _holding(W_Q=(h, d, e), W_O=(h, e, d), b_Q=(h, e), b_O=(d,), W_K=(h, d, e), W_V=(h, d, e), b_K=(h, e), b_V=(h, e))
    if config.d_mlp:
        block.mlp = _holding(W_in=(d, config.d_mlp), b_in=(config.d_mlp,), W_out=(config.d_mlp, d), b_out=(d,))
    return block


def _holding(**shapes: tuple[int, ...]) -> nn.Module:
    """A module with parameters of these shapes."""
    module = nn.Module()
    for name, shape in shapes.items():
        module.register_parameter(name, nn.Parameter(torch.empty(shape)))
    return module
