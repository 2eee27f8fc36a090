"""What a model says behind the last token of each prompt, clean and under edits there, from as little computation as possible.

With causal attention a change at the last position of layer ℓ reaches only that position in later layers. So the earlier positions run once,
their keys and values are kept, and one row for each prompt and edit goes on from the layer where the edit is made; rows of all layers and edits
travel together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grokinterp.ace.core import Project, check_hook
from grokinterp.errors import GrokinterpError
from grokinterp.shapes import Tokens

Ends = Int[Tensor, "example"]
Columns = Int[Tensor, "column"]
Rows = Float[Tensor, "variant example d_model"]
ByHook = Float[Tensor, "hook example d_model"]
ReadOut = Float[Tensor, "variant example column"]

_RESIDUAL = re.compile(r"blocks\.(\d+)\.hook_resid_(pre|post)")
_PLAIN: dict[str, tuple[Any, ...]] = {
    "original_architecture": (None, "GPT2LMHeadModel"),
    "positional_embedding_type": ("standard",),
    "attention_dir": ("causal",),
    "n_key_value_heads": (None,),
    "attn_scores_soft_cap": (-1.0, 0.0, None),
    "output_logits_soft_cap": (-1.0, 0.0, None),
}
_ABSENT = ("parallel_attn_mlp", "use_local_attn", "use_qk_norm", "use_logn_attn", "use_attention_sinks", "use_normalization_before_and_after")


class LastToken(Protocol):
    """The last token of each prompt of a batch, readable at any hook."""

    def logits(self, edits: Sequence[Project] = (), columns: Columns | None = None) -> ReadOut:
        """Logits behind the last token, [1 + edit, example, column]: clean first, then under each edit alone.

        Args:
            edits: each acts at its own hook, on the last token; its `positions` play no part.
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


def last_token(model: Any, tokens: Tokens, ends: Ends, hooks: Sequence[str]) -> LastToken:
    """The fastest reader of the last tokens that gives this model's numbers at these hooks.

    Args:
        model: a HookedTransformer, or a TransformerBridge.
        tokens: [example, position]; what stands behind a prompt's end is never read.
        ends: position of each prompt's last token.
        hooks: where activations will be read or edited.

    Raises:
        GrokinterpError: a hook that the model has not, attention to later tokens, prompts longer than the context.
    """
    for hook in hooks:
        check_hook(model, hook)
    if model.cfg.attention_dir != "causal":
        raise GrokinterpError("the last token is read on its own in causal models; this one attends to later tokens, too")
    if tokens.shape[1] > model.cfg.n_ctx:
        raise GrokinterpError(f"the longest prompt has {tokens.shape[1]} tokens and the model's context {model.cfg.n_ctx}")
    tokens = tokens.to(model.cfg.device)
    if resumable(model) and all(on_the_stream(hook) for hook in hooks):
        return Resumed(model, tokens, ends.to(tokens.device))
    return Whole(model, tokens, ends.to(tokens.device))


def residual_hooks(model: Any) -> list[str]:
    """The residual stream before the first block and after each: n_layers + 1 hooks."""
    return ["blocks.0.hook_resid_pre", *(f"blocks.{i}.hook_resid_post" for i in range(model.cfg.n_layers))]


def resumable(model: Any) -> bool:
    """Whether a model is made of GPT-2's parts, on TransformerLens's HookedTransformer: those that `Resumed` computes with."""
    cfg = model.cfg
    hooked = any(cls.__name__ == "HookedTransformer" for cls in type(model).__mro__)
    plain = all(getattr(cfg, name, None) in accepted for name, accepted in _PLAIN.items())
    return hooked and plain and not any(getattr(cfg, name, False) for name in _ABSENT)


def on_the_stream(hook: str) -> bool:
    """Whether a hook is the residual stream before or after a block."""
    return _RESIDUAL.fullmatch(hook) is not None


def layer_of(hook: str) -> int:
    """The number of blocks before a hook on the residual stream."""
    match = _RESIDUAL.fullmatch(hook)
    assert match is not None
    return int(match[1]) + (match[2] == "post")


