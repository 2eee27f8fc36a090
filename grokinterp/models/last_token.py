"""What a model says behind the last token of each prompt, clean and under edits there, from as little computation as possible.

With causal attention a change at the last position of layer ℓ reaches only that position in later layers. So the earlier positions run once,
their keys and values are kept, and one row for each prompt and edit goes on from the layer where the edit is made, through the model's own
blocks; rows of all layers and edits travel together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.models.adapter import Adapter
from grokinterp.models.edits import HookFunction, Hooks, hooked
from grokinterp.models.hanging import refuse_dropout
from grokinterp.models.resume import Past, embedded, forward, gradients, knows_no_position, logits_of, remembers
from grokinterp.shapes import Examples, Tokens

Ends = Int[Tensor, "example"]
Columns = Int[Tensor, "column"]
Rows = Float[Tensor, "variant example d_model"]
ByHook = Float[Tensor, "hook example d_model"]
ReadOut = Float[Tensor, "variant example column"]


class Edit(Protocol):
    """What is done at one hook to activations [..., d_model], position by position."""

    @property
    def hook(self) -> str:
        """Name of the hook."""
        ...

    def __call__(self, activations: Any, /) -> Any:
        """The edited activations."""
        ...


class LastToken(Protocol):
    """The last token of each prompt of a batch, readable at any hook."""

    def logits(self, edits: Sequence[Edit] = (), columns: Columns | None = None) -> ReadOut:
        """Logits behind the last token, [1 + edit, example, column]: clean first, then under each edit alone.

        Args:
            edits: each acts at its own hook, on the last token alone.
            columns: tokens whose logits are read; None for the whole vocabulary.
        """
        ...

    def activations(self, hooks: Sequence[str]) -> ByHook:
        """Clean activations at the last token, [hook, example, d_model]."""
        ...

    def gradients(self, hooks: Sequence[str], columns: Columns, signs: Float[Tensor, "example column"]) -> tuple[ByHook, ByHook]:
        """The same activations, and the gradient there of Σ signs · logits, each [hook, example, d_model].

        Examples do not mix, so that one backward pass of the sum over them gives each its own gradient, at all hooks.
        """
        ...


def last_tokens(model: Any, tokens: Tokens, ends: Ends, hooks: Sequence[str], batch_size: int) -> Iterator[tuple[Examples, LastToken]]:
    """Readers of batches of prompts, each with the examples that it holds: the fastest that give this model's numbers at these hooks.

    Prompts of several lengths share a batch only where nothing can see it; where something hangs on the model, or a block knows where a token
    stands, a batch holds prompts of one length and no padding, so that position −1 is the last token of each.

    Args:
        model: a HookedTransformer, or a TransformerBridge.
        tokens: [example, position]; what stands behind a prompt's end is never read.
        ends: position of each prompt's last token.
        hooks: where activations will be read or edited.
        batch_size: prompts at once.

    Raises:
        GrokinterpError: see `last_token`.
    """
    fast = _resumable(model, hooks)
    mixed = knows_no_position(model) if fast else Adapter(model).bare
    order = torch.argsort(ends, stable=True)
    groups = [order] if mixed else [order[ends[order] == end] for end in sorted(set(ends.tolist()))]
    for group in groups:
        for examples in torch.split(group, batch_size):
            own = ends[examples]
            yield examples, last_token(model, tokens[examples, : int(own.max()) + 1], own, hooks)


def last_token(model: Any, tokens: Tokens, ends: Ends, hooks: Sequence[str]) -> LastToken:
    """The fastest reader of the last tokens that gives this model's numbers at these hooks.

    Args:
        model: a HookedTransformer, or a TransformerBridge.
        tokens: [example, position].
        ends: position of each prompt's last token; one and the same where something hangs on the model, see `last_tokens`.
        hooks: where activations will be read or edited.

    Raises:
        GrokinterpError: a hook that the model lacks, attention to later tokens, prompts longer than the context, dropout in force.
    """
    adapter = Adapter(model)
    refuse_dropout(model)
    for hook in hooks:
        adapter.check_hook(hook)
    if not adapter.causal:
        raise GrokinterpError("the last token is read on its own in causal models; this one attends to later tokens, too")
    if tokens.shape[1] > model.cfg.n_ctx:
        raise GrokinterpError(f"the longest prompt has {tokens.shape[1]} tokens and the model's context {model.cfg.n_ctx}")
    tokens, ends = tokens.to(adapter.device), ends.to(adapter.device)
    fast = _resumable(model, hooks) and (knows_no_position(model) or len(set(ends.tolist())) == 1)
    return Resumed(model, tokens, ends) if fast else Whole(model, tokens, ends)


def _resumable(model: Any, hooks: Sequence[str]) -> bool:
    return remembers(model) and all(Adapter(model).layer_of(hook) is not None for hook in hooks)


class Resumed:
    """The last token through the model's own blocks, with the earlier positions' keys and values at hand.

    Where blocks know no position, the variants of an example stand side by side like positions that see the past and themselves;
    elsewhere each is an example of its own, at its own position, with a copy of the past.

    Args:
        model: one that `remembers`.
        tokens: [example, position].
        ends: position of each prompt's last token; the same for all where blocks know positions.
    """

    def __init__(self, model: Any, tokens: Tokens, ends: Ends) -> None:
        self.model, self.n_layers, self.tokens = model, Adapter(model).n_layers, tokens
        self.side_by_side = knows_no_position(model)
        n_before = int(ends.max())
        with torch.no_grad():
            stream = embedded(model, tokens)
            self.entry: Tensor = stream[torch.arange(len(tokens), device=tokens.device), ends]
            self.past = forward(model, stream[:, :n_before], 0, self.n_layers)[1] if n_before else None
        # [example, 1, 1, position] against scores [example, head, variant, position]: what is not before the last token.
        self.hidden = (torch.arange(n_before, device=tokens.device) >= ends[:, None])[:, None, None]
        self.own: dict[int, Past] = {}

    def logits(self, edits: Sequence[Edit] = (), columns: Columns | None = None) -> ReadOut:
        """See `LastToken.logits`."""
        order: list[int] = []
        with torch.no_grad():
            x = self.entry[None]
            for layer in range(self.n_layers + 1):
                x = self.block(layer - 1, x) if layer else x
                here = [i for i, edit in enumerate(edits) if self.layer_of(edit.hook) == layer]
                x = torch.cat([x, *(edits[i](x[:1]) for i in here)])
                order += here
            back = torch.tensor([0, *(1 + order.index(i) for i in range(len(edits)))], device=x.device)
            return logits_of(self.model, x, columns)[back]

    def activations(self, hooks: Sequence[str]) -> ByHook:
        """See `LastToken.activations`."""
        layers = [self.layer_of(hook) for hook in hooks]
        with torch.no_grad():
            stream = self._stream(self.entry, max(layers))
        return torch.cat([stream[layer] for layer in layers])

    def gradients(self, hooks: Sequence[str], columns: Columns, signs: Float[Tensor, "example column"]) -> tuple[ByHook, ByHook]:
        """See `LastToken.gradients`."""
        with torch.enable_grad():
            stream = self._stream(self.entry.clone().requires_grad_(), self.n_layers)
            score = (logits_of(self.model, stream[-1], columns)[0] * signs.to(self.entry)).sum()
        chosen = [stream[self.layer_of(hook)] for hook in hooks]
        return torch.cat(chosen).detach(), torch.cat(gradients(score, chosen))

    def layer_of(self, hook: str) -> int:
        """The number of blocks before a hook on the residual stream."""
        layer = Adapter(self.model).layer_of(hook)
        assert layer is not None
        return layer

    def block(self, i: int, x: Rows) -> Rows:
        """One block at the last position; variant 0's keys and values are noted in `own`."""
        n_variants, n_before = len(x), self.hidden.shape[-1]
        past = None if self.past is None else self.past[i]
        if self.side_by_side:
            point = self.model.blocks[i].attn.hook_attn_scores
            handle = point.register_forward_hook(lambda module, inputs, scores: scores.masked_fill(self._unseen(n_variants), float("-inf")))
            try:
                out, with_own = forward(self.model, x.transpose(0, 1).contiguous(), i, i + 1, {i: past} if past else None)
            finally:
                handle.remove()
            out = out.transpose(0, 1).contiguous()  # else the unembedding reads W_U once for each variant
        else:
            own = {i: past.repeated(n_variants)} if past else None
            out, with_own = forward(self.model, x.flatten(0, 1)[:, None], i, i + 1, own)
            out = out[:, 0].view_as(x)
        first = slice(x.shape[1]), slice(n_before, n_before + 1)
        self.own[i] = Past(with_own[i].keys[first], with_own[i].values[first])
        return out

    def append(self, tokens: Int[Tensor, "example"]) -> None:
        """Go on by one token: the last position as it was last run, variant 0, becomes part of the past."""
        self.past = {i: self.past[i].then(own) if self.past else own for i, own in self.own.items()}
        self.hidden = torch.nn.functional.pad(self.hidden, (0, 1), value=False)
        self.tokens = torch.cat([self.tokens, tokens[:, None]], dim=1)
        with torch.no_grad():
            self.entry = embedded(self.model, self.tokens)[:, -1]

    def _unseen(self, n_variants: int) -> Tensor:
        """Scores that do not count, [example, 1, variant, position]: what is not before the last token, and the other variants."""
        others = ~torch.eye(n_variants, dtype=torch.bool, device=self.hidden.device)
        n_examples, n_before = len(self.hidden), self.hidden.shape[-1]
        return torch.cat([self.hidden.expand(-1, 1, n_variants, n_before), others.expand(n_examples, 1, -1, -1)], dim=-1)

    def _stream(self, entry: Tensor, n_blocks: int) -> list[Rows]:
        """The residual stream before the first block and behind each, one variant."""
        stream = [entry[None]]
        for i in range(n_blocks):
            stream.append(self.block(i, stream[-1]))
        return stream


