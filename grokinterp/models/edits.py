"""Edits on a model while it runs: checked by name, carried out alike on every backend, and counted, so that one that did nothing is an error."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.models.adapter import Adapter

HookFunction = Callable[..., Any]
Hooks = Sequence[tuple[str, HookFunction]]
"""Names of hook points with functions ``(value, hook)`` that return the new value, or None to leave it."""


@dataclass(frozen=True)
class ReadOnly:
    """A hook function that reads a value and leaves it as it is."""

    function: HookFunction

    def __call__(self, value: Tensor, hook: Any) -> None:
        self.function(value, hook=hook)


_MASKED = -1e9  # scores below belong to positions that must not be attended to, −∞ or the least number of the type


@contextlib.contextmanager
def hooked(model: Any, hooks: Hooks) -> Iterator[Any]:
    """The model with forward hooks on it for the length of a ``with`` block, each meaning what it means on a HookedTransformer.

    Args:
        model: a HookedTransformer, a TransformerBridge, or another module with hook points.
        hooks: each acts after those that are on the model already.

    Raises:
        GrokinterpError: a hook that the model lacks or does not compute, or an edit that this backend would discard.
    """
    ready = for_backend(model, hooks)
    with contextlib.ExitStack() as stack:
        stack.enter_context(model.hooks(fwd_hooks=[(name, function) for name, function in ready if not getattr(function, "first", False)]))
        for name, function in ready:
            if getattr(function, "first", False):
                stack.callback(_put_first(model.hook_dict[name], function))
        yield model


@contextlib.contextmanager
def applied(model: Any, hooks: Hooks) -> Iterator[Any]:
    """The same as `hooked` for edits that have to act: a hook that no pass has reached is an error at the end of the block.

    Args:
        model: see `hooked`.
        hooks: see `hooked`; at least one.

    Raises:
        GrokinterpError: see `hooked`; and at the end, where the model ran, a hook that never fired.
    """
    ready = for_backend(model, hooks)
    with counted(model, [name for name, _ in ready]) as fired, hooked(model, [(name, _noting(fired, name, function)) for name, function in ready]):
        yield model


@contextlib.contextmanager
def counted(model: Any, names: Sequence[str]) -> Iterator[Callable[[str], None]]:
    """A function to be called with the name of what fires; what never did is an error at the end, where the model ran.

    Args:
        model: whose passes count.
        names: what has to fire.

    Raises:
        GrokinterpError: no names; at the end, a name that never fired.
    """
    if not names:
        raise GrokinterpError(f"an edit without a hook changes nothing; got {list(names)}")
    counts: Counter[str] = Counter()
    passes: list[None] = []
    handle = model.register_forward_pre_hook(lambda *_: passes.append(None))
    try:
        yield lambda name: counts.update([name])
    finally:
        handle.remove()
    if passes and (silent := [name for name in names if not counts[name]]):
        raise GrokinterpError(
            f"{silent[0]} never fired in {len(passes)} passes, so that the edit there changed nothing: no pass reached it, or this model computes "
            "its value elsewhere; check the hook with model.run_with_cache"
        )


def uniform_attention(model: Any) -> list[tuple[str, HookFunction]]:
    """Hooks under which every position that may be attended to has the same weight.

    On a HookedTransformer scores become 0 after everything that is added to them; on a TransformerBridge, whose scores may be out of reach, queries
    do, under the model's own mask.

    Raises:
        GrokinterpError: a TransformerBridge that adds a bias by distance to the scores, as ALiBi does.
    """
    adapter = Adapter(model)
    if not adapter.bridge:
        return for_backend(model, [(f"blocks.{layer}.attn.hook_attn_scores", _scores_to_zero) for layer in range(adapter.n_layers)])
    kind = str(getattr(model.cfg, "positional_embedding_type", "standard"))
    if "alibi" in kind or "relative" in kind:
        raise GrokinterpError(f"uniform attention is not exact on this TransformerBridge, whose scores carry a bias of their own ({kind})")
    return for_backend(model, [(f"blocks.{layer}.attn.hook_q", _to_zero) for layer in range(adapter.n_layers)])


def _scores_to_zero(value: Tensor, hook: Any) -> Tensor:
    return torch.where(value < _MASKED, value, 0.0)


def _to_zero(value: Tensor, hook: Any) -> Tensor:
    return torch.zeros_like(value)


def _noting(fired: Callable[[str], None], name: str, function: HookFunction) -> HookFunction:
    def hook_function(value: Tensor, hook: Any) -> Any:
        fired(name)
        return function(value, hook=hook)

    return replace(function, function=hook_function) if isinstance(function, _Carried) else hook_function


def for_backend(model: Any, hooks: Hooks) -> list[tuple[str, HookFunction]]:
    """Hooks that do on this model what the given ones do on a HookedTransformer.

    On a TransformerBridge an edit of the stream between attention and MLP is added after the block, too: at its own hook it reaches the MLP, but not
    the skip connection.

    Args:
        model: see `hooked`.
        hooks: as for a HookedTransformer.

    Raises:
        GrokinterpError: see `hooked`.
    """
    adapter = Adapter(model)
    for name, _ in hooks:
        adapter.check_hook(name)
    if not adapter.bridge:
        return list(hooks)
    translated: list[tuple[str, HookFunction]] = []
    for name, function in hooks:
        if isinstance(function, _Carried):
            translated.append((name, function))
        elif isinstance(function, ReadOnly):
            translated.append((name, _Carried(_called(name, function))))
        elif name.endswith(".hook_resid_mid"):
            translated += _between(name.removesuffix("hook_resid_mid"), _called(name, function))
        else:
            if name.endswith(("hook_pattern", "hook_attn_scores")):
                _check_acts(adapter, name)
            translated.append((name, _Carried(_called(name, function))))
    return translated


def _called(name: str, function: HookFunction) -> HookFunction:
    """The function with a hook that has the asked name: a bridge hands over the name that it gives the place itself."""
    return lambda value, hook: function(value, hook=_Named(name, hook))


class _Named:
    """A hook point under another name."""

    def __init__(self, name: str, point: Any) -> None:
        self.name, self._point = name, point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._point, name)


def _between(block: str, function: HookFunction) -> list[tuple[str, HookFunction]]:
    """An edit of the residual stream between attention and MLP, on a bridge, where an edit there reaches the MLP but not the skip connection.

    What the edit adds is added to the stream after the block as well, before anybody sees it there.
    """
    added: list[Tensor] = []

    def change(value: Tensor, hook: Any) -> Tensor | None:
        added.clear()
        middle = value.clone()
        version = middle._version
        result = function(middle, hook=hook)
        if result is None and middle._version == version:
            return None  # it only looked
        changed: Tensor = middle if result is None else result
        added.append(changed - value)
        return changed

    def add(value: Tensor, hook: Any) -> Tensor | None:
        return value + added.pop() if added else None

    return [(block + "hook_resid_mid", _Carried(change)), (block + "hook_resid_post", _Carried(add, first=True))]


def _put_first(point: Any, function: HookFunction) -> Callable[[], None]:
    """Put a function before the others of a hook point; what is returned takes it off."""
    point.add_hook(function, prepend=True)
    handle = point.fwd_hooks[0]

    def remove() -> None:
        handle.hook.remove()
        if handle in point.fwd_hooks:
            point.fwd_hooks.remove(handle)

    return remove


@dataclass(frozen=True)
class _Carried:
    """A hook function as this backend carries it out, ready to be put on; `first` before all others at its hook."""

    function: HookFunction
    first: bool = False

    def __call__(self, value: Tensor, hook: Any) -> Any:
        return self.function(value, hook=hook)


def _check_acts(adapter: Adapter, name: str) -> None:
    """Raise unless an edit of attention scores or patterns reaches the logits: where the wrapped model attends by itself, it does not."""
    model, answers = adapter.model, []
    tokens = torch.arange(min(3, int(model.cfg.n_ctx)), device=adapter.device)[None] % int(model.cfg.d_vocab)

    def change(value: Tensor, hook: Any) -> Tensor:
        return value + torch.arange(1.0, 1.0 + value.numel(), device=value.device).reshape(value.shape).to(value.dtype)

    with torch.no_grad():
        for hooks in ([], [(name, change)]):
            with model.hooks(fwd_hooks=hooks):
                answers.append(model(tokens))
    if torch.equal(*answers):
        raise GrokinterpError(
            f"an edit at {name} changes nothing on this TransformerBridge, whose model attends by itself; "
            "edit hook_q, hook_k, hook_v or hook_z of the same layer instead, or use a HookedTransformer"
        )
