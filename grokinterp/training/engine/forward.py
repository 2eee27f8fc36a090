"""The forward pass of R toy transformers at once, from stacked parameters, with nothing computed twice.

The residual stream at a position is the same for all inputs that agree on what the position has seen: its own token
before the first attention, the whole prefix after it (the whole input without a causal mask). So a batch is not
[example, position] here but one list of distinct rows, position after position, and attention is the only thing that
moves between rows. The last block computes the read-out position alone.

HookedTransformer is the specification; the tests compare losses and every gradient with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from grokinterp.interventions.architecture import UniformAttention
from grokinterp.interventions.attention import AttentionRate
from grokinterp.models.transformers import ModelConfig
from grokinterp.training.engine.edits import edited, layer_norm, unembedding
from grokinterp.training.engine.layout import Block, Layout, Query, RowIndex, StackedExamples

FEW_ROWS = 512  # on a GPU: up to here gradients of shared rows are matrix products (chosen here)
MIXED_ELEMENTS = 2**17  # products of attention patterns and values at a time (chosen here: half a megabyte in float32, within a core's cache)

Stacked = Float[Tensor, "member _ _"]  # rows and their features; their numbers change within a function
StackedLogits = Float[Tensor, "member _ answer"]


def logits(
    config: ModelConfig, weights: Mapping[str, Tensor], layout: Layout, batch: StackedExamples, kept: list[list[Tensor]] | None = None
) -> StackedLogits:
    """All logits at the read-out position, for each member's own examples.

    Args:
        config: the architecture that the members share.
        weights: stacked parameters [member, ...] by their names in HookedTransformer; absent biases are left out.
        layout: of the task's table.
        batch: example indices.
        kept: takes the attention patterns [member, output, source, head] of each block, one for each position; the last block then has all of them.
    """
    blocks, final = layout.wire(batch, everywhere=kept is not None)
    tokens, positions = (index.expand(len(batch), -1) for index in (layout.tokens, layout.positions))
    rows = take(weights["embed.W_E"], tokens) + take(weights["pos_embed.W_pos"], positions)
    if (pool := layout.pool(batch)) is not None:
        rows = _mean(rows, pool)
    rows = edited(config, weights, "post_embed_norm", rows)
    for layer in range(config.n_layers):
        prefix = f"blocks.{layer}."
        own = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
        rows = edited(config, own, "post_attn_norm", _attention(config, own, rows, blocks[layer], kept) if blocks else rows)
        if config.d_mlp:
            rows = edited(config, own, "post_mlp_norm", _mlp(config, own, rows))
    rows = _linear(_norm(config, weights, "ln_final", rows), unembedding(config, weights), weights.get("unembed.b_U"))
    return take(rows, final)


def on_gpu(rows: Tensor) -> bool:
    """Whether to compute as a GPU wants it: sums in one order, few and large operations that can be fused, nothing cut up to fit a cache."""
    return rows.is_cuda


def take(rows: Stacked, index: RowIndex | None) -> Stacked:
    """Each member's rows at its own indices; None leaves them as they are."""
    if index is None:
        return rows
    if on_gpu(rows) and rows.shape[1] <= FEW_ROWS:
        taken: Stacked = _TakeOfFew.apply(rows, index)  # type: ignore[no-untyped-call]
        return taken
    flat, at = rows.flatten(0, 1), index + torch.arange(len(rows), device=rows.device)[:, None] * rows.shape[1]
    if on_gpu(rows):  # where the gradient of index_select would add up in no fixed order
        return functional.embedding(at, flat)
    return flat.index_select(0, at.flatten()).view(*index.shape, -1)


