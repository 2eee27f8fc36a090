"""Tables against plain arithmetic, groups against their definition, splits against the published rule."""

from __future__ import annotations

import random

import pytest
import torch

from grokinterp import GrokinterpError, tasks
from grokinterp.tasks import TaskConfig

OPERATIONS = {
    "modular_addition": lambda a, b, p: (a + b) % p,
    "modular_subtraction": lambda a, b, p: (a - b) % p,
    "modular_multiplication": lambda a, b, p: a * b % p,
    "modular_division": lambda a, b, p: next(c for c in range(p) if b * c % p == a),
    "modular_quadratic": lambda a, b, p: (a * a + a * b + b * b) % p,
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("p", [3, 7, 13])
def test_tables_hold_every_pair_with_its_answer(name: str, p: int) -> None:
    task = getattr(tasks, name)(p)
    pairs = [(a, b) for a in range(p) for b in range(p) if name != "modular_division" or b]
    assert task.tokens[:, :2].tolist() == [list(pair) for pair in pairs]
    assert bool((task.tokens[:, 2] == p).all())
    assert task.answers.tolist() == [OPERATIONS[name](a, b, p) for a, b in pairs]


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "modular_quadratic"])
@pytest.mark.parametrize("p", [3, 7, 13])
def test_answers_are_the_groups_combination_of_the_operands(name: str, p: int) -> None:
    task = getattr(tasks, name)(p)
    elements = task.operation.token_of
    assert torch.equal(task.tokens[task.pairs][..., 0], elements[:, None].expand(task.pairs.shape))
    assert torch.equal(task.tokens[task.pairs][..., 1], elements[None, :].expand(task.pairs.shape))
    assert torch.equal(task.answers[task.pairs], elements[task.operation.combination()])


def test_composite_moduli_have_addition_but_no_multiplicative_group() -> None:
    assert tasks.modular_addition(12).operation.order == 12
    assert tasks.modular_multiplication(12).structure is None
    assert tasks.modular_quadratic(7).structure is None


def test_equals_sign_can_be_left_out() -> None:
    task = tasks.modular_addition(5, equals=False)
    assert task.tokens.shape == (25, 2)
    assert task.n_vocab == 5


@pytest.mark.parametrize("rule", ["torch", "python"])
def test_split_is_a_seeded_partition(rule: str) -> None:
    task = tasks.modular_addition(11)
    split = task.split(0.3, seed=5, rule=rule)
    train, test = split.indices("train"), split.indices("test")
    assert len(train) == int(0.3 * 121)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(121))
    assert torch.equal(train, task.split(0.3, seed=5, rule=rule).indices("train"))
    assert not torch.equal(train, task.split(0.3, seed=6, rule=rule).indices("train"))


def test_python_rule_is_the_published_shuffle() -> None:
    p, seed = 11, 3
    pairs = [(i, j, p) for i in range(p) for j in range(p)]
    random.seed(seed)
    random.shuffle(pairs)
    task = tasks.modular_addition(p).split(0.3, seed, rule="python")
    assert {tuple(row) for row in task.tokens[task.indices("train")].tolist()} == set(pairs[: int(0.3 * p * p)])


def test_random_answers_keep_the_inputs_and_the_group() -> None:
    task = TaskConfig("modular_addition", {"p": 11}, answer_seed=1).build()
    plain = TaskConfig("modular_addition", {"p": 11}).build()
    assert torch.equal(task.tokens, plain.tokens)
    assert torch.equal(task.train, plain.train)
    assert (task.answers == plain.answers).double().mean() < 0.3
    assert task.operation == plain.operation


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tasks.modular_addition(2), "at least 3; got 2"),
        (lambda: tasks.modular_division(12), "prime p.* got p = 12, the next prime is 13"),
        (lambda: tasks.modular_addition(7).split(1.0, 0), "strictly between 0 and 1; got 1.0"),
        (lambda: tasks.modular_addition(7).split(-0.1, 0), "strictly between 0 and 1; got -0.1"),
        (lambda: tasks.modular_addition(3).split(0.01, 0), "0.01 of 9 examples"),
        (lambda: tasks.modular_addition(7).split(0.3, 0, rule="numpy"), "unknown split rule 'numpy'"),
        (lambda: tasks.modular_addition(7).indices("train"), "call task.split"),
        (lambda: tasks.modular_quadratic(7, coefficients=(1, 2)), "five numbers"),
        (lambda: TaskConfig("modular_adition").build(), "did you mean modular_addition"),
        (lambda: TaskConfig("modular_addition", {"q": 7}).build(), "takes the arguments p, equals"),
    ],
)
def test_bad_input_names_the_value_and_what_is_accepted(call, message) -> None:
    with pytest.raises(GrokinterpError, match=message):
        call()
