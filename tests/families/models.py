"""Tiny causal language models with random weights, one a family, in Hugging Face's layout: they stand in for published ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from grokinterp.language.grammar import NOUNS, vocabulary
from grokinterp.language.tiny import WordTokenizer

TOKENIZER = WordTokenizer(vocabulary(NOUNS[:8]))
"""Words of the agreement grammar, one token each."""

_SIZES = {"vocab_size": len(TOKENIZER), "num_hidden_layers": 3, "hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 24}
_SIZES |= {"max_position_embeddings": 48, "bos_token_id": 0, "eos_token_id": 0}
_GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
_GEMMA = _SIZES | _GROUPED | {"sliding_window": 4, "query_pre_attn_scalar": 8}
_GPT2 = {"vocab_size": len(TOKENIZER), "n_layer": 3, "n_embd": 16, "n_head": 4, "n_positions": 48, "bos_token_id": 0, "eos_token_id": 0}

FAMILIES: Mapping[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2", **_GPT2},
    "gpt_neox": {"model_type": "gpt_neox", **_SIZES},  # Pythia: rotary, parallel blocks, a head of its own
    "gpt_neox, sequential": {"model_type": "gpt_neox", **_SIZES, "use_parallel_residual": False},
    "llama": {"model_type": "llama", **_SIZES, **_GROUPED, "tie_word_embeddings": False},
    "llama, tied": {"model_type": "llama", **_SIZES, **_GROUPED, "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", **_SIZES, **_GROUPED, "sliding_window": 4},
    "qwen2": {"model_type": "qwen2", **_SIZES, "num_key_value_heads": 2},  # biases on queries, keys and values
    "qwen3": {"model_type": "qwen3", **_SIZES, **_GROUPED},  # norms on queries and keys
    "gemma2": {"model_type": "gemma2", **_GEMMA, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0},
    "gemma3": {"model_type": "gemma3_text", **_GEMMA},
    "phi": {"model_type": "phi", **_SIZES},  # parallel blocks, part of each head rotary, a bias on the head
}
"""The settings of each family; windows of 4 tokens and soft caps that bend are shorter and lower than published, so that inputs of 12 see them."""


def random_model(family: str, folder: Path, seed: int = 0, **settings: Any) -> Any:
    """Save a model whose every parameter is random, so that no two of them can be confused, and return transformers' own.

    Fresh from its constructor biases would be 0, norms 1 and logits next to 0.
    """
    config = AutoConfig.for_model(**FAMILIES[family], **settings)
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            gain = parameter.ndim == 1 and not name.endswith("bias")
            scale = 0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
            parameter.normal_(1.0 if gain else 0.0, scale, generator=generator)
    model.save_pretrained(folder)
    return model


def random_tokens(n_examples: int = 3, n_positions: int = 12, seed: int = 1) -> torch.Tensor:
    """Token ids, [example, position]."""
    return torch.randint(len(TOKENIZER), (n_examples, n_positions), generator=torch.Generator().manual_seed(seed))
