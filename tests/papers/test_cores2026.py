"""The claims of arXiv 2602.22600: the paper's own numbers meet them, and a small version of its experiments is run for real."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from smoke_checks import lists_everything

from grokinterp.interventions import PostNorm
from grokinterp.papers import Reproduction, reproduce
from grokinterp.papers.claims import read_claims
from grokinterp.papers.cores2026 import claims, paper, runs
from grokinterp.papers.cores2026.agreement import AgreementStudy, measure_gpt2
from grokinterp.papers.cores2026.chains import ARMS
from grokinterp.tasks import MarkovChain
from grokinterp.training.runs import Run

CLAIMS = read_claims("cores2026")

# --- the paper's numbers, in the shape of ours ---------------------------------------------------------------------------------------

PAIRS = ((0, 100), (0, 200), (100, 200))
REMOVED = {0: 0.261, 100: 0.237, 200: 0.247}
THIRD = {0: 0.51, 100: 0.49, 200: 0.48}
OVERLAPS = dict(zip(PAIRS, (0.027, 0.031, 0.027), strict=True))
CORRELATIONS = dict(zip(PAIRS, ((0.999, 0.999, 0.927), (0.999, 0.999, 0.949), (0.999, 0.999, 0.958)), strict=True))
GPT2 = {  # layer, of how many; AUC as it is, with only the core, without it, flipped; spectral gap
    "gpt2": (11, 12, 0.911, 0.994, 0.241, 0.038, 40.0),
    "gpt2-medium": (22, 24, 0.934, 0.997, 0.217, 0.023, 44.0),
    "gpt2-large": (36, 36, 0.921, 0.975, 0.244, 0.021, 2.8e10),
}
SHARED = {  # Spearman and Pearson of the core coordinates on the same prompts
    ("gpt2-medium", "gpt2-large"): (0.923, 0.951),
    ("gpt2", "gpt2-large"): (0.878, 0.924),
    ("gpt2", "gpt2-medium"): (0.919, 0.968),
}


def published_chains() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same for every arm, as if nothing depended on the normalisation."""
    seeds = [
        {
            "arm": arm, "lr": 1e-3, "seed": seed, "rank": 3, "base": 0.748, "keep": 0.748, "remove": REMOVED[seed],
            "real": 0.75, "imaginary": 0.25, "third": THIRD[seed], "r2_of_oracle": 0.99, "energy_1": 0.5, "energy_2": 0.99,
        }
        for arm in ARMS for seed in claims.SEEDS
    ]  # fmt: skip
    pairs: list[dict[str, Any]] = []
    for arm in ARMS:
        for pair in PAIRS:
            row = {"arm": arm, "lr": 1e-3, "seed": pair[0], "other": pair[1], "overlap": OVERLAPS[pair], "weights": 0.001}
            angles = {f"angle_{i}": angle for i, angle in enumerate((76, 80, 89), 1)}
            pairs.append(row | angles | {f"cca_{i}": value for i, value in enumerate(CORRELATIONS[pair], 1)})
    return pd.DataFrame(seeds), pd.DataFrame(pairs)


def published_growths() -> pd.DataFrame:
    rows = []
    for seed, (size, modes) in enumerate(zip((11, 15, 19), (5, 7, 8), strict=True)):
        kinds = {"grok": size, "2000": size + 2, "end": 60, "free": size}
        sizes = {f"{kind}_{when}": value for when, value in kinds.items() for kind in ("reported", "necessary", "energy")}
        sufficient = {f"sufficient_{when}": size for when in kinds}
        turning = {f"modes_{when}": 26 if when == "end" else modes for when in kinds} | {f"modes_null_{when}": 0 for when in kinds}
        fits = {"r2_start": 0.84, "held_out_before": -1, "held_out_grok": 0.95, "null_grok": -0.5}
        accuracies = {"base_grok": 1.0, "keep_grok": 1.0, "remove_grok": 0.03}
        rows.append({"seed": seed, "grok": 800, "fork": 900, "end": 20_000, **sizes, **sufficient, **turning, **fits, **accuracies})
    return pd.DataFrame(rows)


def published_times() -> tuple[pd.DataFrame, pd.DataFrame]:
    decays = [{"weight_decay": decay, "p": 53, "seed": seed, "time": 1_577 * decay**-1.02 * spread} for decay in claims.DECAYS
              for seed, spread in enumerate((0.98, 1.0, 1.02))]  # fmt: skip
    primes = [{"weight_decay": 1.0, "p": p, "seed": seed, "time": claims.published_time(p)} for p in claims.PRIMES for seed in range(3)]
    return pd.DataFrame(decays), pd.DataFrame(primes)


