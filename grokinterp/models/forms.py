"""Words that may follow a text, each spelled by one token or several: how likely a model finds each of them as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grokinterp.errors import GrokinterpError

Ends = Int[Tensor, "example"]
Rows = Int[Tensor, "row position"]


@dataclass(frozen=True)
class Forms:
    """Words that may follow, each as the tokens that spell it.

    The log-probability of a word is the sum over its tokens, each after those before it. To read them all, the text goes on along `paths`: "was" and
    "we re" need one path of one token, "we"; words of one token each need one path of none.

    Attributes:
        tokens: of each word, in order.
    """

    tokens: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not all(self.tokens):
            raise GrokinterpError(f"every word is spelled by at least one token; got {self.tokens}")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def single(self) -> bool:
        """Whether every word is one token."""
        return all(len(own) == 1 for own in self.tokens)

    @property
    def n_behind(self) -> int:
        """Tokens that the longest path adds to the text."""
        return max(map(len, self.tokens), default=1) - 1

    @property
    def first(self) -> Int[Tensor, "form"]:
        """The first token of each word."""
        return torch.tensor([own[0] for own in self.tokens])

    @cached_property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """The tokens that follow the text before the last token of each word, without those with which a longer one begins."""
        needed = sorted({own[:-1] for own in self.tokens}, key=len, reverse=True) or [()]
        kept: list[tuple[int, ...]] = []
        for path in needed:
            if not any(longer[: len(path)] == path for longer in kept):
                kept.append(path)
        return tuple(kept)

    def behind(self, tokens: Rows, ends: Ends) -> tuple[Rows, Ends]:
        """Every text with every path after its end, [path × example, position + n_behind], and where the texts end; all texts of a path together."""
        rows = torch.nn.functional.pad(tokens, (0, self.n_behind)).repeat(len(self.paths), 1)
        ends = ends.repeat(len(self.paths))
        for i, path in enumerate(self.paths):
            for example in range(i * len(tokens), (i + 1) * len(tokens)):
                end = int(ends[example])
                rows[example, end + 1 : end + 1 + len(path)] = torch.tensor(path, dtype=rows.dtype, device=rows.device)
        return rows, ends

    def log_probabilities(self, logits: Float[Tensor, "row position vocab"]) -> Float[Tensor, "example form"]:
        """The logarithm of the probability of each whole word after each text, natural, float64.

        Args:
            logits: of the rows that `behind` gives, from a text's last token on.
        """
        log_p = logits.double().log_softmax(-1).reshape(len(self.paths), -1, *logits.shape[1:])
        return torch.stack([self._sum(log_p, own) for own in self.tokens], dim=-1)

    def _sum(self, log_p: Float[Tensor, "path example position vocab"], own: tuple[int, ...]) -> Float[Tensor, "example"]:
        path = next(i for i, path in enumerate(self.paths) if path[: len(own) - 1] == own[:-1])
        return log_p[path][:, torch.arange(len(own)), torch.tensor(own)].sum(-1)


NEXT = Forms(((0,),))
"""Any one token: what readers take where nothing is spelled by several."""
