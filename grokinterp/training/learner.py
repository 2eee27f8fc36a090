"""What the training loop drives: R models of one shape that take their steps together.

`ModuleLearner` is the plain way, one HookedTransformer and a torch optimizer. It covers everything and is the test oracle
of the engine, which offers the same verbs for many models at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from grokinterp.errors import GrokinterpError
from grokinterp.models.transformers import build_model, load_weights, trained_parameters
from grokinterp.shapes import Answers, Examples, Logits
from grokinterp.tasks import Task
from grokinterp.training.config import RunConfig
from grokinterp.training.optimizers import Optimizer

Weights = dict[str, Tensor]
Moments = dict[str, Tensor]
"""An optimizer's state by name: ``<state>.<parameter>`` for what it keeps of each parameter, and ``updates``, the number of steps taken."""


@runtime_checkable
class Learner(Protocol):
    """R models that train in lock-step; member indices are positions in the list of those still training."""

    path: str
    """Which implementation this is, "engine" or "module"; goes into the run's provenance."""

    def step(self, step: int, batches: Sequence[Examples] | None) -> None:
        """One update of every member, from weights at `step` to `step + 1`; batches hold example indices, None is the full training set."""

    def evaluate(self) -> list[dict[str, float]]:
        """Loss (nats, float64) and accuracy on every one of `Task.splits`, and the L2 norm of all trained weights, for each member."""

    def weights(self, member: int) -> Weights:
        """A copy of one member's trained parameters, named and shaped as in HookedTransformer."""

    def moments(self, member: int) -> Moments:
        """A copy of one member's optimizer state."""

    def load(self, member: int, weights: Weights, moments: Moments | None) -> None:
        """Set one member's parameters and optimizer state; None starts the optimizer afresh."""

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these members only, in this order."""


def loss_and_accuracy(logits: Logits, answers: Answers) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats, computed in float64, and the share of right answers.

    In float32 a margin of 20 logits would give a loss of exactly 0 instead of 4.1e-9.
    """
    return cross_entropy(logits.double(), answers), (logits.argmax(-1) == answers).double().mean()


class ModuleLearner:
    """One HookedTransformer trained by autograd and a torch optimizer.

    Args:
        config: what to train; its steps and schedule are the loop's business.
        task: the config's task, already built.
        device: "cpu" or "cuda".
    """

    path = "module"

    def __init__(self, config: RunConfig, task: Task, device: str = "cpu") -> None:
        self.model: Any = build_model(config.model, task, config.seed, device, getattr(torch, config.dtype))
        self._task = task
        self._config = config.optimizer
        self._tokens, self._right = task.tokens.to(device), (task.answers if task.targets is None else task.targets).to(device)
        self._splits = {name: mask.nonzero()[:, 0].to(device) for name, mask in task.splits().items()}
        self._parameters = trained_parameters(self.model)
        self._optimizer = self._config.build(self._parameters.values())
        self._updates = 0

    def _loss_and_accuracy(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """At the read-out position, or over every position where all of them count."""
        logits, right = self.model(self._tokens[examples]), self._right[examples]
        if self._task.targets is None:
            return loss_and_accuracy(logits[:, self._task.readout], right)
        return loss_and_accuracy(logits.flatten(0, 1), right.flatten())

    def step(self, step: int, batches: Sequence[Examples] | None) -> None:
        """See `Learner.step`."""
        examples = self._splits["train"] if batches is None else batches[0].to(self._tokens.device)
        self._optimizer.param_groups[0]["lr"] = self._config.lr_at(step)
        self._optimizer.zero_grad()
        loss, _ = self._loss_and_accuracy(examples)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._updates += 1
        if self._updates == 1:
            self._check_state()

    def _check_state(self) -> None:
        """Raise where torch's optimizer keeps other tensors than its settings say, which a resumed run would lack."""
        for own in self._optimizer.state.values():
            kept = {key for key, value in own.items() if isinstance(value, Tensor) and key != "step"}
            if kept != set(self._config.state):
                raise GrokinterpError(
                    f"{type(self._config).__name__}.state says that its optimizer keeps {', '.join(self._config.state) or 'nothing'} for each "
                    f"parameter, and it keeps {', '.join(sorted(kept)) or 'nothing'}; name all of it in `state`, or a resumed run would lack it"
                )

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float]]:
        """See `Learner.evaluate`."""
        metrics: dict[str, float] = {}
        for split, examples in self._splits.items():
            loss, accuracy = self._loss_and_accuracy(examples)
            metrics |= {f"{split}_loss": loss.item(), f"{split}_accuracy": accuracy.item()}
        squares = sum(parameter.double().square().sum().item() for parameter in self._parameters.values())
        return [metrics | {"weight_norm": squares**0.5}]

    def weights(self, member: int) -> Weights:
        """See `Learner.weights`."""
        return {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    def moments(self, member: int) -> Moments:
        """See `Learner.moments`."""
        moments: Moments = {"updates": torch.tensor(self._updates, dtype=torch.int64)}
        for name, parameter in self._parameters.items():
            own = self._optimizer.state.get(parameter, {})
            for key in self._config.state:
                moments[f"{key}.{name}"] = own[key].clone() if own else torch.zeros_like(parameter)
        return moments

    def load(self, member: int, weights: Weights, moments: Moments | None) -> None:
        """See `Learner.load`."""
        load_weights(self.model, weights)
        self._optimizer = self._config.build(self._parameters.values())
        self._updates = 0 if moments is None else int(moments["updates"])
        if moments is None or self._updates == 0:
            return
        check_state(self._config, moments, self._parameters)
        for name, parameter in self._parameters.items():
            own = {key: moments[f"{key}.{name}"].to(parameter).clone() for key in self._config.state}
            self._optimizer.state[parameter] = {"step": moments["updates"].to(torch.float32), **own}

    def keep(self, members: Sequence[int]) -> None:
        """See `Learner.keep`; there is only one member to keep."""


def check_state(optimizer: Optimizer, moments: Mapping[str, Tensor], parameters: Iterable[str]) -> None:
    """Raise a GrokinterpError unless a state is that of this optimizer for parameters of these names."""
    wanted = {f"{key}.{name}" for key in optimizer.state for name in parameters}
    if wrong := sorted(wanted ^ (moments.keys() - {"updates"})):
        raise GrokinterpError(
            f"the optimizer's state has {', '.join(sorted(moments))[:200]}, and {optimizer} keeps {', '.join(optimizer.state) or 'nothing'} for each "
            f"parameter of this model ({wrong[0]} is missing or too much); it belongs to another model or optimizer"
        )
