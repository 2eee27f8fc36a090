"""What "Weight Decay Regimes in Grokking Transformers" (arXiv 2605.20441) reports, and its claims; see `weightdecay2026.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import pandas as pd
from scipy.stats import binomtest

from grokinterp.papers.claims import ANYWHERE, AT_SIZE, FULL, Budget, Claim, Kind, within
from grokinterp.presets import Size

SIZES = {"small": ("0.82M", 818_785), "medium": ("19M", None), "large": ("85M", None)}  # as printed; what the settings give exactly
BINS = pd.DataFrame(  # runs that grok within the canonical horizon, at each λ
    {
        "weight_decay": [0.001, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.3, 0.5, 0.7, 1.0, 2.0],
        "n": [10, 30, 10, 10, 10, 10, 30, 10, 10, 10, 10, 30, 10],
        "rate": [0, 0.067, 0.8, 1, 1, 1, 0.967, 1, 1, 1, 0.8, 0.833, 1],
    }
).assign(grokked=lambda bins: (bins["n"] * bins["rate"]).round().astype(int))
BOUNDARY, EXPONENT = 0.0158, 0.757
MULTITASK_DECAYS = (0.003, 0.006, 0.015, 0.02, 0.03, 0.05, 0.07)


class MultiTask(NamedTuple):
    """A row of the multi-task table: runs of 5 that grok within 10,000 epochs at each λ, and the published boundary."""

    grokked: tuple[int, ...]
    boundary: float


MULTITASK: dict[tuple[Size, str], MultiTask] = {
    ("small", "addition"): MultiTask((1, 4, 5, 5, 5, 5, 5), 0.0042),
    ("small", "subtraction"): MultiTask((0, 0, 1, 2, 5, 5, 5), 0.0205),
    ("small", "multiplication"): MultiTask((2, 4, 5, 5, 5, 5, 5), 0.0035),
    ("small", "division"): MultiTask((0, 0, 4, 4, 5, 5, 5), 0.0118),
    ("medium", "addition"): MultiTask((0, 2, 3, 3, 4, 4, 5), 0.0119),
    ("medium", "subtraction"): MultiTask((0, 1, 0, 3, 2, 5, 5), 0.0254),
    ("medium", "multiplication"): MultiTask((2, 1, 2, 3, 1, 4, 5), 0.0189),
    ("medium", "division"): MultiTask((2, 4, 5, 3, 3, 5, 5), 0.0028),
}


class Baseline(NamedTuple):
    """A row of the architecture table: boundary with its interval, grokking runs of 70, parameters where they are determined."""

    words: str
    boundary: float
    low: float
    high: float
    grokked: int
    parameters: int | None = None


BASELINES = {
    "mlp": Baseline("MLP, 4 layers of 512 (input format unstated)", 0.0511, 0.0495, 0.0591, 13),
    "lstm": Baseline("LSTM, 4 layers of 512", 0.0365, 0.0299, 0.0473, 22, 7_680_640),
    "mamba": Baseline("Mamba, 4 layers of 128", 0.0144, 0.0106, 0.0159, 46, 957_952),
}


class Arms(NamedTuple):
    """A row of the intervention table: mean peaks of σ_H, differences, p-values, Cohen's d of B − A."""

    control: float
    reinitialised: float
    clipped: float
    reinit_difference: float
    reinit_p: float
    reinit_d: float
    clip_difference: float
    clip_p: float


ARMS = {
    0.05: Arms(0.2798, 0.2247, 0.2716, -0.055, 0.0045, -1.190, -0.012, 0.35),
    0.015: Arms(0.2836, 0.2629, 0.2626, -0.021, 0.086, -0.609, -0.021, 0.19),
}


class Reading(NamedTuple):
    """What is said of the λ = 1 run at some epochs: (quantity, first and last epoch, value as printed, accepted)."""

    words: str
    quantity: str
    epochs: tuple[int, int]
    printed: str
    accept: tuple[float, float]


