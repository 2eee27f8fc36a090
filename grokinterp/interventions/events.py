"""Interventions that happen once, to the weights and Adam's moments that a fork begins with: ``fork(run, 1200, out, edit=…)``."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from grokinterp.checks import check_fields
from grokinterp.errors import GrokinterpError
from grokinterp.models.adapter import layer_of_heads

Named = Mapping[str, Tensor]
State = tuple[dict[str, Tensor], dict[str, Tensor]]
"""Weights by parameter name, and the optimizer's state as ``<state>.<parameter>`` beside the count of updates."""
Draw = Callable[[int], Named]
"""Freshly initialised weights of the same model, for a seed."""


class Event(ABC):
    """What ``fork(…, edit=…)`` takes: something that is done once to the weights and to the optimizer's state.

    A subclass is a frozen dataclass with a field ``kind: str = field(default="my_kind", init=False, repr=False)``, under which configurations
    name it.
    """

    kind: str
    needs_state = False
    """Whether it acts on the optimizer's state alone, so that a fork that resets all of it leaves nothing to do."""

    @abstractmethod
    def apply(self, weights: Named, moments: Named, draw: Draw) -> State:
        """New weights and optimizer state; what was given is left as it is.

        Args:
            weights: by parameter name.
            moments: the optimizer's state, ``<state>.<parameter>`` beside the count of updates.
            draw: gives freshly initialised weights of the same model for a seed.
        """


@dataclass(frozen=True)
class _OnHeads(Event):
    """What both interventions on randomly chosen heads share: how many are chosen in every layer, each layer for itself, and by which seed."""

    n_heads: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.n_heads < 1 or self.seed < 0:
            raise GrokinterpError(f"heads are chosen with n_heads >= 1 and seed >= 0; got {self.n_heads} and {self.seed}")


@dataclass(frozen=True)
class ResetHeadMoments(_OnHeads):
    """Adam's moments of randomly chosen heads in every layer start again from 0, and no weight changes.

    It is the sham of `ReinitialiseHeads`: with the same seed it chooses the same heads, so that what the two arms differ in is
    the weights alone. Adam's count of updates goes on.

    Attributes:
        n_heads: chosen in every layer, each layer for itself.
        seed: of the choice; the same seed chooses the same heads in every run of models of one shape.
    """

    kind: str = field(default="reset_head_moments", init=False, repr=False)
    needs_state = True

    def apply(self, weights: Named, moments: Named, draw: Draw) -> State:
        """See `Event.apply`.

        Raises:
            GrokinterpError: fewer heads in a layer than are to be chosen.
        """
        return dict(weights), _without(moments, chosen_heads(weights, self.n_heads, self.seed))


@dataclass(frozen=True)
class ReinitialiseHeads(_OnHeads):
    """Randomly chosen heads in every layer are drawn again: their W_Q, W_K, W_V, W_O and biases, with Adam's moments at 0.

    The draw follows the model's own initialisation rule (arXiv 2605.20441, intervention B; which weights, and the moments, chosen
    here). Adam's count of updates goes on, and b_O, which no head owns, stays.

    Attributes:
        n_heads: drawn again in every layer, each layer for itself.
        seed: of the choice of heads and of the new weights.
    """

    kind: str = field(default="reinitialise_heads", init=False, repr=False)

    def apply(self, weights: Named, moments: Named, draw: Draw) -> State:
        """See `Event.apply`."""
        # No run's own seed: drawing the weights that it began with would rewind its heads instead.
        fresh = draw(int(np.random.SeedSequence([self.seed, 1]).generate_state(1, np.uint64)[0]) >> 1)
        chosen = chosen_heads(weights, self.n_heads, self.seed)
        drawn = {name: _replaced(weight, fresh[name], _heads(name, chosen)) for name, weight in weights.items()}
        return drawn, _without(moments, chosen)


@dataclass(frozen=True)
class ClipNorm(Event):
    """All attention weights are scaled by one factor so that their norm is at most a given one; Adam's moments stay.

    Weights within the norm stay to the bit (arXiv 2605.20441, intervention C, whose norm is the run's median up to that step).

    Attributes:
        norm: the largest `attention_norm` that is left.
    """

    norm: float
    kind: str = field(default="clip_norm", init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "norm", float(self.norm))
        if not self.norm > 0:
            raise GrokinterpError(f"a norm to clip to must be positive; got {self.norm}")

    def apply(self, weights: Named, moments: Named, draw: Draw) -> State:
        """See `Event.apply`."""
        norm = attention_norm(weights)
        if norm <= self.norm:
            return dict(weights), dict(moments)
        clipped = {name: weight * (self.norm / norm) if _is_attention_weight(name) else weight for name, weight in weights.items()}
        return clipped, dict(moments)


def attention_norm(weights: Named) -> float:
    """The Frobenius norm of all W_Q, W_K, W_V and W_O of all layers together, in float64.

    Args:
        weights: by parameter name, as `Run.weights` gives them.

    Raises:
        GrokinterpError: weights of a model without attention.
    """
    squares = [weight.double().square().sum().item() for name, weight in weights.items() if _is_attention_weight(name)]
    if not squares:
        raise GrokinterpError("these weights have no attention, so there is no norm of it")
    return math.sqrt(math.fsum(squares))  # whatever the order, which safetensors does not keep, the same bits


def chosen_heads(weights: Named, n_heads: int, seed: int) -> dict[int, list[int]]:
    """Random heads of each layer, ascending; a function of the seed and the number of heads in each layer.

    Raises:
        GrokinterpError: a model without attention, or with fewer heads.
    """
    there = {layer: len(weight) for name, weight in weights.items() if (layer := layer_of_heads(name)) is not None}
    if not there or min(there.values()) < n_heads:
        raise GrokinterpError(f"cannot choose {n_heads} heads in every layer of a model with {min(there.values(), default=0)}")
    generator = torch.Generator().manual_seed(seed)
    return {layer: sorted(torch.randperm(there[layer], generator=generator)[:n_heads].tolist()) for layer in sorted(there)}


def _is_attention_weight(name: str) -> bool:
    return layer_of_heads(name) is not None and ".W_" in name


def _heads(name: str, chosen: Mapping[int, list[int]]) -> list[int]:
    """The chosen heads of a parameter or moment; none where it has no heads."""
    layer = layer_of_heads(name[max(name.find("blocks."), 0) :])  # of a state its parameter
    return [] if layer is None else chosen[layer]


def _without(moments: Named, chosen: Mapping[int, list[int]]) -> dict[str, Tensor]:
    """Adam's moments with 0 for the chosen heads."""
    return {name: _replaced(moment, torch.zeros_like(moment), _heads(name, chosen)) for name, moment in moments.items()}


def _replaced(values: Tensor, new: Tensor, heads: list[int]) -> Tensor:
    if not heads:
        return values
    values = values.clone()
    values[heads] = new[heads].detach().to(values.dtype)
    return values
