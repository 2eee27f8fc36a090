"""What "Circuit Synchronization Precedes Generalization" (arXiv 2606.12966) reports: its claims, in ``claims.csv``, and its tables.

Leads are accepted within one interval of the paper's grid, with the same sign.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

GRID = 500  # steps between the paper's measurements


class Published(NamedTuple):
    """A row of the paper's main table: steps, median rank at first and at grokking, dominant frequency."""

    grok: int
    sync: int
    filtered: int
    rank: str
    k: int


CONFIGURATIONS = {
    "p97-s42": Published(4_000, 1_500, 4_000, "6→1", 5),
    "p97-s123": Published(3_000, 1_000, 3_000, "5→1", 14),
    "p97-s0": Published(4_000, 1_000, 4_000, "6→1", 11),
    "p97-s1": Published(3_000, 2_500, 3_000, "6→1", 6),
    "p97-s2": Published(3_000, 2_500, 3_000, "5→1", 39),
    "p53-s42": Published(5_000, 2_000, 5_000, "3→1", 3),
    "p71-s42": Published(3_500, 2_000, 3_500, "4→1", 21),
    "p113-s42": Published(2_500, 1_500, 4_000, "7→2", 9),
    "p131-s42": Published(2_500, 1_000, 2_500, "5→1", 54),
}
TABLE_5 = pd.DataFrame(
    {
        "paper_accuracy": [0.006, 0.106, 0.020, 0.174, 0.053, 0.275, 0.352, 0.997, 1.0],
        "paper_rank": [6, 4, 3, 2, 1, 1, 1, 1, 1],
        "paper_norm": [76.7, 51.9, 37.8, 30.6, 28.6, 26.7, 24.4, 22.9, 23.9],
    },
    index=pd.Index([500, 1_000, 1_500, 2_000, 2_500, 3_000, 3_500, 4_000, 5_000], name="step"),
)
DELAYS = {  # steps from the fork to grokking, mean±sd, by p and λ
    53: {1: "4,100±369", 2: "2,200±190", 3: "1,540±49", 5: "1,200±63"},
    97: {1: "2,425±249", 2: "1,300±187", 3: "850±87", 5: "667±125"},
    131: {1: "1,680±40", 2: "900±0", 3: "600±0", 5: "never"},
}
S5_IRREPS = ("(2,1,1,1)", "(4,1)", "(3,2)")
VARIANTS = ("p97-s42", "one_layer", "attention_only", "subtraction-s42", "subtraction-s123")  # of the table of architectures and operations


def near_lead(lead: int) -> tuple[float, float]:
    """Within one interval of the paper's grid, and of the same sign."""
    low, high = lead - GRID, lead + GRID
    return (max(1, low), high) if lead > 0 else (low, min(-1, high))


def claim_id(kind: str, subject: object) -> str:
    """A claim's id, like ``lead_p97_s42``."""
    return f"{kind}_{subject}".replace("-", "_").replace(" ", "_")
