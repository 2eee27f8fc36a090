"""Whether a model is equivalent to an algorithm, tested causally: its neurons hold what the algorithm computes, and the loss says what was lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
from torch.nn.functional import cross_entropy

from grokinterp import plots
from grokinterp.interventions.equivalent import Ablated, Clock, Equivalent, Hybrid, Pizza, Side
from grokinterp.measures.circles import circle_frequencies
from grokinterp.measures.headline import Row
from grokinterp.measures.measure import Measure
from grokinterp.measures.needs import cyclic, neurons
from grokinterp.measures.undefined import finite, with_reasons
from grokinterp.plots.lazy import go
from grokinterp.snapshot import Snapshot

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

CANDIDATES: dict[str, type[Clock] | type[Pizza] | type[Hybrid]] = {"clock": Clock, "pizza": Pizza, "hybrid": Hybrid}
SIDES: tuple[Side, ...] = get_args(Side)


@dataclass(frozen=True)
class Recovery:
    """How much of a model's loss an algorithm at its neurons recovers.

    Attributes:
        own: the model's loss, in nats, the mean over the whole table.
        ablated: the loss with each of these neurons at its mean over the table.
        loss: the loss with the algorithm in their place.
        accuracy: the share of right answers with the algorithm in their place.
    """

    own: float
    ablated: float
    loss: float
    accuracy: float

    @property
    def recovered(self) -> float:
        """(ablated − loss) / (ablated − own): 1 the model's own loss, 0 that without the neurons, below 0 worse than without.

        NaN where the model is no worse without these neurons, so that there is nothing to recover.
        """
        return (self.ablated - self.loss) / (self.ablated - self.own) if self.ablated > self.own else float("nan")

    def __str__(self) -> str:
        return f"{self.recovered:.4f} of the loss recovered: {self.loss:.4g} nats, the model's own {self.own:.4g}, ablated {self.ablated:.4g}"


def loss_recovered(snapshot: Snapshot, algorithm: Equivalent) -> Recovery:
    """How much of a model's loss comes back when its neurons hold what an algorithm computes and nothing else.

    It is causal scrubbing with an algorithm as the explanation: 1 where the neurons do nothing for the loss that the algorithm does not do too.

    Args:
        snapshot: a model and its task.
        algorithm: `Pizza((3, 15, 17))`, for example; its side and layer are those of the ablation as well.

    Raises:
        GrokinterpError: a task or model that the algorithm does not fit; logits that are no finite numbers.
    """
    (own, _), (ablated, _) = _loss(snapshot), _loss(snapshot, Ablated(side=algorithm.side, layer=algorithm.layer))
    return Recovery(own, ablated, *_loss(snapshot, algorithm))


def losses_recovered(snapshot: Snapshot, algorithms: Mapping[str, Sequence[Equivalent]]) -> xr.Dataset:
    """`loss_recovered` of several algorithms at both sides of the first layer's neurons.

    Args:
        snapshot: a model and its task.
        algorithms: by name one for each of `SIDES`.

    Returns:
        What `equivalent` gives.

    Raises:
        GrokinterpError: see `loss_recovered`.
    """
    import xarray as xr

    (own, _), ablated = _loss(snapshot), [_loss(snapshot, Ablated(side=side))[0] for side in SIDES]
    found = [[Recovery(own, mean, *_loss(snapshot, each)) for each, mean in zip(sides, ablated, strict=True)] for sides in algorithms.values()]
    columns = {"loss_recovered": "recovered", "algorithm_loss": "loss", "algorithm_accuracy": "accuracy"}
    values = {name: (("algorithm", "side"), np.array([[getattr(each, of) for each in row] for row in found])) for name, of in columns.items()}
    dataset = xr.Dataset({**values, "ablated_loss": ("side", ablated), "own_loss": own}, {"algorithm": list(algorithms), "side": list(SIDES)})
    nothing = "the model's loss is no higher without these neurons, so there is nothing to recover"
    return with_reasons(dataset, {"loss_recovered": nothing if bool(dataset["loss_recovered"].isnull().any()) else None})


def equivalent(snapshot: Snapshot, frequencies: Sequence[int] | None = None) -> xr.Dataset:
    """Which algorithm at the neurons of the first layer recovers the model's loss: clock, pizza or both together.

    Args:
        snapshot: a model and its task, which must have a cyclic group.
        frequencies: of the circles; None for those of the embedding of ``snapshot.reference``, see `circle_frequencies`.

    Returns:
        By algorithm and side ("inputs" or "outputs" of the neurons) ``loss_recovered``, ``algorithm_loss`` in nats and ``algorithm_accuracy``; by
        side ``ablated_loss``; and ``own_loss``. At the outputs nearly every model that answers right passes for a clock, so read the inputs first.

    Raises:
        GrokinterpError: no cyclic group, a model without neurons or whose neurons' inputs are no one hook, a frequency that the group does not have.
    """
    keys = circle_frequencies(snapshot.reference) if frequencies is None else np.unique(np.asarray(frequencies, dtype=int))
    circles = tuple(int(k) for k in keys)
    return losses_recovered(snapshot, {name: [kind(circles, side=side) for side in SIDES] for name, kind in CANDIDATES.items()})


def _loss(snapshot: Snapshot, algorithm: Equivalent | None = None) -> tuple[float, float]:
    """Mean cross-entropy in nats and share of right answers over the whole table, with an algorithm at the neurons or without."""
    if algorithm is None:
        outputs = snapshot.outputs
    else:
        with algorithm.applied(snapshot.model, snapshot.task):
            outputs = Snapshot(snapshot.model, snapshot.task).outputs
    answers = snapshot.task.answers
    loss = cross_entropy(finite(outputs, "the logits"), answers)
    return float(loss), float((outputs.argmax(1) == answers).double().mean())


def _told(last: xr.Dataset) -> str:
    at = last["loss_recovered"]
    return ", ".join(f"{name} {' / '.join(f'{float(at.sel(algorithm=name, side=side)):.3f}' for side in SIDES)}" for name in at["algorithm"].values)


def recovery_by_algorithm(dataset: xr.Dataset) -> go.Figure:
    """The loss that each algorithm recovers at the inputs and at the outputs of the neurons: lines over steps, or bars for a single step.

    Draws ``loss_recovered``, cut off at −1 and 2.
    """
    value = plots.need(dataset, "loss_recovered")
    names, sides = ([str(name) for name in value[dimension].values] for dimension in ("algorithm", "side"))
    title, y = "Loss recovered by an algorithm at the neurons", "share of the loss recovered"
    caption = (
        "The neurons' inputs, or outputs, hold what a clock, a pizza or both compute and nothing else: at 1 the model keeps its loss, at 0 it "
        "loses as much as without neurons, above 1 it does better than by itself. Cut off at −1 and 2. At the outputs nearly every model passes "
        "for a clock, so read the inputs first."
    )
    if dataset.sizes.get("step", 1) > 1:
        lines = plots.lines_of({f"{name}, {side}": value.sel(algorithm=name, side=side) for side in sides for name in names})
        for i, each in enumerate(lines):
            each.line.update(color=plots.STYLES[i % len(names)][0], dash=("solid", "dash")[i // len(names)])
        return plots.layout_figure(title, caption, lines, plots.STEPS, y).update_yaxes(range=[-1.05, 2.05])
    last = value.isel(step=-1) if "step" in value.dims else value
    bars = [go.Bar(x=names, y=last.sel(side=side).values, name=side, marker_color=plots.STYLES[i][0]) for i, side in enumerate(sides)]
    return plots.layout_figure(title, caption, bars, "algorithm", y).update_layout(barmode="group").update_yaxes(range=[-1.05, 2.05])


MEASURE = Measure(
    equivalent,
    figures=(recovery_by_algorithm,),
    needs=(cyclic, neurons),
    rows=(
        Row("loss recovered by the algorithm at the neurons, inputs / outputs", {"loss_recovered"}, _told, "1 the model's own, 0 without neurons"),
    ),
)
