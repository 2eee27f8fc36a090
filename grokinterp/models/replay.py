"""Going on after a block of another library's model: every block is called the way the model itself calls it.

A TransformerBridge cannot begin at a block. But what its model hands to a block beside the residual stream, masks and rotations, depends on nothing
but how many positions stand before and how many come. So one pass whose blocks do nothing shows the calls, and blocks are then called alone with
another stream, and with the keys and values of earlier positions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from grokinterp.models.adapter import Adapter
from grokinterp.models.past import Past

Call = tuple[tuple[Any, ...], dict[str, Any]]


class _Reached(Exception):
    """The last block has been called; the rest of the pass is of no interest."""


class Replay:
    """The blocks of a bare TransformerBridge around a model of Hugging Face's, from any to any.

    Args:
        model: a TransformerBridge that nothing hangs on.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.n_layers = model, Adapter(model).n_layers
        self._calls: dict[tuple[int, int], list[Call]] = {}

    def embedded(self, tokens: Tensor) -> Tensor:
        """The residual stream before the first block, [row, position, d_model]."""
        return _stream(self._recorded(tokens, 0)[0])

    def forward(self, stream: Tensor, start: int, stop: int, past: dict[int, Past] | None = None) -> tuple[Tensor, dict[int, Past]]:
        """Blocks from one to another: the residual stream after them, and each block's keys and values, the past first.

        Args:
            stream: before block `start`, [row, position, d_model].
            start: the first block that runs.
            stop: the block before which the pass ends.
            past: keys and values of earlier positions for each block that runs; None where there are none.
        """
        kept: dict[int, Past] = {}
        for i, (args, kwargs) in list(enumerate(self._calls_at(_n_before(past), stream.shape[1])))[start:stop]:
            memory = _Memory(None if past is None else past[i])
            call = [_with(value, memory) for value in args[1:]], {name: _with(value, memory) for name, value in kwargs.items() if name != _STREAM}
            out = self.model.blocks[i](stream, *call[0], **call[1])
            stream = out[0] if isinstance(out, tuple) else out
            kept[i] = memory.all
        return stream, kept

    def _calls_at(self, n_before: int, n_here: int) -> list[Call]:
        """How the model calls its blocks for one row of so many positions after so many; one row stands for any number of them."""
        if (n_before, n_here) not in self._calls:
            tokens = torch.zeros(1, n_here, dtype=torch.int64, device=Adapter(self.model).device)
            self._calls[n_before, n_here] = self._recorded(tokens, n_before)
        return self._calls[n_before, n_here]

    @torch.no_grad()
    def _recorded(self, tokens: Tensor, n_before: int) -> list[Call]:
        calls: list[Call] = []

        def record(i: int) -> Callable[..., Any]:
            def forward(*args: Any, **kwargs: Any) -> Any:
                calls.append((args, kwargs))
                if i == self.n_layers - 1:
                    raise _Reached
                return _stream(calls[-1])

            return forward

        with _idle(self.model.blocks, record), contextlib.suppress(_Reached):
            self.model.original_model(input_ids=tokens, past_key_values=_of_length(n_before, self.n_layers), use_cache=True)
        return calls


_STREAM = "hidden_states"


def _stream(call: Call) -> Tensor:
    args, kwargs = call
    stream: Tensor = args[0] if args else kwargs[_STREAM]
    return stream


@contextlib.contextmanager
def _idle(blocks: Any, record: Callable[[int], Callable[..., Any]]) -> Iterator[None]:
    """Blocks that only note how they are called."""
    try:
        for i, block in enumerate(blocks):
            vars(block)["forward"] = record(i)  # setting the attribute would hand it on to the wrapped block
        yield
    finally:
        for block in blocks:
            vars(block).pop("forward", None)


def _of_length(n_positions: int, n_layers: int) -> Any:
    """A cache that only knows how many positions it holds."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer in range(n_layers if n_positions else 0):
        cache.update(torch.zeros(1, 1, n_positions, 1), torch.zeros(1, 1, n_positions, 1), layer)
    return cache


def _n_before(past: dict[int, Past] | None) -> int:
    return 0 if not past else next(iter(past.values())).keys.shape[1]


def _with(value: Any, memory: _Memory) -> Any:
    """An argument of a block, the cache replaced."""
    from transformers import Cache

    return memory if isinstance(value, Cache) else value


class _Memory:
    """What a block takes for its cache: earlier keys and values, to which it adds its own, [row, head, position, d_head] in both."""

    def __init__(self, past: Past | None) -> None:
        self.past = past
        self.all: Past

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Everything so far, in order."""
        own = Past(keys.transpose(1, 2), values.transpose(1, 2))
        self.all = own if self.past is None else self.past.then(own)
        return self.all.keys.transpose(1, 2), self.all.values.transpose(1, 2)

    def get_seq_length(self, *_: Any) -> int:
        """How many positions stand before."""
        return 0 if self.past is None else self.past.keys.shape[1]
