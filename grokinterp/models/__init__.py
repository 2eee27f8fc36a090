"""WHO learns it: toy transformers from presets, other architectures, checkpoints that others published, and pretrained GPT-2.

This is the only folder that touches TransformerLens's classes; the rest of the package speaks to a model through its
``cfg``, hook names, ``hooks()``, ``run_with_hooks`` and weights.
"""

from grokinterp.models.baseline_configs import LSTMConfig, MambaConfig, MLPConfig, TwoSidedMLPConfig
from grokinterp.models.pretrained import load_model
from grokinterp.models.transformers import ModelConfig, build_model, initialise, load_weights, trained_parameters

__all__ = [
    "LSTMConfig",
    "MLPConfig",
    "MambaConfig",
    "ModelConfig",
    "TwoSidedMLPConfig",
    "build_model",
    "initialise",
    "load_model",
    "load_weights",
    "trained_parameters",
]