def published_agreement() -> AgreementStudy:
    """Of the three GPT-2s; where the paper gives no number, one that says what it says in words."""
    names = ("layer", "of", "base", "keep", "remove", "flip", "spectral_gap")
    layers = {name: {**dict(zip(names, row, strict=True)), "knob_r2": 0.9, "flip_p_value": 1e-6} for name, row in GPT2.items()}
    pairs = [{"a": a, "b": b, "spearman": spearman, "pearson": pearson} for (a, b), (spearman, pearson) in SHARED.items()]
    verbs = pd.MultiIndex.from_product([["gpt2"], ["is", "are"]], names=["model", "verb"])
    example = pd.DataFrame({"clean": [0.51, 0.06], "flipped": [0.01, 0.71]}, index=verbs)
    return AgreementStudy(pd.DataFrame(layers).T, pd.DataFrame(pairs), example)


def published_measurements() -> dict[str, paper.Measurement]:
    in_decay, in_p = published_times()
    laws = paper.fitted(in_decay, in_p)
    growths = published_growths()
    of_models = {
        **paper.measure_chains(*published_chains()),
        **paper.measure_growth(growths),
        **paper.measure_long(growths),
        **paper.measure_times(*laws, in_p),
    }
    return {
        **of_models,
        **measure_gpt2(published_agreement()),
        "theory_norm": paper.Measurement(paper._norm_error()),
        "theory_spread": paper.Measurement(paper._spread()),
    }


def test_the_papers_own_numbers_meet_its_claims_and_every_claim_is_measured() -> None:
    result = Reproduction("cores2026", "full", CLAIMS, published_measurements())
    verdicts = {claim.id: result.verdict(claim) for claim in CLAIMS}
    ours = {claim.id for claim in CLAIMS if claim.id.startswith("tiny_") or not claim.budgets}
    assert {name for name, verdict in verdicts.items() if verdict == "not run"} == ours
    assert "differs" not in verdicts.values()
    assert result.found["time_exponent"].value == pytest.approx(-1.02)
    assert result.found["time_omega"].value == pytest.approx(2_770, rel=1e-3)
    assert result.found["time_p_crit"].value == pytest.approx(23, rel=1e-3)


def test_every_row_of_the_papers_tables_has_its_claim() -> None:
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    assert len([name for name in ids if name.startswith("markov_cca_")]) == 9
    agreement = [claim for claim in CLAIMS if claim.id.startswith("agreement_")]
    assert len([claim for claim in agreement if claim.id.endswith(("_base", "_keep", "_remove", "_flip", "_gap"))]) == 30
    assert not any("cpu" in claim.budgets for claim in agreement)
    assert not any(claim.budgets for claim in agreement if any(name in claim.id for name in ("llama", "gemma", "qwen")))
    assert all(claim.accept[0] <= claim.accept[1] for claim in CLAIMS)
    assert claims.published_time(53) == pytest.approx(1_577, abs=1)
    assert math.isinf(claims.published_time(23))


def test_what_never_happens_is_reported_and_not_left_out() -> None:
    growths = published_growths()
    growths.loc[0, ["grok", "end", "reported_end", "reported_free", "necessary_end"]] = math.nan
    growths.loc[1, "keep_grok"] = math.nan
    found = paper.measure_growth(growths)
    assert (found["modular_grok"].n, found["modular_grok"].value) == (2, 800)
    assert "missing in 1 of 3" in found["modular_grok"].note
    assert math.isnan(found["modular_keep_gap"].value)  # the largest of values one of which is unknown
    assert found["modular_apart"].n == 2
    in_decay, in_p = published_times()
    in_p.loc[in_p["p"] == 31, "time"] = math.nan
    assert paper.measure_times(*paper.fitted(in_decay, in_p), in_p)["time_never"].value == pytest.approx(18 / 21)
    none = paper.fitted(in_decay.assign(time=math.nan), in_p.assign(time=math.nan))
    assert none == (None, None)
    assert paper.measure_times(*none, in_p) == {}


def test_a_chain_that_turns_no_more_differs() -> None:
    seeds, pairs = published_chains()
    seeds.loc[seeds["arm"] == "pre_residual", ["real", "imaginary"]] = math.nan
    found = paper.measure_chains(seeds, pairs.drop(columns="cca_3"))
    assert math.isnan(found["pre_residual_real"].value)
    assert math.isnan(found["markov_cca_0_100_3"].value)
    assert "fewer than three" in found["pre_normalized_cca"].note


