"""Whether two models hold the same core: in which directions it lies, and what it says about the same inputs.

Weights, and with them directions, differ between training runs; what is compared across models are coordinates on the same inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from grokinterp.ace.core import Core, check_orthonormal
from grokinterp.errors import GrokinterpError

Coordinates = Float[Tensor, "example rank"]
OtherCoordinates = Float[Tensor, "other_example other_rank"]
Subspace = Core | Tensor
"""A core, or an orthonormal basis [d_model, rank] in float64."""


def overlap(a: Subspace, b: Subspace) -> float:
    """‖AᵀB‖_F² / √(r_A r_B): 1 for the same subspace, about √(r_A r_B)/d_model for unrelated ones (paper, section on invariance).

    Raises:
        GrokinterpError: bases that are not orthonormal, or in spaces of different dimension.
    """
    product = _product(a, b)
    return float(product.square().sum() / (product.shape[0] * product.shape[1]) ** 0.5)


def principal_angles(a: Subspace, b: Subspace) -> Float64[Tensor, "angle"]:
    """Principal angles between two subspaces in degrees, ascending, min(r_A, r_B) of them.

    From sines and cosines together (Björck and Golub 1973), so that neither small nor right angles lose digits.

    Raises:
        GrokinterpError: bases that are not orthonormal, or in spaces of different dimension.
    """
    if _basis(a).shape[1] < _basis(b).shape[1]:
        a, b = b, a
    product = _product(a, b)
    cosines = torch.linalg.svdvals(product)
    sines = torch.linalg.svdvals(_basis(b) - _basis(a) @ product).flip(0)
    angles: Tensor = torch.rad2deg(torch.atan2(sines, cosines))
    return angles


def canonical_correlations(a: Coordinates, b: OtherCoordinates) -> Float64[Tensor, "component"]:
    """Canonical correlations of two cores' coordinates on the same inputs, descending; blind to any invertible change of basis.

    Whitening by QR, then SVD (chosen here): scikit-learn's CCA is iterative and can return components out of order.

    Args:
        a: [example, r_A].
        b: [example, r_B], the same examples in the same order.

    Raises:
        GrokinterpError: different numbers of examples, too few of them, or coordinates that are linearly dependent.
    """
    _check_same_examples([a, b])
    correlations: Tensor = torch.linalg.svdvals(_whitened(a).T @ _whitened(b))
    return correlations.clamp(max=1)


@dataclass(frozen=True, eq=False)
class Alignment:
    """A rotation (with reflections) and a shift that bring one model's coordinates onto another's.

    Attributes:
        rotation: R [r_A, r_B]; for rank 1 the sign.
        mean_from: mean of the moved coordinates.
        mean_to: mean of the fixed ones.
        r_squared: share of the fixed coordinates' variance that the moved ones explain.
    """

    rotation: Float64[Tensor, "r_a r_b"] = field(repr=False)
    mean_from: Float64[Tensor, "r_a"] = field(repr=False)
    mean_to: Float64[Tensor, "r_b"] = field(repr=False)
    r_squared: float

    def __call__(self, a: Coordinates) -> Float64[Tensor, "example other_rank"]:
        """Coordinates of the first model, [example, r_A], in the second one's basis, [example, r_B]."""
        return (a.double() - self.mean_from) @ self.rotation + self.mean_to


def align(a: Coordinates, b: OtherCoordinates) -> Alignment:
    """Orthogonal Procrustes: the R with orthonormal columns or rows that minimises ‖(A − ā)R − (B − b̄)‖_F.

    It fixes signs and the order of axes, and keeps lengths: no stretching hides a difference.

    Args:
        a: coordinates to be moved, [example, r_A].
        b: coordinates to be met on the same inputs, [example, r_B].

    Raises:
        GrokinterpError: different numbers of examples, or fixed coordinates that do not vary.
    """
    _check_same_examples([a, b])
    x, y = _centred(a), _centred(b)
    if not float(y.square().sum()) > 0:
        raise GrokinterpError("the coordinates to align to do not vary over these inputs")
    u, _, vh = torch.linalg.svd(x.T @ y, full_matrices=False)
    rotation = u @ vh
    residual = (x @ rotation - y).square().sum() / y.square().sum()
    return Alignment(rotation, a.double().mean(0), b.double().mean(0), float(1 - residual))


