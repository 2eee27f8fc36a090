"""Going on after a block: a model's own blocks from any layer to any other, with the keys and values of earlier positions at hand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from grokinterp.models.adapter import Adapter, rounding
from grokinterp.models.past import Past
from grokinterp.models.replay import Replay


class Blocks(Protocol):
    """A model's own blocks, from any to any."""

    def embedded(self, tokens: Tensor) -> Tensor:
        """The residual stream before the first block, [row, position, d_model]."""
        ...

    def forward(self, stream: Tensor, start: int, stop: int, past: dict[int, Past] | None = None) -> tuple[Tensor, dict[int, Past]]:
        """The residual stream after blocks `start` to `stop`, and their keys and values, those of earlier positions first."""
        ...


@dataclass(frozen=True, eq=False)
class HookedBlocks:
    """The blocks of a HookedTransformer that `remembers`, see `Blocks`."""

    model: Any

    def embedded(self, tokens: Tensor) -> Tensor:
        """See `Blocks.embedded`."""
        stream: Tensor = self.model(tokens, stop_at_layer=0, **Adapter(self.model).pass_options)
        return stream

    def forward(self, stream: Tensor, start: int, stop: int, past: dict[int, Past] | None = None) -> tuple[Tensor, dict[int, Past]]:
        """See `Blocks.forward`."""
        return forward(self.model, stream, start, stop, past)


def blocks_of(model: Any) -> Blocks | None:
    """The blocks of a causal model that can be run alone with the numbers of a whole pass; None where they cannot, as where something hangs on it.

    What holds for a TransformerBridge depends on the model that it wraps, so it is tried out: two rows of four tokens, in two parts and whole.
    """
    adapter = Adapter(model)
    if remembers(model):
        return HookedBlocks(model)
    if adapter.bridge and adapter.bare and adapter.causal:
        replay = Replay(model)
        return replay if _agrees(replay) else None
    return None


def _agrees(replay: Replay) -> bool:
    model = replay.model
    tokens = torch.arange(8, device=Adapter(model).device).reshape(2, 4) % int(model.cfg.d_vocab)
    try:
        with torch.no_grad():
            whole = model(tokens)[:, 2:]
            stream = replay.embedded(tokens)
            _, past = replay.forward(stream[:, :2], 0, replay.n_layers)
            found = logits_of(model, replay.forward(stream[:, 2:], 0, replay.n_layers, past)[0])
    except Exception:  # another library's model, which may do anything on a path that it was not made for
        return False
    return found.shape == whole.shape and float((found - whole).abs().max()) <= rounding(whole)


def resumes(model: Any) -> bool:
    """Whether blocks can be run on their own with the numbers of a whole pass: a bare HookedTransformer on one device."""
    adapter, cfg = Adapter(model), model.cfg
    # Shortformer's blocks take the position embeddings beside the stream; T5's share a bias that the first of them computes.
    alone = adapter.hooked and cfg.positional_embedding_type not in ("shortformer", "relative_positional_bias")
    return alone and (getattr(cfg, "n_devices", None) or 1) == 1 and adapter.bare


def remembers(model: Any) -> bool:
    """Whether blocks can also run on later positions alone, given the keys and values of earlier ones."""
    return resumes(model) and Adapter(model).causal and not model.cfg.ungroup_grouped_query_attention


def knows_no_position(model: Any) -> bool:
    """Whether every block treats all positions alike, since position enters through the residual stream alone; False for a TransformerBridge."""
    adapter, cfg = Adapter(model), model.cfg
    return not adapter.bridge and cfg.positional_embedding_type == "standard" and not cfg.use_local_attn and not cfg.use_logn_attn


def forward(model: Any, stream: Tensor, start: int, stop: int | None = None, past: dict[int, Past] | None = None) -> tuple[Tensor, dict[int, Past]]:
    """The model's own blocks from one to another: the residual stream after them, or logits, and each block's keys and values, the past first.

    Args:
        model: see `resumes`.
        stream: residual stream before block `start` [example, position, d_model].
        start: the first block that runs; n_layers for none.
        stop: the block before which the pass ends; None for logits.
        past: keys and values of earlier positions for each block that runs; None where there are none.
    """
    n_layers = int(model.cfg.n_layers)
    behind = n_layers if stop is None else stop
    before = {block: _nothing(model, stream) if past is None else past[block] for block in range(start, behind)}
    cache, entries = _cache(model, len(stream), before)
    out: Tensor = model(stream, start_at_layer=start, stop_at_layer=stop, past_kv_cache=cache)
    return out, {block: Past(entries[block].past_keys, entries[block].past_values) for block in range(start, behind)}


