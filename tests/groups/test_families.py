"""Every family's representations are homomorphic, orthogonal and complete; characters against printed tables; subgroups against known counts."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from group_checks import check_representations, quaternions
from hypothesis import given, settings
from hypothesis import strategies as st

from grokinterp import GrokinterpError
from grokinterp.groups.cosets import subgroups
from grokinterp.groups.families import alternating, cyclic, dihedral, direct_product, from_table, quaternion, symmetric
from grokinterp.groups.fourier import frequency_power
from grokinterp.groups.group import Group
from grokinterp.groups.operation import Operation, combined_mean
from grokinterp.groups.transform import inverse_transform, irrep_power, irrep_projector, transform

GOLDEN = (1 + math.sqrt(5)) / 2


@pytest.mark.parametrize("family", [cyclic, dihedral, symmetric, alternating])
def test_representations_of_every_family_up_to_order_200(family) -> None:  # type: ignore[no-untyped-def]
    n = 1
    while n <= 200 and (group := family(n)).order <= 200:
        check_representations(group)
        n += 1
        if family in (symmetric, alternating) and n > 5:
            break


@pytest.mark.parametrize("n", [4, 8, 12, 16, 40])
def test_quaternion_groups_satisfy_their_relations_and_have_one_element_of_order_2(n: int) -> None:
    group = quaternion(n)
    check_representations(group)
    product, a, x = group.product, 1, n // 2
    power = [group.identity]
    for _ in range(n // 2):
        power.append(int(product[power[-1], a]))
    assert power[n // 2] == group.identity
    assert len(set(power)) == n // 2
    assert int(product[x, x]) == power[n // 4]
    assert int(product[product[x, a], group.inverse[x]]) == power[n // 2 - 1]
    assert int((product.diagonal() == group.identity).sum()) == 2  # e and the involution
    if n == 8:
        rows = [sorted(np.round(each.characters.numpy(), 8).tolist()) for each in (group, quaternions())]
        np.testing.assert_allclose(*(np.sort(np.array(each), 1) for each in rows), atol=1e-9)


@settings(max_examples=25)
@given(st.lists(st.sampled_from([cyclic(2), cyclic(3), cyclic(4), dihedral(3), dihedral(4), symmetric(3), alternating(4)]), min_size=2, max_size=2))
def test_representations_of_products(pair: list[Group]) -> None:
    group = direct_product(*pair)
    assert group.order == pair[0].order * pair[1].order
    check_representations(group)


@pytest.mark.parametrize("group", [cyclic(12), dihedral(7), symmetric(4), alternating(5), direct_product(cyclic(3), symmetric(3))])
def test_a_table_alone_gives_the_same_characters(group: Group) -> None:
    own = from_table(group.product)
    check_representations(own)
    closed, computed = (sorted(np.round(g.characters.numpy(), 8).tolist()) for g in (group, own))
    np.testing.assert_allclose(computed, closed, atol=1e-9)


def test_types_of_representations() -> None:
    assert [rho.commuting for rho in quaternions().irreps.values()] == [1, 1, 1, 1, 4]
    assert [rho.commuting for rho in cyclic(5).irreps.values()] == [1, 2, 2]
    assert [rho.commuting for rho in alternating(4).irreps.values()] == [1, 1, 2]


def test_characters_are_those_of_printed_tables() -> None:
    """S_5 and A_5 (any textbook), by the cycle types of the classes' first elements; D_5: 2 cos(2πk/5)."""
    s5 = symmetric(5)
    first = [s5.elements[int((s5.classes == i).nonzero()[0])] for i in range(7)]
    cycles = ["01234", "01243", "01423", "02143", "12340", "12043", "12304"]  # 1, (12), (123), (12)(34), (12345), (123)(45), (1234)
    printed = {
        "(5)": [1, 1, 1, 1, 1, 1, 1],
        "(4,1)": [4, 2, 1, 0, -1, -1, 0],
        "(3,2)": [5, 1, -1, 1, 0, 1, -1],
        "(3,1,1)": [6, 0, 0, -2, 1, 0, 0],
        "(2,2,1)": [5, -1, -1, 1, 0, -1, 1],
        "(2,1,1,1)": [4, -2, 1, 0, -1, 1, 0],
        "(1,1,1,1,1)": [1, -1, 1, 1, 1, -1, -1],
    }
    for name, values in printed.items():
        at = [int(s5.elements.index(cycle)) for cycle in cycles]
        assert s5.irreps[name].character[at].round().int().tolist() == values
    assert len({int(s5.classes[s5.elements.index(cycle)]) for cycle in cycles}) == len(first) == 7
    a5 = alternating(5)
    cycle = a5.elements.index("12340")
    values = sorted(float(a5.irreps[name].character[cycle]) for name in ("(3,1,1)a", "(3,1,1)b"))
    np.testing.assert_allclose(values, sorted([GOLDEN, 1 - GOLDEN]), atol=1e-12)
    d5 = dihedral(5)
    for k in (1, 2):
        np.testing.assert_allclose(d5.irreps[f"rotation {k}"].character[:5], 2 * np.cos(2 * np.pi * k * np.arange(5) / 5), atol=1e-12)
        np.testing.assert_allclose(d5.irreps[f"rotation {k}"].character[5:], 0, atol=1e-12)