class Whole:
    """The last token from a pass of the whole model for each edit: the same numbers for any causal model, any hook and whatever hangs, later.

    Args:
        model: a HookedTransformer or TransformerBridge.
        tokens: [example, position].
        ends: position of each prompt's last token.
    """

    def __init__(self, model: Any, tokens: Tokens, ends: Ends) -> None:
        self.model, self.tokens, self.ends = model, tokens, ends
        self.examples = torch.arange(len(tokens), device=tokens.device)

    def logits(self, edits: Sequence[Edit] = (), columns: Columns | None = None) -> ReadOut:
        """See `LastToken.logits`."""
        with torch.no_grad():
            return torch.stack([self._run([], columns), *(self._run([(edit.hook, self._edit(edit))], columns) for edit in edits)])

    def activations(self, hooks: Sequence[str]) -> ByHook:
        """See `LastToken.activations`."""
        with torch.no_grad():
            return self._at_hooks(self._kept(hooks, None)[1])

    def gradients(self, hooks: Sequence[str], columns: Columns, signs: Float[Tensor, "example column"]) -> tuple[ByHook, ByHook]:
        """See `LastToken.gradients`."""
        with torch.enable_grad():
            logits, values = self._kept(hooks, columns)
            slopes = gradients((logits * signs.to(logits)).sum(), values)
        return self._at_hooks(values), self._at_hooks(slopes)

    def _kept(self, hooks: Sequence[str], columns: Columns | None) -> tuple[Tensor, list[Tensor]]:
        """Logits and the whole values of hooks on their way to them."""
        kept: dict[str, Tensor] = {}

        def keep(name: str) -> HookFunction:
            def hook_function(value: Tensor, hook: Any) -> Tensor:
                # The first hook of a model whose weights are frozen is where the graph begins.
                kept[name] = value.detach().requires_grad_() if torch.is_grad_enabled() and not value.requires_grad else value
                return kept[name]

            return hook_function

        logits = self._run([(hook, keep(hook)) for hook in hooks], columns)
        return logits, [kept[hook] for hook in hooks]

    def _at_hooks(self, values: Sequence[Tensor]) -> ByHook:
        return torch.stack([self._last(value) for value in values]).detach()

    def _run(self, hooks: Hooks, columns: Columns | None) -> Tensor:
        with hooked(self.model, hooks):
            logits = self._last(self.model(self.tokens))
        return logits if columns is None else logits[:, columns]

    def _edit(self, edit: Edit) -> Callable[[Tensor, Any], Tensor]:
        def hook_function(value: Tensor, hook: Any) -> Tensor:
            return value.index_put((self.examples, self.ends), edit(self._last(value)))

        return hook_function

    def _last(self, value: Tensor) -> Tensor:
        return value[self.examples, self.ends]
