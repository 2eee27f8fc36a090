"""The theorems that every group's representations satisfy, and the quaternions by their table."""

from __future__ import annotations

import torch

from grokinterp.groups import Group, from_table
from grokinterp.groups.group import generators


def quaternions() -> Group:
    """Q_8 by its table: ±1, ±i, ±j, ±k as 0 … 7, the sign last; its one representation of more than one dimension is quaternionic."""
    units = {(0, b): (b, 0) for b in range(4)} | {(a, 0): (a, 0) for a in range(4)}
    units |= {(a, a): (0, 1) for a in (1, 2, 3)} | {(1, 2): (3, 0), (2, 3): (1, 0), (3, 1): (2, 0), (2, 1): (3, 1), (3, 2): (1, 1), (1, 3): (2, 1)}
    table = [[2 * units[g // 2, h // 2][0] + (units[g // 2, h // 2][1] + g + h) % 2 for h in range(8)] for g in range(8)]
    return from_table(table, "Q_8")


def check_representations(group: Group) -> None:
    """Homomorphic, orthogonal and complete, to 1e-12."""
    assert next(iter(group.irreps.values())).dimension == 1
    assert bool((next(iter(group.irreps.values())).matrices == 1).all())
    table, step = group.product, generators(group.product)
    for rho in group.irreps.values():
        m = rho.matrices
        # A map that multiplies rightly by generators is a homomorphism.
        assert float((m[:, None] @ m[step] - m[table[:, step]]).abs().max()) < 1e-12
        assert float((m @ m.mT - torch.eye(rho.dimension).double()).abs().max()) < 1e-12
    # Orthogonality of characters over elements, and completeness: as many functions as elements.
    characters = torch.stack([rho.character for rho in group.irreps.values()])
    commuting = torch.tensor([float(rho.commuting) for rho in group.irreps.values()]).double()
    torch.testing.assert_close(characters @ characters.T / group.order, torch.diag(commuting), atol=1e-12, rtol=0)
    assert sum(rho.n_functions for rho in group.irreps.values()) == group.order
