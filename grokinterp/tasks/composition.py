"""Composition in a finite group as a task: any group by its name, or by its table."""

from __future__ import annotations

import re
from typing import Literal, get_args

import torch

from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.groups.families import from_table, named
from grokinterp.groups.group import Group
from grokinterp.groups.operation import Operation
from grokinterp.groups.published import published
from grokinterp.tasks.table import Task

Numbering = Literal["own", "published"]
LARGEST = 2_048  # elements, 4 million pairs; chosen here


def composition(
    group: str | None = None,
    n: int | None = None,
    table: tuple[tuple[int, ...], ...] | None = None,
    signs: tuple[int, int] = (1, 1),
    equals: bool = True,
    separate: bool = False,
    numbering: Numbering = "own",
) -> Task:
    """x^±1·y^±1 in a finite group over all pairs of its elements.

    Args:
        group: its name, "D_59", "Z_2^3" or "Z_2 x S_3", or the letters of a family with n apart: group="D", n=59. See `groups.named`.
        n: of a family.
        table: in place of a name: the multiplication table of a group of one's own, the index of xy in row x and column y; any of its elements may
            be the identity.
        signs: exponents of the operands.
        equals: whether inputs ``[x, y, =]`` end with the equals token, the last one, at which the answer is read.
        separate: whether the second operand has tokens of its own (arXiv 2302.03025's MLP).
        numbering: "published" for the elements and products of arXiv 2302.03025, which differ in S_5, S_6 and A_5, see `groups.published`.

    Raises:
        GrokinterpError: neither or both of name and table, no such group, or one of more than 2,048 elements.
    """
    operation = Operation(_group(group, n, table, numbering), signs=signs)
    order, name = operation.order, operation.group.name
    if not 2 <= order <= LARGEST:
        raise GrokinterpError(f"a composition needs a group of 2 to {LARGEST:,} elements, since its table has all pairs; {name} has {order:,}")
    x, y = torch.meshgrid(torch.arange(order), torch.arange(order), indexing="ij")
    n_operands = 2 * order if separate else order
    columns = [x.flatten(), y.flatten() + order * separate, *([torch.full((order**2,), n_operands)] if equals else [])]
    return Task(
        "composition",
        torch.stack(columns, dim=1),
        operation.combination().flatten(),
        n_vocab=n_operands + equals,
        n_classes=order,
        structure=operation,
        pairs=torch.arange(order**2).view(order, order),
    )


def _group(group: str | None, n: int | None, table: tuple[tuple[int, ...], ...] | None, numbering: Numbering) -> Group:
    if numbering not in get_args(Numbering):
        raise unknown_name("numbering", numbering, get_args(Numbering))
    if (group is None) == (table is None):
        raise GrokinterpError(
            f"a composition takes a group's name or a table, one of the two; got group={group!r} and {'no' if table is None else 'a'} table"
        )
    if table is not None:
        if n is not None or numbering != "own":
            raise GrokinterpError(f"a table has neither n nor another numbering; got n={n!r} and numbering={numbering!r}")
        return from_table(table)
    if n is not None and not str(group).isalpha():
        raise GrokinterpError(f"n goes with the letters of a family, as in group='D', n=59; got group={group!r} and n={n!r}")
    found = named(f"{group}_{n}" if n is not None else str(group))
    same = re.fullmatch(r"[ZD]_\d+", found.name) is not None  # there the published numbering is ours
    return published(found.name) if numbering == "published" and not same else found
