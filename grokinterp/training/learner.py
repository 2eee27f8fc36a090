"""What the training loop drives: R models of one shape that take their steps together.

`ModuleLearner` is the plain way, one HookedTransformer and torch's AdamW. It covers everything and is the test oracle
of the engine, which offers the same verbs for many models at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from grokinterp.errors import GrokinterpError
from grokinterp.interventions.architecture import FreezeHeads
from grokinterp.models.transformers import build_model, load_weights, trained_parameters
from grokinterp.shapes import Answers, Examples, Logits
from grokinterp.tasks import Task
from grokinterp.training.config import RunConfig

Weights = dict[str, Tensor]
Moments = dict[str, Tensor]
"""Adam's state by name: ``exp_avg.<parameter>``, ``exp_avg_sq.<parameter>`` and ``updates``, the number of steps taken."""


@runtime_checkable
class Learner(Protocol):
    """R models that train in lock-step; member indices are positions in the list of those still training."""

    path: str
    """Which implementation this is, "engine" or "module"; goes into the run's provenance."""

    def step(self, step: int, batches: Sequence[Examples] | None) -> None:
        """One AdamW update of every member, from weights at `step` to `step + 1`; batches hold example indices, None is the full training set."""

    def evaluate(self) -> list[dict[str, float]]:
        """Loss (nats, float64) and accuracy on every one of `Task.splits`, and the L2 norm of all trained weights, for each member."""

    def weights(self, member: int) -> Weights:
        """A copy of one member's trained parameters, named and shaped as in HookedTransformer."""

    def moments(self, member: int) -> Moments:
        """A copy of one member's Adam state."""

    def load(self, member: int, weights: Weights, moments: Moments | None) -> None:
        """Set one member's parameters and Adam state; None starts Adam afresh."""

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these members only, in this order."""


def loss_and_accuracy(logits: Logits, answers: Answers) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats, computed in float64, and the share of right answers.

    In float32 a margin of 20 logits would give a loss of exactly 0 instead of 4.1e-9.
    """
    return cross_entropy(logits.double(), answers), (logits.argmax(-1) == answers).double().mean()


class ModuleLearner:
    """One HookedTransformer trained by autograd and `torch.optim.AdamW`.

    Args:
        config: what to train; its steps and schedule are the loop's business.
        task: the config's task, already built.
        device: "cpu" or "cuda".
    """

    path = "module"

    def __init__(self, config: RunConfig, task: Task, device: str = "cpu") -> None:
        self.model: Any = build_model(config.model, task, config.seed, device, getattr(torch, config.dtype))
        self._task = task
        self._optimizer_config = config.optimizer
        self._tokens, self._right = task.tokens.to(device), (task.answers if task.targets is None else task.targets).to(device)
        self._splits = {name: mask.nonzero()[:, 0].to(device) for name, mask in task.splits().items()}
        self._parameters = trained_parameters(self.model)
        frozen = config.model.intervention(FreezeHeads)
        self._frozen = [(weight, heads) for name, weight in self._parameters.items() if (heads := frozen.of(name) if frozen else [])]
        self._optimizer = self._fresh_optimizer()

    def _fresh_optimizer(self) -> torch.optim.AdamW:
        o = self._optimizer_config
        return torch.optim.AdamW(self._parameters.values(), lr=o.lr, betas=o.betas, eps=o.eps, weight_decay=o.weight_decay)

    def _loss_and_accuracy(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """At the read-out position, or over every position where all of them count."""
        logits, right = self.model(self._tokens[examples]), self._right[examples]
        if self._task.targets is None:
            return loss_and_accuracy(logits[:, self._task.readout], right)
        return loss_and_accuracy(logits.flatten(0, 1), right.flatten())

    def step(self, step: int, batches: Sequence[Examples] | None) -> None:
        """See `Learner.step`."""
        examples = self._splits["train"] if batches is None else batches[0].to(self._tokens.device)
        self._optimizer.param_groups[0]["lr"] = self._optimizer_config.lr_at(step)
        self._optimizer.zero_grad()
        loss, _ = self._loss_and_accuracy(examples)
        loss.backward()  # type: ignore[no-untyped-call]
        with self._frozen_heads_kept():
            self._optimizer.step()

    @contextlib.contextmanager
    def _frozen_heads_kept(self) -> Iterator[None]:
        """Neither gradient nor weight decay moves them, and their moments stay 0."""
        before = [weight.detach()[heads] for weight, heads in self._frozen]
        for weight, heads in self._frozen:
            assert weight.grad is not None
            weight.grad[heads] = 0
        yield
        for (weight, heads), value in zip(self._frozen, before, strict=True):
            weight.detach()[heads] = value

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
        state = self._optimizer.state
        moments: Moments = {"updates": torch.tensor(0, dtype=torch.int64)}
        for name, parameter in self._parameters.items():
            own = state.get(parameter, {})
            moments["updates"] = torch.tensor(int(own.get("step", 0)), dtype=torch.int64)
            for key in ("exp_avg", "exp_avg_sq"):
                moments[f"{key}.{name}"] = own[key].clone() if own else torch.zeros_like(parameter)
        return moments

    def load(self, member: int, weights: Weights, moments: Moments | None) -> None:
        """See `Learner.load`."""
        load_weights(self.model, weights)
        self._optimizer = self._fresh_optimizer()
        if moments is None or int(moments["updates"]) == 0:
            return
        _check_moments(moments, self._parameters)
        for name, parameter in self._parameters.items():
            own = {key: moments[f"{key}.{name}"].to(parameter).clone() for key in ("exp_avg", "exp_avg_sq")}
            self._optimizer.state[parameter] = {"step": moments["updates"].to(torch.float32), **own}

    def keep(self, members: Sequence[int]) -> None:
        """See `Learner.keep`; there is only one member to keep."""


def _check_moments(moments: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    for name in parameters:
        if f"exp_avg.{name}" not in moments or f"exp_avg_sq.{name}" not in moments:
            raise GrokinterpError(f"the optimizer state lacks the moments of {name}; it belongs to another model")
