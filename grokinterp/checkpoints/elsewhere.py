"""Layouts that `load_checkpoint` knows and does not read, each with the way in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_FOLDER = "gi.load_model(folder) reads it beside its config.json"
_HOOKS = "build the module with hook points and pass it to gi.analyze with task=…"
_READER = "subclass grokinterp.checkpoints.Reader and pass reader=…"

ELSEWHERE: Mapping[str, tuple[str, str]] = {
    r"(model\.)?layers\.\d+\.self_attn\.[qkv]_proj\.weight": ("Hugging Face's LLaMA, Mistral, Qwen, Gemma or Phi", _FOLDER),
    r"(gpt_neox\.)?layers\.\d+\.attention\.query_key_value\.weight": ("Hugging Face's GPT-NeoX", _FOLDER),
    r"(transformer\.)?h\.\d+\.attn\.(attention\.)?[qkv]_proj\.weight": ("Hugging Face's GPT-J or GPT-Neo", _FOLDER),
    r"(model\.)?decoder\.layers\.\d+\.self_attn\.[qkv]_proj\.weight": ("Hugging Face's OPT", _FOLDER),
    r"(bert\.|model\.)?encoder\.layers?\.\d+\.(attention\.self\.query|self_attn\.q_proj)\.weight": ("an encoder of Hugging Face's", _HOOKS),
    r"layers\.\d+\.attention\.wq\.weight": (
        "LLaMA's original files or llama2.c",
        "convert them to Hugging Face's layout, then gi.load_model(folder)",
    ),
    r".*\.cross_attn\..*|.*\.multihead_attn\..*": ("an encoder and a decoder (nn.Transformer)", _HOOKS),
    r".*\bmixer\.A_log|.*\bA_log": ("Mamba", "a MambaConfig of this package has other names; " + _HOOKS),
    r"(.*\.)?weight_ih_l0": ("torch.nn's LSTM, GRU or RNN", "an LSTMConfig builds one with hook points, and load_weights fills it"),
    r".*\.to_(q|k|v|kv|qkv)\.weight": ("x-transformers and its kin", _READER),
    r"(params/)?.*/kernel": ("Flax", "turn it into a PyTorch state dict; " + _READER),
}
"""What one of the names looks like: whose layout it is, and what to do."""


def elsewhere(names: Iterable[str]) -> str | None:
    """The library whose layout has these names and the way to read it, as part of an error; None for an unknown layout."""
    for name in names:
        for pattern, (layout, way) in ELSEWHERE.items():
            if re.fullmatch(pattern, name):
                return f"{name} is a name in the layout of {layout}: {way}"
    return None
