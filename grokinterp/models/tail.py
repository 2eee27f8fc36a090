"""The tail of a model: the function from the activations at one hook to the logits at the read-out, resumed as late as possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.models.adapter import HEAD, Adapter, index_of, placed
from grokinterp.models.edits import hooked
from grokinterp.models.hanging import refuse_dropout
from grokinterp.models.readout import readout_hooks, values_of
from grokinterp.models.resume import forward, remembers, resumes
from grokinterp.shapes import Positions, Tokens
from grokinterp.tasks import Task

Chosen = Float[Tensor, "example chosen d_model"]
TailFunction = Callable[[Tensor], Tensor]
"""Activations [example, position, d_model] -> logits at the read-out, [example, vocab] or [example, position, vocab]."""


def readout_of(task: Task) -> Positions:
    """Where a task's answers are read: at one position, or "all" where every one counts."""
    return task.readout if task.targets is None else "all"


@dataclass(frozen=True, eq=False)
class Tail:
    """f, from the activations at a hook to the logits at the read-out.

    A bare HookedTransformer resumes in its head, and at the residual stream before or after a block: in a causal model, and for a hook at the
    read-out position, that position alone goes on, attending to cached keys and values. Any other hook, any other model, and a model on
    which something hangs, runs whole with the hook's value replaced after everything that hangs there: the same numbers, more slowly.

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
        Adapter(self.model).check_hook(self.hook)
        refuse_dropout(self.model)

    @property
    def pointwise(self) -> bool:
        """Whether each position's logits depend on that position's activation alone: the hook lies after the last attention of a bare model."""
        adapter = Adapter(self.model)
        last = f"blocks.{adapter.n_layers - 1}."
        after = self.hook in (last + "hook_resid_post", last + "hook_mlp_out") or self.hook.startswith(("ln_final.", "unembed.hook_in"))
        return after and adapter.bare

    def reads_itself(self, n_positions: int) -> bool:
        """Whether a read-out position is among the chosen ones, in inputs of so many tokens."""
        if self.positions == "all" or self.readout == "all":
            return True
        return index_of(self.positions, n_positions) == index_of(self.readout, n_positions)

    def activations(self, tokens: Tokens) -> Chosen:
        """What the hook sees at the chosen positions; a bare model runs no further than the hook's block."""
        return self._chosen(self._whole(tokens))

    def resume(self, tokens: Tokens) -> tuple[Chosen, TailFunction]:
        """The activations from which f goes on for these inputs, and f itself, differentiable.

        Only positions that the read-out can depend on are returned: after the last attention, with positions "all", the
        read-out position alone.
        """
        adapter, layer = Adapter(self.model), Adapter(self.model).layer_of(self.hook)
        if resumes(self.model):
            if self.hook in HEAD and not adapter.soft_cap:
                return self._through_the_head(tokens)
            if layer is not None:
                return self._through_one_position(tokens, layer) if self._one_position(tokens, layer) else self._through_every_position(tokens, layer)
        return self._through_the_whole_model(tokens)

    def _one_position(self, tokens: Tokens, layer: int) -> bool:
        if self.readout == "all" or not self.reads_itself(tokens.shape[1]):
            return False
        return layer == Adapter(self.model).n_layers or (self.positions != "all" and remembers(self.model))

    def _through_the_head(self, tokens: Tokens) -> tuple[Chosen, TailFunction]:
        whole, n_positions = self._whole(tokens), tokens.shape[1]
        norm = self.model.ln_final if self.hook == HEAD[0] else None
        gain, bias = getattr(norm, "w", None), getattr(norm, "b", None)

        def head(normed: Tensor) -> Tensor:
            x = normed if gain is None else normed * gain
            out: Tensor = self.model.unembed(x if bias is None else x + bias)
            return out

        if self.readout != "all" and self.reads_itself(n_positions):
            at = index_of(self.readout, n_positions)
            return whole[:, at : at + 1], lambda h: head(h)[:, 0]
        return self._chosen(whole), lambda h: self._read(head(self._replaced(whole, h)), n_positions)

    def _through_one_position(self, tokens: Tokens, layer: int) -> tuple[Chosen, TailFunction]:
        assert self.readout != "all"
        at, n_layers = index_of(self.readout, tokens.shape[1]), Adapter(self.model).n_layers
        whole = self._whole(tokens)
        with torch.no_grad():
            past = {} if layer == n_layers else forward(self.model, whole, layer, n_layers)[1]
        before = {block: own.first(at) for block, own in past.items()}
        return whole[:, at : at + 1], lambda h: forward(self.model, h, layer, past=before)[0][:, 0]

    def _through_every_position(self, tokens: Tokens, layer: int) -> tuple[Chosen, TailFunction]:
        whole = self._whole(tokens)
        shortcut = readout_hooks(self.model, self.readout) if self.readout != "all" and layer < Adapter(self.model).n_layers else []

        def logits(h: Tensor) -> Tensor:
            with hooked(self.model, shortcut):
                return self._read(self.model(self._replaced(whole, h), start_at_layer=layer), tokens.shape[1])

        return self._chosen(whole), logits

    def _through_the_whole_model(self, tokens: Tokens) -> tuple[Chosen, TailFunction]:
        h = self.activations(tokens)

        def logits(h: Tensor) -> Tensor:
            def substitute(value: Tensor, hook: Any) -> Tensor:
                return self._replaced(value.detach(), h)

            with hooked(self.model, [(self.hook, substitute)]):
                return self._read(self.model(tokens.to(Adapter(self.model).device), **Adapter(self.model).pass_options), tokens.shape[1])

        return h, logits

    def _whole(self, tokens: Tokens) -> Tensor:
        value = values_of(self.model, tokens, [self.hook])[self.hook]
        if value.ndim != 3:
            raise GrokinterpError(f"a core needs a hook with values [example, position, d_model]; {self.hook} has {tuple(value.shape)}")
        return value

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
