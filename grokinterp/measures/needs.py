"""What a measure may need of a snapshot: functions that give it, or raise a `GrokinterpError` that names what is missing."""

from __future__ import annotations

from grokinterp.errors import GrokinterpError
from grokinterp.interventions import NoAttention
from grokinterp.shapes import ExampleMask
from grokinterp.snapshot import Snapshot
from grokinterp.tasks import Operation


def gradients(snapshot: Snapshot) -> None:
    """That autograd stays on while the measure is computed; it is off for the others."""


def group(snapshot: Snapshot) -> Operation:
    """How operands combine in the task's group.

    Raises:
        GrokinterpError: it has none.
    """
    return snapshot.operation


def cyclic(snapshot: Snapshot) -> Operation:
    """How operands combine in the task's cyclic group.

    Raises:
        GrokinterpError: it has none, another group, or one that is cyclic in another numbering of its elements.
    """
    task, operation = snapshot.task, snapshot.task.operation
    if operation is None:
        raise GrokinterpError(f"task {task.name!r} has no cyclic group, so Fourier measures do not apply to it")
    if task.cyclic is None:
        raise GrokinterpError(
            f"task {task.name!r} has no cyclic group whose product is g + h mod n, but {operation.group.name}; take measures of representations"
        )
    return operation


def split(snapshot: Snapshot) -> ExampleMask:
    """The mask of the training examples.

    Raises:
        GrokinterpError: the task has not been split.
    """
    if snapshot.task.train is None:
        raise GrokinterpError(f"this measure needs a train/test split; call task.split(train_fraction, seed) on task {snapshot.task.name!r} first")
    return snapshot.task.train


def neurons(snapshot: Snapshot) -> list[str]:
    """Hook name of each layer's neurons.

    Raises:
        GrokinterpError: an attention-only model.
    """
    return snapshot.neuron_hooks


def attention(snapshot: Snapshot) -> None:
    """Attention patterns of weights that the model has.

    Raises:
        GrokinterpError: it was built without attention.
    """
    if NoAttention() in getattr(snapshot.model, "interventions", ()):
        raise GrokinterpError(f"this measure reads attention patterns, and the model was built with {NoAttention()}; leave the measure out")
