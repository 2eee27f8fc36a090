"""Algorithmic cores: the few dimensions through which a model computes, extracted, compared across models and followed in time.

    core = ace.extract(model, task, "blocks.0.hook_resid_post")
    with core.remove().applied(model):
        logits = model(task.tokens)

"Transformers converge to invariant algorithmic cores" (arXiv 2602.22600).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from grokinterp.ace.alignment import Alignment, Consensus, align, canonical_correlations, consensus, overlap, principal_angles
from grokinterp.ace.core import Core, Project
from grokinterp.ace.dynamics import CyclicDynamics, SequenceDynamics, class_means, cyclic_dynamics, sequence_dynamics
from grokinterp.ace.extract import energy_rank, extract, from_matrices
from grokinterp.ace.moments import Moments
from grokinterp.ace.size import CoreSize, size
from grokinterp.models.tail import Tail

if TYPE_CHECKING:
    from grokinterp.language.agreement import (
        Knob,
        agreement_cores,
        auc,
        combined_p_value,
        coordinate_correlations,
        coordinates,
        flip_p_value,
        knob,
        margins,
        pair_accuracy,
        verb_probabilities,
        verb_scores,
    )
    from grokinterp.language.generation import Generation, generate
    from grokinterp.language.sweep import agreement_sweep, best_core, random_core
    from grokinterp.laws.cores import CoreComparison, compare
    from grokinterp.measures.ace import ace as measure

# What researchers expect under this name although it lies in rooms above this one; loaded when first asked for.
_ABOVE = {
    "Knob": "grokinterp.language.agreement:Knob",
    "agreement_cores": "grokinterp.language.agreement:agreement_cores",
    "auc": "grokinterp.language.agreement:auc",
    "combined_p_value": "grokinterp.language.agreement:combined_p_value",
    "coordinate_correlations": "grokinterp.language.agreement:coordinate_correlations",
    "coordinates": "grokinterp.language.agreement:coordinates",
    "flip_p_value": "grokinterp.language.agreement:flip_p_value",
    "knob": "grokinterp.language.agreement:knob",
    "margins": "grokinterp.language.agreement:margins",
    "pair_accuracy": "grokinterp.language.agreement:pair_accuracy",
    "verb_scores": "grokinterp.language.agreement:verb_scores",
    "verb_probabilities": "grokinterp.language.agreement:verb_probabilities",
    "agreement_sweep": "grokinterp.language.sweep:agreement_sweep",
    "best_core": "grokinterp.language.sweep:best_core",
    "random_core": "grokinterp.language.sweep:random_core",
    "Generation": "grokinterp.language.generation:Generation",
    "generate": "grokinterp.language.generation:generate",
    "CoreComparison": "grokinterp.laws.cores:CoreComparison",
    "compare": "grokinterp.laws.cores:compare",
    "measure": "grokinterp.measures.ace:ace",
}

__all__ = [
    "Alignment",
    "Consensus",
    "Core",
    "CoreComparison",
    "CoreSize",
    "CyclicDynamics",
    "Generation",
    "Knob",
    "Moments",
    "Project",
    "SequenceDynamics",
    "Tail",
    "agreement_cores",
    "agreement_sweep",
    "align",
    "auc",
    "best_core",
    "canonical_correlations",
    "class_means",
    "combined_p_value",
    "compare",
    "consensus",
    "coordinate_correlations",
    "coordinates",
    "cyclic_dynamics",
    "energy_rank",
    "extract",
    "flip_p_value",
    "from_matrices",
    "generate",
    "knob",
    "margins",
    "measure",
    "overlap",
    "pair_accuracy",
    "principal_angles",
    "random_core",
    "sequence_dynamics",
    "size",
    "verb_probabilities",
    "verb_scores",
]


def __getattr__(name: str) -> Any:
    if name not in _ABOVE:
        raise AttributeError(f"module 'grokinterp.ace' has no attribute {name!r}")
    module, _, attribute = _ABOVE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
