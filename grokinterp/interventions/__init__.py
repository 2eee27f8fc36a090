"""WHAT IS DONE to a model: small frozen objects that say what is changed.

For the length of a ``with`` block, as hooks that leave nothing behind, also when the body raises:

    with FourierAblation("neurons", (6, 23), "remove").applied(model, task):
        logits = model(task.tokens)

In force whenever a model is built, so while it trains as well (`architecture.py`):

    config = presets.nanda2023().with_(interventions=(Sphere(), CosineUnembed()))

Once, to the weights that a fork begins with (`events.py`):

    fork(run, 1200, "forks", edit=ReinitialiseHeads(n_heads=2))
"""

from grokinterp.interventions.ablations import FourierAblation
from grokinterp.interventions.architecture import (
    CosineUnembed,
    FourierInit,
    MeanPool,
    NoAttention,
    PostNorm,
    Sphere,
    UniformAttention,
)
from grokinterp.interventions.attention import AttentionRate
from grokinterp.interventions.cosets import Cosets
from grokinterp.interventions.equivalent import Ablated, Clock, Equivalent, Hybrid, Pizza
from grokinterp.interventions.events import ClipNorm, ReinitialiseHeads, ResetHeadMoments, attention_norm
from grokinterp.models.edits import HookFunction
from grokinterp.models.intervention import InForce, Intervention

__all__ = [
    "Ablated",
    "AttentionRate",
    "ClipNorm",
    "Clock",
    "Cosets",
    "CosineUnembed",
    "Equivalent",
    "FourierAblation",
    "FourierInit",
    "HookFunction",
    "Hybrid",
    "InForce",
    "Intervention",
    "MeanPool",
    "NoAttention",
    "Pizza",
    "PostNorm",
    "ReinitialiseHeads",
    "ResetHeadMoments",
    "Sphere",
    "UniformAttention",
    "attention_norm",
]
