"""Tables without a group: three operands mod p, and sparse parity."""

from __future__ import annotations

import torch

from grokinterp.errors import GrokinterpError
from grokinterp.shapes import Answers
from grokinterp.tasks.table import Task

LARGEST_P = 128  # 2 million triples; chosen here
MOST_BITS = 20  # a million inputs; chosen here


def modular_sum(p: int, equals: bool = True) -> Task:
    """a + b + c mod p over all p³ triples; measures of pairs do not apply to it.

    Args:
        p: the modulus, 3 … 128.
        equals: whether inputs ``[a, b, c, =]`` end with the equals token p, at which the answer is read.

    Raises:
        GrokinterpError: another p.
    """
    a, b, c = _triples(p)
    return _triple_table("modular_sum", p, (a, b, c), (a + b + c) % p, equals)


def modular_power(p: int, equals: bool = True) -> Task:
    """(a + b)^c mod p over all p³ triples, with 0⁰ = 1; it has no group.

    Args:
        p: the modulus, 3 … 128; need not be prime.
        equals: whether inputs ``[a, b, c, =]`` end with the equals token p, at which the answer is read.

    Raises:
        GrokinterpError: another p.
    """
    a, b, c = _triples(p)
    powers = torch.tensor([[pow(base, exponent, p) for exponent in range(p)] for base in range(p)])
    return _triple_table("modular_power", p, (a, b, c), powers[(a + b) % p, c], equals)


def sparse_parity(n: int = 10, relevant: tuple[int, ...] = (0, 1, 2), equals: bool = True) -> Task:
    """The parity of a few bits out of n over all 2ⁿ inputs; the others say nothing.

    Args:
        n: bits of an input, 2 … 20, as tokens 0 and 1; the first bit is the slowest.
        relevant: positions of the bits that count, each once.
        equals: whether inputs end with the equals token 2, at which the answer is read.

    Raises:
        GrokinterpError: another n, no relevant bit, one twice, or one that an input lacks.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 2 <= n <= MOST_BITS:
        raise GrokinterpError(f"sparse parity is a table of 2ⁿ inputs for n from 2 to {MOST_BITS}; got n = {n!r}")
    if not relevant or len(set(relevant)) != len(relevant) or not all(0 <= bit < n for bit in relevant):
        raise GrokinterpError(f"relevant bits are positions 0 … {n - 1}, at least one and each once; got {relevant!r}")
    bits = (torch.arange(2**n)[:, None] >> torch.arange(n - 1, -1, -1)) % 2
    answers = bits[:, list(relevant)].sum(1) % 2
    tokens = torch.cat([bits, torch.full((len(bits), 1), 2)], dim=1) if equals else bits
    return Task("sparse_parity", tokens, answers, n_vocab=2 + equals, n_classes=2)


def _triples(p: int) -> tuple[torch.Tensor, ...]:
    if isinstance(p, bool) or not isinstance(p, int) or not 3 <= p <= LARGEST_P:
        raise GrokinterpError(f"p must be a whole number from 3 to {LARGEST_P}, since the table has p³ triples; got {p!r}")
    return tuple(grid.flatten() for grid in torch.meshgrid(*[torch.arange(p)] * 3, indexing="ij"))


def _triple_table(name: str, p: int, operands: tuple[torch.Tensor, ...], answers: Answers, equals: bool) -> Task:
    columns = [*operands, *([torch.full_like(operands[0], p)] if equals else [])]
    return Task(name, torch.stack(columns, dim=1), answers, n_vocab=p + equals, n_classes=p)