class Resumed:
    """The last token from GPT-2's own parts, with the earlier positions' keys and values at hand.

    Hooks that hang on the model act on the earlier positions only.

    Args:
        model: see `resumable`.
        tokens: [example, position].
        ends: position of each prompt's last token.
    """

    def __init__(self, model: Any, tokens: Tokens, ends: Ends) -> None:
        self.model, self.n_layers = model, int(model.cfg.n_layers)
        self.examples = torch.arange(len(tokens), device=tokens.device)
        self.tokens = tokens
        before = tokens[:, : int(ends.max())]
        # [1, example, 1, position] against scores [head, example, variant, position]: what is not before the last token.
        self.hidden = (torch.arange(before.shape[1], device=tokens.device) >= ends[:, None])[None, :, None]
        with torch.no_grad():
            self.past = self._keys_and_values(before)
            self.entry: Tensor = model(tokens, stop_at_layer=0)[self.examples, ends]
        self.own: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * self.n_layers

    def logits(self, edits: Sequence[Project] = (), columns: Columns | None = None) -> ReadOut:
        """See `LastToken.logits`."""
        order: list[int] = []
        with torch.no_grad():
            x = self.entry[None]
            for layer in range(self.n_layers + 1):
                x = self.block(layer - 1, x) if layer else x
                here = [i for i, edit in enumerate(edits) if layer_of(edit.hook) == layer]
                x = torch.cat([x, *(edits[i](x[:1]) for i in here)])
                order += here
            back = torch.tensor([0, *(1 + order.index(i) for i in range(len(edits)))], device=x.device)
            return self.read(x, columns)[back]

    def activations(self, hooks: Sequence[str]) -> ByHook:
        """See `LastToken.activations`."""
        layers = [layer_of(hook) for hook in hooks]
        with torch.no_grad():
            stream = self._stream(self.entry, max(layers))
        return torch.cat([stream[layer] for layer in layers])

    def gradients(self, hooks: Sequence[str], columns: Columns, signs: Float[Tensor, "example column"]) -> tuple[ByHook, ByHook]:
        """See `LastToken.gradients`."""
        with torch.enable_grad():
            stream = self._stream(self.entry.clone().requires_grad_(), self.n_layers)
            score = (self.read(stream[-1], columns)[0] * signs.to(self.entry)).sum()
        chosen = [stream[layer_of(hook)] for hook in hooks]
        gradients = torch.autograd.grad(score, chosen)
        return torch.cat(chosen).detach(), torch.cat(gradients)

    def block(self, i: int, x: Rows) -> Rows:
        """One block at the last position; variant 0's keys and values are noted in `own`."""
        block = self.model.blocks[i]
        attn, normed = block.attn, block.ln1(x)
        q, k, v = (_heads(normed, getattr(attn, f"W_{name}"), getattr(attn, f"b_{name}")) for name in "QKV")
        self.own[i] = k[:, :, :1], v[:, :, :1]
        keys, values = self.past[i]
        scores = torch.cat([(q @ keys.mT).masked_fill(self.hidden, float("-inf")), (q * k).sum(-1, keepdim=True)], dim=-1)
        pattern = (scores / attn.attn_scale).softmax(-1)
        z = pattern[..., :-1] @ values + pattern[..., -1:] * v
        x = x + z.permute(2, 1, 0, 3).flatten(2) @ attn.W_O.flatten(0, 1) + attn.b_O
        return x if self.model.cfg.attn_only else x + block.mlp(block.ln2(x))

    def read(self, x: Rows, columns: Columns | None = None) -> ReadOut:
        """Logits of the residual stream behind the last block."""
        normed = x if self.model.cfg.normalization_type is None else self.model.ln_final(x)
        weights, bias = self.model.W_U, self.model.b_U
        if columns is not None:
            weights, bias = weights[:, columns], bias[columns]
        logits: Tensor = normed @ weights + bias
        return logits

    def append(self, tokens: Int[Tensor, "example"]) -> None:
        """Go on by one token: the last position as it was last run, variant 0, becomes part of the past."""
        self.past = [
            (torch.cat([keys, own[0]], dim=2), torch.cat([values, own[1]], dim=2)) for (keys, values), own in zip(self.past, self.own, strict=True)
        ]
        self.hidden = torch.nn.functional.pad(self.hidden, (0, 1), value=False)
        self.tokens = torch.cat([self.tokens, tokens[:, None]], dim=1)
        with torch.no_grad():
            self.entry = self.model(self.tokens, stop_at_layer=0)[:, -1]

    def _stream(self, entry: Tensor, n_blocks: int) -> list[Rows]:
        """The residual stream before the first block and behind each, one variant."""
        stream = [entry[None]]
        for i in range(n_blocks):
            stream.append(self.block(i, stream[-1]))
        return stream

    def _keys_and_values(self, before: Tokens) -> list[tuple[Tensor, Tensor]]:
        """Of every block at every position, each [head, example, position, d_head]."""
        cfg = self.model.cfg
        if before.shape[1] == 0:
            nothing = self.model.W_E.new_zeros(cfg.n_heads, len(before), 0, cfg.d_head)
            return [(nothing, nothing)] * self.n_layers
        kept: dict[tuple[int, str], Tensor] = {}

        def keep(i: int, name: str) -> Callable[[Tensor, Any], None]:
            def hook_function(value: Tensor, hook: Any) -> None:
                kept[i, name] = value.permute(2, 0, 1, 3).contiguous()

            return hook_function

        hooks = [(f"blocks.{i}.attn.hook_{name}", keep(i, name)) for i in range(self.n_layers) for name in "kv"]
        with self.model.hooks(fwd_hooks=hooks):
            self.model(before, stop_at_layer=self.n_layers)
        return [(kept[i, "k"], kept[i, "v"]) for i in range(self.n_layers)]


