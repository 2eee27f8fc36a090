"""Small random models of GPT-2's architecture that read the grammar's words."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

from grokinterp.language.grammar import NOUNS, vocabulary
from grokinterp.language.tiny import WordTokenizer


def random_gpt2(n_layers: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0, **config: Any) -> Any:
    """A HookedTransformer with random weights, biases and gains, large enough that nothing is nearly linear."""
    tokenizer = WordTokenizer(vocabulary(NOUNS[:20]))
    sizes = {"d_vocab": len(tokenizer), "d_model": 24, "n_heads": 3, "d_head": 8, "d_mlp": 40, "n_ctx": 40}
    settings = sizes | {"act_fn": "gelu", "normalization_type": "LN"} | config
    cfg = HookedTransformerConfig(n_layers=n_layers, init_weights=False, device="cpu", dtype=dtype, **settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        model = HookedTransformer(cfg)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    model.tokenizer = tokenizer
    return model
