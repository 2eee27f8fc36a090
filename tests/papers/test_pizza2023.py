"""The Clock and the Pizza: configurations as published, made-up runs through the claims, and the rate of a transition."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import torch

from grokinterp import presets
from grokinterp.interventions import AttentionRate
from grokinterp.measures.algorithm_figures import PUBLISHED
from grokinterp.models.transformers import build_model, trained_parameters
from grokinterp.papers.claims import read_claims, verdict
from grokinterp.papers.pizza2023 import claims, paper
from grokinterp.papers.pizza2023.plans import RATES, plan

CLAIMS = read_claims("pizza2023")


def test_the_preset_is_the_published_model() -> None:
    config = presets.pizza2023(alpha=0.25, seed=3)
    task = config.task.build()
    model = build_model(config.model, task, config.seed)
    weights = trained_parameters(model)
    assert sum(weight.numel() for weight in weights.values()) == 59 * 128 * 2 + 2 * 128 + 4 * 128 * 128 + 2 * 128 * 512 + 512 + 128
    assert (task.n_positions, model.cfg.d_vocab_out, int(task.train.sum())) == (2, 59, 2_784)
    assert model.interventions == (AttentionRate(0.25),)
    assert (config.optimizer.weight_decay, config.optimizer.betas, config.optimizer.warmup_steps) == (2, (0.9, 0.98), 10)
    deviations = {"W_E": 128, "W_Q": 128, "W_O": 128, "W_out": 128, "W_in": 512, "W_U": 59}  # one over the variance
    for name, weight in weights.items():
        kind = name.rpartition(".")[2]
        if kind in deviations:
            assert float(weight.detach().std()) * math.sqrt(deviations[kind]) == pytest.approx(1, abs=0.05), name
        if ".b_" in name:
            assert not weight.any()
    assert torch.equal(build_model(presets.pizza2023(alpha=1, seed=3).model, task, 3).W_E, model.W_E)


def test_plans_hold_what_is_asked_of_them() -> None:
    cpu = plan("cpu").runs
    assert {*RATES} == {*claims.CPU_RATES}
    assert [config.model.intervention(AttentionRate).alpha for config in cpu] == [*RATES] * 5
    assert [config.seed for config in cpu] == [seed for seed in range(5) for _ in RATES]
    assert {config.task.args["p"] for config in cpu} == {59}
    assert {config.steps for config in plan("full").runs} == {20_000}
    assert len({config.digest for config in (*cpu, *plan("full").runs, *plan("smoke").runs)}) == 25 + 210 + 2


def published(alpha: float) -> tuple[float, float]:
    """Mean symmetricity and irrelevance of the authors' runs about a rate: those of its tenth, or of both tenths at a border between two."""
    at = {min(max(math.floor(10 * alpha + shift), 0), 9) for shift in (-1e-9, 1e-9)}
    s, q = (sum(values[i] for i in at) / len(at) for values in PUBLISHED["all"])
    return s, q


def test_published_means_are_accepted() -> None:
    accepted = {claim.id: claim.accept for claim in CLAIMS}
    for alpha in claims.CPU_RATES:
        for name, mean in zip(("symmetricity", "irrelevance"), published(alpha), strict=True):
            low, high = accepted[f"{name}_{claims.tag(alpha)}"]
            assert low < mean < high


def made_up(alpha: float, seed: int, **changes: Any) -> dict[str, Any]:
    """A run as the paper has it at an end of the transition: a pizza at rate 0, a clock at 1."""
    s, q = published(alpha)
    clock = alpha > 0.5
    row = {"run": f"{alpha}-{seed}", "alpha": alpha, "seed": seed, "epochs": 2_000, "gradient_symmetricity": s, "distance_irrelevance_wrong": q}
    row |= {"distance_irrelevance": q - 0.05, "right_answers": 1.0, "circularity": 0.998, "verdict": "clock" if clock else "pizza"}
    row |= {"loss": 1.4e-7, "norm": 23.5, "recovered_clock": 0.8 if clock else 0.0, "recovered_pizza": 0.95 if clock else 1.0}
    row |= {"recovered_hybrid": 1.0, "isolated_clock": 0.75, "isolated_pizza": 0.99, "reads_from": 1_800, "turned": False}
    return row | changes


def found(rows: list[dict[str, Any]]) -> Any:
    runs = pd.DataFrame(rows)
    curves = runs[["run", "alpha", "seed", "distance_irrelevance", "verdict"]].assign(step=2_000)
    return paper.from_tables("cpu", {"runs": runs, "curves": curves})


def test_the_papers_own_numbers_reproduce_it() -> None:
    rows = [made_up(alpha, seed, circularity=0.998 if seed == 0 else 0.5) for alpha in claims.CPU_RATES for seed in range(3)]
    for row, s in zip([row for row in rows if row["alpha"] == 0.5], (0.985, 0.985, 0.9505), strict=True):  # of the published mean, two above 0.98
        row["gradient_symmetricity"] = s
    result = found(rows)
    verdicts = {claim.id: verdict(claim, result.found.get(claim.id)) for claim in CLAIMS}
    not_run = {"wide_pizza", "layers", "width"}
    assert {name for name, word in verdicts.items() if word == "not run"} == not_run
    assert "differs" not in verdicts.values()
    assert len(result.opening) == 5
    assert result.found["turned"].value == 0
    assert result.page().startswith("# pizza2023")


def test_a_clock_at_rate_0_differs_and_a_run_that_misses_a_pair_is_left_out() -> None:
    rows = [made_up(0.0, 0, verdict="clock"), made_up(1.0, 0), made_up(1.0, 1, right_answers=0.999, gradient_symmetricity=1.0)]
    result = found(rows)
    assert result.found["pizza_at_0"].value == 0
    assert result.found["symmetricity_rate_100"].n == 1
    assert result.found["answers"].value == pytest.approx(2 / 3)
    assert "Of the circular runs at rate 0 0 % read as pizzas, and at rate 1 100 % as clocks." in " ".join(result.opening)


@pytest.mark.parametrize(
    ("shares", "rate"),
    [
        ({0.0: 0, 0.25: 0, 0.5: 0.4, 0.75: 0.6, 1.0: 1}, 0.625),
        ({0.0: 0, 1.0: 1}, 0.5),
        ({0.0: 1, 0.5: 0, 1.0: 1}, 0.75),
        ({0.0: 0, 0.25: 1, 0.5: 0, 1.0: 1}, math.nan),  # twice
        ({0.0: 0, 1.0: 0.4}, math.nan),  # never
    ],
)
def test_the_transition_lies_where_the_share_rises_through_one_half(shares: dict[float, float], rate: float) -> None:
    assert paper.half_way(pd.Series(shares)) == pytest.approx(rate, nan_ok=True)


def test_no_finished_run_is_a_page_without_numbers() -> None:
    empty = paper.from_tables("cpu", {})
    assert {verdict(claim, empty.found.get(claim.id)) for claim in empty.claims} == {"not run"}
