"""Optimizers: frozen settings that are part of a run's configuration, and the torch optimizer that carries them out.

`AdamW` is what every preset uses, and what the engine computes. With any other, runs train through the module itself. A class of your own derives
from `Optimizer`; a run that names it can be opened wherever the class has been imported.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from grokinterp.checks import check_fields
from grokinterp.errors import GrokinterpError


@dataclass(frozen=True)
class Optimizer(ABC):
    """How gradients become updates, with a linear warm-up.

    A subclass is a frozen dataclass with a field ``kind: str = field(default="my_kind", init=False, repr=False)``, under which configurations
    name it. Its `state` names the tensors that the torch optimizer keeps for each parameter, in the parameter's shape; a run's files hold them
    as ``<state>.<parameter>``.

    Attributes:
        lr: learning rate after warm-up, per step.
        weight_decay: λ, as the subclass applies it.
        warmup_steps: step t (from 0) uses lr · min(t / warmup_steps, 1), so that step 0 has lr 0; 0 for none.
    """

    lr: float = 1e-3
    weight_decay: float = 0.0
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.lr <= 0 or self.weight_decay < 0 or self.warmup_steps < 0:
            raise GrokinterpError(
                f"an optimizer needs lr > 0, weight_decay >= 0 and warmup_steps >= 0; got lr {self.lr}, weight_decay {self.weight_decay}, "
                f"warmup_steps {self.warmup_steps}"
            )
        if type(self) is not AdamW and not getattr(self, "kind", ""):
            raise GrokinterpError(
                f'{type(self).__name__} has no kind, under which configurations would name it; add kind: str = field(default="…", init=False)'
            )

    @property
    def state(self) -> tuple[str, ...]:
        """What its torch optimizer keeps for each parameter, by torch's names."""
        return ()

    @abstractmethod
    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The torch optimizer of some parameters, with one group of settings; `lr_at` gives its learning rate at each step."""

    def lr_at(self, step: int) -> float:
        """The learning rate of the update that leads from `step` to `step + 1`."""
        return self.lr * min(step / self.warmup_steps, 1.0) if self.warmup_steps else self.lr


@dataclass(frozen=True)
class _TwoMoments(Optimizer):
    """What `Adam` and `AdamW` share: running means of the gradient and of its square."""

    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eps <= 0:
            raise GrokinterpError(f"eps must be positive; got {self.eps}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise GrokinterpError(f"betas are two numbers in [0, 1); got {self.betas}")

    @property
    def state(self) -> tuple[str, ...]:
        """The running means of the gradient and of its square."""
        return "exp_avg", "exp_avg_sq"


@dataclass(frozen=True)
class Adam(_TwoMoments):
    """Adam (arXiv 1412.6980) with λ as an L2 penalty: λ·θ is added to the gradient before the moments.

    Attributes:
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
    """

    kind: str = field(default="adam", init=False, repr=False)

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """See `Optimizer.build`."""
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class AdamW(_TwoMoments):
    """AdamW (arXiv 1711.05101) with decoupled weight decay on every trained parameter; configurations name it by having no kind.

    Attributes:
        weight_decay: λ; each step multiplies the weights by 1 − lr·λ.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
    """

    weight_decay: float = 1.0

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """See `Optimizer.build`."""
        return torch.optim.AdamW(parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum, and λ as an L2 penalty.

    Attributes:
        momentum: share of the last update's direction that is kept, in [0, 1).
    """

    momentum: float = 0.9
    kind: str = field(default="sgd", init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise GrokinterpError(f"momentum lies in [0, 1); got {self.momentum}")

    @property
    def state(self) -> tuple[str, ...]:
        """The running sum of gradients; nothing without momentum."""
        return ("momentum_buffer",) if self.momentum else ()

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """See `Optimizer.build`."""
        return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
