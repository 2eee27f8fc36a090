"""Arithmetic mod p on two operands: the tasks that transformers are known to grok.

Inputs are ``[a, b, =]`` with the equals sign as token p (``equals=False`` leaves it out), in row order: a slow,
b fast. For + and − the answer's group is Z_p itself; for × and ÷ mod a prime it is the cyclic group of the p − 1
non-zero residues, in which Fourier analysis has to be done with discrete logarithms.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from grokinterp.errors import GrokinterpError
from grokinterp.groups.families import cyclic
from grokinterp.groups.operation import Operation
from grokinterp.shapes import PairGrid
from grokinterp.tasks.table import Task

LARGEST_P = 8_192  # 67 million pairs, 1.6 GB of tokens; chosen here


def modular_addition(p: int, equals: bool = True, separate: bool = False) -> Task:
    """a + b mod p over all p² pairs; its group is Z_p.

    Args:
        p: the modulus, at least 3; need not be prime.
        equals: whether inputs end with the equals token, the last one, at which the answer is read.
        separate: whether the second operand has tokens of its own, p … 2p − 1 (arXiv 2306.17844).
    """
    a, b = _operands(p)
    task = _table("modular_addition", p, a, b, (a + b) % p, equals, Operation(cyclic(p)))
    if not separate:
        return task
    later = torch.arange(task.n_positions) > 0  # b and the equals token move up by p
    return replace(task, tokens=task.tokens + p * later, n_vocab=task.n_vocab + p)


def modular_subtraction(p: int, equals: bool = True) -> Task:
    """a − b mod p over all p² pairs; its group is Z_p, the second operand entering with a minus sign."""
    a, b = _operands(p)
    return _table("modular_subtraction", p, a, b, (a - b) % p, equals, Operation(cyclic(p), signs=(1, -1)))


def modular_multiplication(p: int, equals: bool = True) -> Task:
    """a · b mod p over all p² pairs; for prime p its group is that of the p − 1 non-zero residues, else None."""
    a, b = _operands(p)
    return _table("modular_multiplication", p, a, b, (a * b) % p, equals, multiplication(p) if is_prime(p) else None)


def modular_division(p: int, equals: bool = True) -> Task:
    """a / b mod p over all p(p − 1) pairs with b ≠ 0, p prime.

    Raises:
        GrokinterpError: a composite p, for which b has no inverse.
    """
    a, b = _operands(p)
    if not is_prime(p):
        raise GrokinterpError(f"division mod p needs a prime p, so that every b ≠ 0 has an inverse; got p = {p}, the next prime is {_next_prime(p)}")
    a, b = a[b != 0], b[b != 0]
    inverse = torch.tensor([pow(i, -1, p) if i else 0 for i in range(p)])
    return _table("modular_division", p, a, b, (a * inverse[b]) % p, equals, multiplication(p, signs=(1, -1)))


def modular_quadratic(p: int, coefficients: tuple[int, int, int, int, int] = (1, 1, 1, 0, 0), equals: bool = True) -> Task:
    """αa² + βab + γb² + δa + εb mod p over all p² pairs; it has no group.

    Args:
        p: the modulus, at least 3.
        coefficients: (α, β, γ, δ, ε); the default is a² + ab + b².
        equals: whether inputs end with the equals token p.

    Raises:
        GrokinterpError: not five coefficients.
    """
    a, b = _operands(p)
    if len(coefficients) != 5:
        raise GrokinterpError(f"coefficients are the five numbers α, β, γ, δ, ε of αa² + βab + γb² + δa + εb; got {coefficients!r}")
    alpha, beta, gamma, delta, epsilon = coefficients
    return _table("modular_quadratic", p, a, b, (alpha * a * a + beta * a * b + gamma * b * b + delta * a + epsilon * b) % p, equals, None)


def multiplication(p: int, signs: tuple[int, int] = (1, 1)) -> Operation:
    """Multiplication of the non-zero residues mod a prime p as Z_{p−1}: element x stands for the x-th power of the least generator.

    Raises:
        GrokinterpError: a composite p.
    """
    for generator in range(1, p):
        powers = [1]
        while (power := powers[-1] * generator % p) != 1:
            powers.append(power)
        if len(powers) == p - 1:
            return Operation(cyclic(p - 1), tuple(powers), signs)
    raise GrokinterpError(f"the non-zero residues mod {p} are not a cyclic group: p must be prime")


def is_prime(n: int) -> bool:
    """Whether n is prime, by trial division."""
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))


def _next_prime(n: int) -> int:
    while not is_prime(n):
        n += 1
    return n


def _operands(p: int) -> tuple[torch.Tensor, torch.Tensor]:
    if not isinstance(p, int) or p < 3:
        raise GrokinterpError(f"p must be a whole number of at least 3; got {p!r}")
    if p > LARGEST_P:
        raise GrokinterpError(f"p must be at most {LARGEST_P:,}, since the table has p² pairs; got {p}")
    a, b = torch.meshgrid(torch.arange(p), torch.arange(p), indexing="ij")
    return a.flatten(), b.flatten()


def _table(name: str, p: int, a: torch.Tensor, b: torch.Tensor, answers: torch.Tensor, equals: bool, operation: Operation | None) -> Task:
    columns = [a, b, torch.full_like(a, p)] if equals else [a, b]
    pairs = None if operation is None else _pair_grid(p, a, b, operation)
    return Task(name, torch.stack(columns, dim=1), answers, n_vocab=p + equals, n_classes=p, structure=operation, pairs=pairs)


def _pair_grid(p: int, a: torch.Tensor, b: torch.Tensor, operation: Operation) -> PairGrid:
    """Example index of each pair of group elements [x, y]; every pair of elements is in the table."""
    example_of = torch.full((p, p), -1)
    example_of[a, b] = torch.arange(len(a))
    tokens = operation.token_of
    return example_of[tokens[:, None], tokens[None, :]]
