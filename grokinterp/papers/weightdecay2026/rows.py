"""A run, or an intervention in one, as a row of a table: the same from a run folder as from the queue of a GPU. Times are epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from grokinterp.laws import onset
from grokinterp.papers.tables import RUN
from grokinterp.papers.training import steps_per_epoch
from grokinterp.training.config import RunConfig

GROK, GROK_EARLIER = 0.99, 0.95
COLLAPSED_SIMILARITY, COLLAPSED_SPREAD = 0.999, 0.005
EARLY = 100  # the epoch of early readings, after which the peak of σ_H counts as the Phase-2 amplitude
READINGS = ("train_loss", "weight_norm", "head_similarity", "entropy_spread")

RegimeName = Literal["memorization", "developmental", "collapse", "unlearned"]


class Regime(NamedTuple):
    """What became of a run; see `regime`."""

    name: RegimeName
    grok: float
    grok_95: float
    retained: bool


def regime(epochs: ArrayLike, train_accuracy: ArrayLike, test_accuracy: ArrayLike, similarity: float, spread: float) -> Regime:
    """The regime of a run: memorization, developmental grokking, or collapse.

    Args:
        epochs: of the evaluations, ascending.
        train_accuracy: at these.
        test_accuracy: at these.
        similarity: s̄ at the end.
        spread: σ_H at the end, in nats.

    Returns:
        ``name``: "collapse" where the heads end with s̄ > 0.999 and σ_H < 0.005, whatever came before; else "developmental" with a test
        accuracy of 0.99 at any evaluation, "memorization" with a train accuracy of 0.99 at any and none of the former, or "unlearned".
        ``grok`` and ``grok_95``, the first epochs with a test accuracy of 0.99 and 0.95, NaN for never; ``retained``, whether it ends at 0.99.

    Source: the regimes are those of arXiv 2605.20441, which defines them in words; the thresholds are chosen here.
    """
    grok, grok_95 = (onset(epochs, test_accuracy, threshold, interpolate=False) for threshold in (GROK, GROK_EARLIER))
    name: RegimeName = "unlearned"
    if similarity > COLLAPSED_SIMILARITY and spread < COLLAPSED_SPREAD:
        name = "collapse"
    elif not math.isnan(grok):
        name = "developmental"
    elif np.max(train_accuracy) >= GROK:
        name = "memorization"
    return Regime(name, grok, grok_95, bool(np.asarray(test_accuracy)[-1] >= GROK))


def run_row(config: RunConfig, evaluated: pd.DataFrame, early: int = EARLY) -> dict[str, Any]:
    """What the evaluations of a run say of it.

    Args:
        config: of the run.
        evaluated: by epoch the train and test accuracy and `READINGS`; NaN where a reading was not taken, but for the last.
        early: the epoch of early readings.

    Returns:
        ``run``, ``weight_decay``, ``seed``; `regime`; ``followed``, the last epoch; ``early_`` and the name of each reading, NaN where the run had
        ended or kept nothing by then.
    """
    last, then = evaluated.iloc[-1], evaluated[list(READINGS)].dropna().reindex([early]).iloc[0]
    what = regime(evaluated.index, evaluated["train_accuracy"], evaluated["test_accuracy"], last["head_similarity"], last["entropy_spread"])
    return {**_settings(config), **what._asdict(), "followed": float(evaluated.index[-1])} | {f"early_{name}": float(then[name]) for name in READINGS}


def pair_row(config: RunConfig, at: int, top: float, peaks: Mapping[str, float], clipped: bool, evaluated: pd.DataFrame) -> dict[str, Any]:
    """What became of a run that was intervened in, and of its arms.

    Args:
        config: of the run.
        at: the step of its peak of σ_H, where it was forked.
        top: that peak, in nats.
        peaks: the largest σ_H in the window after it, by arm, in nats.
        clipped: whether clipping did anything.
        evaluated: ``step`` and ``test_accuracy`` of the run, which was followed to its end.

    Returns:
        ``run``, ``weight_decay``, ``seed``; ``at`` (epochs); the peaks by arm; ``whole_control`` and ``whole_reinit``, those over the whole run;
        ``clipped``; ``grok`` (epochs) and ``retained`` of the run.
    """
    whole = {f"whole_{arm}": max(top, peaks[arm]) for arm in ("control", "reinit")}
    epoch, accuracy = steps_per_epoch(config), evaluated["test_accuracy"]
    grok = onset(evaluated["step"] / epoch, accuracy, GROK, interpolate=False)
    end = {"clipped": clipped, "grok": grok, "retained": bool(accuracy.iloc[-1] >= GROK)}
    return {**_settings(config), "at": at / epoch, **peaks, **whole, **end}


def _settings(config: RunConfig) -> dict[str, Any]:
    return {RUN: config.digest, "weight_decay": config.optimizer.weight_decay, "seed": config.seed}