def test_dihedral_and_symmetric_numbering() -> None:
    d59 = dihedral(59)
    assert int(d59.product[60, 61]) == 58  # the numbering of arXiv 2302.03025
    s3 = symmetric(3)
    g, h = s3.elements.index("120"), s3.elements.index("021")
    composed = "".join("120"[int(i)] for i in "021")  # (gh)(i) = g(h(i))
    assert s3.elements[int(s3.product[g, h])] == composed


@pytest.mark.parametrize("group", [cyclic(9), cyclic(8), dihedral(6), symmetric(4), alternating(5), quaternions()])
def test_transform_inverse_power_and_projector_agree(group: Group) -> None:
    f = torch.randn(group.order, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coefficients = transform(group, f)
    torch.testing.assert_close(inverse_transform(group, coefficients), f, atol=1e-12, rtol=0)
    torch.testing.assert_close(irrep_power(group, f).sum(0), f.square().sum(0))
    for i, name in enumerate(group.irreps):
        part = inverse_transform(group, {name: coefficients[name]})
        projector = irrep_projector(group, [name])
        torch.testing.assert_close((projector @ f.flatten(1)).view_as(f), part, atol=1e-12, rtol=0)
        torch.testing.assert_close(projector @ projector, projector, atol=1e-12, rtol=0)
        torch.testing.assert_close(irrep_power(group, f)[i], part.square().sum(0))


def test_the_transform_is_the_sum_over_elements_and_turns_convolutions_into_products() -> None:
    group = symmetric(4)
    f, g = torch.randn(2, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    convolved = (f[group.product[:, group.inverse]] * g).sum(1)  # Σ_y f(xy⁻¹) g(y)
    ours, left, right = (transform(group, values) for values in (convolved, f, g))
    for name, rho in group.irreps.items():
        torch.testing.assert_close(left[name], sum(rho.matrices[x] * f[x] for x in range(24)), atol=1e-12, rtol=0)
        torch.testing.assert_close(ours[name], left[name] @ right[name], atol=1e-10, rtol=0)


def test_class_functions_transform_to_multiples_of_the_identity() -> None:
    group = symmetric(5)
    f = torch.randn(7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)[group.classes]
    for name, matrix in transform(group, f).items():
        rho = group.irreps[name]
        torch.testing.assert_close(matrix, (f * rho.character).sum() / rho.dimension * torch.eye(rho.dimension).double(), atol=1e-10, rtol=0)


def test_power_does_not_change_when_the_group_acts() -> None:
    group = dihedral(6)
    f = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for moved in (f[group.product[7]], f[group.product[:, 7]]):
        torch.testing.assert_close(irrep_power(group, moved), irrep_power(group, f))


@pytest.mark.parametrize("n", [4, 9, 12])
def test_frequencies_are_the_representations_of_a_cyclic_group(n: int) -> None:
    """The fast path of `fourier.py`. Rotations are reducible over the complex numbers: (d/|G|)‖f̂‖² is twice the power of cos and sin."""
    group = cyclic(n)
    f = torch.randn(n, 6, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    torch.testing.assert_close(irrep_power(group, f)[1:], frequency_power(f), atol=1e-12, rtol=0)
    doubled = torch.stack([group.irreps[name].dimension / n * matrix.square().sum((0, 1)) for name, matrix in transform(group, f).items()][1:])
    torch.testing.assert_close(doubled[: (n - 1) // 2], 2 * frequency_power(f)[: (n - 1) // 2], atol=1e-12, rtol=0)


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
@pytest.mark.parametrize("group", [dihedral(4), cyclic(5)])
def test_combined_means_are_means_over_pairs(group: Group, signs: tuple[int, int]) -> None:
    operation, n = Operation(group, signs=signs), group.order
    table = torch.randn(n, n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for opposite in (False, True):
        powers = (signs[0], -signs[1] if opposite else signs[1])
        x, y = ([g if sign == 1 else int(group.inverse[g]) for g in range(n)] for sign in powers)
        combined = torch.tensor([[int(group.product[i, j]) for j in y] for i in x])
        assert torch.equal(operation.combination(opposite), combined)
        slow = torch.stack([table[combined == c].mean(0) for c in range(n)])
        torch.testing.assert_close(combined_mean(table, operation, opposite), slow)
        assert combined_mean(table.float(), operation, opposite, dtype=torch.float64).dtype == torch.float64


def test_operations_say_what_they_are_and_refuse_what_they_cannot_be() -> None:
    assert repr(Operation(dihedral(5), signs=(1, -1))) == "Operation(xy⁻¹ in D_5)"
    assert Operation(cyclic(3)) == Operation(cyclic(3), (0, 1, 2)) != Operation(cyclic(3), (2, 1, 0))
    with pytest.raises(GrokinterpError, match="Z_3 has 3 elements, each with a token of its own; got 2 different tokens"):
        Operation(cyclic(3), (0, 1, 1))
    with pytest.raises(GrokinterpError, match=r"exponents of two operands, 1 or −1 each; got \(1, 2\)"):
        Operation(cyclic(3), signs=(1, 2))


@pytest.mark.parametrize("group", [cyclic(6), dihedral(4), symmetric(3), alternating(4), direct_product(cyclic(3), cyclic(3)), quaternions()])
def test_groups_can_be_sent_to_another_process_with_their_representations(group: Group) -> None:
    for own in (group, group.renumbered(list(range(group.order))[::-1])):
        again = pickle.loads(pickle.dumps(own))
        assert again == own
        assert hash(again) == hash(own)
        assert list(again.irreps) == list(own.irreps)
        assert all(torch.equal(again.irreps[name].matrices, rho.matrices) for name, rho in own.irreps.items())


@pytest.mark.parametrize(
    ("group", "classes", "everything"),
    [(cyclic(12), 6, 6), (symmetric(4), 11, 30), (symmetric(5), 19, 156), (alternating(5), 9, 59), (dihedral(59), 4, 62), (quaternions(), 6, 6)],
)
def test_subgroups_are_as_many_as_known(group: Group, classes: int, everything: int) -> None:
    found = subgroups(group)
    assert len(found) == classes
    assert sum(h.n_conjugates for h in found) == everything


def test_cosets_partition_the_group_and_are_what_they_say() -> None:
    s4 = symmetric(4)
    for h in subgroups(s4):
        members = set(h.members.nonzero().flatten().tolist())
        assert len(h.conjugates()) == h.n_conjugates
        for numbers, side in ((h.left_cosets, lambda g, m: s4.product[g, m]), (h.right_cosets, lambda g, m: s4.product[m, g])):
            assert torch.bincount(numbers).tolist() == [h.order] * h.index
            for g in range(24):
                assert {int(side(g, m)) for m in members} == set((numbers == numbers[g]).nonzero().flatten().tolist())


def test_renumbering_keeps_everything_but_the_order() -> None:
    group = symmetric(3)
    order = [3, 1, 0, 5, 4, 2]
    other = group.renumbered(order)
    assert other.elements == tuple(group.elements[i] for i in order)
    for i in range(6):
        for j in range(6):
            assert order[int(other.product[i, j])] == int(group.product[order[i], order[j]])
    check_representations(other)


def test_what_a_group_cannot_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GrokinterpError, match="whole numbers n from 1 to 6; got 7"):
        symmetric(7)
    for n in (0, True, 5.0, "5", [5], 8_193):
        with pytest.raises(GrokinterpError, match="Z_n is offered for whole numbers n from 1 to 8,192; got"):
            cyclic(n)
    with pytest.raises(GrokinterpError, match="up to 8,192 elements; Z_100 × Z_100 has 10,000"):
        direct_product(cyclic(100), cyclic(100))
    with pytest.raises(GrokinterpError, match=r"unknown irreducible representation of Z_5 '3'"):
        irrep_projector(cyclic(5), ["3"])
    with pytest.raises(GrokinterpError, match="at least one irreducible representation"):
        irrep_projector(cyclic(5), [])
    with pytest.raises(GrokinterpError, match="has 5 values, elements first; got 4"):
        transform(cyclic(5), torch.zeros(4))
    monkeypatch.setattr("grokinterp.groups.cosets.MOST", 20)
    with pytest.raises(GrokinterpError, match="D_30 has more than 20 subgroups, conjugates counted, too many"):
        subgroups(dihedral(30))
