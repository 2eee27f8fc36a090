"""When something happens in a run, and how long before grokking it does over many runs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from grokinterp.chance import Rng, generator
from grokinterp.conditions import Condition
from grokinterp.errors import GrokinterpError
from grokinterp.laws.drawing import draw, line, points
from grokinterp.laws.numerics import columns, labels, resample, sign_flip_p
from grokinterp.laws.results import Estimate, Result, bootstrap_interval
from grokinterp.plots.lazy import go


def onset(steps: ArrayLike, values: ArrayLike, threshold: float, direction: str = ">=", persistence: int = 1, interpolate: bool = True) -> float:
    """The first step at which a measure is past a threshold and stays there for some evaluations in a row; NaN if it never does.

    This is the first of those evaluations, as in `grokinterp.conditions.first_stretch`. Training spikes make single crossings unreliable, so ask
    for a persistence of 2 or more where evaluations are dense.

    Args:
        steps: of the evaluations, ascending.
        values: of the measure; an evaluation that is NaN is not past the threshold.
        threshold: in the measure's unit.
        direction: ">=", ">", "<=" or "<".
        persistence: evaluations in a row; a stretch that the end of the run cuts short does not count.
        interpolate: place the onset on the straight line from the evaluation before to the first one past the threshold, instead of on
            the latter. Where the former is missing or infinite, the onset is the latter.

    Raises:
        GrokinterpError: an unknown direction (comparison), a persistence below 1, steps that do not ascend, lengths that differ, a threshold of NaN.

    Source: the thresholds are those of arXiv 2606.12966; persistence and interpolation are chosen here.
    """
    condition = Condition("values", direction, float(threshold), persistence)
    at, value = columns(steps=steps)["steps"].to_numpy(), np.asarray(values, dtype=np.float64)
    if value.shape != at.shape:
        raise GrokinterpError(f"one value for each step is needed; got {len(at)} steps and values of shape {value.shape}")
    found = condition.first(at.tolist(), value.tolist())
    if found is None:
        return np.nan
    first = int(np.searchsorted(at, found.onset))
    before, after = (value[first - 1], value[first]) if first else (np.nan, np.nan)
    if not interpolate or not np.isfinite([before, after]).all():
        return float(at[first])
    return float(at[first - 1] + (at[first] - at[first - 1]) * (threshold - before) / (after - before))


@dataclass(frozen=True, eq=False, kw_only=True)
class LeadTimes(Result):
    """How long before grokking a measure has its onset.

    Attributes:
        mean: of the leads, grok − measure, over runs with both onsets; interval by bootstrap over runs or clusters.
        median: of the leads.
        p_two_sided: exact sign test over runs, ties left out: the measure comes before grokking as often as after.
        p_one_sided: the same against "before more often".
        p_two_sided_clustered: the same test with the signs of a whole cluster flipped together; NaN without clusters.
        p_one_sided_clustered: as before.
        n_positive: runs in which the measure came first.
        n_negative: runs in which grokking came first.
        n_ties: runs with both at the same step.
        n_measure_never: runs that grok, without an onset of the measure.
        n_grok_never: runs with an onset of the measure that never grok.
        n_neither: runs with neither.
        runs: ``measure``, ``grok``, ``lead``, ``cluster`` for each run.
    """

    mean: Estimate
    median: float
    p_two_sided: float
    p_one_sided: float
    p_two_sided_clustered: float
    p_one_sided_clustered: float
    n_positive: int
    n_negative: int
    n_ties: int
    n_measure_never: int
    n_grok_never: int
    n_neither: int
    runs: pd.DataFrame = field(repr=False)

    def figure(self) -> go.Figure:
        """Onset of grokking against onset of the measure, a dot for each run with both."""
        both = self.runs.dropna(subset="lead")
        ends = np.array([both[["measure", "grok"]].min().min(), both[["measure", "grok"]].max().max()])
        caption = "Each dot is a run. Above the line the measure comes first; its height above the line is the lead."
        dots = [
            points(own["measure"].to_numpy(), own["grok"].to_numpy(), str(name), i)
            for i, (name, own) in enumerate(both.groupby("cluster", sort=False), 1)
        ]
        return draw("Lead over grokking", caption, [line(ends, ends, "same time", dash="dot"), *dots], "onset of the measure", "onset of grokking")

    def __str__(self) -> str:
        counts = f"{self.n_positive} before, {self.n_negative} after, {self.n_ties} tied"
        never = f"{self.n_measure_never} grok without it, {self.n_grok_never} never grok, {self.n_neither} have neither"
        return f"lead {self.mean}; {counts} (sign test p = {self.p_two_sided:.2g}); {never}"


def lead_times(
    onset_of_measure: ArrayLike,
    onset_of_grok: ArrayLike,
    cluster: ArrayLike | None = None,
    *,
    rng: Rng = 0,
    n_bootstrap: int = 2000,
    level: float = 0.95,
) -> LeadTimes:
    """How long before grokking a measure has its onset: mean lead with interval, exact sign tests, and what was left out.

    Args:
        onset_of_measure: for each run, NaN for never; in steps or epochs.
        onset_of_grok: the same, in the same unit.
        cluster: what runs have in common, such as the prime; clusters are then resampled whole.
        rng: seed or generator that draws the bootstrap.
        n_bootstrap: resamples.
        level: of the interval.

    Raises:
        GrokinterpError: arrays of different lengths, infinite onsets, fewer than two runs (clusters) with both onsets.

    Source: arXiv 2606.12966 for leads and the sign test over runs; clusters and the counts of what is missing are chosen here.
    """
    rng = generator(rng)
    runs = columns(("onset_of_measure", "onset_of_grok"), onset_of_measure=onset_of_measure, onset_of_grok=onset_of_grok)
    runs.columns = pd.Index(["measure", "grok"])
    runs["lead"] = runs["grok"] - runs["measure"]
    runs["cluster"] = "runs" if cluster is None else labels("cluster", cluster, len(runs))
    both = runs.dropna(subset="lead")
    unit = np.arange(len(both)) if cluster is None else pd.factorize(both["cluster"])[0]
    kind, n_units = ("run" if cluster is None else "cluster"), len(set(unit))
    if n_units < 2:
        raise GrokinterpError(f"an interval needs at least 2 {kind}s with both onsets; got {n_units} of {len(runs)} runs")

    lead = both["lead"].to_numpy()
    sums, sizes = np.bincount(unit, lead), np.bincount(unit)
    counts = resample(rng, np.zeros(n_units), n_bootstrap)
    means = counts @ sums / (counts @ sizes)
    means[0] = lead.mean()  # the same to the last digit whatever the clusters
    two_sided, one_sided = sign_flip_p(np.sign(lead))
    clustered = (np.nan, np.nan) if cluster is None else sign_flip_p(np.bincount(unit, np.sign(lead)))
    no_measure, no_grok = runs["measure"].isna(), runs["grok"].isna()
    return LeadTimes(
        mean=bootstrap_interval(means, level),
        median=float(np.median(lead)),
        p_two_sided=two_sided,
        p_one_sided=one_sided,
        p_two_sided_clustered=clustered[0],
        p_one_sided_clustered=clustered[1],
        n_positive=int((lead > 0).sum()),
        n_negative=int((lead < 0).sum()),
        n_ties=int((lead == 0).sum()),
        n_measure_never=int((no_measure & ~no_grok).sum()),
        n_grok_never=int((~no_measure & no_grok).sum()),
        n_neither=int((no_measure & no_grok).sum()),
        runs=runs,
    )
