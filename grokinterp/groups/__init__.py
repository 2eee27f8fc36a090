"""Finite groups: elements, products, real irreducible representations, Fourier transforms, subgroups and cosets.

from grokinterp import groups

s5 = groups.symmetric(5)
groups.irrep_power(s5, functions)  # [irrep, …]
[h.index for h in groups.subgroups(s5)]
"""

from grokinterp.groups.cosets import Subgroup, subgroups
from grokinterp.groups.families import FAMILIES, alternating, cyclic, dihedral, direct_product, from_table, named, quaternion, symmetric
from grokinterp.groups.group import Group
from grokinterp.groups.operation import Operation, combined_mean
from grokinterp.groups.representations import Representation
from grokinterp.groups.transform import inverse_transform, irrep_power, irrep_projector, transform

__all__ = [
    "FAMILIES",
    "Group",
    "Operation",
    "Representation",
    "Subgroup",
    "alternating",
    "combined_mean",
    "cyclic",
    "dihedral",
    "direct_product",
    "from_table",
    "inverse_transform",
    "irrep_power",
    "irrep_projector",
    "named",
    "quaternion",
    "subgroups",
    "symmetric",
    "transform",
]
