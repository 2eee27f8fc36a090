"""What "The Geometric Inductive Bias of Grokking" (arXiv 2603.05228, v3) reports, and its claims; see `geometric2026.py`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import NamedTuple

from scipy.stats import binomtest

from grokinterp.papers.claims import ANYWHERE, AT_SIZE, FULL, Budget, Claim, Kind, within
from grokinterp.papers.geometric2026.arms import ARMS, SEEDS

GRID = 200  # epochs between the paper's evaluations


class Onset(NamedTuple):
    """Epochs to grokking over the seeds that grok: mean and standard deviation."""

    mean: int
    sd: int


ONSETS = {
    "layer-1-1e-4": Onset(54_160, 13_490),
    "layer-1-6e-4": Onset(7_800, 1_095),
    "rms-1-1e-4": Onset(51_240, 11_200),
    "rms-1-6e-4": Onset(7_300, 925),
    "sphere-1-1e-4": Onset(2_400, 353),
    "sphere-1-6e-4": Onset(1_560, 853),
    "sphere-0-1e-4": Onset(2_480, 464),
    "sphere-0-6e-4": Onset(820, 199),
    "fourier-1-1e-4": Onset(2_120, 368),
    "fourier-1-6e-4": Onset(800, 163),
    "fourier-0-1e-4": Onset(2_100, 316),
    "fourier-0-6e-4": Onset(711, 203),
}
MULTIPLICATION = {"mul-layer-1": 28_220, "mul-rms-1": 31_360, "mul-sphere-1": 2_320, "mul-sphere-0": 2_200}
PERFECT_RUNS = {"uniform-layer-1-b98": 10, "uniform-sphere-1-b98": 6, "uniform-sphere-0-b98": 10}  # of 10 at 100 % within 20,000 epochs
PEAK_OF_SPHERE = 97.65  # %, the mean over the ten seeds at λ = 1
S5_ONSETS = {"s5-layer-1": Onset(39_900, 11_942), "s5-rms-1": Onset(38_250, 23_600)}
S5_FAILURES = {"s5-layer-1": 2, "s5-rms-1": 2, "s5-sphere-1": 10, "s5-sphere-0": 10}  # of 10 within 100,000 epochs
S5_UNIFORM = {"s5-uniform-layer-1": 99.1, "s5-uniform-rms-1": 99.7, "s5-uniform-sphere-1": 2.8, "s5-uniform-sphere-0": 2.4}  # %
TRIALS = {"sphere-1-6e-4": (550, 1_000, 1_200), "sphere-0-6e-4": (950, 1_900, 1_400)}  # three runs each, apart from the paper, looked at every 50
ABOVE_1 = (1 + 1e-9, math.inf)
FREE_AT = 2_400  # the epoch at which a trial run with a free W_U was looked at


class Ratio(NamedTuple):
    """Mean onset of one arm over that of another, as a paper has it and as it is accepted."""

    slow: str
    fast: str
    sentence: str
    paper: str
    accept: tuple[float, float]
    kind: Kind = "claim"


def tag(arm: str) -> str:
    """An arm as part of a claim's id."""
    return arm.replace("-", "_")


def near(mean: float, sd: float, n_ours: int, n_theirs: int = len(SEEDS), grid: int = GRID) -> tuple[float, float]:
    """Within two standard errors of the difference between their mean over seeds and ours, plus an interval of their grid downwards."""
    reach = 2 * sd * math.sqrt(1 / n_theirs + 1 / n_ours)
    return max(1.0, mean - reach - grid), mean + reach


def share_of_ten(count: int) -> tuple[float, float]:
    """Exact 95 % interval of a share, from a count of ten runs."""
    exact = binomtest(count, len(SEEDS)).proportion_ci()
    return exact.low, exact.high


def budgets_of(*arms: str) -> tuple[Budget, ...]:
    """The budgets under which all of these arms are trained."""
    return AT_SIZE if all(ARMS[arm].n_cpu for arm in arms) else FULL


