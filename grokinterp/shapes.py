"""Shape aliases, named once; the tests enforce them (`--jaxtyping-packages`).

``example`` runs over a task's table, ``position`` over the tokens of one input, ``answer`` over the
classes that an input can have, ``x`` and ``y`` over the elements of a group.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

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