CALIBRATION = {
    "plateau": Reading("mean test accuracy, epochs 30–90: a plateau", "test_accuracy", (30, 90), "≈ 0.5", (0.4, 0.6)),
    "groks": Reading("test accuracy at epoch 130", "test_accuracy", (130, 130), "≈ 1", (0.95, 1)),
    "similarity_1": Reading("s̄ at epoch 1", "head_similarity", (1, 1), "0.93", (0.88, 0.98)),
    "spread_1": Reading("σ_H at epoch 1", "entropy_spread", (1, 1), "0.04", (0.02, 0.08)),
    "similarity_150": Reading("mean s̄, epochs 150–200", "head_similarity", (150, 200), "0.99", (0.97, 1)),
    "spread_150": Reading("mean σ_H, epochs 150–200", "entropy_spread", (150, 200), "0.02", (0.01, 0.04)),
    "similarity_1200": Reading("s̄ at epoch 1,200", "head_similarity", (1_200, 1_200), "0.92", (0.87, 0.97)),
    "spread_1200": Reading("σ_H at epoch 1,200", "entropy_spread", (1_200, 1_200), "0.095", (0.0475, 0.19)),
    "trial_30": Reading("test accuracy at epoch 30, trial run", "test_accuracy", (30, 30), "0.43", (0.33, 0.53)),
    "trial_40": Reading("mean test accuracy, epochs 40–80, trial run", "test_accuracy", (40, 80), "≈ 0.5", (0.4, 0.6)),
    "trial_120": Reading("test accuracy at epoch 120, trial run", "test_accuracy", (120, 120), "0.82", (0.67, 0.97)),
    "trial_140": Reading("test accuracy at epoch 140, trial run", "test_accuracy", (140, 140), "0.996", (0.98, 1)),
    "trial_160": Reading("test accuracy at epoch 160, trial run", "test_accuracy", (160, 160), "1", (0.98, 1)),
    "trial_similarity_1": Reading("s̄ at epoch 1, trial run", "head_similarity", (1, 1), "0.95", (0.92, 0.98)),
    "trial_similarity_160": Reading("s̄ at epoch 160, trial run", "head_similarity", (160, 160), "0.95", (0.92, 0.98)),
    "trial_spread_1": Reading("σ_H at epoch 1, trial run", "entropy_spread", (1, 1), "0.02", (0.01, 0.04)),
    "trial_spread_160": Reading("σ_H at epoch 160, trial run", "entropy_spread", (160, 160), "0.02–0.03", (0.01, 0.045)),
}

SMALLER = "on a smaller model and horizon"
PAIRED = "p-value of a paired t-test"


# --- claims ------------------------------------------------------------------------------------------------------------------------


def tag(value: float) -> str:
    """A weight decay as part of a name: 0.015 is "0_015"."""
    return f"{value:g}".replace(".", "_")


def _data_claims() -> Iterator[Claim]:
    for size, (printed, exact) in SIZES.items():
        million = float(printed.rstrip("M")) * 1e6
        accept = (exact, exact) if exact else (0.97 * million, 1.03 * million)
        budgets = ANYWHERE if size == "small" else AT_SIZE  # the others take too long to build
        yield Claim(f"parameters_{size}", f"parameters of the {size} model", printed, accept, "", budgets, "calibration")
    yield Claim("bins_runs", "number of runs in the published bins, and in the published fit", "210", (210, 210), budgets=ANYWHERE)
    yield Claim(
        "bins_grokking",
        "number of grokking runs above λ_c in the published bins, which the published exponent puts at 140",
        "140",
        (140, 140),
        budgets=ANYWHERE,
    )
    for name, sentence, printed, accept in (
        ("boundary", "λ_c", "0.0158 (0.01577 computed)", (0.01567, 0.01587)),
        ("steepness", "k", "13.71 (computed)", (13.66, 13.76)),
        ("low", "lower end of the interval of λ_c", "0.0109", (0.0104, 0.0114)),
        ("high", "upper end of the interval of λ_c", "0.0199", (0.0194, 0.0204)),
    ):
        yield Claim(f"bins_{name}", f"our logistic fit to the published bins: {sentence}", printed, accept, "", ANYWHERE, "calibration")
    for (size, operation), row in MULTITASK.items():
        sentence = f"λ_c of the {size} model on {operation}, fitted to the published counts of 5"
        yield Claim(f"refit_{size}_{operation}", sentence, f"{row.boundary}", within(row.boundary, 1.05), "", ANYWHERE, "calibration")


