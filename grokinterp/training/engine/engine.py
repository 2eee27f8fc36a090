"""R models of one shape trained as one tensor program: the fast learner.

It computes the loss and gradients of HookedTransformer (`forward.py`) and the updates of `torch.optim.AdamW`, both
from parameters stacked along a first dimension, so that seeds, splits, learning rates and weight decays share every
matrix product. `ModuleLearner` is the plain way and the test oracle; state moves between the two at any step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from grokinterp.errors import GrokinterpError
from grokinterp.models.baseline_configs import BaselineConfig
from grokinterp.models.initial import initial_weights
from grokinterp.models.transformers import ModelConfig
from grokinterp.shapes import ExampleMask, Examples
from grokinterp.tasks import Task
from grokinterp.training.config import RunConfig
from grokinterp.training.engine.forward import StackedLogits, logits, take
from grokinterp.training.engine.graph import Replay
from grokinterp.training.engine.layout import Layout, StackedExamples
from grokinterp.training.learner import Moments, Weights
from grokinterp.training.optimizers import AdamW

SPLITS: tuple[Literal["train", "test"], ...] = ("train", "test")
ALIGNED = 32  # entries: on a GPU each parameter of each member begins at a multiple of them, without which matrix products take slower ways
EVALUATION_ELEMENTS = 2**20  # of the widest activation of a member at a time, so that a forward over the whole table stays in cache (chosen here)

Flat = Float[Tensor, "member parameter"]
Coefficients = Float[Tensor, "coefficient member 1"]


def why_not(configs: Sequence[RunConfig]) -> str | None:
    """Why these configs cannot train as one engine; None if they can.

    Members may differ in seed, split, random answers and optimizer settings.
    """
    if not configs:
        return "an engine needs at least one config"
    first = configs[0]
    if first.task.every_position:
        return f"the engine computes the read-out position alone, and task {first.task.name!r} is trained on every position"
    if isinstance(first.model, BaselineConfig):
        return f"the engine computes transformers, and the model is of kind {first.model.kind!r}, which trains by itself"
    if unknown := [part for part in first.model.interventions if not part.in_engine]:
        return f"the engine does not compute {unknown[0]}, which acts through the module's own hooks"
    if other := [type(config.optimizer).__name__ for config in configs if type(config.optimizer) is not AdamW]:
        return f"the engine computes the updates of AdamW, and the optimizer is {other[0]}"
    for config in configs[1:]:
        for name in ("model", "dtype", "batch_size"):
            if getattr(config, name) != getattr(first, name):
                return f"the members of an engine share one {name}; got {getattr(first, name)} and {getattr(config, name)}"
        for name in ("name", "args", "train_fraction"):
            if getattr(config.task, name) != getattr(first.task, name):
                return f"the members of an engine share one task table; got task.{name} {getattr(first.task, name)} and {getattr(config.task, name)}"
    return None


@contextlib.contextmanager
def tensor_cores(allowed: bool) -> Iterator[None]:
    """Whether float32 matrix products on a GPU may round their inputs to TF32: faster, with 10 bits of mantissa."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