def test_the_cpu_budget_is_the_papers_in_fewer_epochs() -> None:
    plan, full = runs.plan("cpu"), runs.plan("full")
    assert [(chain.normalization, chain.seed) for chain in plan.chains] == [(norm, seed) for norm in ("post", "pre") for seed in (0, 100, 200)]
    assert all(config.model.interventions == (PostNorm(),) for chain, config in plan.chains.items() if chain.normalization == "post")
    assert all(config.model.normalization == "pre" for chain, config in plan.chains.items() if chain.normalization == "pre")
    assert {chain.lr for chain in full.chains} == {1e-3, 1e-4}
    assert len(plan.modular) == len(full.modular) == len(full.long) == 3
    assert (plan.modular[0].steps, *(config.steps for config in plan.long)) == (12_000, 60_000)
    assert len(plan.in_decay) == 24
    assert len(full.in_decay) == 72
    assert {config.batch_size for config in plan.in_decay} == {512}
    assert {config.batch_size for config in plan.in_p} == {None}
    assert sorted({config.task.args["p"] for config in plan.in_p}) == [31, 43, 53, 61, 79, 89, 101]
    assert {config.model.interventions for config in (*plan.modular, *plan.in_decay, *plan.in_p)} == {(PostNorm(),)}


# --- for real, in small --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cores2026")


@pytest.fixture(scope="module")
def smoke(folder: Path) -> Reproduction:
    return reproduce("cores2026", "smoke", folder)


def test_small_post_ln_models_hold_the_chain_in_three_dimensions(smoke: Reproduction) -> None:
    """The paper's findings: the same dynamics in directions that have nothing in common."""
    post = smoke.tables["markov"].query("arm == 'post'")
    assert post["rank"].tolist() == [3, 3]
    np.testing.assert_allclose(post["keep"], post["base"], atol=0.002)
    np.testing.assert_allclose(post["remove"], 0.25, atol=0.03)
    truth = MarkovChain().eigenvalues
    np.testing.assert_allclose(post["real"], truth[0].real, rtol=0.05)
    np.testing.assert_allclose(post["imaginary"], truth[0].imag, rtol=0.05)
    np.testing.assert_allclose(post["third"], truth[2].real, rtol=0.1)  # 1 % of the energy, from 400 sequences
    assert post["r2_of_oracle"].min() > 0.97
    pair = smoke.tables["markov-pairs"].query("arm == 'post'").iloc[0]
    assert pair["overlap"] < 0.1
    assert pair[["cca_1", "cca_2", "cca_3"]].min() > 0.9
    assert pair["angle_1"] > 60
    assert abs(pair["weights"]) < 0.1


def test_pre_ln_models_keep_the_turning_pair_and_need_more_dimensions(smoke: Reproduction) -> None:
    residual = smoke.tables["markov"].query("arm == 'pre_residual'")
    np.testing.assert_allclose(residual["real"], 0.75, rtol=0.05)
    np.testing.assert_allclose(residual["imaginary"], 0.25, rtol=0.05)
    assert residual["rank"].min() > 3


def test_a_small_core_of_addition_is_sufficient_and_cyclic_once_it_has_grokked(smoke: Reproduction) -> None:
    (row,) = (row for _, row in smoke.tables["modular"].iterrows())
    assert row["keep_grok"] > 0.99
    assert row["remove_grok"] <= 2 / 23
    assert row["held_out_before"] < 0.5 < 0.9 < row["held_out_grok"]
    assert row["null_grok"] < 0
    assert row["modes_null_grok"] < row["modes_grok"] <= 11
    assert row["reported_end"] > 0
    assert row["reported_free"] > 0


def test_grokking_times_fall_with_weight_decay(smoke: Reproduction) -> None:
    times = smoke.tables["times-decay"].groupby("weight_decay")["time"].mean()
    assert times[2.0] < times[1.5]
    assert (smoke.tables["times-decay"]["learned"] < smoke.tables["times-decay"]["grokked"]).all()


def test_smoke_shows_every_figure_and_measures_what_any_size_can(smoke: Reproduction) -> None:
    assert smoke.found.keys() == {"markov_keep_gap", "modular_keep_gap", "theory_norm", "theory_spread"}
    assert set(smoke.table()["verdict"][list(smoke.found)]) == {"reproduced"}
    assert list(smoke.figures) == ["eigenvalues", "core-size", "principal-angles", "canonical-correlations", "clock", "decay", "p"]
    assert all(figure.layout.meta["caption"] for figure in smoke.figures.values())


def test_the_smallest_budget_lists_every_claim(smoke: Reproduction) -> None:
    lists_everything(smoke)


def test_a_second_call_trains_nothing(smoke: Reproduction, folder: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*.safetensors")}
    again = reproduce("cores2026", "smoke", folder)
    assert again.found == smoke.found
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*.safetensors")} == before
    forks = [Run(path.parent) for path in (folder / "cores2026" / "smoke" / "modular" / "forks").rglob("config.json")]
    assert sorted(fork.config.optimizer.weight_decay for fork in forks) == [0.0, 2.0]
    parents = {fork.config.parent.step for fork in forks if fork.config.parent is not None}
    assert len(parents) == 1  # both from the same checkpoint
