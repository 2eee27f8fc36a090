"""The contest of grokking predictors: which quantity announces grokking earliest at a fixed rate of false alarms?

Papers introduce a quantity by showing that it moves before grokking in runs that grok. Whether it stays put in runs that never do, and
whether the loss curve would have told as much, they leave open. Here every candidate meets the same runs, half of them and more without
grokking, under rules that were fixed, in this file, before anything was scored:

- **Runs.** One architecture, that of arXiv 2606.12966. Those that grok differ in λ, so that a fixed time is no good predictor. Those that do not have
  no decay, too little, random answers, or too few training pairs; the latter two share their λ with the ones that grok. Every run has a seed of its
  own: no two share weights, split or minibatches, so intervals resample runs. A run counts by what it does, not by what it was meant to do.
- **Grokking** is the first of two evaluations in a row with a test accuracy of 0.95.
- **Window.** All runs are watched from the start, a grokking one until it groks, any other to the horizon, which is the same for all. An alarm
  says "this run will grok before the horizon". In a run that never groks it is false whenever it is raised; so the training clock, which reads
  the same in every run, cannot both keep a false-alarm rate and warn.
- **Alarm.** The value is past the threshold at two evaluations in a row; the alarm is raised at the second, since only then does one know.
- **Halves.** Even seeds calibrate and odd seeds score. Up or down is the way the value goes before grokking: up if the calibration half has an
  AUC (below) of 0.5 or more. The threshold is the lowest that way at which a new run that never groks raises a false alarm with a probability of at
  most α: of n calibration runs that never grok, ⌊α(n + 1)⌋ − 1 may raise one. Combinations are fitted to the calibration half as well.
- **Order.** By relative lead: (grok − alarm)/grok, 0 where there is no alarm before grokking, mean over the grokking runs of the scored half.
- **Causality.** A value may use the run up to that step, nothing later. Nanda's key frequencies are therefore those of the moment; the variants
  with the frequencies of the final model are listed as using hindsight, and take no part in claims. What else one must know is in ``needs``.
- **When, not whether.** AUC says how well the value tells evaluations at most `within` steps before grokking from all other evaluations of
  runs that have not grokked; ``auc_same_step`` compares evaluations at one step, so that the clock stands at 0.5. ``gain`` is what a
  candidate adds to the AUC of clock, training loss and weight norm, all combined by logistic regression.
- **Luck of the halves.** The same over random halvings, stratified by kind and scored both ways: mean and spread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import binomtest

from grokinterp.errors import GrokinterpError
from grokinterp.laws import onset, paired_difference
from grokinterp.laws.drawing import draw, line
from grokinterp.laws.results import Estimate
from grokinterp.papers.claims import Budget, Measurement
from grokinterp.papers.predictors import runs
from grokinterp.papers.predictors.contest import Contest, Score, gain, over_splits, score, values_of
from grokinterp.papers.reproduction import Reproduction
from grokinterp.papers.tables import NOTHING, RUN, Tables, not_known
from grokinterp.plots.lazy import go

SYNC = 0.80  # of arXiv 2606.12966
PER = 1_000  # steps, of rates of change
FLOOR = 1e-12  # nats, under logarithms; float32 logits say nothing below


@dataclass(frozen=True)
class Candidate:
    """A quantity that may announce grokking.

    Attributes:
        words: what it is called in tables and figures.
        needs: what one must have or know besides the weights.
        read: its values by step, from the measures and metrics of a run.
    """

    words: str
    needs: str
    read: Callable[[xr.Dataset], xr.DataArray]


def _log(values: xr.DataArray) -> xr.DataArray:
    return xr.apply_ufunc(np.log, values.clip(min=FLOOR))


def _rate(values: xr.DataArray) -> xr.DataArray:
    """Change since the evaluation before, per 1,000 steps; NaN at the first."""
    change = PER * values.diff("step") / values["step"].diff("step")
    return change.reindex(step=values["step"])


PLAIN, HINDSIGHT = "training metrics", "the final model"
CANDIDATES = {
    "clock": Candidate("training clock", PLAIN, lambda run: run["step"].astype(float)),
    "train_loss": Candidate("training loss (log)", PLAIN, lambda run: _log(run["metric_train_loss"])),
    "train_loss_rate": Candidate("rate of training loss (log)", PLAIN, lambda run: _rate(_log(run["metric_train_loss"]))),
    "weight_norm": Candidate("weight norm", PLAIN, lambda run: run["metric_weight_norm"]),
    "weight_norm_rate": Candidate("rate of weight norm (log)", PLAIN, lambda run: _rate(_log(run["metric_weight_norm"]))),
    "test_loss": Candidate("test loss (log)", "test answers", lambda run: _log(run["metric_test_loss"])),
    "fsd_1": Candidate("FSD, K = 1", "group", lambda run: run["fsd"].sel(top=1)),
    "fsd_3": Candidate("FSD, K = 3", "group", lambda run: run["fsd"].sel(top=3)),
    "fsd_5": Candidate("FSD, K = 5", "group", lambda run: run["fsd"].sel(top=5)),
    "filtered_loss": Candidate("filtered loss", "group, test answers", lambda run: run["filtered_loss"]),
    "restricted_loss": Candidate("restricted loss", "group, test answers", lambda run: run["restricted_loss_now"]),
    "excluded_loss": Candidate("excluded loss", "group", lambda run: run["excluded_loss_now"]),
    "gini_W_E": Candidate("Gini of W_E", "group", lambda run: run["gini"].sel(matrix="W_E", kind="components")),
    "gini_W_L": Candidate("Gini of W_L", "group", lambda run: run["gini"].sel(matrix="W_L", kind="components")),
    "head_similarity": Candidate("head similarity", "test inputs", lambda run: run["head_similarity"]),
    "entropy_spread": Candidate("entropy spread", "test inputs", lambda run: run["entropy_spread"]),
    "participation_ratio": Candidate("participation ratio", "test inputs", lambda run: run["participation_ratio"]),
    "core_rank": Candidate("core rank", "test inputs", lambda run: run["core_rank"]),
    "restricted_in_hindsight": Candidate("restricted loss, final keys", HINDSIGHT, lambda run: run["restricted_loss"].sel(split="all")),
    "excluded_in_hindsight": Candidate("excluded loss, final keys", HINDSIGHT, lambda run: run["excluded_loss"].sel(split="train")),
}
BASE = ("clock", "train_loss", "weight_norm")
COMBINED = {  # words and quantities
    "base": ("clock + loss + norm", BASE),
    "base_attention": ("clock + loss + norm + attention", (*BASE, "head_similarity", "entropy_spread")),
    "base_fsd": ("clock + loss + norm + FSD", (*BASE, "fsd_1")),
}
PREDICTORS: dict[str, tuple[str, ...]] = {key: (key,) for key in CANDIDATES} | {key: quantities for key, (_, quantities) in COMBINED.items()}

ANNOUNCING = {
    "fsd_announces": "fsd_1",
    "restricted_announces": "restricted_loss",
    "excluded_announces": "excluded_loss",
    "gini_announces": "gini_W_E",
    "similarity_announces": "head_similarity",
    "entropy_announces": "entropy_spread",
}
SOURCES = dict.fromkeys(("runs", "alarms", "leaderboard", "synchronized"), (0,))
FIGURES = ("leaderboard", "leads")
CONTEST = "contest"  # in place of a digest, where a row is about all runs together


def reproduce(budget: Budget, folder: Path, known: Tables = NOTHING, train: bool = True) -> Reproduction:
    """Train and read the runs of a budget and hold the contest, unless tables know all of its runs."""
    plan = runs.plan(budget)
    held = not not_known((config for _, config in plan.runs.values()), known.get("runs")) or not train
    return from_tables(budget, known if held else contest_tables(plan, contest_of(plan, runs.read_all(plan, folder))))


def contest_tables(plan: runs.Plan, contest: Contest) -> dict[str, pd.DataFrame]:
    """Hold the contest: its runs, its alarms, its leaderboard, and which runs synchronise."""
    calibration = np.array([config.seed % 2 == 0 for _, config in plan.runs.values()])
    scores = {key: score(contest, values_of(contest, PREDICTORS[key], calibration), calibration, plan.resamples) for key in PREDICTORS}
    gains = gains_of(contest, calibration, plan.resamples)
    splits = over_splits(contest, PREDICTORS, plan.splits, np.random.default_rng(1))
    table = table_of_runs(plan, contest)
    return {
        "leaderboard": leaderboard(scores, gains, splits).assign(**{RUN: CONTEST}),
        "runs": table,
        "alarms": table_of_alarms(contest, scores).assign(**{RUN: table[RUN]}),
        "synchronized": synchronized(contest).assign(**{RUN: CONTEST}),
    }


def from_tables(budget: Budget, tables: Tables) -> Reproduction:
    """What the tables of a contest say."""
    if not SOURCES.keys() <= tables.keys():
        return Reproduction.from_measurements("predictors", budget, {})
    board = tables["leaderboard"]
    figures = {"leaderboard": board_figure(board), "leads": leads_figure(tables)}
    return Reproduction.from_measurements("predictors", budget, measure_contest(tables), figures, tables, FIGURES)


def contest_of(plan: runs.Plan, datasets: Mapping[str, xr.Dataset]) -> Contest:
    """The candidates' values of all runs side by side, on the steps of the longest.

    Raises:
        GrokinterpError: a candidate that is infinite somewhere.
    """
    names = list(plan.runs)
    steps = max((datasets[name]["step"].to_numpy() for name in names), key=len)
    series = {}
    for key, candidate in CANDIDATES.items():
        values = np.stack([candidate.read(datasets[name]).reindex(step=steps).to_numpy() for name in names])
        if np.isinf(values).any():
            raise GrokinterpError(f"{candidate.words} is infinite in {names[int(np.isinf(values).any(1).argmax())]}")
        series[key] = values
    accuracies = [datasets[name]["metric_test_accuracy"] for name in names]
    grok = np.array([onset(values["step"], values, plan.grok, persistence=runs.PERSISTENCE, interpolate=False) for values in accuracies])
    strata = np.array([kind if math.isnan(at) else f"{kind}, groks" for (kind, _), at in zip(plan.runs.values(), grok, strict=True)])
    return Contest(names, strata, steps.astype(float), grok, series, plan.false_alarm_rate, plan.within, runs.PERSISTENCE)


def gains_of(contest: Contest, calibration: np.ndarray, resamples: int) -> dict[str, Estimate]:
    """What each predictor adds to the AUC of clock, training loss and weight norm; those that are made of these have none."""
    further = {key: [name for name in quantities if name not in BASE] for key, quantities in PREDICTORS.items()}
    return {key: gain(contest, BASE, more, calibration, resamples) for key, more in further.items() if more}


# --- claims ------------------------------------------------------------------------------------------------------------------------


def measure_contest(tables: Tables) -> dict[str, Measurement]:
    """Our number for every claim."""
    board, sync, scored = tables["leaderboard"], tables["synchronized"], tables["runs"]["half"] == "scored"
    groks = tables["runs"]["grok"].notna()
    best = max(
        (key for key, candidate in CANDIDATES.items() if candidate.needs == PLAIN), key=lambda key: relative_leads(tables, key, "calibration").mean()
    )
    found = {
        "fsd_precedes": share_with_interval(int(sync["before"]["groks"]), int(sync["runs"]["groks"]), f"{sync['never']['groks']} never reach it"),
        "fsd_elsewhere": share_with_interval(int(sync["runs"]["never"] - sync["never"]["never"]), int(sync["runs"]["never"]), "until the horizon"),
        "fsd_ahead_of_filtered": difference_in_lead(tables, "fsd_1", "filtered_loss"),
        "fsd_ahead_of_plain": difference_in_lead(tables, "fsd_1", best),
        "fsd_ahead_of_test_loss": difference_in_lead(tables, "fsd_1", "test_loss"),
        "attention_adds": Measurement(*_estimate(board.loc["base_attention"], "gain"), n=int(scored.sum())),
    }
    for claim, key in ANNOUNCING.items():
        row = board.loc[key]
        alarms, lead, median = (_estimate(row, name) for name in ("false_alarm_rate", "relative_lead", "median_lead"))
        announced = "no alarm before grokking" if np.isnan(median.value) else f"median lead {median} steps"
        note = f"false alarms {alarms} of {(scored & ~groks).sum()}; relative lead {lead}; {announced}"
        found[claim] = Measurement(*_estimate(row, "detection_rate"), n=int((scored & groks).sum()), note=note)
    return found


def _estimate(row: pd.Series, name: str) -> Estimate:
    return Estimate(*(float(row[f"{name}{limit}"]) for limit in ("", "_low", "_high")))


def share_with_interval(count: int, n: int, note: str) -> Measurement:
    """Share of runs, with Wilson's interval."""
    interval = binomtest(count, n).proportion_ci(method="wilson")
    return Measurement(count / n, float(interval.low), float(interval.high), n, note)


