"""Shape aliases, named once, and tensors of whole numbers from whatever holds them; the tests enforce the aliases (`--jaxtyping-packages`).

``example`` runs over a task's table, ``position`` over the tokens of one input, ``answer`` over the
classes that an input can have, ``x`` and ``y`` over the elements of a group.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from grokinterp.errors import GrokinterpError

Tokens = Int[Tensor, "example position"]
Answers = Int[Tensor, "example"]
Targets = Int[Tensor, "example position"]
Examples = Int[Tensor, "chosen"]
ExampleMask = Bool[Tensor, "example"]
PairGrid = Int[Tensor, "x y"]
Logits = Float[Tensor, "example answer"]
LogitTable = Float[Tensor, "x y answer"]
ElementLogits = Float[Tensor, "element answer"]
FourierMatrix = Float[Tensor, "component element"]
Frequencies = Int[np.ndarray, "frequency"]

Positions = int | Literal["all"]
"""One position, negative from the end, or all of them."""


def whole_numbers(name: str, values: Any, n_dimensions: int) -> Tensor:
    """Tokens, products and the like as int64.

    Args:
        name: what they are, in the plural, for the message.
        values: a tensor, an array or a list.
        n_dimensions: that they must have.

    Raises:
        GrokinterpError: values that are no whole numbers, or of another shape.
    """
    found = tensor_of(name, values)
    if found.dtype == torch.bool or found.is_floating_point() or found.is_complex():
        raise GrokinterpError(f"{name} are whole numbers; got {found.dtype}")
    if found.ndim != n_dimensions:
        raise GrokinterpError(f"{name} have {n_dimensions} dimension{'s' * (n_dimensions > 1)}; got the shape {tuple(found.shape)}")
    return found.long()


def tensor_of(name: str, values: Any) -> Tensor:
    """A tensor from a tensor, an array or a list of numbers.

    Raises:
        GrokinterpError: something else, rows of different lengths for example.
    """
    if isinstance(values, Tensor):
        return values
    try:
        array = np.array(values)
        # torch calculates with int64, not with all of NumPy's whole numbers; an empty list is float64 to NumPy.
        return torch.from_numpy(array.astype(np.int64) if array.dtype.kind in "iu" or not array.size else array)
    except (TypeError, ValueError) as error:
        why = "rows of different lengths" if "inhomogeneous" in str(error) else error
        raise GrokinterpError(f"{name} must be a tensor, an array or a list of whole numbers; got {type(values).__name__} ({why})") from None
