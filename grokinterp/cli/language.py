"""Commands about language models: flip."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro


def flip(
    model: tyro.conf.Positional[str],
    prompt: tyro.conf.Positional[str],
    hook: str | None = None,
    rank: int = 1,
    mode: Literal["flip", "keep", "remove"] = "flip",
    strength: float | Literal["auto"] = "auto",
    tokens: int = 20,
    temperature: float = 1.0,
    top_k: int = 50,
    seed: int = 0,
    prompts: Path | None = None,
    n: int = 120,
    device: str = "cpu",
) -> None:
    """Find a language model's axis of grammatical number, and continue a prompt with it flipped, beside the clean text.

    Args:
        model: tiny (trained here the first time, a minute or two; needs no network), gpt2, gpt2-medium, gpt2-large, distilgpt2, or a folder.
        prompt: ending just before its verb, like "The keys to the cabinet".
        hook: where to edit, like blocks.9.hook_resid_post; the layer whose flip works best on the extraction prompts unless given.
        rank: dimensions of the core.
        mode: flip, keep or remove the core.
        strength: factor of the edit, 1 for all of it, or auto: as much as each token needs.
        tokens: how many to generate.
        temperature: of the softmax; 0 takes the likeliest token.
        top_k: draw from that many likeliest tokens.
        seed: of prompts and random numbers.
        prompts: a file of your own to extract from, .csv or .jsonl with prompt and number; generated ones unless given.
        n: generated prompts, half of them to extract from and half to test on.
        device: cpu or cuda, for a pretrained model.
    """
    from grokinterp import ace
    from grokinterp.language.prompt_files import read_prompts
    from grokinterp.language.prompts import agreement
    from grokinterp.language.spelling import token_ids
    from grokinterp.language.tiny import tiny
    from grokinterp.models.pretrained import load_model

    language_model = tiny() if model == "tiny" else load_model(model, device=device)
    token_ids(language_model.tokenizer, prompt)  # what cannot be read is said before anything is computed
    texts = agreement(language_model.tokenizer, n, seed) if prompts is None else read_prompts(prompts, language_model.tokenizer, seed)
    core = ace.best_core(language_model, texts, rank=rank, hooks=None if hook is None else [hook])
    test = texts.half("test")
    edits = {"keep": core.keep, "remove": core.remove, "flip": core.flip}
    base, edited = ace.auc(ace.margins(test, ace.verb_scores(language_model, test, [edits[mode]()])), test.plural)
    print(f"core of rank {core.rank} at {core.hook}; over {len(test)} test prompts AUC {base:.3f} clean, {edited:.3f} with {mode}")
    print()
    print(ace.generate(language_model, prompt, core, mode, strength, n_tokens=tokens, temperature=temperature, top_k=top_k, seed=seed))
