"""What "Transformers converge to invariant algorithmic cores" (arXiv 2602.22600) reports: its claims, in ``claims.csv``, and its settings.

The paper's text and its code, run, differ in places; where a number is the code's, the claim says so.
"""

from __future__ import annotations

import math

SEEDS = (0, 100, 200)
P = 53
DECAYS = (0.3, 0.5, 1.0, 1.5, 2.0, 3.0)
PRIMES = (31, 43, 53, 61, 79, 89, 101)
OMEGA, P_CRIT = 2_770, 23
GPT2_PAIRS = ("large_medium", "large_small", "medium_small")  # whose core coordinates are compared


def published_time(p: int) -> float:
    """τ = −Ω ln(1 − p_crit/p) at λ = 1 with the paper's constants, in steps; infinite up to p_crit."""
    return -OMEGA * math.log(1 - P_CRIT / p) if p > P_CRIT else math.inf
