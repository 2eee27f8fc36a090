"""Groups by a table: what is known of odd ones, whatever their elements are called; what is no group is refused for what it is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from group_checks import check_representations, quaternions
from hypothesis import given, settings
from hypothesis import strategies as st

from grokinterp import GrokinterpError, tasks
from grokinterp.groups import Group, alternating, cyclic, dihedral, direct_product, from_table, inverse_transform, named, subgroups, symmetric
from grokinterp.groups import transform as fourier


def product_of(*groups: Group) -> Callable[[], Group]:
    def product() -> Group:
        found = groups[0]
        for group in groups[1:]:
            found = direct_product(found, group)
        return found

    return product


# Conjugacy classes; of each real irreducible representation its dimension and the dimension c of what commutes with it; subgroups up to conjugacy and
# all of them. Textbooks' character tables, and Goursat's lemma for subgroups of products.
KNOWN: dict[str, tuple[Callable[[], Group], int, list[tuple[int, int]], int, int]] = {
    "Q_8": (quaternions, 5, [(1, 1)] * 4 + [(4, 4)], 6, 6),
    "Z_2^3": (product_of(*[cyclic(2)] * 3), 8, [(1, 1)] * 8, 16, 16),
    "Z_3^3": (product_of(*[cyclic(3)] * 3), 27, [(1, 1)] + [(2, 2)] * 13, 28, 28),
    "A_4 x Z_3": (product_of(alternating(4), cyclic(3)), 12, [(1, 1), *[(2, 2)] * 4, (3, 1), (6, 2)], 14, 30),
    "Z_2 x S_3 x Z_3": (product_of(cyclic(2), symmetric(3), cyclic(3)), 18, [(1, 1)] * 4 + [(2, 1)] * 2 + [(2, 2)] * 4 + [(4, 2)] * 2, 0, 0),
    "Q_8 x Z_2": (lambda: direct_product(quaternions(), cyclic(2)), 10, [(1, 1)] * 8 + [(4, 4)] * 2, 19, 19),
    "Q_8 x Z_3": (lambda: direct_product(quaternions(), cyclic(3)), 15, [(1, 1)] * 4 + [(2, 2)] * 4 + [(4, 2), (4, 4)], 12, 12),
    "Q_8 x Q_8": (lambda: direct_product(quaternions(), quaternions()), 25, [(1, 1)] * 16 + [(4, 1)] + [(4, 4)] * 8, 0, 0),
    "D_4": (lambda: dihedral(4), 5, [(1, 1)] * 4 + [(2, 1)], 8, 10),
}


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("name", KNOWN)
def test_odd_groups_have_the_classes_representations_and_subgroups_of_the_books(name: str, shuffled: bool) -> None:
    make, n_classes, types, classes_of_subgroups, n_subgroups = KNOWN[name]
    group = make()
    if shuffled:  # by its table alone, with the identity anywhere
        order = torch.randperm(group.order, generator=torch.Generator().manual_seed(1)).tolist()
        group = from_table(group.renumbered(order).product)
        assert group.identity != 0
    check_representations(group)
    assert int(group.classes.max()) + 1 == n_classes
    assert sorted((rho.dimension, rho.commuting) for rho in group.irreps.values()) == sorted(types)
    assert sum(m**2 // c for m, c in types) == group.order
    # As many real representations as classes of elements together with their inverses.
    inverse_class = {(int(a), int(b)) for a, b in zip(group.classes, group.classes[group.inverse], strict=True)}
    assert len(group.irreps) == len({frozenset(pair) for pair in inverse_class})
    f = torch.randn(group.order, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(inverse_transform(group, fourier(group, f)), f, atol=1e-12, rtol=0)
    if n_subgroups:
        found = subgroups(group)
        assert (len(found), sum(each.n_conjugates for each in found)) == (classes_of_subgroups, n_subgroups)


def test_the_quaternions_multiply_as_hamilton_carved() -> None:
    """i² = j² = k² = ijk = −1 in the representation of real dimension 4, whose character is twice that of the complex one: ±4 and 0."""
    group = quaternions()
    rho = list(group.irreps.values())[-1]
    _, _, i, _, j, _, k, _ = rho.matrices
    minus = -torch.eye(4, dtype=torch.float64)
    for product in (i @ i, j @ j, k @ k, i @ j @ k):
        torch.testing.assert_close(product, minus, atol=1e-12, rtol=0)
    torch.testing.assert_close(rho.character, torch.tensor([4.0, -4, 0, 0, 0, 0, 0, 0]).double(), atol=1e-12, rtol=0)
    assert all(each.normal for each in subgroups(group))  # Hamiltonian: not abelian, every subgroup normal
    assert not group.abelian


def test_characters_of_z2_cubed_are_the_walsh_functions() -> None:
    group = KNOWN["Z_2^3"][0]()
    bits = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    walsh = {tuple(row) for row in (1 - 2 * (bits @ bits.T % 2)).tolist()}
    assert {tuple(rho.character.round().int().tolist()) for rho in group.irreps.values()} == walsh


@settings(max_examples=30)
@given(st.sampled_from(["Z_6", "S_3", "D_4", "Z_2 x Z_2 x Z_3", "A_4"]), st.randoms(use_true_random=False))
def test_names_of_elements_do_not_matter(name: str, random) -> None:  # type: ignore[no-untyped-def]
    group = named(name)
    order = list(range(group.order))
    random.shuffle(order)
    own = from_table(group.renumbered(order).product.tolist())
    check_representations(own)
    assert order[own.identity] == group.identity
    characters = [sorted(np.round(each.characters.numpy(), 6).sum(1).tolist()) for each in (own, group)]
    np.testing.assert_allclose(*characters, atol=1e-6)
    assert [(h.order, h.n_conjugates) for h in subgroups(own)] == [(h.order, h.n_conjugates) for h in subgroups(group)]
    task = tasks.composition(table=tuple(map(tuple, own.product.tolist())))
    x, y = random.randrange(group.order), random.randrange(group.order)
    assert order[int(task.answers[task.pairs[x, y]])] == int(group.product[order[x], order[y]])


def is_group(table: np.ndarray) -> bool:
    """The axioms, by brute force."""
    n = range(len(table))
    identities = [e for e in n if all(table[e, g] == g == table[g, e] for g in n)]
    associative = all(table[table[a, b], c] == table[a, table[b, c]] for a, b, c in itertools.product(n, repeat=3))
    return associative and len(identities) == 1 and all(identities[0] in table[g] for g in n)


@settings(max_examples=150)
@given(st.sampled_from(["Z_4", "Z_2 x Z_2", "Z_5", "S_3"]), st.lists(st.integers(0, 5), min_size=6, max_size=6), st.randoms(use_true_random=False))
def test_latin_squares_are_groups_exactly_where_the_axioms_hold(name: str, changes: list[int], random) -> None:  # type: ignore[no-untyped-def]
    """Rows, columns and entries of a group's table are permuted, which leaves quasigroups, loops and groups; then an entry may change, too."""
    table = named(name).product.numpy()
    n = len(table)
    rows, columns, entries = ([random.sample(range(n), n), list(range(n))][change % 2] for change in changes[:3])
    table = np.array(entries)[table[rows][:, columns]]
    if changes[3] == 0:
        table[changes[4] % n, changes[5] % n] = random.randrange(n)
    if is_group(table):
        check_representations(from_table(table))
        return
    with pytest.raises(GrokinterpError) as refused:
        from_table(table)
    said = str(refused.value)
    assert said.endswith("; correct the table, or learn it as a `Task` whose structure is None, which needs no group")
    if found := re.match(r"(row|column) (\d+) of the table holds (\d+) more than once and (\d+) not at all", said):
        line, twice, missing = (int(found[i]) for i in (2, 3, 4))
        held = (table if found[1] == "row" else table.T)[line].tolist()
        assert held.count(twice) > 1
        assert missing not in held
    elif found := re.match(r"the table is not associative: \((\d+)·(\d+)\)·(\d+) is (\d+), and \1·\(\2·\3\) is (\d+)", said):
        a, b, c, first, last = (int(found[i]) for i in range(1, 6))
        assert table[table[a, b], c] == first != last == table[a, table[b, c]]
    else:
        found = re.match(r"no element of the table is an identity e, .* elements g(?:; (\d) is one on the (left|right))?", said)
        assert found
        of_side = {side: [e for e in range(n) if lines[e].tolist() == [*range(n)]] for side, lines in (("left", table), ("right", table.T))}
        assert not set(of_side["left"]) & set(of_side["right"])
        assert of_side[found[2]] == [int(found[1])] if found[1] else not any(of_side.values())


