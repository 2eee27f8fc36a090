"""Every intervention that a model can have in force, and every pair that goes together."""

from __future__ import annotations

from itertools import combinations

from grokinterp import AttentionRate, CosineUnembed, FourierInit, MeanPool, NoAttention, PostNorm, Sphere, UniformAttention
from grokinterp.interventions import InForce

EACH: list[InForce] = [
    PostNorm(),
    PostNorm("rms", at_embedding=True),
    Sphere(),
    CosineUnembed(3.0),
    UniformAttention(),
    AttentionRate(0.3),
    NoAttention(),
    MeanPool(),
    FourierInit((1, 3)),
]
CONTRADICTIONS = {
    frozenset({PostNorm, Sphere}),
    frozenset({NoAttention, UniformAttention}),
    frozenset({AttentionRate, UniformAttention}),
    frozenset({AttentionRate, NoAttention}),
    frozenset({PostNorm}),
}


def allowed(arm: tuple[InForce, ...]) -> bool:
    kinds = {type(intervention) for intervention in arm}
    return frozenset(kinds) not in CONTRADICTIONS and (MeanPool not in kinds or NoAttention in kinds)


PAIRS = [pair for pair in combinations(EACH, 2) if allowed(pair)]
ARMS: list[tuple[InForce, ...]] = [(one,) for one in EACH if type(one) is not MeanPool] + PAIRS
ARMS += [(NoAttention(), MeanPool(), Sphere(), CosineUnembed()), (NoAttention(), MeanPool(), PostNorm(at_embedding=True))]
ARMS += [(PostNorm(at_embedding=True), UniformAttention(), CosineUnembed())]


def name_of(arm: tuple[InForce, ...]) -> str:
    return "+".join(intervention.kind + (intervention.norm if isinstance(intervention, PostNorm) else "") for intervention in arm)
