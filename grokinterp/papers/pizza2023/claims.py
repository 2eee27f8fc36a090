"""What "The Clock and the Pizza" (arXiv 2306.17844, v2) reports of one-layer transformers at p = 59: its claims, in ``claims.csv``, and its settings.

The published means are those of the authors' table of runs (2,373 with one layer that answer every pair, d 128, 20,000 epochs), in steps of 0.1 of
the attention rate. Its irrelevance is that of the largest wrong logit. How far runs of one rate lie apart is not given, so that our means are
accepted within 0.15 of its irrelevance and 0.1 of its symmetricity, and above 0.98 where it is (chosen here). The rates of transition are those at
which a logistic regression over all published runs is even.
"""

from __future__ import annotations

from grokinterp.measures.verdicts import SYMMETRIC

CPU_RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
FALLS_BELOW, RISES_ABOVE = SYMMETRIC, 0.6  # what the published regressions are on: symmetricity and irrelevance


def tag(alpha: float) -> str:
    """A rate as part of a claim's id: "rate_25"."""
    return f"rate_{round(100 * alpha)}"