def _onset_claims() -> Iterator[Claim]:
    for arm, row in ONSETS.items():
        sentence = f"addition, {ARMS[arm].words}: epochs until test accuracy exceeds 0.95, mean ± sd"
        yield Claim(f"onset_{tag(arm)}", sentence, f"{row.mean:,} ± {row.sd:,}", near(*row, ARMS[arm].n_cpu or 10), "epochs", budgets_of(arm))
    yield Claim("no_failures", "addition: share of the runs of these arms that reach 0.95", "1 (no failures)", (1, 1))
    for arm, mean in MULTIPLICATION.items():
        yield Claim(f"onset_{tag(arm)}", f"{ARMS[arm].words}: mean epochs", f"{mean:,}", within(mean), "epochs", budgets_of(arm))


def _ratios() -> Iterator[tuple[str, Ratio]]:
    for lr, speed_up, same_decay in (("6e-4", 9.5, 5.0), ("1e-4", 21.8, 22.6)):
        layer, words = f"layer-1-{lr}", f"addition, lr {lr}: speed-up of the sphere"
        computed, same = f"{words} at λ = 0 over LayerNorm at λ = 1", f"{words} over LayerNorm, both at λ = 1"
        yield f"speed_up_{tag(lr)}", Ratio(layer, f"sphere-0-{lr}", computed, f"{speed_up} (computed)", within(speed_up))
        yield f"speed_up_with_decay_{tag(lr)}", Ratio(layer, f"sphere-1-{lr}", same, f"{same_decay} (computed)", within(same_decay))
    sentence = "addition, lr 6e-4: speed-up of the sphere over LayerNorm, both at λ = 0"
    yield "speed_up_without_decay", Ratio("layer-0-6e-4", "sphere-0-6e-4", sentence, "no such baseline", ABOVE_1, "finding")
    slows = "decay slows the sphere (an earlier README of the paper exchanged the two rows): onset at λ = 1 over onset at λ = 0"
    yield "decay_slows_6e_4", Ratio("sphere-1-6e-4", "sphere-0-6e-4", f"{slows}, lr 6e-4", "1.9 (1,560 / 820)", ABOVE_1)
    yield "decay_slows_1e_4", Ratio("sphere-1-1e-4", "sphere-0-1e-4", f"{slows}, lr 1e-4", "0.97 (2,400 / 2,480)", within(0.97))
    for decay, paper in ((1, "> 1 (one trial run)"), (0, "not run")):
        sentence = f"addition, lr 6e-4, λ = {decay}: onset of the sphere with a free W_U over onset of the sphere with the cosine read-out"
        yield f"free_{decay}", Ratio(f"free-{decay}-6e-4", f"sphere-{decay}-6e-4", sentence, paper, ABOVE_1, "finding")
    beta2 = "onset at β2 0.98 over onset at β2 0.999"
    for row in ("layer-1", "sphere-1", "sphere-0"):
        words = f"uniform attention, {ARMS[f'{row}-1e-4'].words}: {beta2}"
        yield f"beta2_{tag(row)}", Ratio(f"uniform-{row}-b98", f"uniform-{row}-b999", words, "not crossed", within(1), "finding")
        words = f"learned attention, {ARMS[f'{row}-1e-4'].words}: {beta2}"
        yield f"beta2_learned_{tag(row)}", Ratio(f"{row}-1e-4-b98", f"{row}-1e-4", words, "not crossed", within(1), "finding")
    sentence = "LayerNorm, λ = 1, lr 1e-4, β2 0.999 in both: onset with uniform attention over onset with learned attention"
    yield "uniform_sooner", Ratio("uniform-layer-1-b999", "layer-1-1e-4", sentence, "< 0.37 (20,000 / 54,160, at β2 0.98)", (0, 0.37), "finding")


RATIOS = dict(_ratios())


