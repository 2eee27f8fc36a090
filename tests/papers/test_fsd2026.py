"""Circuit synchronization: events of made-up runs, the paper's numbers against its own claims, and the smallest budget for real."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from smoke_checks import lists_everything

from grokinterp.measures.fsd import fsd
from grokinterp.papers import Reproduction, reproduce
from grokinterp.papers.claims import read_claims
from grokinterp.papers.fsd2026 import claims, paper, runs, sites
from grokinterp.reports.report import Report
from grokinterp.snapshot import Snapshot
from grokinterp.training.runs import Run
from grokinterp.training.train import train

CLAIMS = read_claims("fsd2026")

P = 97
STEPS = np.arange(0, 1_100, 100)


def made_up(**changes: list[float]) -> xr.Dataset:
    """A run that is read every 100 steps: FSD passes 0.80 at 400 for good (200 was a spike), accuracy 0.95 at 800."""
    fsd = [0.1, 0.1, 0.9, 0.3, 0.8, 0.85, 0.9, 0.9, 0.9, 0.9, 0.9]
    series: dict[str, list[float]] = {
        "test": [0, 0, 0, 0, 0, 0.97, 0.2, 0.5, 0.95, 1, 1],
        "train": [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        "filtered": [5, 5, 4, 4, 3, 3, 2, 0.5, 0.4, 0.1, 0.1],
        "restricted": [5, 5, 4, 3, 2, 1, 0.4, 0.3, 0.3, 0.1, 0.1],
        "excluded": [5, 4.9, 4, 1, 1, 2, 4, 4.7, 5, 6, 7],
    } | changes
    losses = {f"{name}_loss": (("step", "split"), np.stack([series[name]] * 2, axis=1)) for name in ("restricted", "excluded")}
    return xr.Dataset(
        {
            "fsd": (("step", "top"), np.stack([fsd, np.roll(fsd, -1), np.ones(11)], axis=1)),
            "fourier_rank": (("step", "variance_share"), np.stack([np.arange(11, 0, -1), np.arange(22, 11, -1)], axis=1)),
            "dominant_frequency": ("step", np.arange(11.0)),
            "filtered_loss": ("step", series["filtered"]),
            **losses,
            "metric_test_accuracy": ("eval_step", series["test"]),
            "metric_train_accuracy": ("eval_step", series["train"]),
        },
        coords={"step": STEPS, "eval_step": STEPS, "top": [1, 3, 5], "variance_share": [0.5, 0.9], "split": ["all", "train"]},
    )


def test_events_hold_for_two_evaluations() -> None:
    found = runs.events(made_up(), P)
    assert (found["grok"], found["sync_1"], found["lead_1"]) == (800, 400, 400)
    assert (found["sync_3"], found["lead_3"], found["sync_5"]) == (300, 500, 0)
    assert (found["filtered"], found["restricted"]) == (800, 600)
    assert (found["rank_50_early"], found["rank_50_grok"], found["rank_90_grok"], found["k"]) == (6, 3, 14, 8)


def test_excluded_loss_counts_after_the_training_pairs_are_learned() -> None:
    """It is ln p = 4.57 and more before anything is learned, too."""
    assert runs.events(made_up(), P)["excluded"] == 700
    assert math.isnan(runs.events(made_up(train=[0.0] * 11), P)["excluded"])


def test_what_never_happens_or_does_not_apply_is_nan_and_not_left_out() -> None:
    never = runs.events(made_up(test=[0.0] * 11), P)
    assert [never["sync_1"], never["peak_1"]] == [400, 0.9]
    assert all(math.isnan(never[name]) for name in ("grok", "lead_1", "rank_50_grok", "k"))
    attention_only = runs.events(made_up().drop_vars(["filtered_loss", "restricted_loss", "excluded_loss"]), P)
    assert attention_only.keys() == never.keys()
    assert all(math.isnan(attention_only[name]) for name in ("filtered", "restricted", "excluded"))


def test_multiplication_has_its_onsets_over_residues_as_well() -> None:
    dataset = made_up()
    found = runs.events(dataset.assign(fsd_over_residues=dataset["fsd"].shift(step=2, fill_value=0.0)), P)
    assert (found["residue_sync_1"], found["residue_lead_1"], found["lead_1"]) == (600, 200, 400)


def test_a_run_is_forked_where_it_synchronizes_before_grokking() -> None:
    row = pd.Series({"sync_1": 400.0, "lead_1": 400.0, "sync_5": 100.0, "lead_5": 700.0})
    assert runs.fork_point(row) == (400, 1)
    assert runs.fork_point(pd.Series({**row, "lead_1": math.nan})) == (100, 5)
    assert runs.fork_point(pd.Series({**row, "lead_1": -100.0, "lead_5": 0.0})) is None


# --- the paper's numbers, in the shape of ours ---------------------------------------------------------------------------------------


def row_of(p: int, grok: float, lead: float, **others: float) -> dict[str, float]:
    sync = grok - lead
    synchronization = {f"{of}_{top}": value for top in (1, 3, 5) for of, value in (("sync", sync), ("lead", lead), ("peak", 0.9))}
    rest = {"filtered": grok, "restricted": grok, "excluded": grok, "rank_50_early": 6, "rank_50_grok": 1, "rank_90_grok": 1, "k": 5}
    return {"p": p, "grok": grok, **synchronization, **rest, **others}


def published_events() -> pd.DataFrame:
    rows = {
        name: row_of(int(name[1:].split("-")[0]), row.grok, row.grok - row.sync, filtered=row.filtered, k=row.k)
        for name, row in paper.CONFIGURATIONS.items()
    }
    variants = {"one_layer": (4_500, -1_000), "attention_only": (4_000, 3_000), "subtraction-s42": (4_000, 1_000), "subtraction-s123": (4_000, 2_000)}
    assert {*variants, "p97-s42"} == {*paper.VARIANTS}
    rows |= {name: row_of(97, grok, lead) for name, (grok, lead) in variants.items()}
    rows |= {name: row_of(97, math.nan, math.nan) for name in ("mlp_only", "mlp_only_pooled")}
    rows["multiplication"] = row_of(97, 3_000, 500) | {f"residue_{of}_{top}": -10_000.0 for of in ("lead", "sync", "peak") for top in (1, 3, 5)}
    return pd.DataFrame.from_dict(rows, orient="index")


def published_draws() -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for p, delays in paper.DELAYS.items():
        for decay, delay in delays.items():
            never = delay == "never"
            mean, spread = (2_200.0, 0.0) if never else map(float, delay.replace(",", "").split("±"))
            for seed, sign in enumerate((-1, 0, 1), 1):
                row = {"p": p, "fork_at": 1_500, "top": 1, "weight_decay": float(decay), "seed": seed}
                rows.append(row | {"delay": mean + sign * spread, "censored": never, "norm": math.nan if never else 23.5 + sign})
    return pd.DataFrame(rows)


def published_s5() -> pd.DataFrame:
    leads = [1_500, 3_800, 2_000, 2_400, 2_400, 2_402]
    rows: dict[str, Any] = {"grok": 4_500.0, "irrep": ["(2,1,1,1)", "(4,1)", "(3,2)"] * 2}
    rows |= {f"{of}_{top}": values for top in (1, 2, 3) for of, values in (("lead", leads), ("sync", 2_000.0), ("start", 0.1))}
    return pd.DataFrame(rows, index=[f"s5-s{seed}" for seed in runs.S5_SEEDS])


def published_measurements() -> dict[str, paper.Measurement]:
    events, draws = published_events(), published_draws()
    main = events.loc[list(paper.CONFIGURATIONS)]
    table_5 = paper.TABLE_5.assign(**{f"rank_{share}": paper.TABLE_5["paper_rank"] for share in (50, 90)})
    table_5 = table_5.assign(norm=table_5["paper_norm"], accuracy=table_5["paper_accuracy"])
    ablation = {"none": 99.8, "block-0 MLP": 88.0, "block-1 MLP": 11.8, "block-0 attention": 10.8, "block-1 attention": 5.4}
    tests = pd.DataFrame({"p_permutation": [0.001, 0.002], "p_shuffle": [1.0, 1.0]})
    return {
        **paper.measure_runs(events),
        **paper.measure_configurations(main),
        **paper.measure_forks(draws, paper.fitted(draws), main),
        **paper.measure_significance(tests),
        **paper.measure_s5(published_s5()),
        **paper.measure_table_5(table_5),
        **paper.measure_ablation(pd.DataFrame({"grok": ablation, "end": ablation})),
        **sites.measure_sites(sites.beside_published(published_sites(main))),
    }


def published_sites(main: pd.DataFrame) -> pd.DataFrame:
    """One site, at which FSD has the published leads."""
    return pd.DataFrame({"site": "blocks.0.mlp.hook_post", "top": 1, "lead": main["lead_1"]})


def test_the_papers_own_numbers_meet_its_claims_and_every_claim_is_measured() -> None:
    result = Reproduction("fsd2026", "full", CLAIMS, published_measurements())
    verdicts = {claim.id: result.verdict(claim) for claim in CLAIMS}
    assert {name for name, verdict in verdicts.items() if verdict == "not run"} == {claim.id for claim in CLAIMS if not claim.budgets}
    # The table of architectures has its 2-layer model synchronize 1,000 steps later than the main table has it.
    assert {name for name, verdict in verdicts.items() if verdict == "differs"} == {"p_shuffle", "lead_two_layers"}
    assert result.found["mean_lead"].value == pytest.approx(1_722, abs=1)
    assert result.found["sign_test"].value == pytest.approx(0.0039, abs=1e-4)
    assert result.found["fork_r2_53"].value == pytest.approx(0.89, abs=0.005)
    assert result.found["fork_mean_97"].value == pytest.approx(2_727, abs=1)


def test_every_row_of_the_papers_tables_has_its_claim() -> None:
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    assert {f"{kind}_{name.replace('-', '_')}" for kind in ("grok", "sync", "lead") for name in paper.CONFIGURATIONS} <= set(ids)
    assert {f"norm_{step}" for step in (500, 1_000, 1_500, 2_000, 2_500, 3_000, 3_500, 4_000, 5_000)} <= set(ids)
    assert {f"fork_{of}_{p}" for of in ("mean", "least_squares", "r2") for p in (53, 97, 131)} <= set(ids)
    assert len([name for name in ids if name.startswith("zero_")]) == 5
    assert all(claim.accept[0] <= claim.accept[1] for claim in CLAIMS)


def test_accepted_leads_keep_their_sign() -> None:
    accepted = {claim.id: claim.accept for claim in CLAIMS}
    for name, row in claims.CONFIGURATIONS.items():
        lead = row.grok - row.sync
        assert accepted[claims.claim_id("lead", name)] == (max(1, lead - 500), lead + 500)
    assert accepted["lead_one_layer"] == (-1_500, -500)


def test_a_run_that_never_synchronizes_is_reported() -> None:
    events = published_events()
    events.loc["p97-s0", ["sync_1", "lead_1", "peak_1"]] = [math.nan, math.nan, 0.64]
    main = events.loc[list(paper.CONFIGURATIONS)]
    lead, together = paper.measure_runs(events)["lead_p97_s0"], paper.measure_configurations(main)
    assert math.isnan(lead.value)
    assert lead.note.startswith("FSD at most 0.64 until grokking; lead does not exist at K = 1, lead +3,000 at K = 3")
    assert together["precedes"].value == pytest.approx(8 / 9)
    assert "1 grok without" in together["sign_test"].note
    assert "No lead at K = 1: p97-s0" in paper.leads(main).layout.meta["caption"]


def test_draws_that_never_grok_are_counted_and_a_prime_without_a_law_says_why() -> None:
    draws = published_draws()
    draws.loc[(draws["p"] == 97) & (draws["weight_decay"] > 1), ["censored", "norm"]] = [True, math.nan]
    draws = draws[draws["p"] != 53]
    main = published_events().loc[list(paper.CONFIGURATIONS)]
    found = paper.measure_forks(draws, paper.fitted(draws), main)
    assert math.isnan(found["fork_mean_97"].value)
    assert "fewer than two λ" in found["fork_mean_97"].note
    assert "nowhere to fork" in found["fork_r2_53"].note
    assert found["fork_mean_131"].value == pytest.approx(1_760)
    assert found["fork_falls"].value == 0.5
    assert paper.delays(draws).loc[(97, 2.0), "never"] == 3


# --- for real, in small --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fsd2026")


@pytest.fixture(scope="module")
def smoke(folder: Path) -> Reproduction:
    return reproduce("fsd2026", "smoke", folder)


@pytest.fixture(scope="module")
def run(smoke: Reproduction, folder: Path) -> Run:
    return Run(folder / "fsd2026" / "smoke" / "p31-s0")


def test_in_small_synchronization_precedes_grokking(smoke: Reproduction) -> None:
    assert smoke.found.keys() == {claim.id for claim in CLAIMS if "smoke" in claim.budgets}
    verdicts = smoke.table()["verdict"]
    assert verdicts[["precedes", "p_permutation", "p_shuffle"]].tolist() == ["reproduced", "reproduced", "differs"]
    assert smoke.found["p_shuffle"].value == 1
    assert smoke.figures.keys() == {"synchronization", "leads", "fork-law"}
    assert len(smoke.tables["forks"]) == 2


def test_an_ablated_layer_costs_accuracy(run: Run) -> None:
    accuracy = run.metrics.set_index("step")["test_accuracy"]
    accuracies = runs.zero_ablation(run, max(run.steps, key=lambda step: float(accuracy[step])))  # training has spikes, the last step may be in one
    assert accuracies["none"] == pytest.approx(100, abs=3)
    assert min(accuracies.values()) < 50


def test_steps_after_the_end_of_a_run_are_trained_on(run: Run) -> None:
    report = Report.load(run.path / "fsd2026.nc")
    last = run.steps[-1]
    table = runs.at_steps(run, report, [100, last + 25])
    assert table.loc[100, "norm"] == report["metric_weight_norm"].sel(eval_step=100)
    assert table.loc[last + 25].notna().all()


def test_the_smallest_budget_lists_every_claim(smoke: Reproduction) -> None:
    lists_everything(smoke)


def test_a_second_call_trains_nothing(smoke: Reproduction, folder: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*.safetensors")}
    again = reproduce("fsd2026", "smoke", folder)
    assert again.found == smoke.found
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*.safetensors")} == before


def test_the_cpu_budget_runs_the_papers_configurations() -> None:
    plan = runs.plan("cpu")
    assert list(plan.main) == list(paper.CONFIGURATIONS)
    assert [name for name, config in plan.main.items() if config.checkpoints.moments] == ["p97-s42", "p53-s42", "p131-s42"]
    assert plan.variants["attention_only"].model.d_mlp == 0
    assert list(plan.s5) == ["s5-s0", "s5-s1", "s5-s42"]
    assert len(runs.plan("full").s5) == 6
    assert runs.plan("full").variants.keys() >= {"subtraction-s42", "subtraction-s123", "multiplication"}


def test_events_on_permutations_name_the_irrep_and_the_degree_before_training() -> None:
    degree = [0.3, 0.2, 0.4, 0.6, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]
    dataset = xr.Dataset(
        {
            "fsd": (("step", "top"), np.stack([degree, np.zeros(11), np.ones(11)], axis=1)),
            "dominant_irrep": ("step", ["(1,1,1,1,1)"] * 8 + ["(4,1)"] * 3),
            "metric_test_accuracy": ("eval_step", [0, 0, 0, 0, 0, 0, 0, 0, 0.96, 1, 1]),
        },
        coords={"step": STEPS, "eval_step": STEPS, "top": [1, 2, 3]},
    )
    found = runs.s5_events(dataset)
    assert (found["grok"], found["sync_1"], found["lead_1"], found["start_1"]) == (800, 300, 500, 0.3)
    assert math.isnan(float(found["sync_2"]))
    assert found["irrep"] == "(4,1)"


def test_a_run_that_does_not_synchronize_is_forked_halfway_to_grokking(run: Run) -> None:
    step, top = runs.halfway(run, pd.Series({"grok": 260.0})) or (None, None)
    assert (step, top) == (125, 0)
    assert runs.halfway(run, pd.Series({"grok": math.nan})) is None


def test_every_site_and_k_is_set_beside_the_published_leads() -> None:
    """Of two made-up readings one meets the published lead of one configuration of two, and leads in both."""
    leads = pd.DataFrame(
        {"site": ["a", "a", "b", "b"], "top": 1, "lead": [2_400.0, 100.0, -500.0, math.nan]},
        index=pd.Index(["p97-s42", "p53-s42"] * 2, name="name"),
    )
    table = sites.beside_published(leads)
    assert table.loc[("a", 1)].to_dict() == {"runs": 2, "leading": 2, "mean_lead": 1_250, "agree": 1}
    assert table.loc[("b", 1)].to_dict() == {"runs": 2, "leading": 0, "mean_lead": -500, "agree": 0}
    found = sites.measure_sites(table)
    assert (found["sites_agree"].value, found["sites_precede"].value) == (0.5, 1)


def test_fsd_everywhere_is_fsd_at_each_site(tmp_path: Path) -> None:
    config = runs.plan("smoke").main["p31-s0"].with_(steps=50, stop=None, **{"checkpoints.every": 50})
    run = train(config, tmp_path / "run", progress_bar=False)
    snapshot = Snapshot(run.model(50), run.task, 50)
    everywhere = sites.fsd_everywhere(snapshot)["fsd_everywhere"]
    xr.testing.assert_allclose(everywhere.sel(site="blocks.0.mlp.hook_post", drop=True), fsd(snapshot)["fsd"])
    table = sites.leads_everywhere({"p97-s42": run})
    assert len(table) == len(sites.SITES) * 3
    assert table["lead"].isna().all()  # nothing groks in fifty steps
