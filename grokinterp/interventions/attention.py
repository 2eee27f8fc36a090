"""How strongly attention looks: its pattern mixed with a constant one (arXiv 2306.17844)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from grokinterp.checks import check_fields
from grokinterp.errors import GrokinterpError
from grokinterp.models.adapter import Adapter
from grokinterp.models.edits import for_backend
from grokinterp.models.intervention import Hooks, InForce
from grokinterp.tasks import Task

Rest = Literal["ones", "uniform"]


@dataclass(frozen=True)
class AttentionRate(InForce):
    """Every head's pattern becomes α · softmax(scores) + (1 − α) · J: from constant attention at α = 0 to ordinary attention at α = 1.

    J is 1 (`rest="ones"`, arXiv 2306.17844, section 2) or 1/n (`rest="uniform"`, chosen here) at each of the n positions that a query may attend
    to, and 0 elsewhere. With ones a row sums to α + n (1 − α): for two positions without a causal mask to 2 − α.

    Attributes:
        alpha: the attention rate α, in [0, 1].
        rest: what J holds.
    """

    alpha: float
    rest: Rest = "ones"
    kind: str = field(default="attention_rate", init=False, repr=False)
    order = 75
    contradicts = MappingProxyType(
        {"uniform_attention": "each says how to attend; alpha=0 is constant attention", "no_attention": "one says how to attend, the other not to"}
    )
    backends = ("HookedTransformer",)
    in_engine = True
    position_wise = True

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "alpha", float(self.alpha))
        if not 0 <= self.alpha <= 1:
            raise GrokinterpError(f"the attention rate alpha lies in [0, 1]; got {self.alpha}")

    def mixed(self, pattern: Tensor, allowed: Tensor) -> Tensor:
        """The pattern as it acts.

        Args:
            pattern: after the softmax, over positions in its last dimension.
            allowed: 1 where a query may attend to a position, else 0; broadcast to the pattern.
        """
        constant = allowed if self.rest == "ones" else allowed / allowed.sum(-1, keepdim=True)
        return self.alpha * pattern + (1 - self.alpha) * constant

    def hooks(self, model: Any, task: Task) -> Hooks:
        """See `Intervention.hooks`.

        Raises:
            GrokinterpError: a model whose attention is local.
        """
        adapter = Adapter(model)
        if adapter.local_attention:
            raise GrokinterpError(f"{self} is exact where a query sees every earlier position; this model has local attention (use_local_attn)")
        mix = partial(_mixed, self, adapter.causal)
        return for_backend(model, [(hook, mix) for hook in adapter.attention_hooks("pattern")])


def _mixed(rate: AttentionRate, causal: bool, value: Tensor, hook: Any) -> Tensor:
    n_queries, n_keys = value.shape[-2:]
    allowed = torch.ones(n_queries, n_keys, dtype=value.dtype, device=value.device)
    return rate.mixed(value, allowed.tril(n_keys - n_queries) if causal else allowed)
