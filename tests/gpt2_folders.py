"""GPT-2s with random weights in Hugging Face's layout, which stand in for published ones in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel

from grokinterp.language.grammar import vocabulary


def random_gpt2(folder: Path, *, vocab_size: int = 211, n_positions: int = 32, seed: int = 0, **options: Any) -> Any:
    """Save a GPT-2 whose every parameter is random, so that no two of them can be confused, and return Hugging Face's model.

    Fresh from its constructor biases would be 0, LayerNorm weights 1 and logits next to 0.
    """
    config = GPT2Config(vocab_size=vocab_size, n_positions=n_positions, bos_token_id=0, eos_token_id=0, **options)
    config._attn_implementation = "eager"
    model: Any = GPT2LMHeadModel(config)
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            fan_in = parameter.shape[-1 if name.endswith(("wte.weight", "lm_head.weight")) else 0]
            scale = 0.3 if parameter.ndim == 1 or name.endswith("wpe.weight") else fan_in**-0.5
            parameter.normal_(1.0 if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")) else 0.0, scale, generator=generator)
    model.save_pretrained(folder)
    return model


def with_words(folder: Path) -> Path:
    """A small GPT-2 with random weights, and a tokenizer that knows the grammar's words."""
    words = ["<unk>", *vocabulary()]
    random_gpt2(folder, vocab_size=len(words), n_positions=32, n_embd=24, n_layer=2, n_head=3)
    tokenizer = Tokenizer(models.WordLevel({word: token for token, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def random_tokens(vocab_size: int = 211, *shape: int, seed: int = 1) -> torch.Tensor:
    """Token ids, [example, position], 3 × 17 unless told otherwise."""
    return torch.randint(vocab_size, shape or (3, 17), generator=torch.Generator().manual_seed(seed))
