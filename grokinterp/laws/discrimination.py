"""How well a score tells the moments before an event from all others, when the moments come from a few runs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from grokinterp.chance import Rng, generator
from grokinterp.errors import GrokinterpError
from grokinterp.laws.drawing import draw, line
from grokinterp.laws.numerics import resample
from grokinterp.laws.results import Estimate, Result, bootstrap_interval
from grokinterp.plots.lazy import go


@dataclass(frozen=True, eq=False, kw_only=True)
class Discrimination(Result):
    """Area under the ROC curve over the evaluations of many runs.

    Attributes:
        auc: probability that an evaluation that the event follows scores higher than one that it does not follow, ties counting half. Time is
            a predictor here: a score that only rises with time is above 0.5 where the event comes late.
        auc_same_time: the same over pairs of evaluations at one time, so that time itself stands at 0.5; NaN if there are no such pairs.
        gain: `auc` less that of the baseline, both on the same resamples; None without a baseline.
        n_before: evaluations that the event follows.
        n_other: evaluations that it does not follow.
        n_runs: runs with any of either.
    """

    auc: Estimate
    auc_same_time: Estimate
    gain: Estimate | None
    n_before: int
    n_other: int
    n_runs: int
    roc: tuple[np.ndarray, np.ndarray] = field(repr=False)

    def figure(self) -> go.Figure:
        """ROC curve over evaluations, all times pooled."""
        caption = "How many of the evaluations before the event are flagged when so many of the others are; chance is the dotted line."
        curves = [line(*self.roc, "score", shape="hv"), line(np.array([0, 1]), np.array([0, 1]), "chance", 1, "dot")]
        return draw("Before the event or not", caption, curves, "share of the other evaluations", "share of the evaluations before the event")

    def __str__(self) -> str:
        gain = "" if self.gain is None else f", {self.gain} above the baseline"
        return f"AUC {self.auc}{gain}, at the same time {self.auc_same_time}; {self.n_before} evaluations before, {self.n_other} not"


def discrimination(
    scores: ArrayLike,
    before: ArrayLike,
    *,
    rng: Rng = 0,
    baseline: ArrayLike | None = None,
    n_bootstrap: int = 1000,
    level: float = 0.95,
) -> Discrimination:
    """How well a score tells evaluations that an event follows soon from those that it does not follow; intervals resample whole runs.

    Runs with the event and runs without it are resampled apart.

    Args:
        scores: [run, evaluation], evaluations at the same times in every run; higher is more like the event to come, NaN lowest of all.
        before: [run, evaluation]; 1 where the event follows soon, 0 where it does not, NaN where that is not known or no longer asked.
        rng: seed or generator that draws the bootstrap.
        baseline: scores of another predictor, to take the gain over.
        n_bootstrap: resamples.
        level: of the intervals.

    Raises:
        GrokinterpError: arrays of different shapes, infinite scores, labels other than 0, 1 and NaN, or only one kind of evaluation.

    Source: chosen here; pairs at one time are the incident/dynamic AUC of Heagerty and Zheng (2005) with the event within a window.
    """
    rng = generator(rng)
    labels = np.asarray(before, dtype=np.float64)
    value = _like(labels, scores)
    known = ~np.isnan(labels)
    if not np.isin(labels[known], (0, 1)).all():
        raise GrokinterpError(f"before holds 0, 1 and NaN; got {np.unique(labels[known])[:5]}")
    if len(np.unique(labels[known])) < 2:
        raise GrokinterpError(
            f"both kinds of evaluations are needed, some before the event and some not; got {(labels == 1).sum()} and {(labels == 0).sum()}"
        )
    has_event = (labels == 1).any(1)
    counts = resample(rng, has_event, n_bootstrap)
    pooled, same_time = _concordance(value, labels, counts)
    reference = None if baseline is None else _concordance(_like(labels, baseline), labels, counts)[0]
    return Discrimination(
        auc=bootstrap_interval(pooled, level),
        auc_same_time=bootstrap_interval(same_time, level),
        gain=None if reference is None else bootstrap_interval(pooled - reference, level),
        n_before=int((labels == 1).sum()),
        n_other=int((labels == 0).sum()),
        n_runs=int(known.any(1).sum()),
        roc=_roc(value[known], labels[known]),
    )


def _like(labels: np.ndarray, scores: ArrayLike) -> np.ndarray:
    array = np.asarray(scores, dtype=np.float64)
    if array.shape != labels.shape or array.ndim != 2 or np.isinf(array).any():
        raise GrokinterpError(f"scores have to be finite or NaN, [run, evaluation] like before, {labels.shape}; got the shape {array.shape}")
    return np.where(np.isnan(array), -np.inf, array)


def _concordance(scores: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUC of all pairs of evaluations and of those at the same time, for each row of how often each run counts [resample, run]."""
    (run, time), (other_run, other_time) = np.nonzero(labels == 1), np.nonzero(labels == 0)
    first, second = scores[run, time][:, None], scores[other_run, other_time][None]
    won = (first > second) + 0.5 * (first == second)  # [before, other]
    together = time[:, None] == other_time[None]
    of_run, of_other = (np.eye(len(labels))[:, members] for members in (run, other_run))  # [run, evaluation of either kind]

    def share(won: np.ndarray, counted: np.ndarray) -> np.ndarray:
        by_runs = [of_run @ pairs @ of_other.T for pairs in (won * counted, counted)]  # [run, run]
        with np.errstate(invalid="ignore"):  # 0/0 where a resample has no such pairs: NaN
            return np.divide(*(np.einsum("bi,ij,bj->b", counts, pairs, counts) for pairs in by_runs))

    return share(won, np.ones_like(won)), share(won, together.astype(float))


def _roc(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the others and of those before the event at or above each score, from none to all."""
    thresholds = np.concatenate([[np.inf], np.unique(scores)[::-1]])
    others, before = ((scores[labels == kind][None] >= thresholds[:, None]).mean(1) for kind in (0, 1))
    return others, before