def _ratio_claims() -> Iterator[Claim]:
    for name, ratio in RATIOS.items():
        yield Claim(name, ratio.sentence, ratio.paper, ratio.accept, budgets=budgets_of(ratio.slow, ratio.fast), kind=ratio.kind)
    sentence = "addition, LayerNorm, λ = 0, lr 6e-4: share of runs that reach 0.95"
    yield Claim("layer_without_decay", sentence, "no such baseline", (0, 0), budgets=ANYWHERE, kind="finding")


def _uniform_claims() -> Iterator[Claim]:
    for arm, count in PERFECT_RUNS.items():
        words = f"addition, {ARMS[arm].words}, 20,000 epochs"
        yield Claim(f"perfect_{tag(arm)}", f"{words}: share of runs that reach 100 %", f"{count} of 10", share_of_ten(count))
        sentence = f"{words}: epochs until test accuracy exceeds 0.95"
        yield Claim(f"onset_{tag(arm)}", sentence, "not given", (1, ARMS[arm].horizon), "epochs", kind="finding")
    sentence = f"addition, {ARMS['uniform-sphere-1-b98'].words}, 20,000 epochs: mean peak of test accuracy"
    yield Claim("peak_uniform_sphere_1_b98", sentence, f"{PEAK_OF_SPHERE}", (93, 100), "%")


def _s5_claims() -> Iterator[Claim]:
    for arm, row in S5_ONSETS.items():
        sentence = f"{ARMS[arm].words}: epochs until test accuracy is 0.99, mean ± sd of the runs that reach it"
        yield Claim(f"onset_{tag(arm)}", sentence, f"{row.mean:,} ± {row.sd:,}", near(*row, 10), "epochs", FULL)
    for arm, count in S5_FAILURES.items():
        yield Claim(
            f"fails_{tag(arm)}", f"{ARMS[arm].words}: share that fails within 100,000 epochs", f"{count} of 10", share_of_ten(count), "", FULL
        )
    for arm, peak in S5_UNIFORM.items():
        accept = (90.0, 100.0) if peak > 50 else (0.0, 10.0)
        yield Claim(f"peak_{tag(arm)}", f"{ARMS[arm].words}, 100,000 epochs: mean peak of test accuracy", f"{peak}", accept, "%", FULL)
    yield Claim("s5_train", "S5, sphere, lr 1e-3, temperature 10: smallest peak of train accuracy", "100", (99.9, 100), "%")
    sweep = "S5: best peak of test accuracy over all learning rates and temperatures that were tried"
    yield Claim("s5_sweep", sweep, "0 of 20 reach 99", (0, 99 - 1e-9), "%", kind="finding")


def _trial_claims() -> Iterator[Claim]:
    """A seed names other draws there, so means are compared."""
    for arm, onsets in TRIALS.items():
        mean, sd, printed = statistics.mean(onsets), statistics.stdev(onsets), ", ".join(f"{onset:,}" for onset in onsets)
        sentence = f"addition, {ARMS[arm].words}: epochs until test accuracy exceeds 0.95, mean of three trial runs"
        yield Claim(
            f"trial_{tag(arm)}", sentence, f"{mean:,.0f} ({printed})", near(mean, sd, ARMS[arm].n_cpu, len(onsets), 50), "epochs", kind="calibration"
        )
    sentence = f"addition, {ARMS['free-1-6e-4'].words}: test accuracy at epoch {FREE_AT:,}, one trial run"
    yield Claim("trial_free", sentence, "0.47", (0.32, 0.62), kind="calibration")


def _property_claims() -> Iterator[Claim]:
    sentence = "trained spheres: largest deviation of the norm of a residual vector from 1, at the three places"
    yield Claim("on_the_sphere", sentence, "0 (by construction)", (0, 1e-6), budgets=ANYWHERE, kind="calibration")
    sentence = "trained with uniform attention: largest deviation of a weight from 1/3"
    yield Claim("thirds", sentence, "0 (by construction)", (0, 0), budgets=ANYWHERE, kind="calibration")


CLAIMS = (*_onset_claims(), *_ratio_claims(), *_uniform_claims(), *_s5_claims(), *_trial_claims(), *_property_claims())
