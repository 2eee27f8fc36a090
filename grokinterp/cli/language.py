"""Commands about language models: flip, agreement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from grokinterp.errors import GrokinterpError, unknown_name

if TYPE_CHECKING:
    from grokinterp.language.grammar import Noun, Verb


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
    bos: bool | None = None,
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
        bos: begin every text with the beginning-of-text token; as the tokenizer does by itself unless given.
    """
    from grokinterp import ace
    from grokinterp.language.prompt_files import read_prompts
    from grokinterp.language.prompts import agreement
    from grokinterp.language.spelling import token_ids
    from grokinterp.language.tiny import tiny
    from grokinterp.models.pretrained import load_model

    language_model = tiny() if model == "tiny" else load_model(model, device=device)
    token_ids(language_model.tokenizer, prompt)  # what cannot be read is said before anything is computed
    if prompts is None:
        texts = agreement(language_model.tokenizer, n, seed, bos=bos)
    else:
        texts = read_prompts(prompts, language_model.tokenizer, seed, bos=bos)
    core = ace.best_core(language_model, texts, rank=rank, hooks=None if hook is None else [hook])
    test = texts.half("test")
    edits = {"keep": core.keep, "remove": core.remove, "flip": core.flip}
    base, edited = ace.auc(ace.margins(test, ace.verb_scores(language_model, test, [edits[mode]()])), test.plural)
    print(f"core of rank {core.rank} at {core.hook}; over {len(test)} test prompts AUC {base:.3f} clean, {edited:.3f} with {mode}")
    print()
    print(ace.generate(language_model, prompt, core, mode, strength, n_tokens=tokens, temperature=temperature, top_k=top_k, seed=seed, bos=bos))
    if texts.dropped:
        some = [f"{word} ({reason})" for word, reason in list(texts.dropped.items())[:5]]
        more = ", …" if len(texts.dropped) > len(some) else ""
        print(f"\n{len(texts.dropped)} nouns were left out under this tokenizer: {', '.join(some)}{more}")


def agreement(
    model: tyro.conf.Positional[str],
    verbs: tuple[str, ...] = ("is/are", "was/were"),
    nouns: str = "everyday",
    n: int = 720,
    ranks: int = 5,
    name: str | None = None,
    seed: int = 0,
    docs: Path | None = None,
    force: bool = False,
    device: str = "cpu",
) -> None:
    """Is number one axis in a language model, or several? Keep, remove and flip agreement cores of rising rank, on nouns held out.

    Args:
        model: tiny, tiny:SEED (a model of the grammar, trained here the first time), a name that load_model knows, or a folder.
        verbs: pairs of singular and plural, like is/are; of two, the first is present and the second past.
        nouns: everyday, stories or technical: which list they are drawn from.
        n: prompts, a multiple of 12; half of them to extract from, a third each without a second noun, with one of the same and of the other number.
        ranks: of the cores, from 1 up to this.
        name: of the model in the names of files; that of its folder unless given.
        seed: of prompts, random directions and intervals.
        docs: also write tables, a figure and the page of all models whose tables lie there into this folder.
        force: overwrite files there, whatever they are.
        device: cpu or cuda, for a pretrained model.
    """
    from grokinterp.outputs import check_folder
    from grokinterp.papers.cores2026 import axes

    known, pairs = _nouns(nouns), _pairs(verbs)
    if docs is not None:
        check_folder(docs)  # before anything is computed
    language_model, known = _model_and_nouns(model, known, device)
    found = axes.axes_of(language_model, known, pairs, n=n, seed=seed, n_ranks=ranks)
    for bos, own in axes.ways(found).items():
        print(f"{'with' if bos else 'without'} a beginning-of-text token: {axes.answer(own)}")
        table = own.ranks[own.ranks["attractors"] == "none"].pivot(index="rank", columns="edit", values="auc")
        print(table[["base", "keep", "remove", "flip"]].round(3).to_string(), "\n")
    if docs is not None:
        called = name or model.replace(":", "-").rstrip("/").rpartition("/")[2]
        given = f"--verbs {' '.join(verbs)} --nouns {nouns} --n {n} --ranks {ranks} --seed {seed}"
        command = f"grokinterp agreement {called if '/' in model else model} {given}"
        print(f"wrote {axes.save(called, found, command, docs, force=force)}")


def _nouns(name: str) -> tuple[Noun, ...]:
    from grokinterp.language.nouns import NOUN_LISTS

    if name not in NOUN_LISTS:
        raise unknown_name("list of nouns", name, NOUN_LISTS)
    return NOUN_LISTS[name]


def _pairs(verbs: tuple[str, ...]) -> tuple[Verb, ...]:
    from grokinterp.language.grammar import Verb

    pairs = tuple(Verb(*pair.split("/")) for pair in verbs if pair.count("/") == 1 and all(pair.split("/")))
    if len(pairs) != len(verbs) or not pairs:
        raise GrokinterpError(f"--verbs takes pairs like is/are; got {' '.join(verbs) or 'none'}")
    return pairs


def _model_and_nouns(model: str, nouns: tuple[Noun, ...], device: str) -> tuple[Any, tuple[Noun, ...]]:
    """The model, and the nouns that it is asked about: those that it knows, of a model of the grammar."""
    from grokinterp.language.grammar import NOUNS
    from grokinterp.language.tiny import TinyConfig, tiny
    from grokinterp.models.pretrained import load_model

    grammar, _, seed = model.partition(":")
    if grammar != "tiny":
        return load_model(model, device=device), nouns
    if seed and not seed.isdigit():
        raise GrokinterpError(f"tiny:SEED takes a whole number; got {model!r}")
    config = TinyConfig(seed=int(seed or 0))
    return tiny(config), NOUNS[: config.n_nouns]
