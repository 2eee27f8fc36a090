"""A small language model: GPT-2's architecture, trained on a generated grammar with number agreement and kept in a cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.files import read_tensors, write_json, write_tensors
from grokinterp.language.grammar import NOUNS, sample_sentence, vocabulary, words_of
from grokinterp.models.transformers import initialise, load_weights
from grokinterp.outputs import check_folder
from grokinterp.shapes import Tokens

_VERSION = 2  # of grammar and training; a new one is trained anew


@dataclass(frozen=True)
class TinyConfig:
    """The embedded model and its training, as data (chosen here).

    Attributes:
        seed: of weights and sentences.
        n_layers: blocks.
        d_model: width of the residual stream; MLPs have four times as many units.
        n_heads: attention heads in each block.
        n_ctx: tokens in a training sequence, and in the longest text.
        n_nouns: how many nouns of the grammar it learns, from the first.
        steps: AdamW updates, the learning rate rising over the first 50 and falling linearly over the last third.
        batch_size: sequences in a step.
        lr: learning rate.
        weight_decay: AdamW's λ.
    """

    seed: int = 0
    n_layers: int = 4
    d_model: int = 64
    n_heads: int = 4
    n_ctx: int = 64
    n_nouns: int = 48
    steps: int = 500
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads:
            raise GrokinterpError(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}")
        if not 4 <= self.n_nouns <= len(NOUNS):
            raise GrokinterpError(f"n_nouns lies in 4 … {len(NOUNS)}, the grammar's; got {self.n_nouns}")
        for name in ("n_layers", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise GrokinterpError(f"{name} must be at least 1; got {getattr(self, name)}")

    @property
    def folder(self) -> Path:
        """Where the trained model is kept: $GROKINTERP_CACHE, or grokinterp in the user's cache folder."""
        digest = hashlib.sha256(json.dumps({"version": _VERSION, **asdict(self)}).encode()).hexdigest()[:12]
        return cache_folder() / f"tiny-seed{self.seed}-{digest}"


class WordTokenizer:
    """One token a word of the grammar, case ignored; as much of Hugging Face's interface as this package and TransformerLens use.

    Args:
        words: the vocabulary, token by token.
    """

    padding_side = "right"

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self._token_of = {word: token for token, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        """The tokens under ``input_ids``."""
        return {"input_ids": self.encode(text, add_special_tokens)}

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The token of each word and mark.

        Args:
            text: in any case.
            add_special_tokens: ignored, since the tokenizer has none.

        Raises:
            GrokinterpError: a word outside the vocabulary; the nearest ones are offered.
        """
        words = words_of(text)
        for word in words:
            if word not in self._token_of:
                raise unknown_name("word", word, self.words)
        return [self._token_of[word] for word in words]

    def decode(self, tokens: Sequence[int]) -> str:
        """Words with spaces between them and none before marks."""
        text = " ".join(self.words[int(token)] for token in tokens)
        return text.replace(" .", ".").replace(" ,", ",")


def tiny(config: TinyConfig | None = None, *, progress_bar: bool = True) -> Any:
    """The embedded language model, trained when it is first asked for and read from the cache after that.

    Args:
        config: None for the default, a minute or two of training on two cores.
        progress_bar: show a bar while it trains, on a terminal or in a notebook.

    Returns:
        A HookedTransformer in eval mode with frozen weights and ``model.tokenizer``, a `WordTokenizer`.

    Raises:
        GrokinterpError: a damaged file in the cache, or a cache that cannot be written.
    """
    config = config or TinyConfig()
    weights = config.folder / "model.safetensors"
    if not weights.exists():
        try:
            check_folder(config.folder)  # before minutes of training
        except GrokinterpError as error:
            raise GrokinterpError(f"the trained model could not be kept ({error}); set GROKINTERP_CACHE to a folder of yours") from error
        return _keep(train_tiny(config, progress_bar=progress_bar), config, weights)
    model = _build(config)
    try:
        load_weights(model, read_tensors(weights))
    except GrokinterpError as error:
        raise GrokinterpError(f"the cached model is damaged ({error}); delete {config.folder} and it is trained again") from error
    return model.requires_grad_(False).eval()


def train_tiny(config: TinyConfig, *, progress_bar: bool = True) -> Any:
    """Train the embedded model on sentences drawn afresh at every step, next-token loss at every position; nothing is cached.

    This is no `train`: there is no finite table of sentences, the gradient is clipped, the learning rate falls at the end, and the loss is float32.
    With `train`'s float64 loss alone the weights differ after three steps, by up to 6e-6, and published tables were read off these weights.

    Args:
        config: the model and its training.
        progress_bar: show a bar on a terminal or in a notebook.

    Returns:
        as `tiny`.
    """
    model, rng = _build(config), np.random.default_rng(config.seed)
    initialise(model, "nanda2023", torch.Generator().manual_seed(config.seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay)
    bar = tqdm(range(config.steps), desc="training the tiny model", unit="step", delay=2, disable=None if progress_bar else True)
    with torch.enable_grad(), _one_thread():
        for step in bar:
            for group in optimizer.param_groups:
                group["lr"] = config.lr * min(1, (step + 1) / 50, 3 * (config.steps - step) / config.steps)
            sequences = sample_sequences(config, model.tokenizer, rng)
            logits = model(sequences[:, :-1])
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{loss.item():.3f} nats")
    return model.requires_grad_(False).eval()


def sample_sequences(config: TinyConfig, tokenizer: WordTokenizer, rng: np.random.Generator) -> Tokens:
    """Sequences of whole sentences, cut off at n_ctx + 1 tokens, [batch_size, n_ctx + 1]."""
    nouns = NOUNS[: config.n_nouns]
    rows = []
    for _ in range(config.batch_size):
        row: list[int] = []
        while len(row) <= config.n_ctx:
            row += tokenizer.encode(str(sample_sentence(nouns, rng)))
        rows.append(row[: config.n_ctx + 1])
    return torch.tensor(rows)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """As fast as several at this size, and the same bits whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cache_folder() -> Path:
    """$GROKINTERP_CACHE, or grokinterp in the user's cache folder ($XDG_CACHE_HOME, ~/.cache; ~/Library/Caches; %LOCALAPPDATA%)."""
    if own := os.environ.get("GROKINTERP_CACHE"):
        return Path(own)
    home = {"darwin": Path.home() / "Library" / "Caches", "win32": Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))}
    return Path(os.environ.get("XDG_CACHE_HOME") or home.get(sys.platform, Path.home() / ".cache")) / "grokinterp"


def _keep(model: Any, config: TinyConfig, weights: Path) -> Any:
    weights.parent.mkdir(parents=True, exist_ok=True)
    write_json(weights.parent / "config.json", {"version": _VERSION, **asdict(config), "vocabulary": model.tokenizer.words})
    write_tensors(weights, dict(model.named_parameters()))  # last: where it stands, everything does
    return model


def _build(config: TinyConfig) -> Any:
    """The architecture, with its tokenizer and weights still to come."""
    from grokinterp.models.hooked import new_transformer

    tokenizer = WordTokenizer(vocabulary(NOUNS[: config.n_nouns]))
    model = new_transformer(
        model_name="tiny",
        n_layers=config.n_layers,
        d_model=config.d_model,
        n_heads=config.n_heads,
        d_head=config.d_model // config.n_heads,
        d_mlp=4 * config.d_model,
        n_ctx=config.n_ctx,
        d_vocab=len(tokenizer),
        act_fn="gelu_new",
        normalization_type="LN",
        default_prepend_bos=False,
        device="cpu",
    )
    model.tokenizer = tokenizer
    return model