def difference_in_lead(tables: Tables, one: str, other: str) -> Measurement:
    """Mean difference of the relative leads of two predictors over the scored runs that grok, with the interval of a paired t-test."""
    first, second = (relative_leads(tables, key) for key in (one, other))
    note = f"{first.mean():.3g} against {second.mean():.3g} of the {CANDIDATES[other].words}"
    if np.ptp(first - second) == 0:
        return Measurement(float((first - second).mean()), n=len(first), note=f"{note}; the same difference in every run")
    return Measurement(*paired_difference(first, second).mean, n=len(first), note=note)


def relative_leads(tables: Tables, key: str, half: str = "scored") -> np.ndarray:
    """Lead over the time to grokking of the runs of a half that grok, 0 for a run missed, [run]."""
    of_half = tables["runs"]["half"] == half
    grokking = tables["alarms"][of_half & tables["runs"]["grok"].notna()]
    lead = (grokking["grok"] - grokking[key]).clip(lower=0).fillna(0)
    return (lead / grokking["grok"]).to_numpy()


# --- tables and figures ------------------------------------------------------------------------------------------------------------


def leaderboard(scores: Mapping[str, Score], gains: Mapping[str, Estimate], splits: pd.DataFrame) -> pd.DataFrame:
    """A row each predictor, the longest relative lead first: estimates with the limits of their intervals (``_low``, ``_high``)."""
    rows = {}
    for key, (own, alarm, soon) in scores.items():
        combined = key not in CANDIDATES
        row: dict[str, object] = {
            "predictor": COMBINED[key][0] if combined else CANDIDATES[key].words,
            "needs": "; ".join(dict.fromkeys(CANDIDATES[name].needs for name in PREDICTORS[key])),
            "direction": own.direction,
            "threshold": own.sign * own.threshold,
        }
        estimates = {
            "relative_lead": alarm.relative_lead,
            "detection_rate": alarm.detection_rate,
            "median_lead": alarm.median_lead,
            "false_alarm_rate": alarm.false_alarm_rate,
            "auc": soon.auc,
            "auc_same_step": soon.auc_same_time,
            "gain": gains.get(key, Estimate(np.nan, np.nan, np.nan)),
        }
        for name, estimate in estimates.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        rows[key] = row
    table = pd.DataFrame.from_dict(rows, orient="index").join(splits)
    return table.sort_values(["relative_lead", "split_relative_lead"], ascending=False)


