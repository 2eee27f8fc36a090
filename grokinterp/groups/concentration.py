"""Functions on a group that depend on a coset alone, one subgroup for each: which, how far, and their means over cosets.

A coset neuron of arXiv 2312.06581 adds a function L of the left operand, constant on right cosets Hg, and a function R of the right operand, constant
on left cosets gK, with K conjugate to H.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn.functional import one_hot

from grokinterp.errors import GrokinterpError
from grokinterp.groups.cosets import Subgroup, subgroups
from grokinterp.groups.group import Group
from grokinterp.groups.operation import Operation

CONCENTRATED = 0.99  # share of the variance between cosets from which on a function counts as constant on them (chosen here)

Functions = Float64[Tensor, "element neuron"]


def proper_subgroups(group: Group) -> tuple[Subgroup, ...]:
    """One subgroup of each conjugacy class, by order, without the trivial one and the whole group.

    Raises:
        GrokinterpError: there are none, or too many to list.
    """
    found = subgroups(group)[1:-1]
    if not found:
        raise GrokinterpError(f"{group.name} has no subgroup but the trivial one and itself, so it has no cosets to look for")
    return found


def operand_functions(table: Float[Tensor, "x y neuron"], operation: Operation) -> tuple[Functions, Functions]:
    """What each operand adds to a table of pairs: its means over the other operand, less the mean of all.

    Where the table is a function of x plus a function of y, as the inputs of an MLP's neurons are, these are the two functions, centred.

    Args:
        table: by pairs of elements.
        operation: how they combine.

    Returns:
        The first as a function of x^±1, the second of y^±1, with the exponents of the operation, so that both enter the product as they are.
    """
    element = torch.arange(operation.order)
    first, second = (element if sign == 1 else operation.group.inverse for sign in operation.signs)
    table = table.double()
    mean = table.mean((0, 1))
    return table.mean(1)[first] - mean, table.mean(0)[second] - mean


@dataclass(frozen=True, eq=False)
class Sides:
    """Both operands of a population against every subgroup.

    Attributes:
        shares: η² of the best conjugate, [operand, subgroup, neuron].
        classes: the largest subgroup with η² ≥ threshold, as a place among the subgroups, [operand, neuron]; −1 for none.
        labels: the coset of each element under the conjugate that is best there, [operand, element, neuron].
        concentration: the smallest C_H, [operand, neuron].
    """

    shares: Float64[Tensor, "operand subgroup neuron"] = field(repr=False)
    classes: Int[Tensor, "operand neuron"] = field(repr=False)
    labels: Int[Tensor, "operand element neuron"] = field(repr=False)
    concentration: Float64[Tensor, "operand neuron"] = field(repr=False)

    @classmethod
    def from_functions(cls, proper: tuple[Subgroup, ...], left: Functions, right: Functions, threshold: float) -> Sides:
        """The left operand on right cosets, the right one on left cosets."""
        found = [_side(proper, values, on_left, threshold) for values, on_left in ((left, False), (right, True))]
        return cls(*(torch.stack(parts) for parts in zip(*found, strict=True)))

    @property
    def neurons(self) -> Bool[Tensor, "neuron"]:
        """Which neurons have both sides in one class."""
        return (self.classes[0] >= 0) & (self.classes[0] == self.classes[1])


def _side(proper: tuple[Subgroup, ...], values: Functions, on_left: bool, threshold: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n_neurons = values.shape[1]
    centred = values - values.mean(0)
    variance = centred.square().mean(0)
    floor = torch.where(variance > 0, variance, torch.nan)
    shares = torch.zeros(len(proper), n_neurons, dtype=torch.float64)
    classes, labels = torch.full((n_neurons,), -1), torch.zeros(values.shape, dtype=torch.int64)
    concentration = torch.full((n_neurons,), torch.inf, dtype=torch.float64)
    for i, subgroup in enumerate(proper):  # by order, so that the largest comes last
        numbers = coset_labels(subgroup, on_left)
        members = one_hot(numbers, subgroup.index).to(values).transpose(1, 2)  # [conjugate, coset, element]
        means = members @ centred / subgroup.order
        share, best = ((means.square().mean(1) / floor).nan_to_num(-torch.inf)).max(0)
        # All cosets have |H| elements, so that the sum of their variances is [G:H] times the mean variance inside.
        concentration = torch.minimum(concentration, subgroup.index * (1 - share).clamp(min=0))
        shares[i] = torch.where(variance > 0, share, torch.nan)
        enough = share >= threshold
        classes[enough] = i
        labels[:, enough] = numbers[best[enough]].T
    return shares, classes, labels, concentration


@lru_cache(maxsize=512)
def coset_labels(subgroup: Subgroup, on_left: bool) -> Int[Tensor, "conjugate element"]:
    """The number of each element's coset, gK on the left or Hg on the right, under every conjugate of a subgroup."""
    conjugates = [Subgroup(subgroup.group, members, subgroup.n_conjugates, subgroup.name) for members in subgroup.conjugates()]
    return torch.stack([each.left_cosets if on_left else each.right_cosets for each in conjugates])


def label_means(values: Functions, labels: Int[Tensor, "element neuron"]) -> Functions:
    """Each function's mean over the elements that share its label, in their places."""
    total, count = (torch.zeros_like(values).scatter_add_(0, labels, each) for each in (values, torch.ones_like(values)))
    means: Tensor = (total / count.clamp(min=1)).gather(0, labels)
    return means
