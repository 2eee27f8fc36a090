"""What "The Clock and the Pizza" (arXiv 2306.17844, v2) reports of one-layer transformers at p = 59, and its claims.

The published means are those of the authors' table of runs (2,373 with one layer that answer every pair, d 128, 20,000 epochs), in steps of 0.1 of
the attention rate. Its irrelevance is that of the largest wrong logit. How far runs of one rate lie apart is not given, so that our means are
accepted within 0.15 of its irrelevance and 0.1 of its symmetricity, and above 0.98 where it is (chosen here).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from grokinterp.measures.algorithm_figures import PUBLISHED
from grokinterp.measures.verdicts import CLOCK, SYMMETRIC
from grokinterp.papers.claims import ANYWHERE, Claim, within


class Mean(NamedTuple):
    """Published means over the runs of one attention rate."""

    symmetricity: float
    irrelevance: float


def published(alpha: float, which: str = "all") -> Mean:
    """The means of the authors' runs about a rate: those of its tenth, or of both tenths at a border between two.

    Args:
        alpha: the attention rate.
        which: "all" runs or "circular" ones.
    """
    at = {min(max(math.floor(10 * alpha + shift), 0), 9) for shift in (-1e-9, 1e-9)}
    s, q = (sum(values[i] for i in at) / len(at) for values in PUBLISHED[which])
    return Mean(s, q)


CPU_RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
WIDTH_Q, WIDTH_S = 0.15, 0.1
TRANSITIONS = {"symmetricity": 0.570, "irrelevance": 0.502}  # the rate at which a logistic regression over all published runs is even
FALLS_BELOW, RISES_ABOVE = SYMMETRIC, 0.6  # what these regressions are on
NORMS = {0.0: 22.854, 1.0: 24.814}  # Models A and B
LOSSES = {0.0: 1.3843e-7, 1.0: 1.5609e-7}


def tag(alpha: float) -> str:
    """A rate as part of a claim's id: "rate_25"."""
    return f"rate_{round(100 * alpha)}"


def _means() -> Iterator[Claim]:
    for alpha in CPU_RATES:
        mean, words = published(alpha), f"attention rate {alpha:g}"
        low, high = (SYMMETRIC, 1.0) if mean.symmetricity > SYMMETRIC else (mean.symmetricity - WIDTH_S, min(1.0, mean.symmetricity + WIDTH_S))
        yield Claim(f"symmetricity_{tag(alpha)}", f"{words}: mean gradient symmetricity, 100 triples", f"{mean.symmetricity:.3f}", (low, high))
        near = (mean.irrelevance - WIDTH_Q, min(1.0, mean.irrelevance + WIDTH_Q))
        yield Claim(f"irrelevance_{tag(alpha)}", f"{words}: mean distance irrelevance of the largest wrong logit", f"{mean.irrelevance:.2f}", near)


def _transition() -> Iterator[Claim]:
    sentence = "the attention rate at which half of the runs have"
    for name, of in (("symmetricity", f"a symmetricity below {FALLS_BELOW}"), ("irrelevance", f"an irrelevance above {RISES_ABOVE}")):
        at = TRANSITIONS[name]
        yield Claim(f"transition_{name}", f"{sentence} {of}", f"{at}", (at - 0.15, at + 0.15))
    fall = "mean symmetricity at rate 0 less that at rate 1"
    yield Claim("symmetricity_falls", fall, "0.516 (0.993 − 0.477)", (0.1, 1), budgets=ANYWHERE)


def _kinds() -> Iterator[Claim]:
    yield Claim("pizza_at_0", f"share of the circular runs at rate 0 that read as a pizza, q < {CLOCK}", "1 (Model A)", (1, 1))
    yield Claim("clock_at_1", f"share of the circular runs at rate 1 that read as a clock, q ≥ {CLOCK}", "1 (Model B)", (1, 1))
    yield Claim("symmetric_at_1", f"share of the circular runs at rate 1 with a symmetricity above {SYMMETRIC}", "0", (0, 0))
    yield Claim("circular", "share of the runs with one layer whose embedding is circular", "0.343", (0.15, 0.55))
    isolated = "circular runs at rate 0, the strongest circle alone: FVE of the pizza formula, mean"
    yield Claim("isolated_pizza", isolated, "0.9918 (Model A)", (0.95, 1))
    yield Claim("isolated_clock", isolated.replace("pizza", "clock"), "0.754 (Model A)", (0.65, 0.85))
    wide = "a model of width 1024 and rate 1, one of several tries, reads as a pizza: q"
    yield Claim("wide_pizza", wide, "0.156", (0, CLOCK), budgets=(), needs="several trainings of a model of width 1024")
    layers = "circular share with 2 layers over that with 1"
    yield Claim("layers", layers, "0.29 (9.95 / 34.31 %)", within(0.29), budgets=(), needs="some hundred trainings with 2 layers")
    width = "the wider, the later: the rate of the transition in symmetricity at d 512 less that at d 32"
    yield Claim("width", width, "0.67", (0.1, 1), budgets=(), needs="trainings at several widths up to 512")


def _findings() -> Iterator[Claim]:
    for alpha, name in ((0.0, "pizza"), (1.0, "clock"), (1.0, "pizza"), (1.0, "hybrid")):
        words = {"pizza": "the sum of the circles", "clock": "their product", "hybrid": "both"}[name]
        sentence = f"rate {alpha:g}: loss recovered by {words} alone at the neurons' inputs, mean"
        yield Claim(f"recovered_{name}_{tag(alpha)}", sentence, "not given", (0.9, 1.1), kind="finding")
    yield Claim(
        "reads_from",
        "first epoch kept at which a run reads as what it is at the end, circular runs",
        "not given",
        (0, math.inf),
        "epochs",
        kind="finding",
    )
    turned = "share of the runs that read as a pizza at some epoch and as a clock at a later one, or the other way round"
    yield Claim("turned", turned, "not given", (0, 1), kind="finding")


def _calibrations() -> Iterator[Claim]:
    yield Claim(
        "answers", "share of the runs that answer all pairs at the end", "1 (others are left out)", (1, 1), budgets=ANYWHERE, kind="calibration"
    )
    for alpha, model in ((0.0, "A"), (1.0, "B")):
        yield Claim(
            f"norm_{tag(alpha)}", f"rate {alpha:g}: ‖θ‖ at the end", f"{NORMS[alpha]} (Model {model})", within(NORMS[alpha], 1.1), kind="calibration"
        )
        loss = f"rate {alpha:g}: loss over all pairs at the end"
        yield Claim(f"loss_{tag(alpha)}", loss, f"{LOSSES[alpha]:.2e} (Model {model})", within(LOSSES[alpha], 2), "nats", kind="calibration")


CLAIMS = (*_means(), *_transition(), *_kinds(), *_findings(), *_calibrations())
