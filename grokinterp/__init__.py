"""A laboratory for how transformers come to compute.

    run = grokinterp.train(grokinterp.presets.nanda2023(p=113, seed=0), "runs/nanda")
    report = grokinterp.analyze(run, ["progress"])
    report.plot()

Names are imported when first used, so that ``import grokinterp`` and ``grokinterp --help`` stay fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grokinterp import ace, interventions, laws, presets, tasks
    from grokinterp.analysis import MEASURES, Report, analyze, when
    from grokinterp.errors import GrokinterpError
    from grokinterp.interventions import (
        ClipNorm,
        CosineUnembed,
        FourierAblation,
        FourierInit,
        FreezeHeads,
        Intervention,
        MeanPool,
        NoAttention,
        PostNorm,
        ReinitialiseHeads,
        ResetHeadMoments,
        Sphere,
        UniformAttention,
    )
    from grokinterp.measures import fsd, heads
    from grokinterp.models import LSTMConfig, MambaConfig, MLPConfig, ModelConfig, load_model, published
    from grokinterp.papers import reproduce
    from grokinterp.snapshot import Snapshot
    from grokinterp.tasks import Task, TaskConfig
    from grokinterp.training.config import CheckpointSchedule, OptimizerConfig, RunConfig
    from grokinterp.training.fork import fork
    from grokinterp.training.runs import Run
    from grokinterp.training.sweep import grid, sweep
    from grokinterp.training.trackers import Tracker, Wandb
    from grokinterp.training.train import train

__version__ = "0.1.0"

# Public name -> where it lives; a module where the part after the colon is empty.
_PUBLIC = {
    "CheckpointSchedule": "grokinterp.training.config:CheckpointSchedule",
    "ClipNorm": "grokinterp.interventions:ClipNorm",
    "CosineUnembed": "grokinterp.interventions:CosineUnembed",
    "FourierAblation": "grokinterp.interventions:FourierAblation",
    "FourierInit": "grokinterp.interventions:FourierInit",
    "FreezeHeads": "grokinterp.interventions:FreezeHeads",
    "GrokinterpError": "grokinterp.errors:GrokinterpError",
    "Intervention": "grokinterp.interventions:Intervention",
    "MEASURES": "grokinterp.analysis:MEASURES",
    "MeanPool": "grokinterp.interventions:MeanPool",
    "LSTMConfig": "grokinterp.models:LSTMConfig",
    "MLPConfig": "grokinterp.models:MLPConfig",
    "MambaConfig": "grokinterp.models:MambaConfig",
    "ModelConfig": "grokinterp.models:ModelConfig",
    "NoAttention": "grokinterp.interventions:NoAttention",
    "OptimizerConfig": "grokinterp.training.config:OptimizerConfig",
    "PostNorm": "grokinterp.interventions:PostNorm",
    "ReinitialiseHeads": "grokinterp.interventions:ReinitialiseHeads",
    "Report": "grokinterp.analysis:Report",
    "ResetHeadMoments": "grokinterp.interventions:ResetHeadMoments",
    "Run": "grokinterp.training.runs:Run",
    "RunConfig": "grokinterp.training.config:RunConfig",
    "Snapshot": "grokinterp.snapshot:Snapshot",
    "Sphere": "grokinterp.interventions:Sphere",
    "Task": "grokinterp.tasks:Task",
    "TaskConfig": "grokinterp.tasks:TaskConfig",
    "Tracker": "grokinterp.training.trackers:Tracker",
    "UniformAttention": "grokinterp.interventions:UniformAttention",
    "Wandb": "grokinterp.training.trackers:Wandb",
    "ace": "grokinterp.ace:",
    "analyze": "grokinterp.analysis:analyze",
    "fork": "grokinterp.training.fork:fork",
    "fsd": "grokinterp.measures.fsd:",
    "grid": "grokinterp.training.sweep:grid",
    "heads": "grokinterp.measures.heads:",
    "interventions": "grokinterp.interventions:",
    "laws": "grokinterp.laws:",
    "load_model": "grokinterp.models.pretrained:load_model",
    "presets": "grokinterp.presets:",
    "published": "grokinterp.models.published:",
    "reproduce": "grokinterp.papers:reproduce",
    "sweep": "grokinterp.training.sweep:sweep",
    "tasks": "grokinterp.tasks:",
    "train": "grokinterp.training.train:train",
    "when": "grokinterp.analysis:when",
}

__all__ = [
    "MEASURES",
    "CheckpointSchedule",
    "ClipNorm",
    "CosineUnembed",
    "FourierAblation",
    "FourierInit",
    "FreezeHeads",
    "GrokinterpError",
    "Intervention",
    "LSTMConfig",
    "MLPConfig",
    "MambaConfig",
    "MeanPool",
    "ModelConfig",
    "NoAttention",
    "OptimizerConfig",
    "PostNorm",
    "ReinitialiseHeads",
    "Report",
    "ResetHeadMoments",
    "Run",
    "RunConfig",
    "Snapshot",
    "Sphere",
    "Task",
    "TaskConfig",
    "Tracker",
    "UniformAttention",
    "Wandb",
    "ace",
    "analyze",
    "fork",
    "fsd",
    "grid",
    "heads",
    "interventions",
    "laws",
    "load_model",
    "presets",
    "published",
    "reproduce",
    "sweep",
    "tasks",
    "train",
    "when",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'grokinterp' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
