"""Fourier analysis on any finite group, by matrix products: transforms, power, projectors.

The transform of a function f at a real irreducible representation ρ is the matrix f̂(ρ) = Σ_g f(g) ρ(g). With m the dimension of ρ and c that
of the algebra that commutes with it (1 for S_n, 2 for the rotations of Z_n),

    f(g) = Σ_ρ m/(c|G|) tr(ρ(g)ᵀ f̂(ρ))        Σ_g f(g)² = Σ_ρ m/(c|G|) ‖f̂(ρ)‖²        (Plancherel)

Functions come element first, [element, …], any number of them at once. `fourier.py` does the same for cyclic groups, faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import torch
from jaxtyping import Float64
from torch import Tensor

from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.groups.fourier import frequency_power
from grokinterp.groups.group import Group
from grokinterp.shapes import FourierMatrix


@lru_cache(maxsize=8)
def _entries(group: Group) -> FourierMatrix:
    """√(m/(c|G|)) ρ(g)_ij as rows [component, element], by representation, row, column: a tight frame, a basis where every c is 1."""
    return torch.cat([rho.weight**0.5 * rho.matrices.flatten(1).T for rho in group.irreps.values()])


def transform(group: Group, functions: Tensor) -> dict[str, Tensor]:
    """f̂(ρ) = Σ_g f(g) ρ(g) of functions [element, …] at every irreducible representation, [row, column, …] each."""
    _check(group, functions)
    return {name: torch.tensordot(rho.matrices.to(functions), functions, dims=([0], [0])) for name, rho in group.irreps.items()}


def inverse_transform(group: Group, coefficients: Mapping[str, Tensor]) -> Tensor:
    """The functions [element, …] that have these Fourier coefficients.

    Args:
        group: on which they live.
        coefficients: [row, column, …] by representation, as `transform` gives them; those left out count as zero, so that a part of
            them is the projection of f on a part of the representations.

    Raises:
        GrokinterpError: no coefficients, or a representation that the group lacks.
    """
    check_irreps(group, coefficients)
    parts = [
        group.irreps[name].weight * torch.tensordot(group.irreps[name].matrices.to(matrix), matrix, dims=([1, 2], [0, 1]))
        for name, matrix in coefficients.items()
    ]
    return torch.stack(parts).sum(0)


def irrep_power(group: Group, functions: Tensor) -> Tensor:
    """Squared norm of functions [element, …] in each irreducible representation, m/(c|G|) ‖f̂(ρ)‖_F².

    Returns:
        [irrep, …] in the order of ``group.irreps``, the trivial one first. Summed over irreps it is the squared norm (Plancherel).
    """
    _check(group, functions)
    if has_frequencies(group):
        constant = functions.sum(0, keepdim=True).square() / group.order
        return torch.cat([constant, frequency_power(functions)])
    squares = (_entries(group).to(functions) @ functions.reshape(group.order, -1)).square_()
    blocks = torch.split(squares, [rho.dimension**2 for rho in group.irreps.values()])
    return torch.stack([block.sum(0) for block in blocks]).reshape(-1, *functions.shape[1:])


def has_frequencies(group: Group) -> bool:
    """Whether the irreducible representations are the frequencies 0 … ⌊n/2⌋ of Z_n in their order, so that the fast path of `fourier.py` applies."""
    n = group.order
    if not group.is_cyclic or len(group.irreps) != n // 2 + 1:
        return False
    turns = torch.tensor([float(rho.character[1 % n]) / rho.dimension for rho in group.irreps.values()], dtype=torch.float64)
    return torch.allclose(turns, torch.cos(2 * torch.pi * torch.arange(n // 2 + 1).double() / n), rtol=0, atol=1e-9)


def irrep_projector(group: Group, names: Iterable[str]) -> Float64[Tensor, "element element"]:
    """The orthogonal projector on the span of the matrix entries of some irreducible representations, P[g, h] = Σ_ρ m/(c|G|) χ_ρ(gh⁻¹).

    Raises:
        GrokinterpError: no name, or a representation that the group lacks.
    """
    chosen = list(dict.fromkeys(names))
    check_irreps(group, chosen)
    ratio = group.product[:, group.inverse]  # [g, h] = gh⁻¹
    return torch.stack([group.irreps[name].weight * group.irreps[name].character[ratio] for name in chosen]).sum(0)


def check_irreps(group: Group, names: Iterable[str]) -> None:
    """Raise a GrokinterpError for no name, or one that is no irreducible representation of the group."""
    empty = True
    for name in names:
        empty = False
        if name not in group.irreps:
            raise unknown_name(f"irreducible representation of {group.name}", name, group.irreps)
    if empty:
        raise GrokinterpError(f"name at least one irreducible representation of {group.name}; known: {', '.join(group.irreps)}")


def _check(group: Group, functions: Tensor) -> None:
    if len(functions) != group.order:
        raise GrokinterpError(f"a function on {group.name} has {group.order} values, elements first; got {len(functions)}")
