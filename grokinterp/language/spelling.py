"""How a tokenizer spells texts and the words after them: what stands in front, where spaces go, and words of several tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grokinterp.checks import shown
from grokinterp.errors import GrokinterpError

Spelling = tuple[int, ...]


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text as the model sees it, with nothing added in front or after.

    Raises:
        GrokinterpError: no tokenizer; a text that is empty, ends in a space, which belongs to the next word, or has a word that the tokenizer
            does not know.
    """
    if tokenizer is None:
        raise GrokinterpError("this model has no tokenizer; set model.tokenizer, or load it with load_model")
    if not text.strip():
        raise GrokinterpError("the prompt is empty; pass at least one word")
    if text[-1] in " \t\u00a0":
        raise GrokinterpError(f"the prompt {shown(text)} ends in a space, which the next word brings along; take it off")
    ids = [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is not None and unknown in ids and str(tokenizer.unk_token) not in text:
        raise GrokinterpError(f"{shown(text)} has a word that this tokenizer does not know; choose other words")
    return ids


def ids_in_front(tokenizer: Any, bos: bool | None) -> list[int]:
    """What stands in front of every text: the beginning-of-text token, or nothing.

    Args:
        tokenizer: of the model.
        bos: whether there is one; None as the tokenizer does by itself.

    Raises:
        GrokinterpError: a beginning-of-text token is asked for and the tokenizer has none.
    """
    token = getattr(tokenizer, "bos_token_id", None)
    if bos is None:
        bos = token is not None and tokenizer.encode("a")[:1] == [token]
    if bos and token is None:
        raise GrokinterpError(f"bos=True asks for a beginning-of-text token, and this {type(tokenizer).__name__} has none; leave bos out")
    return [int(token)] if bos and token is not None else []


def spellings(tokenizer: Any, texts: Sequence[str], words: Sequence[Sequence[str]]) -> dict[str, Spelling]:
    """The tokens of each word after a text, with a space between.

    What counts is what the tokenizer makes of text and word together, less the text: SentencePiece puts a space in front of a text by itself, so
    that a word with a space before it is spelled otherwise alone.

    Args:
        tokenizer: of the model.
        texts: what the words follow.
        words: that follow each text.

    Raises:
        GrokinterpError: a word that runs into a text, or that is spelled in two ways after two texts.
    """
    found: dict[str, Spelling] = {}
    for text, own in zip(texts, words, strict=True):
        ids = token_ids(tokenizer, text)
        for word in own:
            together = token_ids(tokenizer, f"{text} {word}")
            spelled = tuple(together[len(ids) :])
            if together[: len(ids)] != ids or not spelled:
                raise GrokinterpError(f"{shown(text)} and the verb {shown(word)} run into each other under this tokenizer; choose other words")
            if found.setdefault(word, spelled) != spelled:
                raise GrokinterpError(f"the verb {shown(word)} has other tokens after {shown(text)} than before; choose other words")
    return found
