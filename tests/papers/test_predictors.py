"""The contest of predictors: quantities with known leads and false alarms, what may not matter, and the smallest budget for real."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from smoke_checks import lists_everything

from grokinterp import GrokinterpError
from grokinterp.papers import Reproduction, reproduce
from grokinterp.papers.claims import Budget, read_claims
from grokinterp.papers.predictors import contest as contests
from grokinterp.papers.predictors import paper as predictors
from grokinterp.papers.predictors import runs
from grokinterp.papers.predictors.contest import Contest
from grokinterp.snapshot import Snapshot

CLAIMS = read_claims("predictors")

STEPS = np.arange(0, 2_100, 100.0)
ALPHA = 0.1


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def contest(n: int = 80, seed: int = 0, never: float = 0.5, **series: np.ndarray) -> Contest:
    """Runs of which every other one calibrates; those that grok do so between steps 800 and 1,700, and end there."""
    grok = np.where(np.arange(n) < n * (1 - never), rng(seed).integers(8, 18, n) * 100.0, np.nan)
    ended = STEPS[None] > np.nan_to_num(grok, nan=np.inf)[:, None]
    groks = ~np.isnan(grok)
    base = {
        "signal": groks[:, None] & (STEPS[None] >= grok[:, None] - 400),
        "noise": rng(seed + 1).standard_normal((n, len(STEPS))),
        "clock": np.tile(STEPS, (n, 1)),
        **series,
    }
    held = {name: np.where(ended, np.nan, np.asarray(values, dtype=float)) for name, values in base.items()}
    return Contest([f"r{i}" for i in range(n)], np.where(groks, "groks", "never"), STEPS, grok, held, ALPHA, 500)


def every_other(of: Contest) -> np.ndarray:
    half: np.ndarray = np.arange(len(of.names)) % 2 == 0
    return half


def scored(of: Contest, name: str) -> contests.Score:
    return contests.score(of, of.series[name], every_other(of), resamples=100)


# --- what scores what ----------------------------------------------------------------------------------------------------------------


def test_a_signal_is_scored_with_its_lead_less_the_evaluation_that_confirms_it() -> None:
    found = scored(contest(), "signal")
    assert found.rule.direction == "up"
    assert found.detection.detection_rate == (1, 1, 1)
    assert found.detection.median_lead == (300, 300, 300)
    assert found.detection.false_alarm_rate == (0, 0, 0)
    grokked = found.detection.runs.query("~calibration")["grok_time"].dropna()
    assert found.detection.relative_lead.value == pytest.approx((300 / grokked).mean())


def test_a_signal_that_falls_is_as_good() -> None:
    of = contest()
    up, down = scored(of, "signal"), contests.score(of, -of.series["signal"], every_other(of), 100)
    assert down.rule.direction == "down"
    assert down.detection.runs.equals(up.detection.runs)


def test_the_clock_warns_of_nothing_and_tells_when_only_where_times_are_compared() -> None:
    found = scored(contest(), "clock")
    assert found.detection.detection_rate == found.detection.false_alarm_rate == (0, 0, 0)
    assert found.discrimination.auc.low > 0.6
    assert found.discrimination.auc_same_time == (0.5, 0.5, 0.5)


def test_noise_has_the_false_alarms_it_was_allowed_and_no_lead() -> None:
    """40 runs that never grok, 19 of which may not be passed: 2 in 20 of new ones do. A grokking run is watched for half of their time."""
    alone = [contest(n=78, seed=seed, never=38 / 78) for seed in range(0, 300, 2)]
    points = np.array([contests.point_scores(of, of.series["noise"], every_other(of)) for of in alone])
    detection, lead, false_alarms = points.mean(0)
    assert (contests.allowed_rate(ALPHA, 19), false_alarms) == (1 / 19, pytest.approx(ALPHA, abs=0.02))
    assert detection == pytest.approx(ALPHA * 12 / 21, abs=0.02)  # of its maximum's chances
    assert lead < 0.05


def test_a_signal_that_also_comes_in_many_runs_that_never_grok_warns_of_nothing() -> None:
    of = contest()
    false = (np.arange(80) >= 40) & (np.arange(80) % 10 < 4)
    leaking = contest(leaking=np.where(false[:, None], STEPS > 1_000, of.series["signal"]))
    assert scored(leaking, "leaking").detection.detection_rate.value == 0


def test_one_spike_raises_no_alarm() -> None:
    spikes = np.zeros((80, len(STEPS)))
    spikes[:40, 5] = 1
    assert scored(contest(spikes=spikes), "spikes").detection.detection_rate.value == 0
    np.testing.assert_array_equal(contests.alarm_scores(np.array([[1.0, 3, 2, np.nan, 5, 4]]), 1, 2), [[np.nan, 1, 2, np.nan, np.nan, 4]])


def test_the_rule_comes_from_the_calibration_half_alone() -> None:
    of = contest()
    half, values = every_other(of), of.series["noise"]
    shuffled = np.where(half[:, None], values, rng(9).standard_normal(values.shape) + 5)
    assert contests.rule(of, shuffled, half) == contests.rule(of, values, half)
    quantities = ("noise", "clock")
    changed = Contest(**{**vars(of), "series": {**of.series, "noise": shuffled}})
    np.testing.assert_array_equal(of.combined(quantities, half)[half], changed.combined(quantities, half)[half])


def test_nothing_after_grokking_counts() -> None:
    of = contest()
    after = STEPS[None] >= np.nan_to_num(of.grok, nan=np.inf)[:, None]
    changed = np.where(after, 100.0, of.series["noise"])
    plain, other = (contests.score(of, values, every_other(of), 20) for values in (of.series["noise"], changed))
    assert plain.rule == other.rule
    assert plain.detection.table().equals(other.detection.table())
    assert plain.discrimination.table().equals(other.discrimination.table())


def test_point_scores_are_those_of_the_laws() -> None:
    of = contest()
    for name in of.series:
        found, point = scored(of, name).detection, contests.point_scores(of, of.series[name], every_other(of))
        assert point == pytest.approx((found.detection_rate.value, found.relative_lead.value, found.false_alarm_rate.value))


def test_soon_is_known_until_the_horizon_hides_it() -> None:
    of = Contest(["a", "b"], np.array(["x", "y"]), np.arange(6) * 100.0, np.array([300, np.nan]), {}, ALPHA, within=200)
    np.testing.assert_array_equal(of.soon, [[0, 1, 1, np.nan, np.nan, np.nan], [0, 0, 0, 0, np.nan, np.nan]])


@pytest.mark.parametrize(("n", "allowed"), [(9, 0), (18, 0), (19, 1), (20, 1), (29, 2)])
def test_so_many_calibration_runs_may_raise_an_alarm(n: int, allowed: int) -> None:
    assert contests.allowed_rate(0.1, n) * n == pytest.approx(allowed)
    assert (allowed + 1) / (n + 1) <= 0.1 < (allowed + 2) / (n + 1)  # the chance that a new run is among the allowed + 1 largest of n + 1


def test_what_the_contest_refuses() -> None:
    with pytest.raises(GrokinterpError, match="takes 9 calibration runs that never grok; got 8"):
        contests.allowed_rate(0.1, 8)
    of = contest()
    with pytest.raises(GrokinterpError, match="40 runs that never grok and none that does"):
        contests.rule(of, of.series["noise"], ~of.groks)


# --- combinations and halves ---------------------------------------------------------------------------------------------------------


def test_what_is_added_shows_as_gain_and_noise_adds_nothing() -> None:
    of = contest(n=160)
    added = contests.gain(of, ["clock"], ["signal"], every_other(of), resamples=200)
    nothing = contests.gain(of, ["clock"], ["noise"], every_other(of), resamples=200)
    assert added.low > 0.02
    assert nothing.low < 0.01
    assert abs(nothing.value) < 0.02


def test_a_combination_has_no_value_where_a_part_has_none() -> None:
    of = contest(gappy=np.where(STEPS == 0, np.nan, 1.0) * rng(3).standard_normal((80, len(STEPS))))
    values = of.combined(("gappy", "clock"), every_other(of))
    assert np.isnan(values[:, 0]).all()
    assert np.isfinite(values[:, 1:9]).all()


def test_random_halves_hold_half_of_each_stratum() -> None:
    of = contest(n=21)  # 11 grok, 10 never do
    drawn = list(contests.halves(of, 4, rng()))
    assert [int(half[of.groks].sum()) for half in drawn] == [5, 6, 5, 6]
    assert all(half[~of.groks].sum() == 5 for half in drawn)
    assert not np.array_equal(drawn[0], drawn[2])


def test_over_random_halves_a_signal_always_warns() -> None:
    table = contests.over_splits(contest(), {"signal": ("signal",), "both": ("signal", "noise")}, 3, rng())
    assert table.loc["signal", ["split_detection", "split_detection_sd", "split_false_alarms"]].tolist() == [1, 0, 0]
    assert table["split_detection"].min() > 0.8


# --- the runs ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["smoke", "cpu", "full"])
def test_both_halves_get_as_many_of_every_kind_and_no_two_runs_share_a_seed(budget: Budget) -> None:
    plan = runs.plan(budget)
    configs = [config for _, config in plan.runs.values()]
    kinds = [(kind, config.optimizer.weight_decay, config.task.args["p"], config.seed % 2) for kind, config in plan.runs.values()]
    counts = Counter(kinds)
    assert all(counts[kind, decay, p, 0] == counts[kind, decay, p, 1] for kind, decay, p, _ in kinds)
    assert len({config.seed for config in configs}) == len(configs) == len({config.digest for config in configs})
    assert all(config.task.split_seed == config.seed for config in configs)
    assert len({(config.steps, config.model, config.stop) for config in configs}) == 1  # one horizon, one architecture
    assert all((config.task.answer_seed is not None) == (kind == "random answers") for kind, config in plan.runs.values())
    never = sum(kind != "groks" for kind, _ in plan.runs.values())
    assert never >= len(configs) / 2
    assert contests.allowed_rate(plan.false_alarm_rate, never // 2) >= 0
    if budget != "smoke":
        assert len(configs) >= 24
        assert len(configs) - never >= 6
        assert len({config.optimizer.weight_decay for kind, config in plan.runs.values() if kind == "groks"}) > 2


def dataset(grok: float, last: float, seed: int = 0) -> xr.Dataset:
    """A run that nothing is known of but its times; FSD reaches 0.80 500 steps before grokking."""
    steps = np.arange(0, last + 1, 100.0)
    noise = rng(seed)
    before = (steps >= grok - 500).astype(float)
    scalars = {
        name: ("step", noise.standard_normal(len(steps)))
        for name in (
            *("filtered_loss", "restricted_loss_now", "excluded_loss_now", "head_similarity", "entropy_spread", "participation_ratio"),
            *("core_rank", "metric_weight_norm"),
        )
    }
    losses = {name: ("step", np.exp(noise.standard_normal(len(steps)))) for name in ("metric_train_loss", "metric_test_loss")}
    by_split = {name: (("step", "split"), noise.standard_normal((len(steps), 2))) for name in ("restricted_loss", "excluded_loss")}
    return xr.Dataset(
        {
            **scalars,
            **losses,
            **by_split,
            "fsd": (("step", "top"), np.stack([before] * 3, axis=1)),
            "gini": (("step", "matrix", "kind"), noise.standard_normal((len(steps), 2, 1))),
            "metric_test_accuracy": ("step", (steps >= grok).astype(float)),
        },
        coords={"step": steps, "top": [1, 3, 5], "split": ["all", "train"], "matrix": ["W_E", "W_L"], "kind": ["components"]},
    )


@pytest.fixture(scope="module")
def made_up() -> Contest:
    """The plan of the cpu budget with made-up measures: what should grok does so between 1,000 and 2,900."""
    plan = runs.plan("cpu")
    datasets = {}
    for i, (name, (kind, _)) in enumerate(plan.runs.items()):
        grok = 1_000.0 + 100 * (i % 20) if kind == "groks" else math.inf
        datasets[name] = dataset(grok, min(grok + 100, 3_600), seed=i)
    return predictors.contest_of(plan, datasets)


def test_runs_are_set_side_by_side(made_up: Contest) -> None:
    assert made_up.steps[-1] == 3_600
    assert made_up.grok[:3].tolist() == [1_000, 1_100, 1_200]
    assert (~made_up.groks).sum() == 20
    assert set(made_up.strata) == {"groks, groks", "no decay", "little decay", "random answers", "few pairs"}
    assert np.isnan(made_up.series["fsd_1"][0, 12:]).all()
    assert made_up.series["fsd_1"][0, 4:12].tolist() == [0, *[1] * 7]


def test_rates_look_back() -> None:
    ramp = xr.Dataset({"metric_weight_norm": ("step", np.exp([0.0, 0.1, 0.3]))}, coords={"step": [0, 100, 300]})
    found = predictors.CANDIDATES["weight_norm_rate"].read(ramp)
    np.testing.assert_allclose(found, [np.nan, 1.0, 1.0])


def test_a_candidate_that_is_infinite_is_named() -> None:
    plan = runs.plan("smoke")
    datasets = {name: dataset(500, 1_000) for name in plan.runs}
    datasets["groks-s1"]["core_rank"][3] = np.inf
    with pytest.raises(GrokinterpError, match="core rank is infinite in groks-s1"):
        predictors.contest_of(plan, datasets)


@pytest.fixture(scope="module")
def result(made_up: Contest) -> Reproduction:
    """The contest over made-up measures in which only FSD says anything."""
    patch = pytest.MonkeyPatch()
    few = runs.Plan(runs.plan("cpu").runs, splits=1, resamples=50)
    patch.setattr(runs, "plan", lambda _: few)
    patch.setattr(runs, "read_all", lambda *_: {})
    patch.setattr(predictors, "contest_of", lambda *_: made_up)
    found = predictors.reproduce("cpu", Path())
    patch.undo()
    return found


def test_who_knows_something_leads_the_board(result: Reproduction) -> None:
    board = result.tables["leaderboard"]
    assert set(board.index[:4]) == {"fsd_1", "fsd_3", "fsd_5", "base_fsd"}
    assert len(board) == len(predictors.PREDICTORS)
    assert board.loc["fsd_1", ["detection_rate", "median_lead", "false_alarm_rate", "split_detection"]].tolist() == [1, 400, 0, 1]
    assert board["relative_lead"].is_monotonic_decreasing
    gains = board["gain"]
    assert gains["base_fsd"] == gains["fsd_1"] == gains.max() > 0
    assert gains[["clock", "base"]].isna().all()
    assert board.loc["restricted_in_hindsight", "needs"] == "the final model"
    assert board.loc["base_attention", "needs"] == "training metrics; test inputs"


def test_every_claim_is_measured(result: Reproduction) -> None:
    verdicts = result.table()["verdict"]
    assert (verdicts != "not run").all()
    assert verdicts[["fsd_precedes", "fsd_ahead_of_filtered"]].eq("reproduced").all()
    assert verdicts[["restricted_announces", "gini_announces", "entropy_announces"]].eq("finding").all()
    assert result.found["fsd_announces"].value == 1
    assert all(result.found[f"{name}_announces"].value < 0.9 for name in ("restricted", "gini", "entropy"))
    assert result.found["fsd_elsewhere"].value == 0
    assert 0.1 < result.found["fsd_elsewhere"].high < 0.17  # Wilson's interval of 0 in 20
    assert not any("hindsight" in key for key in predictors.ANNOUNCING.values())


def test_tables_and_figures_hold_every_run_and_predictor(result: Reproduction) -> None:
    assert result.tables["runs"]["half"].value_counts().to_dict() == {"calibration": 18, "scored": 18}
    table = result.tables["alarms"]
    assert (table["grok"] - table["fsd_1"]).dropna().eq(400).all()
    shown = result.figures["leaderboard"]
    assert shown.layout.yaxis.ticktext[0] == result.tables["leaderboard"]["predictor"].iloc[0]
    assert len(shown.data[0].x) == len(predictors.PREDICTORS)
    leads = result.figures["leads"].data[0]
    assert (leads.x[0], leads.y[0], leads.x[-1], leads.y[-1]) == (1, 0, 0, 1)


def test_equal_leads_have_a_difference_without_an_interval(result: Reproduction) -> None:
    alarms = result.tables["alarms"].assign(test_loss=result.tables["alarms"]["fsd_1"])
    found = predictors.difference_in_lead({**result.tables, "alarms": alarms}, "fsd_1", "test_loss")
    assert (found.value, math.isnan(found.low)) == (0, True)


def test_leads_read_off_the_alarms_are_those_that_were_scored(made_up: Contest, result: Reproduction) -> None:
    calibration = np.array([config.seed % 2 == 0 for _, config in runs.plan("cpu").runs.values()])
    for key in ("fsd_1", "head_similarity", "clock"):
        of = contests.score(made_up, made_up.series[key], calibration, 20)
        assert predictors.relative_leads(result.tables, key).mean() == pytest.approx(of.detection.relative_lead.value)
        assert predictors.relative_leads(result.tables, key, "calibration").mean() == pytest.approx(of.rule.relative_lead)


# --- for real, in small --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictors")


@pytest.fixture(scope="module")
def smoke(folder: Path) -> Reproduction:
    return reproduce("predictors", "smoke", folder)


def test_in_small_half_of_the_runs_grok(smoke: Reproduction) -> None:
    table = smoke.tables["runs"]
    assert (table["grok"].notna() == (table["kind"] == "groks")).all()
    assert smoke.found.keys() == {claim.id for claim in CLAIMS if "smoke" in claim.budgets}
    assert smoke.tables["leaderboard"]["false_alarm_rate"].between(0, 1).all()


def test_the_smallest_budget_lists_every_claim(smoke: Reproduction) -> None:
    lists_everything(smoke)


def test_a_second_call_trains_and_reads_nothing(smoke: Reproduction, folder: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.suffix in (".safetensors", ".nc")}
    again = reproduce("predictors", "smoke", folder)
    pd.testing.assert_frame_equal(again.tables["leaderboard"], smoke.tables["leaderboard"])
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_key_frequencies_of_the_moment_are_not_those_of_the_end(smoke: Reproduction, folder: Path) -> None:
    of = runs.read(folder / "predictors" / "smoke" / runs.plan("smoke").runs["groks-s0"][1].digest)
    now, later = of["excluded_loss_now"], of["excluded_loss"].sel(split="train")
    assert float(abs(now - later).max()) > 1e-3
    assert float(now[-1]) == pytest.approx(float(later[-1]))


def test_a_new_measure_is_read_off_runs_that_are_finished(smoke: Reproduction, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def norm(snapshot: Snapshot) -> dict[str, float]:
        return {"norm": float(snapshot.model.W_E.norm())}

    path = folder / "predictors" / "smoke" / runs.plan("smoke").runs["groks-s0"][1].digest
    monkeypatch.setattr(runs, "MEASURES", (norm,))
    assert (runs.read(path)["norm"] > 0).all()
