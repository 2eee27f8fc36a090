"""Which rows a batch consists of, and how they feed each other: nothing is computed twice that several inputs share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from grokinterp.interventions.architecture import MeanPool, NoAttention
from grokinterp.models.transformers import ModelConfig
from grokinterp.shapes import Tokens
from grokinterp.tasks import Task

StackedExamples = Int[Tensor, "member example"]
RowIndex = Int[Tensor, "member _"]


@dataclass(frozen=True, eq=False)
class Rows:
    """The distinct residual streams at one position.

    Attributes:
        of_example: the row that each example of the table has [example].
        representative: the first example that has each row [row].
    """

    of_example: Int[Tensor, "example"]
    representative: Int[Tensor, "row"]

    @classmethod
    def distinct(cls, seen: Tokens) -> Rows:
        """One row for each distinct sequence of tokens seen [example, position]."""
        unique, of_example = torch.unique(seen, dim=0, return_inverse=True)
        examples = torch.arange(len(seen), device=seen.device)
        first = torch.full((len(unique),), len(seen), device=seen.device).scatter_reduce(0, of_example, examples, "amin")
        return cls(of_example, first)

    def __len__(self) -> int:
        return len(self.representative)


@dataclass(frozen=True, eq=False)
class Query:
    """What the output rows of one position read from a block's input rows.

    Attributes:
        position: of the query.
        own: the row at this position that each output row continues [member, output]; None where they are the same.
        sources: the rows that each output row attends to, counted over all positions [member, output, source].
        local: the same, source by source, counted within each position; None where every output row attends to the row in its own place.
    """

    position: int
    own: RowIndex | None
    sources: Int[Tensor, "member output source"]
    local: list[RowIndex | None]


@dataclass(frozen=True, eq=False)
class Block:
    """One block's wiring: its numbers of input rows, position after position, and its queries."""

    sizes: list[int]
    queries: list[Query]


class Layout:
    """The distinct rows of a task's table, from which the wiring of any batch follows.

    Before the first attention a position has one row a token. After it, it has one row a context if the table has
    fewer contexts than the batch has examples ("shared" rows), and one row an example otherwise.

    For a + b mod 3, read after "=", nine inputs (a, b, =) have 27 residual streams and 7 distinct ones: the first block's rows 0 … 2 are the
    values of a, rows 3 … 5 those of b, and row 6 is "=", which all inputs share. The last block computes one row an example. What the read-out
    of (1, 2, =), example 5, attends to is 1 of the first three, 2 of the next, and the one at the end:

        >>> from grokinterp.models import ModelConfig
        >>> from grokinterp.tasks import modular_addition
        >>> layout = Layout(modular_addition(3), ModelConfig(n_layers=1), "cpu")
        >>> blocks, _ = layout.wire(torch.arange(9)[None])
        >>> blocks[0].sizes
        [3, 3, 1]
        >>> blocks[0].queries[0].sources[0, 5].tolist()
        [1, 5, 6]

    Args:
        task: gives the tokens and the read-out position.
        config: gives depth and causality.
        device: where the indices live.

    Attributes:
        tokens: of the rows that enter the first block.
        positions: of the same rows.
    """

    def __init__(self, task: Task, config: ModelConfig, device: str) -> None:
        tokens = task.tokens.to(device)
        self._attends, self._pools = config.intervention(NoAttention) is None, config.intervention(MeanPool) is not None
        self._n_layers, self._causal = config.n_layers, config.causal and not self._pools
        self._readout = task.readout % task.n_positions
        positions = range(self._readout + 1 if self._causal else task.n_positions)
        self._embedded = [Rows.distinct(tokens[:, i : i + 1]) for i in positions]
        self._contexts = [Rows.distinct(tokens[:, : i + 1]) for i in positions] if self._causal else [Rows.distinct(tokens)] * len(positions)
        self.tokens = torch.cat([tokens[rows.representative, i] for i, rows in enumerate(self._embedded)])
        self.positions = torch.cat([torch.full((len(rows),), i, device=device) for i, rows in enumerate(self._embedded)])

    def wire(self, batch: StackedExamples, everywhere: bool = False) -> tuple[list[Block], RowIndex | None]:
        """How the rows of a batch of example indices feed each other, block after block.

        Args:
            batch: example indices.
            everywhere: whether the last block has queries at every position, and not only where it is read.

        Returns:
            The blocks, none where nothing attends, and the read-out row of each example, None where they are the same.
        """
        if not self._attends and not self._pools:  # the rows that enter are those that are read
            return [], self._embedded[self._readout].of_example[batch] + sum(map(len, self._embedded[: self._readout]))
        last = self._n_layers - 1 if self._attends else -1
        positions = range(len(self._contexts))
        blocks = [self._block(layer, [self._readout] if layer == last and not everywhere else positions, batch) for layer in range(last + 1)]
        return blocks, self.context_of(self._readout, batch)

    def pool(self, batch: StackedExamples) -> Int[Tensor, "member output source"] | None:
        """The rows whose mean every read-out row begins as, where positions are pooled."""
        return self._block(0, [self._readout], batch).queries[0].sources if self._pools else None

    def context_of(self, position: int, batch: StackedExamples) -> RowIndex | None:
        """The output row at a position that belongs to each example; None where every example has its own."""
        return self._contexts[position].of_example[batch] if self._is_shared(position, batch) else None

    def _is_shared(self, position: int, batch: StackedExamples) -> bool:
        return len(self._contexts[position]) < batch.shape[1]

    def _block(self, layer: int, outputs: Iterable[int], batch: StackedExamples) -> Block:
        rows = self._embedded if layer == 0 else self._contexts
        per_example = [layer > 0 and not self._is_shared(i, batch) for i in range(len(rows))]
        sizes = [batch.shape[1] if own else len(row) for own, row in zip(per_example, rows, strict=True)]
        # A position that has one row an example is only read by positions that have, too: they have seen no less.
        slots = torch.arange(batch.shape[1], device=batch.device).expand_as(batch)
        queries = []
        for position in outputs:
            examples = self._contexts[position].representative.expand(len(batch), -1) if self._is_shared(position, batch) else batch
            read = range(position + 1 if self._causal else len(rows))
            local = [slots if per_example[i] else rows[i].of_example[examples] for i in read]
            # After the first attention a position's rows keep their granularity, so each continues itself.
            own = local[position] if layer == 0 and sizes[position] > 1 else None
            sources = torch.stack([index + sum(sizes[:i]) for i, index in zip(read, local, strict=True)], dim=2)
            queries.append(Query(position, own, sources, [None if per_example[i] else index for i, index in zip(read, local, strict=True)]))
        return Block(sizes, queries)