LOOP = [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]]  # of order 5, its squares are 0: no group has that


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([[0, 1], [1, 1]], "row 1 of the table holds 1 more than once and 0 not at all, where a group has each element once; correct the table, or"),
        ([[0, 1], [0, 1]], "column 0 of the table holds 0 more than once and 1 not at all"),
        ([[0, 1, 2], [2, 0, 1], [1, 2, 0]], "eg = ge = g for all 3 elements g; 0 is one on the left alone"),
        ([[0, 2, 1], [1, 0, 2], [2, 1, 0]], "eg = ge = g for all 3 elements g; 0 is one on the right alone"),
        ([[0, 4, 3, 2, 1], [2, 1, 0, 4, 3], [4, 3, 2, 1, 0], [1, 0, 4, 3, 2], [3, 2, 1, 0, 4]], "for all 5 elements g; correct"),  # 2a − b
        (LOOP, "not associative: (1·1)·2 is 2, and 1·(1·2) is 4; correct the table"),
        ([[0, 1], [1, 2]], "the elements of a table of 2 rows are 0 … 1, and its product 1·1 is 2; correct"),
        ([[0, 1], [1, -1]], "its product 1·1 is -1"),
        ([[0, 1, 2]], "a square with the product gh in row g and column h; got 1 rows of 3"),
        ([[0, 1], [1]], "a list of whole numbers; got list (rows of different lengths)"),
        ([[0.0, 1.0], [1.0, 0.0]], "whole numbers; got torch.float64"),
        ([[False, True], [True, False]], "whole numbers; got torch.bool"),
        ([["e", "a"], ["a", "e"]], "a list of whole numbers; got list"),
        ([], "have 2 dimensions; got the shape (0,)"),
        ([[]], "got 1 rows of 0"),
        (None, "got NoneType"),
    ],
)
def test_a_table_that_is_no_group_is_refused_for_what_it_is(table: object, said: str) -> None:
    with pytest.raises(GrokinterpError, match=re.escape(said)):
        from_table(table)


def test_what_is_no_group_can_be_learned_without_one(as_installed: None) -> None:
    """The remedy that refusals name."""
    pairs = list(itertools.product(range(5), repeat=2))
    task = tasks.Task("loop", pairs, [LOOP[x][y] for x, y in pairs], n_vocab=5, n_classes=5)
    assert task.structure is None
    with pytest.raises(GrokinterpError, match="not associative"):
        tasks.composition(table=tuple(map(tuple, LOOP)))
