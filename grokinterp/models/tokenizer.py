"""The tokenizer of a folder, as it is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from grokinterp.errors import GrokinterpError
from grokinterp.files import regular_file
from grokinterp.models.hub import MERGES, TOKENIZER, TOKENIZER_FILES, VOCABULARY, has_tokenizer

_LIMIT = 1 << 28  # bytes; the largest published ones have 40 million


def read_tokenizer(folder: Path, kind: str, n_vocab: int) -> tuple[Any, bool]:
    """The tokenizer of a folder as it is, with an end of text that also serves as padding and BOS where it names no others.

    And whether it puts its BOS in front of a text: TransformerLens then takes the first token off again.

    Args:
        folder: holds tokenizer.json, or what transformers reads for that kind of model.
        kind: the model's type, as its config.json names it.
        n_vocab: the model's number of tokens.

    Raises:
        GrokinterpError: no tokenizer, one that cannot be read, or more tokens than the model has.
    """
    from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

    if not has_tokenizer(folder):
        raise GrokinterpError(f"{folder} has no {TOKENIZER}, nor {VOCABULARY} with {MERGES}; add them, or pass tokenizer=another folder or False")
    for name in TOKENIZER_FILES:
        if (folder / name).exists():
            regular_file(folder / name, _LIMIT)
    # A tokenizer.json says all, and is read as it is: AutoTokenizer makes it anew in the way of the model's family, and so may lose another's words.
    whole = (folder / TOKENIZER).is_file()
    reader: Callable[..., Any] = (PreTrainedTokenizerFast if whole else GPT2Tokenizer if kind == "gpt2" else AutoTokenizer).from_pretrained
    try:
        tokenizer = reader(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception for a file that it cannot read
        raise GrokinterpError(f"the tokenizer in {folder} cannot be read ({' '.join(str(error).split())}); download it again") from error
    _check_size(tokenizer, folder, n_vocab)
    prepends_bos = tokenizer.bos_token_id is not None and tokenizer.encode("a")[:1] == [tokenizer.bos_token_id]
    if tokenizer.eos_token is None and "<|endoftext|>" in tokenizer.get_vocab():
        tokenizer.eos_token = "<|endoftext|>"
    tokenizer.bos_token = tokenizer.bos_token or tokenizer.eos_token
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer, prepends_bos


def _check_size(tokenizer: Any, folder: Path, n_vocab: int) -> None:
    """Raise if the tokenizer has words that the model lacks; a special token, of an image for example, can stand in no text by accident."""
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    special -= {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    largest = max([-1, *(number for number in tokenizer.get_vocab().values() if number not in special)])
    if largest >= n_vocab:
        raise GrokinterpError(f"the tokenizer in {folder} has {largest + 1} tokens and the model {n_vocab}; they belong to different models")