def table_of_runs(plan: runs.Plan, contest: Contest) -> pd.DataFrame:
    """What each run was set up to do, and when it grokked."""
    rows = [
        {
            RUN: config.digest,
            "kind": kind,
            "p": config.task.args["p"],
            "seed": config.seed,
            "weight_decay": config.optimizer.weight_decay,
            "train_fraction": config.task.train_fraction,
            "half": "calibration" if config.seed % 2 == 0 else "scored",
        }
        for kind, config in plan.runs.values()
    ]
    return pd.DataFrame(rows, index=pd.Index(contest.names, name="name")).assign(grok=contest.grok)


def table_of_alarms(contest: Contest, scores: Mapping[str, Score]) -> pd.DataFrame:
    """The step of every predictor's alarm in every run, empty for none; in the calibration half as well."""
    steps = {key: own.detection.runs["alarm"].to_numpy() for key, own in scores.items()}
    return pd.DataFrame({"grok": contest.grok, **steps}, index=pd.Index(contest.names, name="name"))


def synchronized(contest: Contest) -> pd.DataFrame:
    """Of the runs that grok and of those that never do, how many ``runs`` there are, ``never`` reach an FSD of 0.80, and do ``before`` grokking."""
    sync = np.array([onset(contest.steps, degrees, SYNC, persistence=runs.PERSISTENCE, interpolate=False) for degrees in contest.series["fsd_1"]])
    rows = {
        name: {"runs": int(chosen.sum()), "never": int(np.isnan(sync[chosen]).sum()), "before": int((sync < contest.grok)[chosen].sum())}
        for name, chosen in (("groks", contest.groks), ("never", ~contest.groks))
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def board_figure(board: pd.DataFrame) -> go.Figure:
    """Relative lead and false-alarm rate of every predictor, with their intervals."""
    from grokinterp.plots import BLUE, VERMILLION

    row, dots = np.arange(len(board)), []
    for column, name, shift, marker in (
        ("relative_lead", "lead / time to grokking", -0.15, {"color": BLUE, "size": 7}),
        ("false_alarm_rate", "false-alarm rate", 0.15, {"color": VERMILLION, "size": 6, "symbol": "diamond-open"}),
    ):
        value, low, high = (board[f"{column}{limit}"].to_numpy() for limit in ("", "_low", "_high"))
        limits = {"type": "data", "symmetric": False, "arrayminus": value - low, "array": high - value, "thickness": 1, "width": 2}
        dots.append(go.Scatter(x=value, y=row + shift, error_x=limits, name=name, mode="markers", marker=marker, text=board["predictor"]))
    caption = "Best first: how long before grokking the alarm is raised, as a share of the way there (0 where missed), and how often it is false."
    figure = draw("Who announces grokking first", caption, dots, "share", "")
    return figure.update_yaxes(tickvals=row, ticktext=board["predictor"], range=[len(board) - 0.5, -0.5], tickfont={"size": 10})


def leads_figure(tables: Tables) -> go.Figure:
    """Share of the scored grokking runs announced at least so early, for the best predictors and the training clock."""
    board, lines = tables["leaderboard"], []
    for i, key in enumerate(dict.fromkeys([*board.index[:5], "clock"])):
        leads = np.sort(relative_leads(tables, str(key)))[::-1]
        announced = leads[leads > 0]
        ends, share_of = np.concatenate([announced, [0.0]]), np.append(np.arange(1, 1 + len(announced)), len(announced)) / len(leads)
        lines.append(line(np.concatenate([[1.0], ends]), np.concatenate([[0.0], share_of]), str(board["predictor"][key]), i, shape="hv"))
    caption = "The share of the runs that grok with an alarm at least so early; 1 is the start of training, 0 grokking itself."
    return draw("Warning before grokking", caption, lines, "lead / time to grokking", "share of grokking runs announced")