def _boundary_claims() -> Iterator[Claim]:
    for row in BINS.itertuples():
        exact = binomtest(int(row.grokked), int(row.n)).proportion_ci()
        sentence = f"share of runs that grok at λ = {row.weight_decay:g} (accepted: exact 95 % interval of the published count)"
        yield Claim(f"rate_{tag(row.weight_decay)}", sentence, f"{row.rate:g} of {row.n}", (exact.low, exact.high), budgets=FULL)
    yield Claim("boundary", "λ_c of the small model within 5,000 epochs", "0.0158", (0.0109, 0.0199), budgets=FULL)
    yield Claim("exponent", "exponent ν of grokking time, t ∝ (λ − λ_c)^−ν", f"{EXPONENT}", (0.725, 0.799), budgets=FULL)
    yield Claim("prefactor", "prefactor of this power law", "135.5", within(135.5, 1.25), "epochs", FULL)
    for decay, epochs in ((0.1, 1_090), (2.0, 83)):
        yield Claim(f"time_{tag(decay)}", f"mean time to grokking at λ = {decay:g}", f"{epochs:,}", within(epochs, 1.5), "epochs", FULL)
    sentence = "λ_c depends on the horizon: λ_c within 10,000 epochs over λ_c within 5,000, small model, addition"
    yield Claim("horizon", sentence, "0.27 (0.0042 / 0.0158)", (0.1, 0.6), budgets=FULL)
    yield Claim("memorization", "share of runs at λ = 0.001 that memorise without grokking", "1", (1, 1), budgets=FULL)
    yield Claim("developmental", "share of runs at λ = 0.05 that grok (developmental regime)", "1", (0.8, 1), budgets=FULL)
    yield Claim("collapse", "share of runs at λ = 10 whose heads collapse to one pattern", "1", (1, 1), budgets=FULL)


def _calibration_claims() -> Iterator[Claim]:
    for name, reading in CALIBRATION.items():
        budgets: tuple[Budget, ...] = FULL if reading.epochs[1] > 200 else AT_SIZE
        kind: Kind = "calibration" if name.startswith("trial_") else "claim"
        yield Claim(f"calibration_{name}", f"λ = 1, seed 42: {reading.words}", reading.printed, reading.accept, "", budgets, kind)


def _multitask_claims() -> Iterator[Claim]:
    for (size, operation), row in MULTITASK.items():
        words, counts = f"{size} model, {operation}, 10,000 epochs", "/".join(map(str, row.grokked))
        needs, differ = (
            f"35 runs of the {size} model for 10,000 epochs",
            "runs of 5 that grok at the seven λ: largest difference from the published counts",
        )
        yield Claim(f"counts_{size}_{operation}", f"{words}: {differ}", counts, (0, 2), budgets=FULL, needs=needs)
        yield Claim(f"boundary_{size}_{operation}", f"{words}: λ_c", f"{row.boundary}", within(row.boundary, 1.5), budgets=FULL, needs=needs)


NAMES = {"mlp": "MLP", "lstm": "LSTM", "mamba": "Mamba"}
SMALLER_DECAYS = (0.1, 0.5, 2.0)  # of the smaller models without attention (chosen here)


def _baseline_claims() -> Iterator[Claim]:
    for name, baseline in BASELINES.items():
        of = f"{baseline.words}, addition, 10,000 epochs"
        low, high = f"{SMALLER_DECAYS[0]:g}", f"{SMALLER_DECAYS[-1]:g}"
        share = f"a smaller {NAMES[name]}, 1,000 epochs: share of runs that grok"
        yield Claim(f"smaller_{name}_low", f"{share} at λ = {low}", "0 far below λ_c", (0, 0.34), kind="finding")
        yield Claim(f"smaller_{name}_high", f"{share} at λ = {high}", "1 far above λ_c", (0.66, 1), kind="finding")
        interval = f"{baseline.boundary} [{baseline.low}, {baseline.high}]"
        needs, counted = f"70 runs of the paper's {NAMES[name]} for 10,000 epochs", (baseline.grokked - 7, baseline.grokked + 7)
        yield Claim(f"boundary_{name}", f"{of}: λ_c", interval, (baseline.low, baseline.high), budgets=FULL, needs=needs)
        yield Claim(f"grokked_{name}", f"{of}: grokking runs of 70", f"{baseline.grokked}", counted, budgets=FULL, needs=needs)
        if (exact := baseline.parameters) is not None:
            yield Claim(f"parameters_{name}", f"parameters of the {baseline.words}", f"{exact:,}", (exact, exact), kind="calibration")
    order = "at the largest λ a smaller Mamba groks before a smaller LSTM, and that before a smaller MLP (1: so it is), as the published λ_c imply"
    yield Claim("smaller_probes_order", order, "1 (implied)", (1, 1), kind="finding")


