"""A step as one CUDA graph: captured once for each size of batch, then replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class Replay:
    """A function of tensors captured once in a CUDA graph, then replayed for new values of the same shapes.

    Args:
        function: what to capture; changes `state` in place and returns nothing.
        inputs: values of its arguments.
        state: tensors that it changes; the warm-up calls that capture needs leave no trace in them.
    """

    def __init__(self, function: Callable[..., None], inputs: Sequence[Tensor], state: Sequence[Tensor]) -> None:
        self._inputs = [value.clone() for value in inputs]
        self._device = state[0].device
        with torch.cuda.device(self._device):
            self._capture(function, state)

    def _capture(self, function: Callable[..., None], state: Sequence[Tensor]) -> None:
        before = [value.clone() for value in state]
        stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.no_grad():
            for value, old in zip(state, before, strict=True):
                value.copy_(old)
        self._graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> None:
        for own, value in zip(self._inputs, inputs, strict=True):
            own.copy_(value)
        with torch.cuda.device(self._device):
            self._graph.replay()
