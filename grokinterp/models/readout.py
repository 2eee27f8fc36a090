"""Logits and activations at the read-out position, with the last block computed there alone where that changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.models.adapter import Adapter
from grokinterp.models.edits import HookFunction, Hooks, ReadOnly, hooked
from grokinterp.models.hanging import refuse_dropout
from grokinterp.shapes import Tokens

BATCH = 2_048  # examples a forward pass: as fast as the whole table at once, and what it allocates is small enough to be used again (chosen here)

OUTPUT = "output"
"""The name of the logits among the values at the read-out."""


def at_readout(model: Any, tokens: Tokens, position: int, hooks: Sequence[str] = (), edits: Hooks = (), batch_size: int = BATCH) -> dict[str, Tensor]:
    """Logits (`OUTPUT`) and the values of hooks at one position of every example, each [example, …], on the CPU.

    On a bare HookedTransformer the last block is computed at that position alone, see `readout_hooks`, a few examples at a time. Where something
    hangs on the model, all positions of all examples go through it at once: a hook may need the whole table.

    Args:
        model: a HookedTransformer, a TransformerBridge, or another module with hook points.
        tokens: the inputs.
        position: of the read-out; negative counts from the end.
        hooks: whose values are kept.
        edits: put on for this pass; they have to bear values at the read-out position alone, in the last block.
        batch_size: examples at once on a bare model.

    Raises:
        GrokinterpError: a hook that the model lacks, one that does not fire, one whose values have no positions; dropout in force.
    """
    refuse_dropout(model)
    adapter = Adapter(model)
    bare, n_positions = adapter.bare, tokens.shape[1]
    kept: dict[str, list[Tensor]] = {name: [] for name in (*hooks, OUTPUT)}

    def keep(name: str) -> HookFunction:
        def hook_function(value: Tensor, hook: Any) -> None:
            kept[name].append(_for_each(adapter.at_position(name, value, position, n_positions), n_examples).cpu())

        return hook_function

    shortcut = readout_hooks(model, position) if bare else []
    with torch.no_grad(), hooked(model, [*edits, *shortcut, *((name, ReadOnly(keep(name))) for name in hooks)]):
        for batch in torch.split(tokens.to(adapter.device), batch_size if bare else max(len(tokens), 1)):
            n_examples = len(batch)
            kept[OUTPUT].append(adapter.at_position(OUTPUT, model(batch, **adapter.pass_options), position, n_positions).cpu())
    for name, values in kept.items():
        if len(values) != len(kept[OUTPUT]):
            raise GrokinterpError(f"hook {name!r} fired {len(values)} times in {len(kept[OUTPUT])} passes of this model, so it has no values to read")
    return {name: values[0] if len(values) == 1 else torch.cat(values) for name, values in kept.items()}


def values_of(model: Any, tokens: Tokens, hooks: Sequence[str]) -> dict[str, Tensor]:
    """The whole values of hooks, by the names asked for; one pass, on a bare model no further than they need.

    Args:
        model: a HookedTransformer, a TransformerBridge, or another module with hook points.
        tokens: the inputs.
        hooks: whose values are kept, as every other hook on the model leaves them.

    Raises:
        GrokinterpError: a hook that the model lacks, or one that does not fire; dropout in force.
    """
    refuse_dropout(model)
    adapter = Adapter(model)
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> HookFunction:
        def hook_function(value: Tensor, hook: Any) -> None:
            kept[name] = value

        return hook_function

    n_blocks = adapter.n_blocks_for(*hooks)
    # On a TransformerBridge a pass that stops after the last block goes on to the logits, which is as well.
    options = {"stop_at_layer": n_blocks} if n_blocks is not None and adapter.bare else {}
    with torch.no_grad(), hooked(model, [(name, ReadOnly(keep(name))) for name in hooks]):
        model(tokens.to(adapter.device), **options, **adapter.pass_options)
    if silent := [name for name in hooks if name not in kept]:
        raise GrokinterpError(f"hook {silent[0]!r} did not fire in a pass of this model, so it has no values")
    return {name: kept[name] for name in hooks}


def readout_hooks(model: Any, position: int) -> list[tuple[str, Callable[..., Tensor]]]:
    """Forward hooks after which the last block's attention output, MLP and logits exist at one position only.

    Values at that position are unchanged; at the cut hooks and after them the position dimension has length 1. Only
    a HookedTransformer's own sequential blocks are cut; any other model gets no hooks, and computes every position.

    Args:
        model: a HookedTransformer; something else is accepted and left alone.
        position: the read-out position; negative counts from the end.
    """
    adapter = Adapter(model)
    if not adapter.hooked or adapter.parallel or not adapter.n_layers:
        return []

    def one_query(pattern: Tensor, hook: Any) -> Tensor:
        query = position % pattern.shape[2]
        return pattern[:, :, query : query + 1]

    def one_position(resid: Tensor, hook: Any) -> Tensor:
        at = position % resid.shape[1]
        return resid[:, at : at + 1]

    block = f"blocks.{adapter.n_layers - 1}"
    # The attention output, one position long, is added to the residual stream at every position; the right sum is kept.
    cut = "hook_resid_post" if model.cfg.attn_only else "hook_resid_mid"
    return [(f"{block}.attn.hook_pattern", one_query), (f"{block}.{cut}", one_position)]


def _for_each(value: Tensor, n_examples: int) -> Tensor:
    """Values with one entry for each example, where they are the same for all, like position embeddings on a bridge."""
    if len(value) == n_examples:
        return value
    if len(value) == 1:
        return value.expand(n_examples, *value.shape[1:])
    raise GrokinterpError(f"a hook's values have {len(value)} entries for {n_examples} examples, so they cannot be told apart by example")