class _TakeOfFew(torch.autograd.Function):
    """Rows at given indices, whose gradients a matrix product with zeros and ones adds up: on a GPU in one order, and fast where rows are few."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.n_rows = rows.shape[1]
        return rows.gather(1, index[..., None].expand(-1, -1, rows.shape[2]))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,), (index,) = gradients, ctx.saved_tensors
        is_row = index[:, None] == torch.arange(ctx.n_rows, device=index.device)[:, None]
        return torch.bmm(is_row.to(gradient.dtype), gradient), None


def _mean(rows: Stacked, sources: Int[Tensor, "member output source"]) -> Stacked:
    """The mean of the rows that each output row has as its sources."""
    return take(rows, sources.flatten(1)).view(*sources.shape, -1).mean(2)


def _attention(config: ModelConfig, w: Mapping[str, Tensor], rows: Stacked, block: Block, kept: list[list[Tensor]] | None = None) -> Stacked:
    """The residual stream after attention, at the output rows of the block's queries; `kept` takes their patterns."""
    heads = (config.n_heads, config.head_width)
    normed = _norm(config, w, "ln1", rows)
    uniform, rate = config.intervention(UniformAttention), config.intervention(AttentionRate)
    if uniform or not on_gpu(rows):
        values = _project(normed, w, "V")
        keys = values if uniform else _project(normed, w, "K")
    else:  # one large matrix product instead of two
        keys, values = _project(normed, w, "KV").chunk(2, dim=2)
    before, here = torch.split(rows, block.sizes, 1), torch.split(normed, block.sizes, 1)
    carried, mixed, patterns = [], [], []
    for query in block.queries:
        n_rows, n_sources = query.sources.shape[1:]
        pattern = None
        if uniform:
            mixed.append(_mean(values, query.sources))
        elif n_sources > 1:
            scores = _scores(_project(here[query.position], w, "Q"), keys, query, heads, block.sizes)
            pattern = torch.softmax(scores / config.head_width**0.5, dim=2)
            if rate:
                pattern = rate.mixed(pattern.mT, pattern.new_ones(n_sources)).mT
            mixed.append(_mix(pattern, values, query, block.sizes))
        else:  # a position that sees only itself attends to it fully, at any rate
            mixed.append(take(torch.split(values, block.sizes, 1)[0], query.local[0]))
        if kept is not None:
            even = rows.new_full((len(rows), n_rows, n_sources, config.n_heads), 1 / n_sources)
            patterns.append(even if pattern is None else pattern)
        carried.append(take(before[query.position], query.own).expand(-1, n_rows, -1))
    if kept is not None:
        kept.append(patterns)
    residual, z = (parts[0] if len(parts) == 1 else torch.cat(parts, 1) for parts in (carried, mixed))
    return _add_linear(residual, z, w["attn.W_O"].flatten(1, 2), w.get("attn.b_O"))


def _scores(asking: Stacked, keys: Stacked, query: Query, heads: tuple[int, int], sizes: list[int]) -> Float[Tensor, "member output source head"]:
    """Query times key of every output row with each of its sources, for each head."""
    if on_gpu(keys):
        own = take(asking, query.own)
        return torch.stack([_dot(own, each, heads) for each in _by_source(keys, query, sizes)], 2)
    n_keys, shape = keys.shape[1], query.sources.shape
    if asking.shape[1] * n_keys > shape[1]:
        return _dot(take(asking, query.own)[:, :, None], take(keys, query.sources.flatten(1)).view(*shape, -1), heads)
    # Fewer pairs of distinct rows than outputs: score each pair once and look it up. Here `own` is None for a single
    # asking row only: as many asking rows as outputs make more pairs, there being two sources or more.
    pairs = _dot(asking[:, :, None], keys[:, None], heads)
    asked = query.sources if query.own is None else query.own[..., None] * n_keys + query.sources
    return take(pairs.flatten(1, 2), asked.flatten(1)).view(*shape, -1)


def _by_source(rows: Stacked, query: Query, sizes: list[int]) -> list[Stacked]:
    """The rows that the output rows attend to, source by source: on a GPU a view where each has its own, so that nothing is copied."""
    return [take(own, index) for own, index in zip(torch.split(rows, sizes, 1), query.local, strict=False)]


def _mix(pattern: Float[Tensor, "member output source head"], values: Stacked, query: Query, sizes: list[int]) -> Stacked:
    """Each output row's values, weighted head by head by its attention pattern."""
    n_members, n_outputs, _, n_heads = pattern.shape
    if on_gpu(values):  # where the sums of `_Mix.backward` would add up in no fixed order
        each_source = torch.stack([each.reshape(*each.shape[:2], n_heads, -1) for each in _by_source(values, query, sizes)], 2)
        return (pattern[..., None] * each_source).sum(2).flatten(2)
    rows = query.sources + torch.arange(n_members)[:, None, None] * values.shape[1]
    mixed: Tensor = _Mix.apply(pattern.flatten(0, 1), values.flatten(0, 1), rows.flatten(0, 1))  # type: ignore[no-untyped-call]
    return mixed.view(n_members, n_outputs, -1)


