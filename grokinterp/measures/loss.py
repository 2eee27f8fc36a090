"""Loss and accuracy of a snapshot as training records them: every example of the table, and every output of the model, counts."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from grokinterp import plots
from grokinterp.measures.headline import Row, row_of
from grokinterp.measures.measure import Measure
from grokinterp.measures.undefined import finite, with_reasons
from grokinterp.models.adapter import Adapter
from grokinterp.shapes import ExampleMask
from grokinterp.snapshot import Snapshot
from grokinterp.tasks import Task

SPLITS = ("all", "train", "test")
SHOWN = ("train", "test", "all")
NO_SPLIT = "the task has no train/test split"
_BATCH = 1_024  # sequences a forward pass


def loss(snapshot: Snapshot) -> xr.Dataset:
    """Mean cross-entropy and share of right answers over the whole table, by split: what training wrote down at that step.

    The softmax runs over all outputs of the model, also over those of tokens that answer nothing, as in training. Where every position of a
    sequence counts (`Task.targets`), means are over positions too.

    Args:
        snapshot: a model and its task; it need have neither a group nor a split.

    Returns:
        ``loss`` (nats, float64) and ``accuracy`` by split (all, train, test); of a commutative task also ``unseen_loss`` and
        ``unseen_accuracy``, over the test pairs (a, b) of which (b, a) was not trained either, see `Task.splits`. NaN without a split, and
        where no pair is unseen.

    Raises:
        GrokinterpError: logits that are no finite numbers.
    """
    each = dict(zip(("loss", "accuracy"), _scores(snapshot), strict=True))
    masks = _masks(snapshot.task)
    found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for name, values in each.items():
        found[name] = (("split",), np.array([_mean(values, masks[split]) for split in SPLITS]))
    if "unseen" in masks:
        found |= {f"unseen_{name}": ((), np.array(_mean(values, masks["unseen"]))) for name, values in each.items()}
    dataset = xr.Dataset(found, coords={"split": list(SPLITS)})
    dataset["loss"].attrs |= {"long_name": "loss", "units": "nats", "description": "Mean cross-entropy over all examples of the table."}
    dataset["accuracy"].attrs |= {"long_name": "accuracy", "description": "Share of right answers over all examples of the table."}
    if snapshot.task.train is None:
        return with_reasons(dataset, dict.fromkeys(found, NO_SPLIT))
    return with_reasons(dataset, _unseen_reasons(masks))


def _masks(task: Task) -> dict[str, ExampleMask]:
    """The splits and what is not there as an empty mask; "unseen" of a commutative task alone."""
    none = torch.zeros(len(task), dtype=torch.bool)
    empty = {"train": none, "test": none} | ({"unseen": none} if task.commutative else {})
    return {"all": ~none} | empty | (task.splits() if task.train is not None else {})


def _unseen_reasons(masks: dict[str, ExampleMask]) -> dict[str, str]:
    if "unseen" not in masks or bool(masks["unseen"].any()):
        return {}
    return dict.fromkeys(("unseen_loss", "unseen_accuracy"), "every test pair (a, b) has (b, a) among the training pairs")


def _mean(values: Float[Tensor, "example"], chosen: ExampleMask) -> float:
    return float(values[chosen].mean())  # of nothing it is NaN


def _scores(snapshot: Snapshot) -> tuple[Float[Tensor, "example"], Float[Tensor, "example"]]:
    """Cross-entropy in nats and whether the answer is right, of each example; of a sequence, means over its positions."""
    task = snapshot.task
    if task.targets is None:
        logits = finite(snapshot.outputs, "the logits")
        return cross_entropy(logits, task.answers, reduction="none"), (logits.argmax(-1) == task.answers).double()
    losses, right = [], []
    # What hangs on a model may expect the whole table.
    size = _BATCH if Adapter(snapshot.model).bare else len(task)
    with torch.no_grad():
        for tokens, targets in zip(torch.split(task.tokens, size), torch.split(task.targets, size), strict=True):
            logits = finite(snapshot.model(tokens), "the logits").double()
            losses.append(cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1))
            right.append((logits.argmax(-1) == targets).double().mean(1))
    return torch.cat(losses), torch.cat(right)


MEASURE = Measure(
    loss,
    rows=(
        row_of("loss, train / test / all pairs", "loss", ".4e", "mean cross-entropy over the table, as in training", split=SHOWN),
        row_of("accuracy, train / test / all pairs", "accuracy", ".4g", "share of right answers", split=SHOWN),
        Row(
            "loss / accuracy, unseen pairs",
            {"unseen_loss", "unseen_accuracy"},
            lambda last: f"{float(last['unseen_loss']):.4e} / {float(last['unseen_accuracy']):.4g}",
            "test pairs (a, b) of which (b, a) was not trained either",
        ),
    ),
    figures=(plots.losses, plots.accuracy),
)
