"""The circles on which a model puts the numbers, one frequency at a time: what is read off each, and what each does alone (arXiv 2306.17844)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.groups.fourier import check_frequencies, frequency_power
from grokinterp.interventions import FourierAblation, Intervention
from grokinterp.measures.needs import cyclic
from grokinterp.models.adapter import TOKENS_EMBEDDED
from grokinterp.models.intervention import Hooks
from grokinterp.shapes import Frequencies
from grokinterp.snapshot import Snapshot
from grokinterp.tasks import Task

if TYPE_CHECKING:
    import xarray as xr

SHARE = 0.01  # of the embedding's variance from which on a frequency counts as a circle (chosen here, as for key frequencies)
FORMS = ("clock", "pizza")
Embeddings = Float64[Tensor, "operand element d_model"]
Planes = Float64[Tensor, "circle d_model direction"]


def circle_frequencies(snapshot: Snapshot, share: float = SHARE) -> Frequencies:
    """The frequencies of the circles in an embedding: those that hold a share of its variance, ascending.

    Of an even n, n/2 is left out: its cosine is an alternating sign, which lies on no circle.

    Args:
        snapshot: a model and its task, which must have a cyclic group.
        share: the smallest share, of the variance of both operands' embeddings together.

    Raises:
        GrokinterpError: no cyclic group, or operands that are not one token each.
    """
    found = circle_shares(snapshot)
    return np.flatnonzero(np.asarray(found >= share)) + 1


def circle_shares(snapshot: Snapshot) -> Float64[Tensor, "frequency"]:
    """Share of the embedding's variance at each frequency 1 … ⌈n/2⌉ − 1, over both operands; NaN where it does not vary."""
    power = frequency_power(embeddings(snapshot).transpose(0, 1)).sum((1, 2))
    return (power / power.sum())[: (cyclic(snapshot).order - 1) // 2]


def embeddings(snapshot: Snapshot) -> Embeddings:
    """W_E's rows of each operand's elements, [operand, element, d_model], float64; both the same where the operands share their tokens."""
    tokens, weights = snapshot.table(snapshot.task.tokens), snapshot.model.W_E.detach().cpu().double()
    rows = [weights[tokens[..., position].select(1 - axis, 0)] for axis, position in enumerate(operand_positions(snapshot))]
    return torch.stack(rows)


def operand_positions(snapshot: Snapshot) -> tuple[int, int]:
    """The positions of the tokens of x and of y.

    Raises:
        GrokinterpError: no cyclic group, or an operand that is not exactly one token.
    """
    tokens = snapshot.table(snapshot.task.tokens)
    along_x, along_y = (tokens != tokens[:1]).any(0).any(0), (tokens != tokens[:, :1]).any(0).any(0)
    places = [torch.nonzero(own & ~other).flatten().tolist() for own, other in ((along_x, along_y), (along_y, along_x))]
    if [len(place) for place in places] != [1, 1]:
        raise GrokinterpError(
            f"this measure reads operands of one token each; in task {snapshot.task.name!r} the positions {places[0]} vary with the first "
            f"operand alone and {places[1]} with the second"
        )
    return places[0][0], places[1][0]


def waves(n: int, frequencies: Frequencies) -> Float64[Tensor, "circle part element"]:
    """Cosine and sine of w x for the elements x = 0 … n − 1, with w = 2πk/n for each frequency k."""
    angle = 2 * math.pi * (torch.from_numpy(frequencies)[:, None] * torch.arange(n) % n).double() / n
    return torch.stack([angle.cos(), angle.sin()], 1)


def planes(embedding: Embeddings, frequencies: Frequencies) -> Planes:
    """Orthonormal directions of the plane in which an embedding has each frequency; zeros where there are fewer than four.

    Operands that share their tokens have one plane, with two directions; of others it is all that their two planes span.
    """
    spanned = torch.einsum("kpe,oed->kdop", waves(embedding.shape[1], frequencies), embedding).flatten(2)
    directions, singular, _ = torch.linalg.svd(spanned, full_matrices=False)
    spanning: Planes = directions * (singular > 1e-9 * singular[:, :1])[:, None]
    return spanning


def amplitudes(snapshot: Snapshot, frequencies: Frequencies) -> Float64[Tensor, "circle difference"]:
    """Amplitude of cos w(x + y − c) in the logits of the pairs with each difference x − y, mean over these pairs.

    It is the same at every difference in a clock and |cos(w(x − y)/2)| in a pizza of one circle. In a model of several circles the others may make
    up for it: pizzas of the frequencies k and 2k together are nearly flat, so that this tells less of the whole model than `isolated_circles`.
    """
    operation = cyclic(snapshot)
    n = operation.order
    cosine, sine = waves(n, frequencies).unbind(1)
    parts = snapshot.logit_table.flatten(0, 1) @ torch.cat([cosine, sine]).T  # over answers c
    s = snapshot.answer_table.flatten()
    of_pair = 2 / n * (parts[:, : len(cosine)] * cosine.T[s] + parts[:, len(cosine) :] * sine.T[s])
    order = operation.combination(opposite=True).flatten().argsort()
    return of_pair[order].reshape(n, n, -1).mean(1).T


def pizza_amplitudes(n: int, frequencies: Frequencies) -> Float64[Tensor, "circle difference"]:
    """|cos(w d/2)| for the differences d = 0 … n − 1."""
    return ((1 + waves(n, frequencies)[:, 0]) / 2).clamp(min=0).sqrt()


def shares_of_form(amplitude: Tensor, form: Tensor) -> Tensor:
    """Share of squared amplitudes [circle, difference] that a multiple of a form explains: their squared cosine; NaN of amplitudes that are all 0.

    A clock's and a pizza's amplitudes have 8/π² = 0.81 of each other.
    """
    return (amplitude * form).sum(1).square() / (amplitude.square().sum(1) * form.square().sum(1))


def isolated_circles(snapshot: Snapshot, frequencies: Frequencies | None = None) -> xr.Dataset:
    """What a model computes from one circle at a time: all other frequencies are taken out of its embedding, whose mean stays (the paper).

    One pass a circle. It tells a clock's circle from a pizza's where the amplitudes of the whole model do not.

    Args:
        snapshot: a model and its task, which must have a cyclic group.
        frequencies: of the circles; None for `circle_frequencies` of ``snapshot.reference``.

    Returns:
        By circle ``isolated_accuracy``, the share of right answers; by circle and form ("clock", cos w(x + y − c), and "pizza", that times
        |cos(w(x − y)/2)|) ``isolated_correlation``, Pearson's r of all n³ logits with the formula, and ``isolated_fve``, 2r − 1, which the paper
        calls the fraction of variance explained: both scaled to mean 0 and variance 1.

    Raises:
        GrokinterpError: no cyclic group, a frequency that the group does not have, a task without operands of one token each.
    """
    keys = circle_frequencies(snapshot.reference) if frequencies is None else np.unique(np.asarray(frequencies, dtype=int))
    check_frequencies(cyclic(snapshot).order, keys)
    return _isolated(snapshot, [(int(k), FourierAblation("embed", (int(k),), "keep")) for k in keys])


def isolated_components(snapshot: Snapshot, n_circles: int = 3) -> xr.Dataset:
    """The paper's own isolation: `isolated_circles` with two principal components of the embedding in place of a frequency.

    The components are taken two at a time in their order, and read at the frequency that is strongest in the two. It is the same where each
    circle has two components of its own. Circles of like size share theirs, and then a frequency says more.

    Args:
        snapshot: a model and its task, whose operands share their tokens.
        n_circles: pairs of components.

    Raises:
        GrokinterpError: see `isolated_circles`; fewer components than asked for, or operands with tokens of their own.
    """
    both, positions = embeddings(snapshot), operand_positions(snapshot)
    if not torch.equal(both[0], both[1]):
        raise GrokinterpError(
            f"principal components are of one embedding, and the operands of {snapshot.task.name!r} have tokens of their own; use isolated_circles"
        )
    mean = both[0].mean(0)
    elements, singular, directions = torch.linalg.svd(both[0] - mean, full_matrices=False)
    if not 0 < 2 * n_circles <= int((singular > 1e-9 * singular[0]).sum()):
        raise GrokinterpError(f"{n_circles} circles have two principal components each; the embedding has {len(singular)} at most")
    kept = []
    for first in range(0, 2 * n_circles, 2):
        two = slice(first, first + 2)
        k = int(frequency_power(elements[:, two]).sum(1).argmax()) + 1
        kept.append((k, _Kept(directions[two].T @ directions[two], mean, positions)))
    return _isolated(snapshot, kept)


@dataclass(frozen=True, eq=False)
class _Kept(Intervention):
    """The operands' embeddings less their mean, projected, and the mean added again."""

    projector: Tensor
    mean: Tensor
    positions: tuple[int, int]

    def hooks(self, model: Any, task: Task) -> Hooks:
        """See `Intervention.hooks`."""
        return [(TOKENS_EMBEDDED, self._project)]

    def _project(self, value: Tensor, hook: Any) -> Tensor:
        kept, at = value.clone(), list(self.positions)
        kept[:, at] = ((value[:, at].double() - self.mean) @ self.projector + self.mean).to(value.dtype)
        return kept


def _isolated(snapshot: Snapshot, circles: Sequence[tuple[int, Intervention]]) -> xr.Dataset:
    """The variables of `isolated_circles`, each circle with what leaves it alone."""
    import xarray as xr

    n, answers, difference = cyclic(snapshot).order, snapshot.answer_table, cyclic(snapshot).combination(opposite=True)
    keys = np.array([k for k, _ in circles], dtype=int)
    right, correlations = [], []
    for (_, alone), wave, pizza in zip(circles, waves(n, keys)[:, 0], pizza_amplitudes(n, keys), strict=True):
        with alone.applied(snapshot.model, snapshot.task):
            logits = Snapshot(snapshot.model, snapshot.task).logit_table
        clock = wave[(answers[..., None] - torch.arange(n)) % n]  # cos w(s − c)
        right.append(float((logits.argmax(2) == answers).double().mean()))
        correlations.append([_correlation(logits, form) for form in (clock, clock * pizza[difference][..., None])])
    r = np.array(correlations, dtype=float).reshape(len(keys), len(FORMS))
    variables = {"isolated_accuracy": ("circle", np.array(right)), "isolated_correlation": (("circle", "form"), r)}
    return xr.Dataset({**variables, "isolated_fve": (("circle", "form"), 2 * r - 1)}, {"circle": keys, "form": list(FORMS)})


def _correlation(logits: Tensor, form: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([logits.flatten(), form.flatten()]))[0, 1])
