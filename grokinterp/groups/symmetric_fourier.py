"""Fourier analysis on the symmetric group S_n, by matrix products: transforms, spectra, means over pairs.

The transform of a function f at an irreducible representation ρ is the matrix f̂(ρ) = Σ_g f(g) ρ(g). With the real orthogonal
representations of `SymmetricGroup.irreps` the functions √(d_ρ/|G|) ρ(g)_ij are an orthonormal basis (Peter–Weyl), so that

    f(g) = 1/|G| Σ_ρ d_ρ tr(ρ(g)ᵀ f̂(ρ))        Σ_g f(g)² = Σ_ρ (d_ρ/|G|) ‖f̂(ρ)‖²        (Plancherel)

Functions come element first, [element, …], any number of them at once; `fourier.py` does the same for cyclic groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.groups.symmetric import Partition, Representation, SymmetricGroup
from grokinterp.shapes import FourierMatrix


def irrep_basis(group: SymmetricGroup) -> FourierMatrix:
    """The |G| unit-norm functions √(d_ρ/|G|) ρ(g)_ij as rows [component, element], float64: by irrep, then row, then column."""
    return _basis(group).clone()


@lru_cache(maxsize=8)
def _basis(group: SymmetricGroup) -> FourierMatrix:
    return torch.cat([(rho.shape[1] / group.order) ** 0.5 * rho.flatten(1).T for rho in group.irreps.values()])


def transform(group: SymmetricGroup, functions: Tensor) -> dict[Partition, Tensor]:
    """f̂(ρ) = Σ_g f(g) ρ(g) of functions [element, …] at every irreducible representation, [row, column, …] each."""
    _check(group, functions)
    return {shape: torch.tensordot(rho.to(functions), functions, dims=([0], [0])) for shape, rho in group.irreps.items()}


def inverse_transform(group: SymmetricGroup, coefficients: Mapping[Partition, Tensor]) -> Tensor:
    """The functions [element, …] that have these Fourier coefficients, f(g) = 1/|G| Σ_ρ d_ρ tr(ρ(g)ᵀ f̂(ρ)).

    Args:
        group: S_n.
        coefficients: [row, column, …] by partition, as `transform` gives them; those left out count as zero, so that a part of them
            is the projection of f on a part of the representations.

    Raises:
        GrokinterpError: no coefficients, or a partition of another number.
    """
    for shape in coefficients:
        if shape not in group.irreps:
            raise GrokinterpError(f"S_{group.n} has no irreducible representation {shape}; known: {', '.join(map(str, group.partitions))}")
    if not coefficients:
        raise GrokinterpError("an inverse transform needs the coefficients of at least one irreducible representation")
    parts = [
        group.irreps[shape].shape[1] / group.order * torch.tensordot(group.irreps[shape].to(matrix), matrix, dims=([1, 2], [0, 1]))
        for shape, matrix in coefficients.items()
    ]
    return torch.stack(parts).sum(0)


def irrep_power(group: SymmetricGroup, functions: Tensor) -> Tensor:
    """Squared norm of functions on S_n in each irreducible representation, (d_ρ/|G|) ‖f̂(ρ)‖_F².

    Args:
        group: S_n.
        functions: [element, …].

    Returns:
        [irrep, …] in the order of ``group.partitions``, the trivial one first. Summed over irreps it is the squared norm (Plancherel).
    """
    _check(group, functions)
    squares = (_basis(group).to(functions) @ functions.reshape(group.order, -1)).square_()
    dimensions = [rho.shape[1] for rho in group.irreps.values()]
    power = torch.stack([block.sum(0) for block in torch.split(squares, [d * d for d in dimensions])])
    return power.reshape(-1, *functions.shape[1:])


def representation_power(representation: Representation, functions: Tensor) -> Tensor:
    """(d/|G|) ‖Σ_g f(g) ρ(g)‖_F² of functions [element, …] for any real representation ρ of any finite group, […]."""
    order, d = representation.shape[:2]
    coefficients: Tensor = torch.tensordot(representation.to(functions), functions, dims=([0], [0]))
    return d / order * coefficients.square().sum((0, 1))


def product_mean(table: Tensor, group: SymmetricGroup) -> Tensor:
    """Mean of a table [x, y, …] over the pairs with each product x∘y, as [element, …], float64."""
    product = group.product
    total = torch.zeros(table.shape[1:], dtype=torch.float64)
    # One row of pairs at a time: every product occurs once in it, and no copy of the whole table is made.
    for row, of_row in zip(table, product, strict=True):
        total.index_add_(0, of_row, row.double())
    return total / group.order


def _check(group: SymmetricGroup, functions: Tensor) -> None:
    if len(functions) != group.order:
        raise GrokinterpError(f"a function on S_{group.n} has {group.order} values, elements first; got {len(functions)}")