class Engine:
    """Models of one shape, trained in lock-step from stacked parameters; a `Learner`.

    Args:
        configs: one for each member; see `why_not` for what they must share.
        tasks: the configs' tasks, already built.
        device: "cpu" or "cuda".
        compiled: let torch.compile fuse what stands between the matrix products; takes a minute once, and pays on a GPU.
        captured: on a GPU, capture a step in a CUDA graph and replay it.

    Raises:
        GrokinterpError: configs that cannot share an engine.
    """

    path = "engine"
    align = 1
    """Each member's parameters begin at multiples of so many entries."""

    def __init__(
        self, configs: Sequence[RunConfig], tasks: Sequence[Task], device: str = "cpu", *, compiled: bool = False, captured: bool = True
    ) -> None:
        if (reason := why_not(configs)) is not None:
            raise GrokinterpError(reason)
        if len(tasks) != len(configs) or any(not torch.equal(task.tokens, tasks[0].tokens) for task in tasks):
            counts = f"{len(tasks)} tasks for {len(configs)} configs"
            raise GrokinterpError(f"an engine needs one task for each config, all with the same inputs; got {counts}")
        assert isinstance(configs[0].model, ModelConfig)  # `why_not` has seen to it
        self._model, self._device, self._captured, self._compiled = configs[0].model, device, captured, compiled
        self._config, self._tokens = configs[0], tasks[0].tokens
        fused: Callable[..., Any] = partial(torch.compile, dynamic=False) if compiled else lambda function: function
        self._fused: Callable[..., StackedLogits] = fused(logits)
        self._excess, self._adamw = fused(_excess), fused(adamw_)
        self._optimizers = [cast("AdamW", config.optimizer) for config in configs]  # `why_not` has seen to it
        self._layout = Layout(tasks[0], self._model, device)
        self._answers = torch.stack([task.answers for task in tasks]).to(device)
        self._splits: dict[str, Tensor] = {split: torch.stack([task.indices(split) for task in tasks]).to(device) for split in SPLITS}
        self._unseen = torch.stack([unseen_of(task) for task in tasks]).to(device)
        self._has_unseen = self._unseen.any(1).tolist()
        initial = [initial_weights(self._model, task, config.seed) for config, task in zip(configs, tasks, strict=True)]
        self._shapes = {name: weight.shape for name, weight in initial[0].items()}
        self.align = ALIGNED if device.startswith("cuda") else self.align
        self._updates = [0] * len(configs)
        with torch.no_grad():
            flat = torch.stack([self._laid_out(member) for member in initial])
        self._hold(flat.to(device, getattr(torch, configs[0].dtype)))

    def _hold(self, flat: Flat, exp_avg: Flat | None = None, exp_avg_sq: Flat | None = None) -> None:
        """Make these the parameters and Adam moments (zero if not given), with a view on each parameter by name."""
        self._flat = flat
        self._exp_avg = torch.zeros_like(flat) if exp_avg is None else exp_avg
        self._exp_avg_sq = torch.zeros_like(flat) if exp_avg_sq is None else exp_avg_sq
        self._parameters = {name: view.requires_grad_() for name, view in self._views(flat).items()}
        self._gradients = torch.zeros_like(flat)
        self._graphs: dict[int, Replay] = {}

    def _laid_out(self, values: Weights) -> Tensor:
        """One member's parameters in a row, each beginning where a GPU reads fastest."""
        pieces = (value.flatten() for value in values.values())
        return torch.cat([functional.pad(piece, (0, -len(piece) % self.align)) for piece in pieces])

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        """The last dimension of a flat tensor cut up into named parameters."""
        sizes = [shape.numel() for shape in self._shapes.values()]
        pieces = torch.split(flat.detach(), [size + -size % self.align for size in sizes], dim=-1)
        cut = (piece[..., :size] for piece, size in zip(pieces, sizes, strict=True))
        return {name: piece.view(*piece.shape[:-1], *shape) for (name, shape), piece in zip(self._shapes.items(), cut, strict=True)}

    def step(self, step: int, batches: Sequence[Examples] | StackedExamples | None) -> None:
        """See `Learner.step`; batches may be stacked, and lie on the device, already."""
        self._updates = [updates + 1 for updates in self._updates]
        members = zip(self._optimizers, self._updates, strict=True)
        coefficients = torch.tensor([adamw_coefficients(optimizer, step, updates) for optimizer, updates in members], dtype=self._flat.dtype)
        batch, coefficients = self._batch(batches), coefficients.T[..., None].to(self._device)
        if self._flat.is_cuda and self._captured:
            if batch.shape[1] not in self._graphs:
                self._graphs[batch.shape[1]] = Replay(self._update, (batch, coefficients), (self._flat, self._exp_avg, self._exp_avg_sq))
            self._graphs[batch.shape[1]](batch, coefficients)
        else:
            self._update(batch, coefficients)

    def _batch(self, batches: Sequence[Examples] | StackedExamples | None) -> StackedExamples:
        if batches is None:
            return self._splits["train"]
        return (batches if isinstance(batches, Tensor) else torch.stack(list(batches))).to(self._device)

    def _update(self, batch: StackedExamples, coefficients: Coefficients) -> None:
        gradient = self._gradient(self._logits(batch), batch)
        with torch.no_grad():
            self._adamw(self._flat, gradient, self._exp_avg, self._exp_avg_sq, coefficients)

    def _logits(self, batch: StackedExamples) -> StackedLogits:
        # An epoch's last batch may be a small one, for which compiling takes longer than it saves.
        usual = batch.shape[1] >= (self._config.batch_size or 0)
        return (self._fused if usual else logits)(self._model, self._parameters, self._layout, batch)

    def _gradient(self, outputs: StackedLogits, batch: StackedExamples) -> Flat:
        """Of the mean cross-entropy: from logits, (softmax − right answer) / examples, and back to every parameter."""
        with torch.no_grad():
            excess = self._excess(outputs, self._answers.gather(1, batch))
        gradients = torch.autograd.grad(outputs, list(self._parameters.values()), excess, allow_unused=True, materialize_grads=True)
        torch._foreach_copy_(list(self._views(self._gradients).values()), list(gradients))
        return self._gradients

    def gradients(self, batches: Sequence[Examples] | None = None) -> tuple[list[float], list[Weights]]:
        """Each member's loss in nats and its gradient by parameter name, at the present weights.

        Args:
            batches: example indices, one tensor of the same length for each member; None is the full training set.
        """
        batch = self._batch(batches)
        outputs = self._logits(batch)
        losses, _ = self._scores(outputs.detach(), batch)
        views = self._views(self._gradient(outputs, batch))
        return losses.mean(1).tolist(), [{name: view[member].clone() for name, view in views.items()} for member in range(len(self._flat))]

    def _scores(self, outputs: StackedLogits, batch: StackedExamples) -> tuple[Tensor, Tensor]:
        """Cross-entropy in nats and whether the largest logit is right, of every example, in float64."""
        answers = self._answers.gather(1, batch)
        losses = -torch.log_softmax(outputs, -1, dtype=torch.float64).gather(-1, answers[..., None])[..., 0]
        return losses, (outputs.argmax(-1) == answers).double()

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float]]:
        """See `Learner.evaluate`."""
        members = len(self._flat)
        table = torch.arange(self._answers.shape[1], device=self._device).expand(members, -1)
        widest = max(self._model.d_mlp, self._model.d_model, self._parameters["unembed.W_U"].shape[-1])
        size = max(1, EVALUATION_ELEMENTS // widest)
        if self._compiled:  # for one shape: chunks of one size, the last filled up with its last example
            size = -(-table.shape[1] // -(-table.shape[1] // size))
            table = torch.arange(-(-table.shape[1] // size) * size, device=self._device).clamp(max=table.shape[1] - 1).expand(members, -1)
        chunks = torch.split(table, size, dim=1)
        losses, right = (torch.cat(parts, dim=1) for parts in zip(*(self._scores(self._logits(chunk), chunk) for chunk in chunks), strict=True))
        metrics: dict[str, Tensor] = {}
        for split, examples in self._splits.items():
            metrics |= {f"{split}_loss": losses.gather(1, examples).mean(1), f"{split}_accuracy": right.gather(1, examples).mean(1)}
        # Members differ in how many unseen examples they have, some in having any.
        n, count = self._unseen.shape[1], self._unseen.sum(1)  # a compiled table goes on after its n examples
        metrics |= {f"unseen_{name}": (values[:, :n] * self._unseen).sum(1) / count for name, values in (("loss", losses), ("accuracy", right))}
        metrics["weight_norm"] = self._flat.double().square().sum(1).sqrt()
        rows = torch.stack(list(metrics.values()), dim=1).tolist()  # the one place where a GPU is waited for
        named = [dict(zip(metrics, row, strict=True)) for row in rows]
        return [
            row if any_unseen else {name: value for name, value in row.items() if not name.startswith("unseen")}
            for row, any_unseen in zip(named, self._has_unseen, strict=True)
        ]

    @torch.no_grad()
    def norm(self, belongs: Callable[[str], bool]) -> Float[Tensor, "member"]:
        """The L2 norm, in float64, of each member's parameters with such names."""
        squares = [value.double().square().flatten(1).sum(1) for name, value in self._parameters.items() if belongs(name)]
        return torch.stack(squares).sum(0).sqrt()

    @torch.no_grad()
    def patterns(self, batch: StackedExamples) -> Float[Tensor, "member layer chosen head query key"]:
        """Each member's attention patterns on its own examples, 0 where a position cannot see.

        Raises:
            GrokinterpError: a model without attention.
        """
        kept: list[list[Tensor]] = []
        logits(self._model, self._parameters, self._layout, batch.to(self._device), kept)
        if not kept:
            raise GrokinterpError(f"a model without attention has no attention patterns; its interventions are {self._model.interventions}")
        layers = []
        for queries in kept:
            rows = [self._of_examples(position, pattern, batch.to(self._device)) for position, pattern in enumerate(queries)]
            layers.append(torch.stack([functional.pad(row, (0, len(queries) - row.shape[-1])) for row in rows], dim=3))
        return torch.stack(layers, dim=1)

    def _of_examples(self, position: int, pattern: Tensor, batch: StackedExamples) -> Tensor:
        """One pattern an example, [member, example, head, source], from one an output row."""
        rows = take(pattern.flatten(2), self._layout.context_of(position, batch))
        return rows.view(*rows.shape[:2], *pattern.shape[2:]).transpose(2, 3)

    def weights(self, member: int) -> Weights:
        """See `Learner.weights`."""
        return {name: view.clone() for name, view in self._views(self._flat[member]).items()}

    def moments(self, member: int) -> Moments:
        """See `Learner.moments`."""
        return self.named(self.state(member))[1]

    def state(self, member: int) -> tuple[int, Tensor]:
        """A copy of one member's weights and moments as they lie here, and its number of updates; `named` gives them their names."""
        return self._updates[member], torch.stack([self._flat[member].detach(), self._exp_avg[member], self._exp_avg_sq[member]])

    def named(self, state: tuple[int, Tensor]) -> tuple[Weights, Moments]:
        """The weights and moments that `state` has copied, by name."""
        updates, (flat, *averages) = state
        moments: Moments = {"updates": torch.tensor(updates, dtype=torch.int64)}
        exp_avg, exp_avg_sq = map(self._views, averages)
        for name in self._shapes:
            moments |= {f"exp_avg.{name}": exp_avg[name].clone(), f"exp_avg_sq.{name}": exp_avg_sq[name].clone()}
        return {name: view.clone() for name, view in self._views(flat).items()}, moments

    def load(self, member: int, weights: Weights, moments: Moments | None) -> None:
        """See `Learner.load`."""
        if moments is None:
            zeros = {f"{key}.{name}": torch.zeros(shape) for key in ("exp_avg", "exp_avg_sq") for name, shape in self._shapes.items()}
            moments = {"updates": torch.tensor(0), **zeros}
        self._copy(member, self._flat, weights)
        for key, flat in (("exp_avg", self._exp_avg), ("exp_avg_sq", self._exp_avg_sq)):
            self._copy(member, flat, {name.removeprefix(f"{key}."): moment for name, moment in moments.items() if name.startswith(f"{key}.")})
        self._updates[member] = int(moments["updates"])

    def _copy(self, member: int, flat: Flat, values: Weights) -> None:
        if {name: value.shape for name, value in values.items()} != self._shapes:
            wrong = sorted(name for name in self._shapes.keys() | values.keys() if name not in values or values[name].shape != self._shapes.get(name))
            raise GrokinterpError(f"these weights or moments belong to another model: {', '.join(wrong)} missing, unexpected or of another shape")
        for name, view in self._views(flat[member]).items():
            view.copy_(values[name])

    def put(self, member: int, config: RunConfig, task: Task) -> None:
        """Have another training begin in the place of a member; the shapes stay, and with them what is compiled and captured.

        Raises:
            GrokinterpError: a config or task that does not fit this engine.
        """
        same_table = replace(config, task=self._config.task)  # whether it is the same is seen from the tokens below
        if (reason := why_not([config]) or why_not([self._config, same_table])) is not None:
            raise GrokinterpError(reason)
        if not torch.equal(task.tokens, self._tokens) or [len(task.indices(split)) for split in SPLITS] != [
            self._splits[split].shape[1] for split in SPLITS
        ]:
            raise GrokinterpError(f"the members of an engine share one table of inputs and sizes of the split; task {config.task.name!r} has others")
        self._optimizers[member] = cast("AdamW", config.optimizer)
        self._answers[member] = task.answers.to(self._device)
        for split in SPLITS:
            self._splits[split][member] = task.indices(split).to(self._device)
        self._unseen[member] = unseen_of(task).to(self._device)
        self._has_unseen[member] = bool(self._unseen[member].any())
        self.load(member, initial_weights(self._model, task, config.seed), None)

    def keep(self, members: Sequence[int]) -> None:
        """See `Learner.keep`."""
        chosen = list(members)
        self._optimizers, self._updates = [self._optimizers[i] for i in chosen], [self._updates[i] for i in chosen]
        self._answers = self._answers[chosen]
        self._splits = {split: examples[chosen] for split, examples in self._splits.items()}
        self._unseen, self._has_unseen = self._unseen[chosen], [self._has_unseen[i] for i in chosen]
        self._hold(self._flat[chosen], self._exp_avg[chosen], self._exp_avg_sq[chosen])


def unseen_of(task: Task) -> ExampleMask:
    """The mask of a task's unseen examples (`Task.splits`), empty where it has none."""
    return task.splits().get("unseen", torch.zeros(len(task), dtype=torch.bool))


def adamw_coefficients(optimizer: AdamW, step: int, updates: int) -> tuple[float, ...]:
    """The numbers of one member's AdamW update, in the order in which `adamw_` takes them.

    Args:
        optimizer: the member's settings.
        step: of the run; sets the learning rate.
        updates: made so far with this one; sets the bias corrections.
    """
    lr, (beta1, beta2) = optimizer.lr_at(step), optimizer.betas
    return 1 - lr * optimizer.weight_decay, 1 - beta1, beta2, 1 - beta2, (1 - beta2**updates) ** 0.5, optimizer.eps, -lr / (1 - beta1**updates)


def adamw_(parameters: Flat, gradient: Flat, exp_avg: Flat, exp_avg_sq: Flat, coefficients: Coefficients) -> None:
    """One update of AdamW with decoupled weight decay, in place, operation by operation that of `torch.optim.AdamW`."""
    shrink, forget1, remember2, forget2, correction, eps, step = coefficients
    parameters.mul_(shrink)
    exp_avg.lerp_(gradient, forget1)
    exp_avg_sq.mul_(remember2).addcmul_(gradient * forget2, gradient)
    parameters.addcdiv_(exp_avg * step, exp_avg_sq.sqrt().div_(correction).add_(eps))


def _excess(outputs: StackedLogits, answers: StackedExamples) -> StackedLogits:
    """The gradient of the mean cross-entropy with respect to the logits; in float64 until the end."""
    excess = torch.softmax(outputs, -1, dtype=torch.float64)
    excess = excess.scatter_add(-1, answers[..., None], torch.full((), -1.0, dtype=excess.dtype, device=excess.device).expand(*answers.shape, 1))
    return (excess / answers.shape[1]).to(outputs.dtype)
