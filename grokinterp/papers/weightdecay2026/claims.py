"""What "Weight Decay Regimes in Grokking Transformers" (arXiv 2605.20441) reports: its claims, in ``claims.csv``, and its tables.

Claims whose ids begin with ``smaller_`` ask of a model of our own what the paper says of its own, so all of them are findings. Of the eight models
of the replication λ_c is accepted within 5 % where it is fitted to the published counts. p-values are accepted on the same side of 0.05.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from grokinterp.presets import Size

BINS = pd.DataFrame(  # runs that grok within the canonical horizon, at each λ
    {
        "weight_decay": [0.001, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.3, 0.5, 0.7, 1.0, 2.0],
        "n": [10, 30, 10, 10, 10, 10, 30, 10, 10, 10, 10, 30, 10],
        "rate": [0, 0.067, 0.8, 1, 1, 1, 0.967, 1, 1, 1, 0.8, 0.833, 1],
    }
).assign(grokked=lambda bins: (bins["n"] * bins["rate"]).round().astype(int))
MULTITASK_DECAYS = (0.003, 0.006, 0.015, 0.02, 0.03, 0.05, 0.07)
MULTITASK: dict[tuple[Size, str], tuple[int, ...]] = {  # runs of 5 that grok within 10,000 epochs at each λ
    ("small", "addition"): (1, 4, 5, 5, 5, 5, 5),
    ("small", "subtraction"): (0, 0, 1, 2, 5, 5, 5),
    ("small", "multiplication"): (2, 4, 5, 5, 5, 5, 5),
    ("small", "division"): (0, 0, 4, 4, 5, 5, 5),
    ("medium", "addition"): (0, 2, 3, 3, 4, 4, 5),
    ("medium", "subtraction"): (0, 1, 0, 3, 2, 5, 5),
    ("medium", "multiplication"): (2, 1, 2, 3, 1, 4, 5),
    ("medium", "division"): (2, 4, 5, 3, 3, 5, 5),
}
INTERVENED = (0.05, 0.015)  # λ of the intervention table


class Baseline(NamedTuple):
    """A row of the architecture table: its name, boundary, and whether its settings determine how many parameters it has."""

    name: str
    boundary: float
    counted: bool = True


BASELINES = {
    "mlp": Baseline("MLP", 0.0511, counted=False),
    "lstm": Baseline("LSTM", 0.0365),
    "mamba": Baseline("Mamba", 0.0144),
}
SMALLER_DECAYS = (0.1, 0.5, 2.0)  # of the smaller models without attention (chosen here)
CALIBRATION = {  # what is said of the λ = 1 run, by the claim's name: the quantity, and the first and last epoch that it is a mean over
    "plateau": ("test_accuracy", (30, 90)),
    "groks": ("test_accuracy", (130, 130)),
    "similarity_1": ("head_similarity", (1, 1)),
    "spread_1": ("entropy_spread", (1, 1)),
    "similarity_150": ("head_similarity", (150, 200)),
    "spread_150": ("entropy_spread", (150, 200)),
    "similarity_1200": ("head_similarity", (1_200, 1_200)),
    "spread_1200": ("entropy_spread", (1_200, 1_200)),
    "trial_30": ("test_accuracy", (30, 30)),
    "trial_40": ("test_accuracy", (40, 80)),
    "trial_120": ("test_accuracy", (120, 120)),
    "trial_140": ("test_accuracy", (140, 140)),
    "trial_160": ("test_accuracy", (160, 160)),
    "trial_similarity_1": ("head_similarity", (1, 1)),
    "trial_similarity_160": ("head_similarity", (160, 160)),
    "trial_spread_1": ("entropy_spread", (1, 1)),
    "trial_spread_160": ("entropy_spread", (160, 160)),
}


def tag(value: float) -> str:
    """A weight decay as part of a name: 0.015 is "0_015"."""
    return f"{value:g}".replace(".", "_")
