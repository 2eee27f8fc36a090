"""Neurons that hold what an algorithm computes: a model that runs it keeps its loss, another does not, and what is replaced is what was said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from circles import clock_transformer, pizza_transformer
from torch import Tensor

from grokinterp import Clock, GrokinterpError, MLPConfig, ModelConfig, Pizza, Snapshot, analyze, load_checkpoint, loss_recovered
from grokinterp.interventions import Ablated, Equivalent, Hybrid
from grokinterp.measures import equivalent
from grokinterp.models import build_model
from grokinterp.tasks import Task, modular_addition, modular_multiplication, modular_subtraction, permutations

pytestmark = pytest.mark.lens4

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "pizza2023"
KEYS = (1, 3, 4)


@pytest.mark.parametrize(("build", "own", "other"), [(pizza_transformer, "pizza", "clock"), (clock_transformer, "clock", "pizza")])
def test_a_model_built_as_one_algorithm_runs_on_it_and_not_on_the_other(build: Any, own: str, other: str) -> None:
    exact = 1e-9 if own == "pizza" else 1e-6  # the clock multiplies by tanh(cos), which is a cosine but for its third power
    model, task = build()
    found = equivalent(Snapshot(model, task))
    recovered = found["loss_recovered"].sel(side="inputs")
    assert float(recovered.sel(algorithm=own)) == pytest.approx(1, abs=exact)
    assert float(recovered.sel(algorithm="hybrid")) == pytest.approx(1, abs=exact)
    assert float(recovered.sel(algorithm=other)) == pytest.approx(0, abs=exact)
    # At the outputs both pass: a pizza's mean logits over pairs of equal sum are a clock's, and a clock cut to a pizza still answers.
    assert float(found["loss_recovered"].sel(side="outputs").min()) > 0.98
    assert float(found["loss_recovered"].sel(side="outputs", algorithm=own)) == pytest.approx(1, abs=1e-4)
    inputs, outputs = equivalent.plot(Snapshot(model, task)).data
    np.testing.assert_allclose(inputs.y, [recovered.sel(algorithm=name) for name in inputs.x], atol=1e-12)
    assert (inputs.name, outputs.name, min(outputs.y) > 0.98) == ("inputs", "outputs", True)


PUBLISHED = {  # recovered at the inputs of the first layer's neurons by clock, pizza, both (computed here)
    "p99zdpze5l": (0, 1, 1),  # A
    "l8k1hzciux": (0.8158, 0.9226, 0.9977),  # B: mostly sums of circles, but these alone answer 78 % of the pairs
    "h9m153uuh9": (0, 1, 1),  # two layers
    "p71frej8t7": (0, 1, 1),  # linear β
    "qlvxqhkvit": (0, 0.9919, 0.9919),  # linear δ: sums of unlike circles
}


@pytest.mark.parametrize("run", PUBLISHED)
def test_published_pizzas_add_circles_and_the_published_clock_does_more(run: str) -> None:
    if not FOLDER.exists():
        pytest.skip("the published models of arXiv 2306.17844 are not beside the checkout (shared/data/pizza2023 is missing)")
    checkpoint = load_checkpoint(FOLDER / f"model_{run}.pt")
    found = equivalent(Snapshot(checkpoint.model(), checkpoint.task))
    recovered = found["loss_recovered"].sel(side="inputs")
    assert recovered.sel(algorithm=["clock", "pizza", "hybrid"]).to_numpy() == pytest.approx(PUBLISHED[run], abs=1e-3)


def toy(**changes: Any) -> tuple[Any, Task]:
    task = modular_addition(7)
    return build_model(ModelConfig(**{"d_model": 8, "n_heads": 2, "d_mlp": 12, **changes}), task, seed=0, dtype=torch.float64), task


@dataclass(frozen=True)
class Anything(Equivalent):
    """An algorithm that may compute any function of the example."""

    def functions(self, task: Task) -> Tensor:
        return torch.eye(len(task), dtype=torch.float64)


@dataclass(frozen=True)
class OfSomeExamples(Equivalent):
    """One that says nothing of the first ten examples."""

    def functions(self, task: Task) -> Tensor:
        functions = torch.arange(len(task), dtype=torch.float64)[:, None].clone()
        functions[:10] = torch.nan
        return functions


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_all_functions_change_nothing_and_none_leave_the_mean(side: Any) -> None:
    model, task = toy(n_layers=2)
    for layer, name in ((0, "blocks.0.mlp"), (-1, "blocks.1.mlp")):
        hook = f"{name}.hook_{'pre' if side == 'inputs' else 'post'}"
        own = cached(model, task, hook)
        for algorithm, expected in ((Anything(side=side, layer=layer), own), (Ablated(side=side, layer=layer), own.mean(0).expand_as(own))):
            with algorithm.applied(model, task):
                torch.testing.assert_close(cached(model, task, hook), expected, rtol=0, atol=1e-9)
        with OfSomeExamples(side=side, layer=layer).applied(model, task):
            found = cached(model, task, hook)
        assert torch.equal(found[:10], own[:10])
        assert float((found[11:-1] - (found[10:-2] + found[12:]) / 2).abs().max()) < 1e-9  # a straight line each
        assert not torch.allclose(found[10:], own[10:])


def test_a_users_hooks_do_the_same_and_a_fit_is_least_squares() -> None:
    model, task = toy()
    pizza = Pizza((1, 2))
    with pizza.applied(model, task), torch.no_grad():
        logits = model(task.tokens)
    with torch.no_grad():
        assert torch.equal(model.run_with_hooks(task.tokens, fwd_hooks=pizza.hooks(model, task)), logits)
    hook = "blocks.0.mlp.hook_pre"
    functions = torch.cat([torch.ones(len(task), 1, dtype=torch.float64), pizza.functions(task)], 1)
    own = cached(model, task, hook)[:, -1]
    expected = functions @ torch.linalg.lstsq(functions, own).solution
    with pizza.applied(model, task):
        torch.testing.assert_close(cached(model, task, hook)[:, -1], expected, rtol=0, atol=1e-9)


def cached(model: Any, task: Task, hook: str) -> Tensor:
    with torch.no_grad():
        return model.run_with_cache(task.tokens, names_filter=hook)[1][hook]


TASKS = {  # what x and y contribute to the angle, as functions of the tokens
    "addition": (modular_addition(7, equals=False), 7, lambda a: a, lambda b: b),
    "subtraction": (modular_subtraction(7, equals=False), 7, lambda a: a, lambda b: -b),
    # 3 is the least generator mod 7, so that token 3^x stands for x; products with 0 are left as they are.
    "multiplication": (modular_multiplication(7, equals=False), 6, *([lambda a: [6, 0, 2, 1, 4, 5, 3][a]] * 2)),
}


@pytest.mark.parametrize("name", TASKS)
def test_functions_in_closed_form(name: str) -> None:
    task, n, of_a, of_b = TASKS[name]
    k = 2
    rows = []
    for a, b in task.tokens.tolist():
        x, y = (2 * np.pi * k * place / n for place in (of_a(a), of_b(b)))
        outside = name == "multiplication" and a * b == 0
        half = abs(np.cos((x - y) / 2))
        rows.append(
            [
                np.nan if outside else value
                for value in (np.cos(x + y), np.sin(x + y), np.cos(x) + np.cos(y), np.sin(x) + np.sin(y), half * np.cos(x + y), half * np.sin(x + y))
            ]
        )
    expected = np.array(rows)
    for algorithm, columns in ((Clock((k,)), [0, 1]), (Clock((k,), side="outputs"), [0, 1]), (Pizza((k,)), [2, 3]), (Hybrid((k,)), [0, 1, 2, 3])):
        np.testing.assert_allclose(algorithm.functions(task).numpy(), expected[:, columns], atol=1e-12)
    np.testing.assert_allclose(Pizza((k,), side="outputs").functions(task).numpy(), expected[:, [4, 5]], atol=1e-12)


def test_the_ablated_model_recovers_nothing_and_all_functions_everything() -> None:
    model, task = pizza_transformer()
    snapshot = Snapshot(model, task)
    assert loss_recovered(snapshot, Ablated()).recovered == 0
    everything = loss_recovered(snapshot, Anything())
    assert everything.recovered == pytest.approx(1, abs=1e-12)
    assert str(everything).startswith("1.0000 of the loss recovered: ")
    pizza = loss_recovered(snapshot, Pizza(KEYS))
    assert pizza.accuracy == 1
    assert pizza.own < 0.1 < pizza.ablated


def test_where_there_is_nothing_to_recover_the_report_says_so() -> None:
    model, task = toy()
    with torch.no_grad():
        model.blocks[0].mlp.W_out.zero_()
    report = analyze(model, ["equivalent"], task=task)
    assert np.isnan(report["loss_recovered"]).all()
    assert "no higher without these neurons" in report.undefined["loss_recovered"]


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: Clock(()), "needs the frequency of at least one circle; got none"),
        (lambda: Clock((1,), side="middle"), "unknown side of the neurons 'middle'"),
        (lambda: Pizza((4,)).hooks(*toy()), "frequencies of Z_7 lie in 1 … 3; got 4"),
        (lambda: Pizza((1,), layer=1).hooks(*toy()), "no layer 1 of neurons; the model has 1"),
        (lambda: Pizza((1,)).hooks(*toy(d_mlp=0)), "the model is attention-only"),
        (lambda: Pizza((1,)).functions(permutations(3)), "has no cyclic group, so its operands lie on no circles"),
        (lambda: of_few(), "needs the task's full table of 49 examples as its batch; got 5"),
    ],
)
def test_what_does_not_fit_is_said(act: Any, words: str) -> None:
    with pytest.raises(GrokinterpError, match=words):
        act()


def of_few() -> None:
    model, task = toy()
    with Pizza((1,)).applied(model, task):
        model(task.tokens[:5])


def test_probes_have_inputs_too() -> None:
    task = modular_addition(7, equals=False)
    model = build_model(MLPConfig(n_layers=1, d_model=8, d_hidden=8), task, seed=0)
    assert Pizza((1, 2)).hooks(model, task)[0][0] == "blocks.0.hook_pre"