class Whole:
    """The last token from a pass of the whole model for each edit: the same numbers for any causal model and any hook, later.

    Args:
        model: a HookedTransformer or TransformerBridge.
        tokens: [example, position].
        ends: position of each prompt's last token.
    """

    def __init__(self, model: Any, tokens: Tokens, ends: Ends) -> None:
        self.model, self.tokens, self.ends = model, tokens, ends
        self.examples = torch.arange(len(tokens), device=tokens.device)

    def logits(self, edits: Sequence[Project] = (), columns: Columns | None = None) -> ReadOut:
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
            gradients = torch.autograd.grad((logits * signs.to(logits)).sum(), values)
        return self._at_hooks(values), self._at_hooks(gradients)

    def _kept(self, hooks: Sequence[str], columns: Columns | None) -> tuple[Tensor, list[Tensor]]:
        """Logits and the whole values of hooks on their way to them."""
        kept: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[Tensor, Any], Tensor]:
            def hook_function(value: Tensor, hook: Any) -> Tensor:
                # The first hook of a model whose weights are frozen is where the graph begins.
                kept[name] = value.detach().requires_grad_() if torch.is_grad_enabled() and not value.requires_grad else value
                return kept[name]

            return hook_function

        logits = self._run([(hook, keep(hook)) for hook in hooks], columns)
        return logits, [kept[hook] for hook in hooks]

    def _at_hooks(self, values: Sequence[Tensor]) -> ByHook:
        return torch.stack([self._last(value) for value in values]).detach()

    def _run(self, hooks: list[tuple[str, Callable[..., Tensor]]], columns: Columns | None) -> Tensor:
        with self.model.hooks(fwd_hooks=hooks):
            logits = self._last(self.model(self.tokens))
        return logits if columns is None else logits[:, columns]

    def _edit(self, edit: Project) -> Callable[[Tensor, Any], Tensor]:
        def hook_function(value: Tensor, hook: Any) -> Tensor:
            return value.index_put((self.examples, self.ends), edit(self._last(value)))

        return hook_function

    def _last(self, value: Tensor) -> Tensor:
        return value[self.examples, self.ends]


def _heads(x: Rows, weight: Float[Tensor, "head d_model d_head"], bias: Float[Tensor, "head d_head"]) -> Float[Tensor, "head example variant d_head"]:
    flat = x.flatten(0, 1) @ weight + bias[:, None]
    return flat.view(len(weight), *x.shape[:2], -1).transpose(1, 2)