class _Mix(torch.autograd.Function):
    """The sum over sources of pattern times value, a few outputs at a time: the products of all of them would go to memory and back."""

    @staticmethod
    def forward(ctx: Any, pattern: Tensor, values: Tensor, sources: Tensor) -> Tensor:
        ctx.save_for_backward(pattern, values, sources)
        mixed = values.new_empty(len(pattern), values.shape[1])
        for part in _parts(pattern, values):
            products = _at_heads(values, sources[part], pattern.shape[2]).mul_(pattern[part][..., None])
            torch.sum(products, 1, out=mixed[part].view(-1, *products.shape[2:]))
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,), (pattern, values, sources) = gradients, ctx.saved_tensors
        of_pattern, of_values = torch.empty_like(pattern), torch.zeros_like(values)
        for part in _parts(pattern, values):
            products = _at_heads(values, sources[part], pattern.shape[2])
            own = gradient[part].view(-1, 1, *products.shape[2:])
            torch.sum(products.mul_(own), -1, out=of_pattern[part])
            torch.mul(pattern[part][..., None], own, out=products)
            of_values.index_add_(0, sources[part].flatten(), products.flatten(2).flatten(0, 1))
        return of_pattern, of_values, None


def _at_heads(values: Tensor, sources: Tensor, n_heads: int) -> Tensor:
    """A copy of the values of each source, [output, source, head, feature]."""
    return values.index_select(0, sources.flatten()).view(*sources.shape, n_heads, -1)


def _parts(pattern: Tensor, values: Tensor) -> Iterator[slice]:
    """Outputs in parts whose products stay in cache."""
    size = max(1, MIXED_ELEMENTS // (pattern.shape[1] * values.shape[1]))
    return (slice(start, start + size) for start in range(0, len(pattern), size))


def _dot(left: Tensor, right: Tensor, heads: tuple[int, int]) -> Tensor:
    """Inner products head by head, of vectors that hold all heads side by side."""
    product = left * right
    return product.view(*product.shape[:-1], *heads).sum(-1)


def _mlp(config: ModelConfig, w: Mapping[str, Tensor], rows: Stacked) -> Stacked:
    """The residual stream after the MLP."""
    before = _linear(_norm(config, w, "ln2", rows), w["mlp.W_in"], w.get("mlp.b_in"))
    if config.act_fn == "relu":
        hidden: Tensor = functional.relu(before) if on_gpu(before) else _Relu.apply(before)  # type: ignore[no-untyped-call]
    else:
        hidden = functional.gelu(before)
    return _add_linear(rows, hidden, w["mlp.W_out"], w.get("mlp.b_out"))


class _Relu(torch.autograd.Function):
    """ReLU in place, forward and backward: nothing else needs what goes in, and the hidden layer is the widest tensor of a step.

    With ``functional.relu`` in its place a step of the model of 2301.05217 (p = 113, full batch, one thread) takes 7 % more processor time, by the
    median of 60 pairs of steps taken in turn.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.mark_dirty(values)
        torch.relu_(values)
        ctx.save_for_backward(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,), (values,) = gradients, ctx.saved_tensors
        # The gradient comes fresh from a matrix product that nobody else reads.
        torch.ops.aten.threshold_backward.grad_input(gradient, values, 0, grad_input=gradient)
        return gradient


def _norm(config: ModelConfig, w: Mapping[str, Tensor], name: str, rows: Stacked) -> Stacked:
    """LayerNorm before a layer, or the rows as they are."""
    return rows if config.normalization == "none" else layer_norm(w, name, rows)


def _project(rows: Stacked, w: Mapping[str, Tensor], which: str) -> Stacked:
    """Queries, keys or values of all heads side by side, or several of them one after the other."""
    weights = [w[f"attn.W_{each}"].transpose(1, 2).flatten(2) for each in which]
    biases = [w[f"attn.b_{each}"].flatten(1) for each in which if f"attn.b_{each}" in w]
    return _linear(rows, _side_by_side(weights, 2), _side_by_side(biases, 1) if biases else None)


def _side_by_side(parts: list[Tensor], dimension: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dimension)


def _linear(rows: Stacked, weight: Tensor, bias: Tensor | None) -> Stacked:
    if bias is None:
        return torch.bmm(rows, weight)
    # On a GPU an addition of its own can be fused with what follows; baddbmm would write the bias out first.
    return torch.bmm(rows, weight) + bias[:, None] if on_gpu(rows) else torch.baddbmm(bias[:, None], rows, weight)


def _add_linear(residual: Stacked, rows: Stacked, weight: Tensor, bias: Tensor | None) -> Stacked:
    start = residual if bias is None else residual + bias[:, None]
    return start + torch.bmm(rows, weight) if on_gpu(rows) else torch.baddbmm(start, rows, weight)