def _intervention_claims() -> Iterator[Claim]:
    for decay, arms in ARMS.items():
        words, key = f"λ = {decay:g}: peak of σ_H", tag(decay)
        for arm, name, value in (
            ("control", "control", arms.control),
            ("reinit", "re-initialised", arms.reinitialised),
            ("clip", "clipped", arms.clipped),
        ):
            yield Claim(f"{arm}_{key}", f"{words}, {name} arm, mean", f"{value}", within(value, 1.5), "nats", FULL)
        yield Claim(
            f"reinit_difference_{key}",
            f"{words}, 2 of 8 heads re-initialised − control",
            f"{arms.reinit_difference}",
            within(arms.reinit_difference, 2),
            "nats",
            FULL,
        )
        yield Claim(
            f"reinit_p_{key}",
            f"{words}, re-initialised − control: {PAIRED}",
            f"{arms.reinit_p}",
            _same_side(arms.reinit_p),
            budgets=FULL,
        )
        yield Claim(f"reinit_d_{key}", f"{words}, re-initialised − control: Cohen's d", f"{arms.reinit_d}", within(arms.reinit_d, 2), budgets=FULL)
        yield Claim(f"clip_difference_{key}", f"{words}, attention norm clipped − control", f"{arms.clip_difference}", (-0.05, 0.05), "nats", FULL)
        yield Claim(f"clip_p_{key}", f"{words}, clipped − control: {PAIRED}", f"{arms.clip_p}", _same_side(arms.clip_p), budgets=FULL)


def _same_side(p: float) -> tuple[float, float]:
    """p-values on the same side of 0.05."""
    return (0, 0.05) if p < 0.05 else (0.05, 1)


def _smaller_claims() -> Iterator[Claim]:
    """What the paper says of its model, asked of one of our own: none of it is the paper's, so all of it is a finding."""
    for claim in _of_smaller():
        yield replace(claim, kind="finding")


def _of_smaller() -> Iterator[Claim]:
    yield Claim("smaller_low", f"{SMALLER}: share of runs that grok at the smallest λ", "0", (0, 0.1), budgets=ANYWHERE)
    yield Claim("smaller_high", f"{SMALLER}: largest share of runs that grok at any λ", "1", (0.8, 1), budgets=ANYWHERE)
    yield Claim("smaller_boundary", f"{SMALLER}: λ_c", "0.0158 (its own model)", (-math.inf, math.inf))
    yield Claim("smaller_horizon", f"{SMALLER}: λ_c at the longest horizon over λ_c at half of it", "0.27", (0, 0.95))
    yield Claim("smaller_exponent", f"{SMALLER}: exponent ν", f"{EXPONENT}", (0.725, 0.799))
    yield Claim("smaller_times", f"{SMALLER}: rank correlation of grokking time with λ", "−1 (1,090 → 83 epochs)", (-1, -0.5))
    memorise, collapse = "memorise without grokking", "whose heads collapse to one pattern"
    yield Claim("smaller_memorization", f"{SMALLER}: share of runs at the smallest λ that {memorise}", "1", (1, 1), budgets=ANYWHERE)
    yield Claim("smaller_collapse", f"{SMALLER}: share of runs at λ = 10 {collapse}", "1", (1, 1), budgets=ANYWHERE)
    for name, decay, where in (("near", 0.015, "near its λ_c"), ("above", 0.05, "at three times its λ_c")):
        arms, words = ARMS[decay], f"{SMALLER}, {where}: peak of σ_H in one window after the intervention"
        yield Claim(f"smaller_reinit_d_{name}", f"{words}, re-initialised − control, Cohen's d", f"{arms.reinit_d}", within(arms.reinit_d, 2))
        yield Claim(
            f"smaller_reinit_p_{name}",
            f"{words}, re-initialised − control: {PAIRED}",
            f"{arms.reinit_p}",
            _same_side(arms.reinit_p),
        )
        yield Claim(f"smaller_sham_p_{name}", f"{words}, re-initialised − sham: {PAIRED}", "no sham arm", _same_side(arms.reinit_p))
        yield Claim(f"smaller_clip_p_{name}", f"{words}, clipped − control: {PAIRED}", f"{arms.clip_p}", _same_side(arms.clip_p))
        whole = "peak of σ_H over the whole run, re-initialised − control, which cannot be negative when both arms share their past: mean"
        yield Claim(f"smaller_whole_run_{name}", f"{SMALLER}, {where}: {whole}", f"mean {arms.reinit_difference}", (-math.inf, -1e-9), "nats")
    later = "the author's later note says that attention adds nothing to clock, loss and weight norm"
    yield Claim("smaller_readouts", f"{later}; {SMALLER}: what it adds to the held-out R² of log grokking time", "nothing", (-math.inf, 0.05))


CLAIMS = (
    *_data_claims(),
    *_boundary_claims(),
    *_calibration_claims(),
    *_multitask_claims(),
    *_baseline_claims(),
    *_intervention_claims(),
    *_smaller_claims(),
)
