"""Small random models of GPT-2's architecture that read the grammar's words, and what they say under a plain hook."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig

from grokinterp.ace.core import Project
from grokinterp.language.grammar import NOUNS, vocabulary
from grokinterp.language.tiny import WordTokenizer
from grokinterp.tasks import Prompts


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


def by_hooks(model: Any, prompts: Prompts, edit: Project | None) -> Tensor:
    """Logits behind each prompt's last token, one unpadded prompt at a time through the whole model."""
    rows = []
    for tokens, end in zip(prompts.tokens, prompts.ends, strict=True):

        def change(value: Tensor, hook: Any) -> Tensor:
            value = value.clone()
            value[:, -1] = edit(value[:, -1])
            return value

        with torch.no_grad():
            rows.append(model.run_with_hooks(tokens[None, : int(end) + 1], fwd_hooks=[(edit.hook, change)] if edit else [])[0, -1])
    return torch.stack(rows)