@dataclass(frozen=True, eq=False)
class Consensus:
    """What the cores of several models say in common about the same inputs.

    Attributes:
        variates: orthonormal functions of the inputs [example, component], most shared first.
        agreement: mean over models of the squared correlation of each variate with its best approximation in that model; 1 if all hold it.
        weights: for each model the readers [rank, component]: centred coordinates times these approximate the variates.
        loadings: for each model the patterns [rank, component]: how its coordinates move with each variate.
    """

    variates: Float64[Tensor, "example component"] = field(repr=False)
    agreement: Float64[Tensor, "component"] = field(repr=False)
    weights: tuple[Tensor, ...] = field(repr=False)
    loadings: tuple[Tensor, ...] = field(repr=False)

    def restrict(self, model: int, core: Core) -> Core:
        """The consensus inside one model: the directions of its core along which the common variates move its activations.

        Args:
            model: which, in the order in which `consensus` got them.
            core: that model's core, of the rank that the coordinates had.

        Raises:
            GrokinterpError: a core of another rank, or more variates than it has dimensions.
        """
        loadings = self.loadings[model]
        if core.rank != loadings.shape[0] or loadings.shape[1] > core.rank:
            raise GrokinterpError(
                f"model {model} came with {loadings.shape[0]} coordinates and {loadings.shape[1]} variates; got a core of rank {core.rank}"
            )
        directions = core.basis @ torch.linalg.qr(loadings).Q
        facts = {**core.provenance, "consensus": f"of {len(self.loadings)} models, {loadings.shape[1]} variates"}
        return replace(core, directions=directions, rank=directions.shape[1], provenance=facts)


def consensus(coordinates: Sequence[Coordinates], rank: int) -> Consensus:
    """The functions of the input that several cores share most: generalised canonical correlation, MAXVAR form (Kettenring 1971).

    Each model's coordinates are whitened and set side by side; the left singular vectors are the variates. With two models the agreement is
    (1 + ρ)/2, ρ their canonical correlations.

    Args:
        coordinates: for each model [example, rank of its core], on the same inputs.
        rank: number of variates.

    Raises:
        GrokinterpError: fewer than two models, coordinates that differ in examples or are dependent, a rank above the smallest core's.
    """
    if len(coordinates) < 2:
        raise GrokinterpError(f"a consensus needs at least 2 models; got {len(coordinates)}")
    _check_same_examples(coordinates)
    smallest = min(z.shape[1] for z in coordinates)
    if not 1 <= rank <= smallest:
        raise GrokinterpError(f"the rank of a consensus lies in 1 … {smallest}, the smallest core's; got {rank}")
    whitened = [_whitened(z) for z in coordinates]
    variates, singular, _ = torch.linalg.svd(torch.cat(whitened, dim=1), full_matrices=False)
    variates = variates[:, :rank]
    centred = [_centred(z) for z in coordinates]
    return Consensus(
        variates=variates,
        agreement=singular[:rank].square() / len(coordinates),
        weights=tuple(torch.linalg.lstsq(z, variates).solution for z in centred),
        loadings=tuple(z.T @ variates for z in centred),
    )


def _basis(subspace: Subspace) -> Tensor:
    return subspace.basis if isinstance(subspace, Core) else subspace


def _product(a: Subspace, b: Subspace) -> Tensor:
    """AᵀB of two checked bases."""
    left, right = _basis(a), _basis(b)
    for basis in (left, right):
        check_orthonormal(basis)
    if len(left) != len(right):
        raise GrokinterpError(
            f"subspaces of {len(left)} and {len(right)} dimensions have no angle; across models compare coordinates, with canonical_correlations"
        )
    return left.T @ right


def _check_same_examples(coordinates: Sequence[Tensor]) -> None:
    counts = [len(z) for z in coordinates]
    if len(set(counts)) > 1:
        raise GrokinterpError(f"coordinates are compared on the same inputs; got {', '.join(map(str, counts))} examples")


def _centred(z: Tensor) -> Tensor:
    z = z.double()
    return z - z.mean(0)


def _whitened(z: Tensor) -> Tensor:
    """Orthonormal columns that span the centred coordinates."""
    n, r = z.shape
    if n <= r:
        raise GrokinterpError(f"{r} coordinates need more than {r} examples to be correlated; got {n}")
    q: Tensor
    q, upper = torch.linalg.qr(_centred(z))
    values = torch.linalg.svdvals(upper)
    if not float(values[-1]) > 1e-10 * float(values[0]):
        raise GrokinterpError(f"the {r} coordinates are linearly dependent on these inputs; use a core of lower rank")
    return q
