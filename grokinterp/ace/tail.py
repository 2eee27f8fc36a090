"""The tail of a model: the function from the activations at one hook to the logits at the read-out, resumed as late as possible."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from grokinterp.ace.core import Positions, check_hook, index_of, placed
from grokinterp.errors import GrokinterpError
from grokinterp.models.readout import readout_hooks
from grokinterp.shapes import Tokens
from grokinterp.tasks import Task

At = Float[Tensor, "example chosen d_model"]
TailFunction = Callable[[Tensor], Tensor]
"""Activations [example, position, d_model] -> logits at the read-out, [example, vocab] or [example, position, vocab]."""

HEAD = ("ln_final.hook_normalized", "unembed.hook_in")


def softly_capped(model: Any) -> bool:
    """Whether a soft cap bends the logits."""
    return (getattr(model.cfg, "output_logits_soft_cap", None) or 0) > 0


def readout_of(task: Task) -> Positions:
    """Where a task's answers are read: at one position, or "all" where every one counts."""
    return task.readout if task.targets is None else "all"


@dataclass(frozen=True, eq=False)
class Tail:
    """f, from the activations at a hook to the logits at the read-out.

    A HookedTransformer resumes in its head, and at the residual stream before or after a block: in a causal model, and for a hook at the read-out
    position, that position alone goes on, attending to cached keys and values. Any other hook, and a TransformerBridge, runs the
    whole model with the hook's value replaced: the same numbers, later.

    Attributes:
        model: a HookedTransformer or TransformerBridge.
        hook: whose values are [example, position, d_model].
        positions: where activations are taken and replaced, "all" or an index.
        readout: where logits are read, an index or "all".
    """

    model: Any
    hook: str
    positions: Positions = "all"
    readout: Positions = -1

    def __post_init__(self) -> None:
        check_hook(self.model, self.hook)

    @property
    def pointwise(self) -> bool:
        """Whether each position's logits depend on that position's activation alone: the hook lies behind the last attention."""
        last = f"blocks.{self.model.cfg.n_layers - 1}."
        return self.hook in (last + "hook_resid_post", last + "hook_mlp_out") or self.hook.startswith(("ln_final.", "unembed.hook_in"))

    def reads_itself(self, n_positions: int) -> bool:
        """Whether a read-out position is among the chosen ones, in inputs of so many tokens."""
        if self.positions == "all" or self.readout == "all":
            return True
        return index_of(self.positions, n_positions) == index_of(self.readout, n_positions)

    def activations(self, tokens: Tokens) -> At:
        """What the hook sees at the chosen positions; the model runs no further than the hook's block."""
        return self._chosen(self._whole(tokens))

    def resume(self, tokens: Tokens) -> tuple[At, TailFunction]:
        """The activations from which f goes on for these inputs, and f itself, differentiable.

        Only positions that the read-out can depend on are returned: behind the last attention, with positions "all", the
        read-out position alone.
        """
        if self._in_the_head:
            return self._through_the_head(tokens)
        if self._layer is None:
            return self._through_the_whole_model(tokens)
        if self._one_position(tokens.shape[1]):
            return self._through_one_position(tokens, self._layer)
        return self._through_every_position(tokens, self._layer)

    @property
    def _layer(self) -> int | None:
        """The block to go on with, n_layers for none; None where the model cannot resume at this hook."""
        match = re.fullmatch(r"blocks\.(\d+)\.hook_resid_(pre|post)", self.hook)
        if match is None or not self._resumes or self.model.cfg.positional_embedding_type == "shortformer":
            return None
        return int(match[1]) + (match[2] == "post")

    @property
    def _resumes(self) -> bool:
        return any(cls.__name__ == "HookedTransformer" for cls in type(self.model).__mro__)

    @property
    def _in_the_head(self) -> bool:
        """Whether nothing is left but the final LayerNorm's gain and the unembedding, position by position."""
        return self._resumes and self.hook in HEAD and not softly_capped(self.model)

    def _one_position(self, n_positions: int) -> bool:
        if self.readout == "all" or not self.reads_itself(n_positions):
            return False
        last: bool = self._layer == self.model.cfg.n_layers
        return last or (self.positions != "all" and self.model.cfg.attention_dir == "causal")

    def _through_the_head(self, tokens: Tokens) -> tuple[At, TailFunction]:
        whole, n_positions = self._whole(tokens), tokens.shape[1]
        norm = self.model.ln_final if self.hook.startswith("ln_final.") else None
        gain, bias = getattr(norm, "w", None), getattr(norm, "b", None)

        def head(normed: Tensor) -> Tensor:
            x = normed if gain is None else normed * gain
            out: Tensor = self.model.unembed(x if bias is None else x + bias)
            return out

        if self.readout != "all" and self.reads_itself(n_positions):
            at = index_of(self.readout, n_positions)
            return whole[:, at : at + 1], lambda h: head(h)[:, 0]
        return self._chosen(whole), lambda h: self._read(head(self._replaced(whole, h)), n_positions)

    def _through_one_position(self, tokens: Tokens, layer: int) -> tuple[At, TailFunction]:
        assert self.readout != "all"
        at = index_of(self.readout, tokens.shape[1])
        later = range(layer, self.model.cfg.n_layers)
        names = {block: (f"blocks.{block}.attn.hook_k", f"blocks.{block}.attn.hook_v") for block in later}
        kept = self._captured(tokens, [self.hook, *(name for pair in names.values() for name in pair)], stop=self.model.cfg.n_layers)
        past = {block: _Past(kept[keys][:, :at], kept[values][:, :at]) for block, (keys, values) in names.items()}

        def logits(h: Tensor) -> Tensor:
            out: Tensor = self.model(h, start_at_layer=layer, past_kv_cache=past)
            return out[:, 0]

        return kept[self.hook][:, at : at + 1], logits

    def _through_every_position(self, tokens: Tokens, layer: int) -> tuple[At, TailFunction]:
        whole = self._whole(tokens)
        shortcut = readout_hooks(self.model, self.readout) if self.readout != "all" and layer < self.model.cfg.n_layers else []

        def logits(h: Tensor) -> Tensor:
            with self.model.hooks(fwd_hooks=shortcut):
                return self._read(self.model(self._replaced(whole, h), start_at_layer=layer), tokens.shape[1])

        return self._chosen(whole), logits

    def _through_the_whole_model(self, tokens: Tokens) -> tuple[At, TailFunction]:
        h = self.activations(tokens)

        def logits(h: Tensor) -> Tensor:
            def substitute(value: Tensor, hook: Any) -> Tensor:
                return self._replaced(value.detach(), h)

            with self.model.hooks(fwd_hooks=[(self.hook, substitute)]):
                return self._read(self.model(tokens), tokens.shape[1])

        return h, logits

    def _whole(self, tokens: Tokens) -> Tensor:
        block = re.match(r"blocks\.(\d+)\.", self.hook)
        return self._captured(tokens, [self.hook], stop=int(block[1]) + 1 if block else None)[self.hook]

    def _captured(self, tokens: Tokens, names: Sequence[str], stop: int | None) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[Tensor, Any], None]:
            def hook_function(value: Tensor, hook: Any) -> None:
                kept[name] = value

            return hook_function

        with torch.no_grad(), self.model.hooks(fwd_hooks=[(name, keep(name)) for name in names]):
            self.model(tokens, stop_at_layer=stop)
        if kept[self.hook].ndim != 3:
            raise GrokinterpError(f"a core needs a hook with values [example, position, d_model]; {self.hook} has {tuple(kept[self.hook].shape)}")
        return kept

    def _chosen(self, value: Tensor) -> Tensor:
        if self.positions == "all":
            return value
        at = index_of(self.positions, value.shape[1])
        return value[:, at : at + 1]

    def _replaced(self, value: Tensor, h: Tensor) -> Tensor:
        return h if self.positions == "all" else placed(value, h, index_of(self.positions, value.shape[1]))

    def _read(self, logits: Tensor, n_positions: int) -> Tensor:
        if self.readout == "all":
            return logits
        # Behind the shortcut the read-out position is the only one.
        return logits[:, index_of(self.readout, n_positions) if logits.shape[1] == n_positions else 0]


@dataclass(frozen=True, eq=False)
class _Past:
    """Keys and values of the positions before, as an attention layer asks for them; never changed."""

    past_keys: Tensor
    past_values: Tensor

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([self.past_keys, keys], dim=1), torch.cat([self.past_values, values], dim=1)
