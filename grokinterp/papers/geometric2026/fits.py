"""What the runs of arXiv 2603.05228 say together: speed-ups, "without weight decay" in words, tables and figures.

Frames and arrays only; `runs` trains and reads the runs. Times are epochs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from grokinterp.laws import Estimate
from grokinterp.laws.drawing import draw, line, points
from grokinterp.laws.numerics import resample
from grokinterp.laws.results import bootstrap_interval
from grokinterp.papers.claims import read_claims
from grokinterp.papers.geometric2026.arms import ARMS
from grokinterp.papers.geometric2026.claims import MULTIPLICATION, ONSETS, RATIOS, S5_ONSETS
from grokinterp.plots.lazy import go

N_BOOTSTRAP = 2_000
DRAWN = ("layer-1-6e-4", "layer-0-6e-4", "sphere-1-6e-4", "sphere-0-6e-4", "free-1-6e-4", "fourier-0-6e-4")


def runs_of(table: pd.DataFrame, arm: str) -> pd.DataFrame:
    """The finished runs of an arm."""
    return table[table["arm"] == arm]


def times(own: pd.DataFrame) -> np.ndarray:
    """Onsets, or for how long a run without one was followed."""
    return own["onset"].fillna(own["followed"]).to_numpy(dtype=float)


class SpeedUp(NamedTuple):
    """A ratio of mean onsets with its interval, and whether it is a bound: "", "at least", "at most" or "no bound"."""

    ratio: Estimate
    bound: str


def speed_up(slow: pd.DataFrame, fast: pd.DataFrame, rng: np.random.Generator) -> SpeedUp:
    """Mean onset of some runs over that of others, with a bootstrap interval over the runs of each.

    Args:
        slow: ``onset`` (epochs, NaN for never) and ``followed`` of each run, above the line.
        fast: the same, below it.
        rng: draws the bootstrap.

    Returns:
        Runs that end without an onset count with the time for which they were followed: above the line that makes the ratio a lower bound, below
        it an upper one; on both sides it is NaN, since it bounds nothing. No interval where either side has one run.

    Source: chosen here; the paper gives no ratios.
    """
    slow_never, fast_never = bool(slow["onset"].isna().any()), bool(fast["onset"].isna().any())
    if slow_never and fast_never:
        return SpeedUp(Estimate(math.nan, math.nan, math.nan), "no bound")
    bound = "at least" if slow_never else "at most" if fast_never else ""
    above, below = times(slow), times(fast)
    if min(len(above), len(below)) < 2:
        return SpeedUp(Estimate(float(above.mean() / below.mean()), math.nan, math.nan), bound)
    side = np.repeat([0, 1], [len(above), len(below)])
    counts = resample(rng, side, N_BOOTSTRAP)
    return SpeedUp(bootstrap_interval((counts[:, side == 0] @ above / len(above)) / (counts[:, side == 1] @ below / len(below)), 0.95), bound)


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """A row a claimed ratio, by the claim's id: both means (epochs), counts, the ratio with its interval, and whether it is a bound."""
    rows, papers = {}, {claim.id: claim.paper for claim in read_claims("geometric2026")}
    for name, arms in RATIOS.items():
        slow, fast = (runs_of(table, arm) for arm in arms)
        if len(slow) and len(fast):
            estimate, bound = speed_up(slow, fast, np.random.default_rng(0))
            means = {"slow_mean": times(slow).mean(), "fast_mean": times(fast).mean(), "n_slow": len(slow), "n_fast": len(fast)}
            rows[name] = {"slow": arms[0], "fast": arms[1], **means, "ratio": estimate.value, "low": estimate.low, "high": estimate.high}
            rows[name] |= {"bound": bound, "paper": papers[name]}
    columns = ["slow", "fast", "slow_mean", "fast_mean", "n_slow", "n_fast", "ratio", "low", "high", "bound", "paper"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def without_weight_decay(table: pd.DataFrame) -> str:
    """What "without weight decay" comes to, in words: each stream with and without it, at lr 6e-4."""
    counts = {arm: (runs_of(table, arm)["onset"].notna().sum(), len(runs_of(table, arm))) for arm in DRAWN[:4]}
    parts = []
    for arm, (n_reached, n) in counts.items():
        own = runs_of(table, arm)
        mean = f", after {own['onset'].mean():,.0f} on average" if n_reached else ""
        parts.append(
            f"{ARMS[arm].words.split(', lr')[0]}: {n_reached} of {n} within {own['horizon'].max():,} epochs{mean}" if n else f"{arm} not run"
        )
    (layer, n_layer), (sphere, n_sphere) = counts["layer-0-6e-4"], counts["sphere-0-6e-4"]
    if layer == n_layer:
        verdict = "LayerNorm groks without weight decay as well, so what the sphere brings is the ratio of the two at λ = 0"
    elif n_sphere and sphere == n_sphere and not layer:
        verdict = "without weight decay the sphere groks and LayerNorm does not; the published speed-up leaves the baseline its decay"
    else:
        verdict = "at λ = 0 there is no clean difference, and the published speed-up, at unequal λ, shows none"
    return f"{'; '.join(parts)}: {verdict}"


# --- tables and figures ------------------------------------------------------------------------------------------------------------


def summary(table: pd.DataFrame, planned: Mapping[str, int]) -> pd.DataFrame:
    """A row a planned arm: what it is, runs planned, finished and with an onset, onsets in epochs beside the paper's, peaks of test accuracy."""
    rows = {}
    for arm, n_planned in planned.items():
        own = runs_of(table, arm)
        paper = {**ONSETS, **S5_ONSETS}.get(arm)
        published = f"{paper.mean:,} ± {paper.sd:,}" if paper else f"{MULTIPLICATION[arm]:,}" if arm in MULTIPLICATION else ""
        onsets = own["onset"]
        rows[arm] = {"words": ARMS[arm].words, "planned": n_planned, "finished": len(own), "reached": int(onsets.notna().sum())}
        rows[arm] |= {"horizon": own["horizon"].max(), "mean": onsets.mean(), "sd": onsets.std(), "on_grid": own["onset_on_grid"].mean()}
        rows[arm] |= {"paper": published, "test_peak": own["test_peak"].mean()}
    return pd.DataFrame.from_dict(rows, orient="index")


def onset_figure(table: pd.DataFrame) -> go.Figure:
    """Every run's onset by arm, runs without one at the end of their time, and the paper's means."""
    reached, never = table.dropna(subset="onset"), table[table["onset"].isna()]
    traces = [points(reached["arm"].to_numpy(), reached["onset"].to_numpy(), "onset", 0)]
    traces.append(points(never["arm"].to_numpy(), never["followed"].to_numpy(), "never until here", 1, "x"))
    shown = [(arm, row) for arm, row in {**ONSETS, **S5_ONSETS}.items() if arm in set(table["arm"])]
    means, spreads = (np.array([getattr(row, name) for _, row in shown], dtype=float) for name in ("mean", "sd"))
    traces.append(points(np.array([arm for arm, _ in shown]), means, "paper, mean ± sd", 2, "diamond-open", error=np.stack([spreads, spreads])))
    caption = "A dot is a run: stream, weight decay and learning rate are in its name. Crosses are runs that end without reaching the threshold."
    figure = draw("Epochs to grokking by arm", caption, traces, "arm", "epochs", log_y=True)
    return figure.update_xaxes(categoryorder="array", categoryarray=list(dict.fromkeys(table["arm"])))


def accuracy_figure(curves: Mapping[str, pd.Series]) -> go.Figure:
    """Test accuracy of one run of each of the main arms."""
    shown = [arm for arm in DRAWN if arm in curves] or list(curves)[:1]
    lines = [line(curves[arm].index.to_numpy(dtype=float)[1:], curves[arm].to_numpy()[1:], ARMS[arm].words, i) for i, arm in enumerate(shown)]
    caption = "One run an arm, the same split and seed. A line ends where the run does: when accuracy has held above 0.95, or at its horizon."
    return draw("Grokking by stream and weight decay", caption, lines, "epoch", "test accuracy", log_x=True)
