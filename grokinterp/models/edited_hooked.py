"""A HookedTransformer that interventions can become part of; imported under TransformerLens 3 alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from transformer_lens import HookedTransformer


class EditedTransformer(HookedTransformer):
    """A HookedTransformer whose interventions are part of it.

    What is done to the sum of the embeddings is done where that sum is made and not in a hook on block 0, so that a
    forward pass that starts at layer 0, from a residual stream that has been edited already, does not edit it again.
    """

    interventions: Sequence[Any] = ()
    embedding_edits: Sequence[Callable[[Tensor], Tensor]] = ()

    def input_to_embed(self, *args: Any, **kwargs: Any) -> Any:
        """See `HookedTransformer.input_to_embed`."""
        residual, *rest = super().input_to_embed(*args, **kwargs)
        for edit in self.embedding_edits:
            residual = edit(residual)
        return (residual, *rest)
