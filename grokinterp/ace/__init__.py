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
    "grokinterp.language.agreement": "Knob agreement_cores auc combined_p_value coordinate_correlations coordinates flip_p_value knob margins "
    "pair_accuracy verb_probabilities verb_scores",
    "grokinterp.language.generation": "Generation generate",
    "grokinterp.language.sweep": "agreement_sweep best_core random_core",
    "grokinterp.laws.cores": "CoreComparison compare",
    "grokinterp.measures.ace": "measure",
}
_HOME = {name: module for module, names in _ABOVE.items() for name in names.split()}

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
    if name not in _HOME:
        raise AttributeError(f"module 'grokinterp.ace' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), "ace" if name == "measure" else name)


def __dir__() -> list[str]:
    return __all__
