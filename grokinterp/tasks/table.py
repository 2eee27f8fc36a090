"""A task: a finite table of inputs and answers, the group it comes from, and a seeded split."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import torch

from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.groups.cyclic import CyclicGroup
from grokinterp.groups.symmetric import SymmetricGroup
from grokinterp.shapes import Answers, ExampleMask, Examples, PairGrid, Targets, Tokens

if TYPE_CHECKING:
    from grokinterp.tasks.markov import MarkovChain

SplitRule = Literal["torch", "python", "first"]


@dataclass(frozen=True, eq=False)
class Task:
    """What is learned: every input with its answer, and which examples are trained on.

    Attributes:
        name: as in the configuration, "modular_addition" for example.
        tokens: inputs [example, position], int64.
        answers: the right class of each example, int64.
        n_vocab: number of distinct input tokens (rows of the embedding).
        n_classes: answers lie in 0 … n_classes − 1; measures look at that many logits.
        readout: position at which the answer is read, −1 for the last.
        group: the cyclic group that Fourier measures use, or None where the operation has none.
        pairs: example index of the operands (x, y) as group elements [x, y], or None without a group.
        train: mask of the training examples; None until `split` is called.
        targets: the right class at every position [example, position], where all of them count, as in sequences: loss and accuracy
            are then means over positions, too. None where the read-out position alone counts.
        chain: the Markov chain that the sequences come from, or None.
        symmetric_group: the group S_n that permutations compose in, whose elements are tokens and answers 0 … n! − 1, or None.
    """

    name: str
    tokens: Tokens
    answers: Answers
    n_vocab: int
    n_classes: int
    readout: int = -1
    group: CyclicGroup | None = None
    pairs: PairGrid | None = None
    train: ExampleMask | None = None
    targets: Targets | None = None
    chain: MarkovChain | None = None
    symmetric_group: SymmetricGroup | None = None

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.answers):
            raise GrokinterpError(f"a task needs one answer for each input; got {len(self.tokens)} inputs and {len(self.answers)} answers")
        if int(self.tokens.min()) < 0 or int(self.tokens.max()) >= self.n_vocab:
            raise GrokinterpError(f"tokens must lie in 0 … n_vocab − 1 = {self.n_vocab - 1}; got {int(self.tokens.min())} … {int(self.tokens.max())}")
        if int(self.answers.min()) < 0 or int(self.answers.max()) >= self.n_classes:
            raise GrokinterpError(
                f"answers must lie in 0 … n_classes − 1 = {self.n_classes - 1}; got {int(self.answers.min())} … {int(self.answers.max())}"
            )
        if self.targets is not None:
            if self.targets.shape != self.tokens.shape or not torch.equal(self.targets[:, self.readout], self.answers):
                raise GrokinterpError("targets hold one class for each token, and at the read-out position they are the answers")
            if int(self.targets.min()) < 0 or int(self.targets.max()) >= self.n_classes:
                raise GrokinterpError(f"targets must lie in 0 … n_classes − 1 = {self.n_classes - 1}")

    def __len__(self) -> int:
        return len(self.answers)

    def __repr__(self) -> str:
        split = "not split" if self.train is None else f"{len(self.indices('train')):,} to train on"
        return f"Task({self.name}: {len(self):,} inputs of {self.n_positions} tokens, {self.n_classes} answers, {split})"

    @property
    def n_positions(self) -> int:
        """Number of tokens in one input."""
        return self.tokens.shape[1]

    def split(self, train_fraction: float, seed: int, rule: SplitRule = "torch") -> Task:
        """The same table with a seeded train/test split.

        Args:
            train_fraction: share of all examples that is trained on, in (0, 1); rounded down to whole examples.
            seed: of the generator that shuffles the examples.
            rule: "torch" shuffles with a seeded torch generator; "python" is the published code's
                ``random.seed(seed); random.shuffle(all pairs in row order)`` (Nanda et al. 2023); "first" trains on the first
                examples of the table as it stands, whatever the seed, for tables whose test examples were drawn apart.

        Raises:
            GrokinterpError: a fraction outside (0, 1), one that leaves a side empty, or an unknown rule.
        """
        n_train = int(train_fraction * len(self))
        if not 0 < train_fraction < 1:
            raise GrokinterpError(f"train_fraction must lie strictly between 0 and 1; got {train_fraction}")
        if not 0 < n_train < len(self):
            raise GrokinterpError(
                f"train_fraction {train_fraction} of {len(self)} examples leaves one side of the split empty; choose another fraction"
            )
        order = _shuffled(len(self), seed, rule)
        train = torch.zeros(len(self), dtype=torch.bool)
        train[order[:n_train]] = True
        return replace(self, train=train)

    def indices(self, split: Literal["all", "train", "test"]) -> Examples:
        """Example indices of one side of the split, ascending.

        Raises:
            GrokinterpError: "train" or "test" of a task that has not been split.
        """
        if split == "all":
            return torch.arange(len(self))
        if self.train is None:
            raise GrokinterpError(f"task {self.name!r} has no train/test split; call task.split(train_fraction, seed) first")
        return torch.nonzero(self.train if split == "train" else ~self.train).squeeze(1)

    def fixed_batch(self, size: int) -> Examples:
        """The same `size` test examples every time, at most all of them; of all examples where there is no split."""
        examples = self.indices("all" if self.train is None else "test")
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
        return examples[order[:size].sort().values]

    def with_random_answers(self, seed: int) -> Task:
        """The same inputs with uniformly random answers: nothing to generalise from, the control that never groks.

        The group of the operands stays, so that the same measures can be read off the control.
        """
        generator = torch.Generator().manual_seed(seed)
        if self.targets is not None:
            targets = torch.randint(self.n_classes, self.targets.shape, generator=generator)
            return replace(self, answers=targets[:, self.readout].contiguous(), targets=targets, chain=None)
        answers = torch.randint(self.n_classes, (len(self),), generator=generator)
        return replace(self, answers=answers)


def _shuffled(n: int, seed: int, rule: SplitRule) -> Examples:
    if rule == "torch":
        return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    if rule == "python":
        order = list(range(n))
        random.Random(seed).shuffle(order)
        return torch.tensor(order)
    if rule == "first":
        return torch.arange(n)
    raise unknown_name("split rule", rule, get_args(SplitRule))
