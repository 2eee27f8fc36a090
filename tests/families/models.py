"""Tiny causal language models with random weights, one a family, in Hugging Face's layout: they stand in for published ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from grokinterp.language.grammar import NOUNS, vocabulary
from grokinterp.language.tiny import WordTokenizer
from grokinterp.models.hooked import has_hooked_transformer

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

_PLAIN = _SIZES | {"pad_token_id": 0}
_TWO = _PLAIN | {"num_key_value_heads": 2}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_SMALL_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
_FALCON = {name: size for name, size in _SIZES.items() if name not in ("intermediate_size", "max_position_embeddings")}
_OPT = _PLAIN | {"ffn_dim": 24, "word_embed_proj_dim": 16, "pad_token_id": 1}
_LATENT = {"num_key_value_heads": 4, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4}
_ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1}
_MAMBA = {"mamba_d_ssm": 16, "mamba_n_heads": 4, "mamba_d_head": 4, "mamba_d_state": 4}
_GRANITE = {"residual_multiplier": 0.5, "embedding_multiplier": 3.0, "logits_scaling": 2.0, "attention_multiplier": 0.3}
_SCALED = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_SEEING = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 28, "patch_size": 14}

OTHERS: Mapping[str, dict[str, Any]] = {
    "opt": {"model_type": "opt", **_OPT},
    "bloom": {"model_type": "bloom", **{name: _GPT2[name] for name in ("vocab_size", "n_layer", "n_head")}, "hidden_size": 16},  # ALiBi
    "mpt": {"model_type": "mpt", "vocab_size": len(TOKENIZER), "d_model": 16, "n_heads": 4, "n_layers": 3, "max_seq_len": 48, "expansion_ratio": 2},
    "falcon": {"model_type": "falcon", **_FALCON},
    "falcon, ALiBi": {"model_type": "falcon", **_FALCON, "alibi": True, "parallel_attn": False, "multi_query": False, "bias": True},
    "gptj": {"model_type": "gptj", **_GPT2, "rotary_dim": 4},
    "codegen": {"model_type": "codegen", **_GPT2, "rotary_dim": 4},
    "gpt_bigcode": {"model_type": "gpt_bigcode", **_GPT2},
    "starcoder2": {"model_type": "starcoder2", **_TWO},
    "gemma": {"model_type": "gemma", **_SIZES, **_GROUPED},
    "llama, long": {"model_type": "llama", **_SIZES, **_GROUPED, "rope_parameters": {**_SCALED, "original_max_position_embeddings": 16}},
    "qwen2, windows": {"model_type": "qwen2", **_TWO, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "phi3": {"model_type": "phi3", **_TWO},
    "olmo": {"model_type": "olmo", **_TWO},
    "olmo2": {"model_type": "olmo2", **_TWO},  # norms behind each part
    "glm4": {"model_type": "glm4", **_PLAIN, **_GROUPED},
    "granite": {"model_type": "granite", **_TWO, **_GRANITE},  # the residual stream and the logits are scaled
    "nemotron": {"model_type": "nemotron", **_PLAIN, **_GROUPED},
    "smollm3": {"model_type": "smollm3", **_TWO},
    "exaone4": {"model_type": "exaone4", **_TWO, "sliding_window": 4},
    "mixtral": {"model_type": "mixtral", **_PLAIN, **_GROUPED, **_EXPERTS},
    "qwen3_moe": {"model_type": "qwen3_moe", **_PLAIN, **_GROUPED, **_SMALL_EXPERTS},
    "gpt_oss": {"model_type": "gpt_oss", **_PLAIN, **_GROUPED, **_EXPERTS, "sliding_window": 4},
    "deepseek_v3": {"model_type": "deepseek_v3", **_PLAIN, **_LATENT, **_ROUTED},
    "falcon_h1": {"model_type": "falcon_h1", **_TWO, **_MAMBA},  # a state-space part beside attention
}
"""Families that are read as well, each figure as small; `REFUSED` are not."""

READ_FROM_4: Mapping[str, dict[str, Any]] = {"cohere": {"model_type": "cohere", **_TWO, "logit_scale": 0.5}}
"""Families that TransformerLens 3.9 gets wrong, and 4 right."""

REFUSED: Mapping[str, tuple[dict[str, Any], str]] = {
    "opt-350m": ({"model_type": "opt", **_OPT, "do_layer_norm_before": False}, "cannot run"),
    "openai-gpt": ({"model_type": "openai-gpt", **_GPT2}, "has no blocks.0.hook_resid_post"),
    "bert": ({"model_type": "bert", **_PLAIN, "is_decoder": True}, "a residual stream that changes between two blocks"),
    "mamba": ({"model_type": "mamba", "vocab_size": len(TOKENIZER), "hidden_size": 16, "num_hidden_layers": 3}, "has no blocks.0.hook_attn_out"),
    "lfm2": (
        {"model_type": "lfm2", **_TWO, "layer_types": ["full_attention", "conv", "full_attention"]},
        "has no blocks.1.hook_attn_out",
    ),
    "xlnet": (
        {"model_type": "xlnet", "vocab_size": len(TOKENIZER), "d_model": 16, "n_layer": 3, "n_head": 4, "d_inner": 24},
        r"no bridge for this XLNetLMHeadModel \(Could not determine supported architecture",
    ),
    "gemma3 that sees": (
        {"model_type": "gemma3", "text_config": {**_GEMMA, "pad_token_id": 0}, "vision_config": _SEEING},
        "missing: .*save its language model alone, with a config.json of its own",
    ),
}
"""Families that are refused, each with what the sentence says."""


def read_and_refused() -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The other families that the installed TransformerLens reads, and those that it does not, each with what the sentence says."""
    refused = {name: said for name, (_, said) in REFUSED.items()}
    if has_hooked_transformer():
        return dict(OTHERS), refused | dict.fromkeys(READ_FROM_4, "gives other logits than transformers' model")
    return {**OTHERS, **READ_FROM_4}, refused


def random_model(family: str, folder: Path, seed: int = 0, **settings: Any) -> Any:
    """Save a model whose every parameter is random, so that no two of them can be confused, and return transformers' own.

    Fresh from its constructor biases would be 0, norms 1 and logits next to 0.
    """
    refused = {name: settings for name, (settings, _) in REFUSED.items()}
    config = AutoConfig.for_model(**{**FAMILIES, **OTHERS, **READ_FROM_4, **refused}[family], **settings)
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