def _cache(model: Any, n_examples: int, past: dict[int, Past]) -> tuple[Any, Mapping[int, Any]]:
    """What the model's own forward takes for its cache, and the entry in it of each block."""
    from grokinterp.models.toy import KeyValues, ToyTransformer  # here, so that what only trains needs no TransformerLens

    if isinstance(model, ToyTransformer):
        own = {block: KeyValues(before.keys, before.values) for block, before in past.items()}
        return own, own
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
    from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry as Entry

    entries = {block: Entry(before.keys, before.values) for block, before in past.items()}
    unused = Entry(torch.zeros(0), torch.zeros(0))
    listed = [entries.get(block, unused) for block in range(model.cfg.n_layers)]
    return TransformerLensKeyValueCache(listed, previous_attention_mask=torch.ones(n_examples, 0, dtype=torch.int64)), entries


@contextlib.contextmanager
def laid_out(model: Any) -> Iterator[None]:
    """Attention weights of a HookedTransformer in memory as its matrix products read them, for the length of a ``with`` block.

    Its blocks copy these weights at every call, which a single token notices: the same numbers, in an order of memory that needs no copy. Other
    models are left as they are. A second copy of these weights is held meanwhile.
    """
    before: list[tuple[Tensor, Tensor]] = []
    try:
        for block in model.blocks if Adapter(model).hooked else ():
            for name, weight in block.attn.named_parameters(recurse=False):
                if weight.ndim == 3:  # [head, d_model, d_head], read as [head · d_head, d_model]; W_O [head, d_head, d_model], as [d_model, …]
                    before.append((weight, weight.data))
                    moved = weight.data.permute(2, 0, 1) if name == "W_O" else weight.data.transpose(1, 2)
                    weight.data = moved.contiguous().permute(1, 2, 0) if name == "W_O" else moved.contiguous().transpose(1, 2)
        yield
    finally:
        for weight, data in before:
            weight.data = data


def logits_of(model: Any, stream: Tensor, columns: Tensor | None = None) -> Tensor:
    """Logits, or some of them, of the residual stream after the last block, [..., column].

    Not through the unembedding's own forward, which copies W_U at each call; a model that `resumes` has nothing hanging there.

    Args:
        model: see `resumes`.
        stream: [..., d_model].
        columns: which logits; None for all.
    """
    normed = stream if model.cfg.normalization_type is None else model.ln_final(stream)
    weights, bias = model.W_U, model.b_U
    if columns is not None:
        weights, bias = weights[:, columns], bias[columns]
    logits: Tensor = normed @ weights + bias
    cap = Adapter(model).soft_cap
    return cap * torch.tanh(logits / cap) if cap else logits


def _nothing(model: Any, stream: Tensor) -> Past:
    """Keys and values of no position."""
    cfg = model.cfg
    empty = stream.new_zeros(len(stream), 0, cfg.n_key_value_heads or cfg.n_heads, cfg.d_head)
    return Past(empty, empty)


def gradients(output: Tensor, inputs: Sequence[Tensor], cotangent: Tensor | None = None) -> tuple[Tensor, ...]:
    """The gradient of Σ cotangent · output at each input; zeros where the output does not depend on it, as after a hook that sets all to 0.

    Args:
        output: of any shape, or a scalar without a cotangent.
        inputs: tensors that require gradients.
        cotangent: of the output's shape; None for a scalar output.
    """
    if not output.requires_grad:
        return tuple(torch.zeros_like(value) for value in inputs)
    found = torch.autograd.grad(output, list(inputs), cotangent, retain_graph=True, allow_unused=True)
    return tuple(torch.zeros_like(value) if gradient is None else gradient for value, gradient in zip(inputs, found, strict=True))
