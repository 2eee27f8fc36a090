"""Neurons that hold what an algorithm would compute, and nothing else: an explanation tested by what it does to the loss.

Causal scrubbing asks of an explanation that whatever it calls irrelevant may be thrown away. Here it is an algorithm that says which functions of
the operands the neurons need; each neuron is replaced by its least-squares fit on them:

    with Pizza((3, 15, 17)).applied(model, task):
        logits = model(task.tokens)

`grokinterp.measures.equivalent.loss_recovered` says how much of the loss comes back. An algorithm of your own derives from `Equivalent`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.groups.fourier import check_frequencies
from grokinterp.groups.operation import Operation
from grokinterp.models.adapter import Adapter
from grokinterp.models.intervention import Hooks, Intervention
from grokinterp.tasks import Task

Side = Literal["inputs", "outputs"]
Functions = Float64[Tensor, "example function"]


@dataclass(frozen=True, kw_only=True)
class Equivalent(Intervention):
    """Each neuron of one layer, at every position, is its least-squares fit on a constant and the functions that an algorithm computes.

    The batch has to be the task's full table. A subclass is a frozen dataclass that says in `functions` what its algorithm computes.

    Attributes:
        side: what is replaced, the neurons' "inputs" before the nonlinearity or their "outputs" behind it.
        layer: of the neurons; the first is where the operands of a deeper model meet too. Negative counts from the last.
    """

    side: Side = "inputs"
    layer: int = 0

    def __post_init__(self) -> None:
        if self.side not in get_args(Side):
            raise unknown_name("side of the neurons", self.side, get_args(Side))

    @abstractmethod
    def functions(self, task: Task) -> Functions:
        """What the algorithm computes at the neurons of every example, apart from a constant, [example, function].

        NaN in the rows of examples of which the algorithm says nothing: they stay as they are.
        """

    def hooks(self, model: Any, task: Task) -> Hooks:
        """See `Intervention.hooks`.

        Raises:
            GrokinterpError: a task that the algorithm does not fit, a model without such neurons or layer; when run, a batch that is not the full
                table.
        """
        functions = self.functions(task)
        covered = ~functions.isnan().any(1)
        constant = torch.ones(int(covered.sum()), 1, dtype=torch.float64)
        return [(self._hook(model), partial(_fitted, _basis(torch.cat([constant, functions[covered]], 1)), covered))]

    def _hook(self, model: Any) -> str:
        neurons = Adapter(model).neuron_hooks()
        if not neurons:
            raise GrokinterpError(f"there are no neurons for {self} to replace: the model is attention-only")
        if not -len(neurons) <= self.layer < len(neurons):
            raise GrokinterpError(f"there is no layer {self.layer} of neurons; the model has {len(neurons)}")
        outputs = neurons[self.layer]
        if self.side == "outputs":
            return outputs
        if (inputs := Adapter(model).neuron_inputs(outputs)) is None:
            raise GrokinterpError(f'the inputs of these neurons are no one hook of this model; take side="outputs", which is {outputs}')
        return inputs


@dataclass(frozen=True, kw_only=True)
class Ablated(Equivalent):
    """Neurons that compute nothing: each holds its mean over the table. It is what other algorithms are compared with."""

    def functions(self, task: Task) -> Functions:
        """See `Equivalent.functions`: none."""
        return torch.zeros(len(task), 0, dtype=torch.float64)


@dataclass(frozen=True)
class OnCircles(Equivalent):
    """An algorithm that puts the operands x and y of a cyclic group on circles, and reads cos w(s − c) of their combination s off them.

    Formulas are for addition, with w = 2πk/n for each of the frequencies k; elsewhere x and y enter with the signs of the group.

    Attributes:
        frequencies: k of each circle, in 1 … ⌊n/2⌋.
    """

    frequencies: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "frequencies", tuple(int(k) for k in self.frequencies))
        if not self.frequencies:
            raise GrokinterpError(f"{type(self).__name__} needs the frequency of at least one circle; got none")

    @abstractmethod
    def of_pair(self, x: Tensor, y: Tensor, s: Tensor, d: Tensor) -> Tensor:
        """What is computed for each pair, complex numbers [x, y, …] whose real and imaginary parts are the functions.

        Args:
            x: the first operand's angle on each circle, w x, [x, y, circle].
            y: the second's.
            s: that of the answer, w (x + y).
            d: that of the difference, w (x − y).
        """

    def functions(self, task: Task) -> Functions:
        """See `Equivalent.functions`.

        Raises:
            GrokinterpError: a task without a cyclic group, a frequency that the group does not have.
        """
        operation, pairs = _circle(task)
        n, (first, second) = operation.order, operation.signs
        check_frequencies(n, np.array(self.frequencies, dtype=int))
        element = torch.arange(n)
        grid = torch.zeros_like(pairs)
        places = (grid + first * element[:, None], grid + second * element, operation.combination(), operation.combination(opposite=True))
        frequencies = torch.tensor(self.frequencies)
        # k · place mod n before the angle keeps it exact; |cos| of half of it does not depend on the multiple of 2π that is left out.
        angles = [2 * math.pi * (place[..., None] * frequencies % n).double() / n for place in places]
        computed = torch.view_as_real(self.of_pair(*angles)).flatten(2)
        functions = torch.full((len(task), computed.shape[2]), torch.nan, dtype=torch.float64)
        functions[pairs.flatten()] = computed.flatten(0, 1)
        return functions


@dataclass(frozen=True)
class Clock(OnCircles):
    """The circles multiplied: e^(iw(x + y)), the same whatever the difference of the operands (arXiv 2306.17844, section 2).

    At the outputs it is weak evidence: there the model may be any that answers right, since its mean logits over pairs of equal sum are what is kept.
    """

    def of_pair(self, x: Tensor, y: Tensor, s: Tensor, d: Tensor) -> Tensor:
        """See `OnCircles.of_pair`."""
        return _turned(1.0, s)


@dataclass(frozen=True)
class Pizza(OnCircles):
    """The circles added: e^(iwx) + e^(iwy) before the nonlinearity, |cos(w(x − y)/2)| e^(iw(x + y)) behind it (arXiv 2306.17844, section 3).

    Both operands are added alike, which is stricter than the paper where they have vocabularies, and so phases, of their own.
    """

    def of_pair(self, x: Tensor, y: Tensor, s: Tensor, d: Tensor) -> Tensor:
        """See `OnCircles.of_pair`."""
        return _turned(1.0, x) + _turned(1.0, y) if self.side == "inputs" else _turned((d / 2).cos().abs(), s)


@dataclass(frozen=True)
class Hybrid(OnCircles):
    """Both at once, what `Clock` and what `Pizza` computes (chosen here; the paper calls some models hybrids and gives no formula)."""

    def of_pair(self, x: Tensor, y: Tensor, s: Tensor, d: Tensor) -> Tensor:
        """See `OnCircles.of_pair`."""
        parts = (kind(self.frequencies, side=self.side).of_pair(x, y, s, d) for kind in (Clock, Pizza))
        return torch.cat([*parts], 2)


# Hook functions are functions of this module with their arguments bound, so that a copy of a model has copies of the modules in them.


def _fitted(basis: Tensor, covered: Tensor, value: Tensor, hook: Any) -> Tensor:
    """The covered examples' values replaced by their projection on an orthonormal basis [example, function]."""
    if len(value) != len(covered):
        raise GrokinterpError(f"an equivalent algorithm needs the task's full table of {len(covered)} examples as its batch; got {len(value)}")
    basis, covered = basis.to(value.device), covered.to(value.device)
    own = value[covered].double().flatten(1)
    replaced = value.clone()
    replaced[covered] = (basis @ (basis.T @ own)).reshape(-1, *value.shape[1:]).to(value.dtype)
    return replaced


def _basis(functions: Tensor) -> Tensor:
    """An orthonormal basis of the space that functions span, [example, function]; of functions that depend on others nothing is left."""
    vectors, singular, _ = torch.linalg.svd(functions, full_matrices=False)
    basis: Tensor = vectors[:, singular > 1e-9 * singular[0]]
    return basis


def _turned(radius: Tensor | float, angle: Tensor) -> Tensor:
    return torch.polar(torch.as_tensor(radius, dtype=torch.float64).expand_as(angle), angle)


def _circle(task: Task) -> tuple[Operation, Tensor]:
    if task.cyclic is None or task.pairs is None:
        raise GrokinterpError(f"task {task.name!r} has no cyclic group, so its operands lie on no circles")
    return task.cyclic, task.pairs
