"""Real irreducible representations of a finite group, and how any real representation falls into them.

A real irreducible representation ρ of real dimension m is of real, complex or quaternionic type: the matrices that commute with all of ρ
are the real numbers, the complex numbers or the quaternions, of dimension c = 1, 2 or 4 (`Representation.commuting`). With that one number
the formulas are the same for every type:

    P_ρ[g, h] = m/(c|G|) χ(gh⁻¹)                 projects functions on the span of ρ's matrix entries, of dimension m²/c
    f̂(ρ)     = Σ_g f(g) ρ(g)                     the transform at ρ
    f(g)      = Σ_ρ m/(c|G|) tr(ρ(g)ᵀ f̂(ρ))      its inverse

The rotations of Z_n, for example, have m = c = 2, so that P_k[g, h] = 2 cos(2πk(g − h)/n)/n.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float64, Int
from torch import Tensor

Matrices = Float64[Tensor, "element row column"]

_SEPARATE = 1e-6  # eigenvalues of a commuting matrix of norm about 1 that are closer than this count as equal
_TRIES = 20


@dataclass(frozen=True, eq=False)
class Representation:
    """A real orthogonal irreducible representation.

    Attributes:
        name: within its group, "(4,1)" or "rotation 2" for example.
        matrices: ρ(g), [element, row, column], float64.
    """

    name: str
    matrices: Matrices = field(repr=False)

    @property
    def dimension(self) -> int:
        """m, the number of rows."""
        return self.matrices.shape[1]

    @cached_property
    def character(self) -> Float64[Tensor, "element"]:
        """χ(g), the trace of ρ(g)."""
        return self.matrices.diagonal(dim1=1, dim2=2).sum(1)

    @cached_property
    def commuting(self) -> int:
        """c, the dimension of the algebra that commutes with ρ: 1 for the real, 2 for the complex, 4 for the quaternionic type."""
        return round(float(self.character.square().mean()))

    @property
    def n_functions(self) -> int:
        """m²/c, the dimension of the span of the matrix entries as functions on the group."""
        return self.dimension**2 // self.commuting

    @property
    def weight(self) -> float:
        """m/(c|G|), the factor of the projector and of the inverse transform."""
        return self.dimension / (self.commuting * len(self.matrices))

    def renumbered(self, elements: Int[Tensor, "chosen"]) -> Representation:
        """With its elements in another order."""
        return Representation(self.name, self.matrices[elements])


def of_table(product: Int[Tensor, "x y"]) -> dict[str, Representation]:
    """All real irreducible representations of a group, decomposed from the regular one, float64.

    A random symmetric element of the right group algebra commutes with multiplication from the left, and its eigenspaces are irreducible.

    Args:
        product: the multiplication table; orders up to a few hundred take seconds.

    Returns:
        By name, "trivial" first, then by dimension "2d_a", "2d_b", … in the order of `in_order`.
    """
    n = len(product)
    identity = int((product.diagonal() == torch.arange(n)).nonzero()[0])
    inverse = (product == identity).int().argmax(1)
    left = product[inverse]  # [g, h] = g⁻¹h, so that (L(g)f)(h) = f(g⁻¹h)

    def commuting(generator: torch.Generator) -> Tensor:
        weights = torch.randn(n, generator=generator, dtype=torch.float64)
        weights = weights + weights[inverse]
        mixed: Tensor = weights[left] / (2 * n) ** 0.5  # [h, k] = w(h⁻¹k), symmetric since w is
        return mixed

    found: list[Matrices] = []
    for basis in _eigenspaces(commuting, n):
        rho = basis.T @ basis[left]  # [g, row, column] = Σ_h U[h, row] U[g⁻¹h, column]
        character = rho.diagonal(dim1=1, dim2=2).sum(1)
        if not any(torch.allclose(character, other.diagonal(dim1=1, dim2=2).sum(1), atol=1e-6) for other in found):
            found.append(rho.sign() if rho.shape[1] == 1 else rho)  # a real orthogonal number is ±1
    return named(found)


def split(matrices: Matrices) -> list[Matrices]:
    """The irreducible parts of a real orthogonal representation, each as often as it occurs.

    The group's mean of ρ(g) X ρ(g)ᵀ over a random symmetric X commutes with ρ, and its eigenspaces are irreducible.
    """

    def commuting(generator: torch.Generator) -> Tensor:
        x = torch.randn(matrices.shape[1:], generator=generator, dtype=torch.float64)
        mean = (matrices @ (x + x.T) @ matrices.transpose(1, 2)).mean(0)
        symmetric: Tensor = (mean + mean.T) / 2
        return symmetric

    return [basis.T @ matrices @ basis for basis in _eigenspaces(commuting, matrices.shape[1])]


def in_order(parts: Sequence[Matrices]) -> list[Matrices]:
    """The trivial representation first, then by dimension, then by character, compared element by element, the larger one first."""

    def place(rho: Matrices) -> tuple[bool, int, list[float]]:
        character = rho.diagonal(dim1=1, dim2=2).sum(1)
        trivial = rho.shape[1] == 1 and bool((character > 0.5).all())
        return not trivial, rho.shape[1], [-round(float(value), 6) for value in character]

    return sorted(parts, key=place)


def named(parts: Sequence[Matrices]) -> dict[str, Representation]:
    """All representations of a group, by name; see `of_table`."""
    trivial, *others = in_order(parts)
    dimensions = [rho.shape[1] for rho in others]
    result = {"trivial": Representation("trivial", trivial)}
    for i, (d, rho) in enumerate(zip(dimensions, others, strict=True)):
        name = f"{d}d" if dimensions.count(d) == 1 else f"{d}d_{_letters(dimensions[:i].count(d))}"
        result[name] = Representation(name, rho)
    return result


def _letters(i: int) -> str:
    """a … z, then aa, ab, …"""
    return ("" if i < 26 else _letters(i // 26 - 1)) + chr(ord("a") + i % 26)


def _eigenspaces(commuting: Callable[[torch.Generator], Tensor], n: int) -> Iterator[Tensor]:
    """Orthonormal bases [row, component] of the eigenspaces of the best separated of several random commuting matrices."""
    best: tuple[float, Tensor, Tensor] | None = None
    for seed in range(_TRIES):
        values, vectors = torch.linalg.eigh(commuting(torch.Generator().manual_seed(seed)))
        gaps = values.diff()
        apart = gaps[gaps > _SEPARATE]
        gap = float(apart.min()) if len(apart) else float("inf")
        if best is None or gap > best[0]:
            best = gap, values, vectors
        if gap > 1e-3:
            break
    assert best is not None
    _, values, vectors = best
    ends = [0, *(1 + i for i, gap in enumerate(values.diff().tolist()) if gap > _SEPARATE), n]
    for start, end in itertools.pairwise(ends):
        yield vectors[:, start:end].contiguous()
