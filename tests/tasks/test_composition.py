"""Composition in any group against its own definition, published numberings, tables without a group."""

from __future__ import annotations

import itertools

import pytest
import torch

from grokinterp import GrokinterpError, TaskConfig, groups, presets, tasks
from grokinterp.groups.published import published


@pytest.mark.parametrize(
    ("args", "name", "order"),
    [
        ({"group": "D", "n": 5}, "D_5", 10),
        ({"group": "A_4"}, "A_4", 12),
        ({"group": "Z_2 x S_3"}, "Z_2 × S_3", 12),
        ({"group": "Z2×Z2 x Z3"}, "Z_2 × Z_2 × Z_3", 12),
        ({"group": "Z_2^3"}, "Z_2 × Z_2 × Z_2", 8),
        ({"group": "z2^2 x c_3"}, "Z_2 × Z_2 × Z_3", 12),
        ({"group": "s3"}, "S_3", 6),
        ({"group": "Q8"}, "Q_8", 8),
        ({"table": ((0, 1, 2), (1, 2, 0), (2, 0, 1))}, "table", 3),
    ],
)
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, -1)])
def test_answers_are_products(args: dict, name: str, order: int, signs: tuple[int, int]) -> None:
    task = TaskConfig("composition", {**args, "signs": signs}).build()
    group = task.operation.group
    assert (group.name, group.order, task.n_classes, task.n_vocab) == (name, order, order, order + 1)
    product, inverse = group.product, group.inverse
    for x, y in itertools.product(range(order), repeat=2):
        a, b = x if signs[0] == 1 else int(inverse[x]), y if signs[1] == 1 else int(inverse[y])
        example = int(task.pairs[x, y])
        assert task.tokens[example].tolist() == [x, y, order]
        assert int(task.answers[example]) == int(product[a, b])


def test_operands_may_have_vocabularies_of_their_own() -> None:
    task = tasks.composition("D_3", separate=True)
    assert task.tokens[task.pairs[2, 5]].tolist() == [2, 11, 12]
    assert task.n_vocab == 13
    assert tasks.composition("D_3", separate=True, equals=False).tokens.shape == (36, 2)


def test_cyclic_compositions_are_modular_arithmetic() -> None:
    for signs, modular in (((1, 1), tasks.modular_addition), ((1, -1), tasks.modular_subtraction)):
        ours, known = tasks.composition("Z_7", signs=signs), modular(7)
        assert torch.equal(ours.tokens, known.tokens)
        assert torch.equal(ours.answers, known.answers)
        assert ours.structure == known.structure
        assert ours.cyclic is not None
    assert torch.equal(tasks.composition("S_3").answers, tasks.permutations(3).answers)


def test_published_numberings_compose_the_first_operand_first() -> None:
    """The products that the method sheet states, and a homomorphism under which every element keeps its order."""
    for name, products, identity in (
        ("S_5", {(1, 2): 33, (2, 1): 10}, 20),
        ("S_6", {(1, 2): 459, (2, 1): 478}, 60),
        ("A_5", {(7, 31): 18, (31, 7): 19}, 0),
    ):
        group = published(name)
        assert {pair: int(group.product[pair]) for pair in products} == products
        assert group.identity == identity
    group = published("S_5")
    for x, y in torch.randint(120, (30, 2), generator=torch.Generator().manual_seed(0)).tolist():
        first, then = group.elements[x], group.elements[y]
        assert group.elements[int(group.product[x, y])] == "".join(then[int(i)] for i in first)
    for rho in group.irreps.values():
        m = rho.matrices
        assert float((m[7] @ m - m[group.product[7]]).abs().max()) < 1e-12
    assert tasks.composition("A", 5, numbering="published").structure.group == published("A_5")
    assert tasks.composition("D_5", numbering="published").structure == tasks.composition("D_5").structure


def test_the_preset_reads_every_spelling_of_a_published_group() -> None:
    for spelling in ("S5", "s_5"):
        task, known = (presets.groups2023(name, seed=1).task for name in (spelling, "S_5"))
        assert (task.train_fraction, task.args["numbering"]) == (known.train_fraction, known.args["numbering"]) == (0.4, "published")
        assert torch.equal(task.build().answers, known.build().answers)


def test_families_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(groups.FAMILIES, "V", lambda n: groups.direct_product(groups.cyclic(n), groups.cyclic(n)))
    assert tasks.composition("V", 3).operation.order == 9
    assert groups.named("V_2 x Z_2").order == 8


def test_three_operands_and_parity_are_tables_without_a_group() -> None:
    total, power = tasks.modular_sum(5), tasks.modular_power(5)
    for task, function in ((total, lambda a, b, c: (a + b + c) % 5), (power, lambda a, b, c: pow((a + b) % 5, c, 5))):
        assert len(task) == 125
        assert task.structure is None
        assert all(function(*row[:3]) == answer and row[3] == 5 for row, answer in zip(task.tokens.tolist(), task.answers.tolist(), strict=True))
    parity = tasks.sparse_parity(6, (1, 4))
    assert len({tuple(row) for row in parity.tokens.tolist()}) == 64
    assert all((row[1] + row[4]) % 2 == answer for row, answer in zip(parity.tokens.tolist(), parity.answers.tolist(), strict=True))
    assert TaskConfig("sparse_parity", {"n": 4, "relevant": [3], "equals": False}).build().n_vocab == 2


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: tasks.composition(), "one of the two; got group=None and no table"),
        (lambda: tasks.composition("Z_3", table=((0,),)), "one of the two; got group='Z_3' and a table"),
        (lambda: tasks.composition(table=((0, 1), (1,))), "rows of different lengths"),
        (lambda: tasks.composition(table=((0, 1), (1, 0)), n=2), "neither n nor another numbering; got n=2"),
        (lambda: tasks.composition("GL_2"), "unknown family of groups 'GL'; known: A, C, D, Q, S, Z; any other group goes by its"),
        (lambda: tasks.composition("five"), r"named like D_59, Q8, Z_2\^3 or Z_2 x S_3; got 'five'"),
        (lambda: tasks.composition("Z_2^0"), r"got 'Z_2\^0'"),
        (lambda: tasks.composition("Z_2^99"), "products are offered up to 8,192 elements"),
        (lambda: tasks.composition("Q_10"), "n is a multiple of 4; got 10"),
        (lambda: tasks.composition("S_4", n=5), "n goes with the letters of a family, as in group='D', n=59; got group='S_4' and n=5"),
        (lambda: tasks.composition("Z_2 x S_3", numbering="published"), "unknown group with a published numbering 'Z_2 × S_3'"),
        (lambda: tasks.composition("S_4", numbering="published"), "unknown group with a published numbering 'S_4'"),
        (lambda: tasks.composition("S_5", numbering="mine"), "unknown numbering 'mine'"),
        (lambda: tasks.composition("Z_1"), "2 to 2,048 elements, since its table has all pairs; Z_1 has 1"),
        (lambda: tasks.composition("Z_3", signs=(1, 0)), "exponents of two operands"),
        (lambda: tasks.modular_sum(129), "from 3 to 128, since the table has p³ triples; got 129"),
        (lambda: tasks.sparse_parity(21), "for n from 2 to 20; got n = 21"),
        (lambda: tasks.sparse_parity(5, (1, 1)), "each once; got"),
        (lambda: tasks.sparse_parity(5, (5,)), r"positions 0 … 4, at least one and each once; got \(5,\)"),
    ],
)
def test_what_is_no_task_is_refused(make, match: str) -> None:
    with pytest.raises(GrokinterpError, match=match):
        make()
