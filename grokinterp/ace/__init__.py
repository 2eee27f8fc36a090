"""Algorithmic cores: the few dimensions through which a model computes, extracted, compared across models and followed in time.

    core = ace.extract(model, task, "blocks.0.hook_resid_post")
    with core.remove().applied(model):
        logits = model(task.tokens)

"Transformers converge to invariant algorithmic cores" (arXiv 2602.22600).
"""

from grokinterp.ace.agreement import (
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
    verb_logits,
    verb_probabilities,
)
from grokinterp.ace.agreement_sweep import agreement_sweep, best_core, random_core
from grokinterp.ace.compare import Alignment, Consensus, align, canonical_correlations, consensus, overlap, principal_angles
from grokinterp.ace.core import Core, Project
from grokinterp.ace.dynamics import CyclicDynamics, SequenceDynamics, class_means, cyclic_dynamics, sequence_dynamics
from grokinterp.ace.extract import energy_rank, extract, from_matrices
from grokinterp.ace.generation import Generation, generate
from grokinterp.ace.measures import ace as measure
from grokinterp.ace.moments import Moments
from grokinterp.ace.size import CoreSize, size
from grokinterp.ace.tail import Tail

__all__ = [
    "Alignment",
    "Consensus",
    "Core",
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
    "verb_logits",
    "verb_probabilities",
]
