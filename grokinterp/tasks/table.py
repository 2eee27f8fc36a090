"""A task: a finite table of inputs and answers, the structure behind it, and a seeded split."""

from __future__ import annotations

import operator
import random
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.groups.group import Group
from grokinterp.groups.operation import Operation
from grokinterp.shapes import Answers, ExampleMask, Examples, PairGrid, Targets, Tokens, tensor_of, whole_numbers

if TYPE_CHECKING:
    from grokinterp.tasks.markov import MarkovChain

SplitRule = Literal["torch", "python", "first"]
Split = Literal["all", "train", "test"]


@dataclass(frozen=True, eq=False)
class Task:
    """What is learned: every input with its answer, and which examples are trained on.

    Tokens, answers, targets and pairs may be given as tensors, NumPy arrays or lists of whole numbers of any type.

    Attributes:
        name: as in the configuration, "modular_addition" for example.
        tokens: inputs [example, position], int64.
        answers: the right class of each example, int64.
        n_vocab: number of distinct input tokens (rows of the embedding).
        n_classes: answers lie in 0 … n_classes − 1; measures look at that many logits.
        readout: position at which the answer is read, −1 for the last.
        structure: what the answers come from: an `Operation` in a finite group, with the tokens of its elements (a `Group` alone stands for the
            product in it, element g as token g); a `MarkovChain`; or None.
        pairs: example index of the operands (x, y) as group elements [x, y], or None without a group.
        train: mask of the training examples; None until `split` is called. May be given as a mask, one True or False (or 1 or 0) an
            example, or as the training examples' indices, each once; what is kept is a mask.
        targets: the right class at every position [example, position], where all of them count, as in sequences: loss and accuracy
            are then means over positions, too. None where the read-out position alone counts.
    """

    name: str
    tokens: Tokens
    answers: Answers
    n_vocab: int
    n_classes: int
    readout: int = -1
    structure: Operation | MarkovChain | None = None
    pairs: PairGrid | None = None
    train: ExampleMask | None = None
    targets: Targets | None = None

    def __post_init__(self) -> None:
        for name, n_dimensions in (("tokens", 2), ("answers", 1), ("targets", 2), ("pairs", 2)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole_numbers(name, getattr(self, name), n_dimensions))
        if len(self.tokens) != len(self.answers):
            raise GrokinterpError(f"a task needs one answer for each input; got {len(self.tokens)} inputs and {len(self.answers)} answers")
        if not self.tokens.numel():
            raise GrokinterpError(f"a task needs at least one example with at least one token; got tokens of shape {tuple(self.tokens.shape)}")
        if not -self.n_positions <= self.readout < self.n_positions:
            raise GrokinterpError(f"readout is a position of an input, −{self.n_positions} … {self.n_positions - 1}; got {self.readout}")
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
        if self.pairs is not None and not (int(self.pairs.min()) >= 0 and int(self.pairs.max()) < len(self)):
            raise GrokinterpError(f"pairs hold indices of examples, 0 … {len(self) - 1}; got {int(self.pairs.min())} … {int(self.pairs.max())}")
        if isinstance(self.structure, Group):
            object.__setattr__(self, "structure", Operation(self.structure))
        if self.operation is not None:
            n, got = self.operation.order, None if self.pairs is None else tuple(self.pairs.shape)
            if got != (n, n):
                raise GrokinterpError(
                    f"pairs give the example of each pair of the {n} elements of {self.operation.group.name}, [x, y]; got "
                    f"{'no pairs' if got is None else f'the shape {got}'}; of a table that lacks some of them leave the structure None"
                )
        if self.train is not None:
            object.__setattr__(self, "train", _mask(self.train, len(self)))

    def __len__(self) -> int:
        return len(self.answers)

    def __repr__(self) -> str:
        split = "not split" if self.train is None else f"{len(self.indices('train')):,} to train on"
        return f"Task({self.name}: {len(self):,} inputs of {self.n_positions} tokens, {self.n_classes} answers, {split})"

    @property
    def operation(self) -> Operation | None:
        """The operation in a finite group that the answers come from, or None."""
        return self.structure if isinstance(self.structure, Operation) else None

    @property
    def cyclic(self) -> Operation | None:
        """The operation, if its group is cyclic and numbered so, as Fourier analysis by frequency needs it, else None."""
        return self.operation if self.operation is not None and self.operation.group.is_cyclic else None

    @property
    def chain(self) -> MarkovChain | None:
        """The Markov chain that the sequences come from, or None."""
        return None if isinstance(self.structure, Operation) else self.structure

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
            GrokinterpError: a fraction outside (0, 1), one that leaves a side empty, a seed that is no whole number below 2⁶³, or an
                unknown rule.
        """
        if not isinstance(train_fraction, Real) or not 0 < train_fraction < 1:  # NaN is refused, too
            raise GrokinterpError(f"train_fraction must lie strictly between 0 and 1; got {train_fraction!r}")
        n_train = int(train_fraction * len(self))
        if not 0 < n_train < len(self):
            raise GrokinterpError(
                f"train_fraction {train_fraction} of {len(self)} examples leaves one side of the split empty; choose another fraction"
            )
        order = _shuffled(len(self), seed, rule)
        train = torch.zeros(len(self), dtype=torch.bool)
        train[order[:n_train]] = True
        return replace(self, train=train)

    def indices(self, split: Split) -> Examples:
        """Example indices of one side of the split, ascending.

        Raises:
            GrokinterpError: another split than these three; "train" or "test" of a task that has not been split.
        """
        if split not in get_args(Split):
            raise unknown_name("split", split, get_args(Split))
        if split == "all":
            return torch.arange(len(self))
        if self.train is None:
            raise GrokinterpError(f"task {self.name!r} has no train/test split; call task.split(train_fraction, seed) first")
        return torch.nonzero(self.train if split == "train" else ~self.train).squeeze(1)

    def splits(self) -> dict[str, ExampleMask]:
        """The sides of the split as named masks: "train", "test" and, of a commutative task, "unseen", as far as it has any.

        A model that has been trained on (b, a) has in a sense seen (a, b). The unseen test examples are those with neither trained; where
        the task is not commutative that would be all of them, and there is no such entry.

        Raises:
            GrokinterpError: the task has not been split.
        """
        self.indices("train")
        assert self.train is not None  # or `indices` had raised
        masks = {"train": self.train, "test": ~self.train}
        if self.commutative:
            first, second = self.tokens[:, 0], self.tokens[:, 1]
            pair, mirror = first * self.n_vocab + second, second * self.n_vocab + first
            trained = pair[self.train]
            unseen = ~torch.isin(pair, trained) & ~torch.isin(mirror, trained)
            if bool(unseen.any()):
                masks["unseen"] = unseen
        return masks

    @property
    def commutative(self) -> bool:
        """Whether (a, b) and (b, a) have one answer wherever the table holds both, and it does hold both of some pair.

        Operands are the first two tokens; behind them every input must go on alike. Read off the table, so that it holds of tasks without a
        group as well: a² + ab + b² is commutative, a − b and random answers are not.
        """
        if self.targets is not None or self.n_positions < 2 or not bool((self.tokens[:, 2:] == self.tokens[:1, 2:]).all()):
            return False
        first, second = self.tokens[:, 0], self.tokens[:, 1]
        answer = torch.full((self.n_vocab**2,), -1)
        answer[first * self.n_vocab + second] = self.answers
        mirrored = answer[second * self.n_vocab + first]
        both = (first != second) & (mirrored >= 0)
        return bool(both.any()) and bool((mirrored == self.answers)[both].all())

    def fixed_batch(self, size: int) -> Examples:
        """The same `size` test examples every time, at most all of them; of all examples where there is no split."""
        examples = self.indices("all" if self.train is None else "test")
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
        return examples[order[:size].sort().values]

    def with_random_answers(self, seed: int) -> Task:
        """The same inputs with uniformly random answers: nothing to generalise from, the control that never groks.

        The group of the operands stays as the structure, so that the same measures can be read off the control.
        """
        generator = torch.Generator().manual_seed(seed)
        if self.targets is not None:
            targets = torch.randint(self.n_classes, self.targets.shape, generator=generator)
            return replace(self, answers=targets[:, self.readout].contiguous(), targets=targets, structure=None)
        answers = torch.randint(self.n_classes, (len(self),), generator=generator)
        return replace(self, answers=answers)


def _mask(train: Any, n: int) -> ExampleMask:
    """The mask of the training examples, from a mask of any type or from indices."""
    found = tensor_of("train", train)
    if found.is_floating_point() or found.is_complex() or found.ndim != 1:
        raise GrokinterpError(
            f"train is a mask of the examples, one True or False for each, or their indices; got {found.dtype} of shape {tuple(found.shape)}"
        )
    is_mask, numbers = found.dtype == torch.bool, found.long()
    # Whole numbers are a mask only if there are n of them, all 0 or 1; as indices those would repeat.
    if is_mask or (len(numbers) == n and bool(((numbers == 0) | (numbers == 1)).all())):
        if len(numbers) != n:
            raise GrokinterpError(f"train, as a mask, has one entry for each of the {n} examples; got {len(numbers)}")
        mask = numbers.bool()
    else:
        distinct = len(torch.unique(numbers))
        if distinct < len(numbers) or (distinct and not (int(numbers.min()) >= 0 and int(numbers.max()) < n)):
            got = f"{len(numbers)} numbers in {int(numbers.min())} … {int(numbers.max())}, {distinct} of them different"
            raise GrokinterpError(f"train, as indices, names examples 0 … {n - 1}, each once; got {got}")
        mask = torch.zeros(n, dtype=torch.bool, device=numbers.device)
        mask[numbers] = True
    if not 0 < int(mask.sum()) < n:
        raise GrokinterpError(f"train holds {int(mask.sum())} of {n} examples, which leaves one side of the split empty; leave it None for no split")
    return mask


def _seed(seed: Any) -> int:
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 2**63:
        raise GrokinterpError(f"a seed is a whole number, 0 … 2⁶³ − 1; got {seed!r}")
    return number


def _shuffled(n: int, seed: int, rule: SplitRule) -> Examples:
    seed = _seed(seed)
    if rule == "torch":
        return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    if rule == "python":
        order = list(range(n))
        random.Random(seed).shuffle(order)
        return torch.tensor(order)
    if rule == "first":
        return torch.arange(n)
    raise unknown_name("split rule", rule, get_args(SplitRule))
