"""Clock or pizza: which of two algorithms for modular addition a model computes ("The Clock and the Pizza", arXiv 2306.17844).

Q_abc is the logit of answer c for the operands a and b. Both algorithms put the numbers on circles. The clock multiplies the operands' circles,
which gives cos w(a + b − c); the pizza adds them, which gives |cos(w(a − b)/2)| cos w(a + b − c).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from grokinterp.chance import Rng, generator
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.measures.algorithm_figures import embedding_circles, symmetricity_and_irrelevance, verdict_over_training
from grokinterp.measures.circles import (
    FORMS,
    Planes,
    amplitudes,
    circle_frequencies,
    circle_shares,
    embeddings,
    operand_positions,
    pizza_amplitudes,
    planes,
    shares_of_form,
)
from grokinterp.measures.headline import Row, row_of
from grokinterp.measures.measure import Measure
from grokinterp.measures.needs import cyclic
from grokinterp.measures.undefined import with_reasons
from grokinterp.measures.verdicts import READ, in_words, verdict
from grokinterp.models.adapter import TOKENS_EMBEDDED, Adapter
from grokinterp.models.edits import applied
from grokinterp.models.hanging import refuse_dropout
from grokinterp.models.readout import BATCH, OUTPUT, readout_hooks
from grokinterp.snapshot import Snapshot

if TYPE_CHECKING:
    import xarray as xr

Triples = Literal["one", "all", "published"]
COMPONENTS = 4  # principal components whose circularity is averaged (the paper)
SHOWN = 6  # circles in the headline (chosen here)
FLAT = 1e-5  # of the standard deviation of all logits: the right logits vary by rounding errors alone (chosen here)


def algorithm(snapshot: Snapshot, triples: Triples = "one", rng: Rng = 0) -> xr.Dataset:
    """What tells a clock from a pizza: gradient symmetricity, distance irrelevance and circularity.

    Args:
        snapshot: a model and its task, which must have a cyclic group.
        triples: those of `gradient_cosines`.
        rng: seed or generator of the answers under "one".

    Returns:
        - ``gradient_symmetricity``, the mean of `gradient_cosines`. It is 1 for every model that adds the embeddings of the operands
          first, and says nothing of it.
        - ``distance_irrelevance``, q of the right answer's logit, and ``distance_irrelevance_wrong``, q of the largest wrong logit, which the
          authors' table of runs holds; see `distance_irrelevance`
        - ``circularity`` by operand (x, y), see `circularity`; equal where both have the same tokens
        - ``right_answers``, the share of all pairs
        - by circle, the frequencies of ``snapshot.reference``'s embedding (`circle_frequencies`): ``circle_share`` of the embedding's variance;
          ``plane_symmetricity``, the mean of `gradient_cosines` in the plane where the embedding has this frequency, which sees no skip
          connection around it; ``amplitude`` of cos w(x + y − c) by difference x − y of the operands; ``amplitude_fit`` by form, the share of its
          square that a constant ("clock") and |cos(w(x − y)/2)| ("pizza") explain, see `circles.amplitudes`. No paper gives thresholds for these
        - ``circle_plane`` by circle, element and direction: where the embedding of x puts the elements in that plane

        NaN where one is not defined, with the reason in the variable's attribute ``undefined``.

    Raises:
        GrokinterpError: no cyclic group, operands that are not one token each, logits that are no finite numbers, unknown triples.
    """
    import xarray as xr

    table, answers = snapshot.logit_table, snapshot.answer_table
    if bad := int((~torch.isfinite(table)).sum()):
        raise GrokinterpError(f"{bad} of {table.numel()} logits are NaN or infinite, so that no algorithm can be read off them; take an earlier step")
    right = table.gather(2, answers[..., None])
    wrong = table.scatter(2, answers[..., None], -torch.inf).amax(2)
    distances = cyclic(snapshot).combination(opposite=True)
    floor = FLAT * float(table.std(correction=0))
    embedding, circles = embeddings(snapshot), circle_frequencies(snapshot.reference)
    directions = planes(embedding, circles)
    cosines = _cosines(snapshot, triples, rng, directions)
    numbers = {
        "gradient_symmetricity": ((), float(cosines[0].mean())),
        "distance_irrelevance": ((), distance_irrelevance(right[..., 0], distances, floor)),
        "distance_irrelevance_wrong": ((), distance_irrelevance(wrong, distances, floor)),
        "circularity": (("operand",), [circularity(rows) for rows in embedding]),
        "right_answers": ((), float((table.argmax(2) == answers).double().mean())),
    }
    amplitude = amplitudes(snapshot, circles)
    forms = (torch.ones_like(amplitude), pizza_amplitudes(len(amplitude.T), circles))
    by_circle = {
        "circle_share": (("circle",), circle_shares(snapshot)[torch.from_numpy(circles - 1)].numpy()),
        "plane_symmetricity": (("circle",), cosines[1:].mean(1).numpy()),
        "amplitude": (("circle", "difference"), amplitude.numpy()),
        "amplitude_fit": (("circle", "form"), torch.stack([shares_of_form(amplitude, form) for form in forms], 1).numpy()),
        "circle_plane": (("circle", "element", "direction"), ((embedding[0] - embedding[0].mean(0)) @ directions[..., :2]).numpy()),
    }
    dataset = xr.Dataset({**numbers, **by_circle}, coords={"operand": ["x", "y"], "circle": circles, "form": list(FORMS)})
    return with_reasons(dataset, {str(name): _REASONS[str(name)] for name, array in dataset.data_vars.items() if bool(array.isnull().any())})


_REASONS = {
    "gradient_symmetricity": "a logit does not depend on an operand, so that its gradient has no direction",
    "distance_irrelevance": "the right answer's logit is the same for every pair",
    "distance_irrelevance_wrong": "the largest wrong logit is the same for every pair",
    "circle_share": "the embedding does not vary",
    "plane_symmetricity": "the embedding has a frequency on a line, or a gradient has no part in its plane",
    "amplitude_fit": "the logits do not have this frequency",
    "circularity": f"the embedding of an operand has fewer than {COMPONENTS} principal components",
}


def gradient_cosines(snapshot: Snapshot, triples: Triples = "one", rng: Rng = 0) -> Float[Tensor, "triple"]:
    """cos(∂Q_abc/∂E_a, ∂Q_abc/∂E_b) of triples (a, b, c); their mean is the gradient symmetricity s_g (the paper).

    Gradients are those at ``hook_embed``, behind all that hangs there.

    Args:
        snapshot: a model and its task, which must have a cyclic group.
        triples: "one" draws one answer c for each pair, which takes one backward pass (chosen here); "all" takes all n³, in n passes; "published"
            takes the authors' 100: all (a, b, c) in row order, shuffled by Python's generator with seed 42.
        rng: seed or generator of the answers under "one".

    Returns:
        float64; NaN where one of the two gradients is zero.

    Raises:
        GrokinterpError: no cyclic group, operands that are not one token each, unknown triples, a model without ``hook_embed``, dropout in force.
    """
    return _cosines(snapshot, triples, rng, torch.zeros(0, snapshot.model.W_E.shape[1], 0, dtype=torch.float64))[0]


def _cosines(snapshot: Snapshot, triples: Triples, rng: Rng, directions: Planes) -> Float[Tensor, "space triple"]:
    """`gradient_cosines` of whole gradients, then of their parts in each plane; NaN in a plane of fewer than two directions."""
    model, task, operation = snapshot.model, snapshot.task, cyclic(snapshot)
    refuse_dropout(model)
    adapter, (at_x, at_y) = Adapter(model), operand_positions(snapshot)
    asked = _asked(operation.order, triples, rng)
    wanted = torch.full((len(asked), len(task)), -1)
    wanted[:, snapshot.table(torch.arange(len(task))).flatten()] = torch.where(asked < 0, -1, operation.token_of[asked])
    flat = directions.square().sum((1, 2)) < 1.5  # a line: its cosine would be 1 or −1 whatever the model
    spanning = directions[..., directions.square().sum((0, 1)) > 0].permute(1, 2, 0)  # [d_model, direction, plane], those of no plane left out
    cosines = torch.full((1 + len(directions), *wanted.shape), torch.nan, dtype=torch.float64)
    leaves: list[Tensor] = []

    def differentiate(value: Tensor, hook: Any) -> Tensor:
        leaves.append(value.detach().requires_grad_())
        return leaves[-1]

    # What hangs on a model may expect the whole table, at all positions.
    shortcut, size = (readout_hooks(model, task.readout), BATCH) if adapter.bare else ([], len(task))
    for batch in torch.split(torch.arange(len(task)), size):
        with torch.enable_grad(), applied(model, [(TOKENS_EMBEDDED, differentiate), *shortcut]):
            output = model(task.tokens[batch].to(adapter.device))
            logits = adapter.at_position(OUTPUT, output, task.readout, task.n_positions)
        for i, answers in enumerate(wanted[:, batch].clamp(min=0).to(adapter.device)):
            with torch.enable_grad():
                chosen = logits.gather(1, answers[:, None]).sum()  # examples do not see each other
            (gradient,) = torch.autograd.grad(chosen, leaves[-1], retain_graph=i + 1 < len(wanted), allow_unused=True, materialize_grads=True)
            both = gradient[:, [at_x, at_y]].double().cpu()
            cosines[0, i, batch] = _cosine(both)
            cosines[1:, i, batch] = _cosine((both @ spanning.flatten(1)).reshape(*both.shape[:2], *spanning.shape[1:])).T
    cosines[1:][flat] = torch.nan
    return cosines[:, wanted >= 0]


def _cosine(both: Float[Tensor, "pair operand direction *plane"]) -> Float[Tensor, "pair *plane"]:
    """Cosine between the vectors of two operands; NaN where one is zero."""
    (x, y), norms = both.unbind(1), both.square().sum(2).sqrt()
    return (x * y).sum(1) / (norms[:, 0] * norms[:, 1])


def _asked(n: int, triples: Triples, rng: Rng) -> Int[Tensor, "pass pair"]:
    """The answer that each backward pass asks of each pair (a, b), in row order; −1 for none."""
    if triples == "one":
        return torch.from_numpy(generator(rng).integers(n, size=(1, n * n)))
    if triples == "all":
        return torch.arange(n)[:, None].expand(n, n * n)
    if triples != "published":
        raise unknown_name("choice of triples", triples, get_args(Triples))
    order = list(range(n**3))
    random.Random(42).shuffle(order)
    by_pair: dict[int, list[int]] = {}
    for triple in order[:100]:
        by_pair.setdefault(triple // n, []).append(triple % n)
    asked = torch.full((max(map(len, by_pair.values())), n * n), -1)
    for pair, answers in by_pair.items():
        asked[: len(answers), pair] = torch.tensor(answers)
    return asked


def distance_irrelevance(logits: Float[Tensor, "x y"], distances: Int[Tensor, "x y"], floor: float = 0.0) -> float:
    """q = mean over distances d of std of the logits of the pairs at d, over std of all of them; in [0, 1] (the paper).

    0 where a logit depends on the distance of its operands alone, as a pizza's does, and near 1 where it does not depend on it.

    Args:
        logits: one for each pair, of the right answer for example.
        distances: of each pair, 0 … n − 1: a − b mod n for addition; n pairs have each.
        floor: a standard deviation of all up to which they count as equal.

    Returns:
        q, with population standard deviations; NaN where all logits are equal.
    """
    spread = float(logits.double().std(correction=0))
    if spread <= floor:
        return float("nan")
    by_distance = logits.double().flatten()[distances.flatten().argsort()].reshape(logits.shape)
    return float(by_distance.std(1, correction=0).mean()) / spread


def circularity(embedding: Float[Tensor, "element d_model"]) -> float:
    """How well single frequencies describe the embedding: 1 where the first four principal components are sinusoids (the paper).

    The mean over these components v of max_k 2 |Σ_j v_j e^(2πi jk/n)|² / (n Σ_j v_j²), k = 1 … ⌈n/2⌉ − 1: of an even n, the alternating
    sign k = n/2 lies on no circle and is left out (chosen here). Circles of equal size share their components, which then mix frequencies.

    Args:
        embedding: of the group's elements in their order. Of operands with separate vocabularies, those of one operand (chosen here): the
            published code divides by the norm over both, which halves the value where their components agree.

    Returns:
        A number in [0, 1]; NaN with fewer than four principal components.
    """
    n = len(embedding)
    centred = embedding.double() - embedding.double().mean(0)
    rounding = torch.finfo(embedding.dtype).eps * max(embedding.shape)
    components, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    if int((singular > rounding * singular[0]).sum()) < COMPONENTS:
        return float("nan")
    power = torch.fft.fft(components[:, :COMPONENTS], dim=0)[1 : (n + 1) // 2].abs().square()
    return float((2 * power.amax(0) / n).mean())


_SOURCE = "by the thresholds of arXiv 2306.17844"


def _of_circles(name: str, spec: str) -> Callable[[xr.Dataset], str]:
    """The numbers of each circle, the strongest first."""

    def value(last: xr.Dataset) -> str:
        order = np.argsort(-last["circle_share"].to_numpy(), kind="stable")[:SHOWN]
        values = last[name].isel(circle=order)
        told = [f"{int(k)}: {' / '.join(format(each, spec) for each in np.atleast_1d(row))}" for k, row in zip(values["circle"], values.to_numpy())]
        return ", ".join(told) or "no circle"

    return value


MEASURE = Measure(
    algorithm,
    needs=(cyclic,),
    rows=(
        Row("clock or pizza", READ, verdict, _SOURCE),
        Row("clock or pizza over training", READ, in_words, _SOURCE, over_steps=True),
        Row(
            "distance irrelevance, right / largest wrong logit",
            {"distance_irrelevance", "distance_irrelevance_wrong"},
            lambda last: f"{float(last['distance_irrelevance']):.4f} / {float(last['distance_irrelevance_wrong']):.4f}",
        ),
        row_of("gradient symmetricity", "gradient_symmetricity", ".4f", "1 where a logit's gradients for both operands agree"),
        row_of("circularity of x / y", "circularity", ".4f", "1 where the embedding lies on circles", operand=("x", "y")),
        Row("circles, share of the embedding", {"circle_share"}, _of_circles("circle_share", ".3f"), f"the {SHOWN} largest by frequency", aside=True),
        Row("symmetricity in the plane of each circle", {"plane_symmetricity", "circle_share"}, _of_circles("plane_symmetricity", ".3f"), aside=True),
        Row(
            "amplitude by distance, constant / |cos(w(x − y)/2)|",
            {"amplitude_fit", "circle_share"},
            _of_circles("amplitude_fit", ".3f"),
            "share of the squared amplitude of each circle that the form explains",
            aside=True,
        ),
    ),
    figures=(verdict_over_training, symmetricity_and_irrelevance, embedding_circles),
)
