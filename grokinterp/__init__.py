"""A laboratory for how transformers come to compute.

    run = grokinterp.train(grokinterp.presets.nanda2023(p=113, seed=0), "runs/nanda")
    report = grokinterp.analyze(run, ["progress"])
    report.plot()

Names are imported when first used, so that ``import grokinterp`` and ``grokinterp --help`` stay fast.
"""

# Names that are imported under their own name are exported to type checkers; isort would give each a statement.
# ruff: isort: skip_file

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the table below, as type checkers can read it
    from grokinterp import ace as ace, interop as interop, interventions as interventions, laws as laws
    from grokinterp import measures as measures, presets as presets, tasks as tasks
    from grokinterp.analysis import analyze as analyze, when as when
    from grokinterp.checkpoints import published as published
    from grokinterp.checkpoints import Checkpoint as Checkpoint, load_checkpoint as load_checkpoint
    from grokinterp.errors import GrokinterpError as GrokinterpError
    from grokinterp.interventions import (
        AttentionRate as AttentionRate,
        ClipNorm as ClipNorm,
        Clock as Clock,
        CosineUnembed as CosineUnembed,
        Equivalent as Equivalent,
        FourierAblation as FourierAblation,
        FourierInit as FourierInit,
        Intervention as Intervention,
        MeanPool as MeanPool,
        NoAttention as NoAttention,
        Pizza as Pizza,
        PostNorm as PostNorm,
        ReinitialiseHeads as ReinitialiseHeads,
        ResetHeadMoments as ResetHeadMoments,
        Sphere as Sphere,
        UniformAttention as UniformAttention,
    )
    from grokinterp.measures import MEASURES as MEASURES, Measure as Measure
    from grokinterp.measures.equivalent import loss_recovered as loss_recovered
    import grokinterp.measures.fsd as fsd  # noqa: F401  (the modules; the names in the room are the measures themselves)
    import grokinterp.measures.heads as heads  # noqa: F401
    from grokinterp.models import (
        LSTMConfig as LSTMConfig,
        MambaConfig as MambaConfig,
        MLPConfig as MLPConfig,
        ModelConfig as ModelConfig,
    )
    from grokinterp.models.pretrained import load_model as load_model
    from grokinterp.papers import reproduce as reproduce
    from grokinterp.reports.comparison import Comparison as Comparison, compare as compare
    from grokinterp.reports.live import Watch as Watch
    from grokinterp.reports.report import Report as Report
    from grokinterp.snapshot import Snapshot as Snapshot
    from grokinterp.tasks import Task as Task, TaskConfig as TaskConfig
    from grokinterp.training.config import CheckpointSchedule as CheckpointSchedule, RunConfig as RunConfig
    from grokinterp.training.optimizers import Adam as Adam, AdamW as AdamW, Optimizer as Optimizer, SGD as SGD
    from grokinterp.training.fork import fork as fork
    from grokinterp.training.runs import Run as Run
    from grokinterp.training.sweep import grid as grid, sweep as sweep
    from grokinterp.training.trackers import Tracker as Tracker, Wandb as Wandb
    from grokinterp.training.train import train as train

__version__ = "0.1.0"

# Public modules, and where each other public name is defined; the imports above say the same to type checkers, and a test compares them.
_MODULES = {name: f"grokinterp.{name}" for name in ("ace", "interop", "interventions", "laws", "measures", "presets", "tasks")}
_MODULES |= {"fsd": "grokinterp.measures.fsd", "heads": "grokinterp.measures.heads", "published": "grokinterp.checkpoints.published"}
_NAMES = {
    "grokinterp.analysis": "analyze when",
    "grokinterp.checkpoints": "Checkpoint load_checkpoint",
    "grokinterp.errors": "GrokinterpError",
    "grokinterp.interventions": "AttentionRate ClipNorm Clock CosineUnembed Equivalent FourierAblation FourierInit Intervention "
    "MeanPool NoAttention Pizza PostNorm ReinitialiseHeads ResetHeadMoments Sphere UniformAttention",
    "grokinterp.measures": "MEASURES Measure",
    "grokinterp.measures.equivalent": "loss_recovered",
    "grokinterp.models": "LSTMConfig MLPConfig MambaConfig ModelConfig",
    "grokinterp.models.pretrained": "load_model",
    "grokinterp.papers": "reproduce",
    "grokinterp.reports.comparison": "Comparison compare",
    "grokinterp.reports.live": "Watch",
    "grokinterp.reports.report": "Report",
    "grokinterp.snapshot": "Snapshot",
    "grokinterp.tasks": "Task TaskConfig",
    "grokinterp.training.config": "CheckpointSchedule RunConfig",
    "grokinterp.training.optimizers": "Adam AdamW Optimizer SGD",
    "grokinterp.training.fork": "fork",
    "grokinterp.training.runs": "Run",
    "grokinterp.training.sweep": "grid sweep",
    "grokinterp.training.trackers": "Tracker Wandb",
    "grokinterp.training.train": "train",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
_ROOMS = {found.name: f"grokinterp.{found.name}" for found in pkgutil.iter_modules(__path__)}

__all__ = sorted([*_MODULES, *_HOME])


def __getattr__(name: str) -> Any:
    """A public name, or a room of the package, imported when it is first asked for."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in (modules := _ROOMS | _MODULES):
        return importlib.import_module(modules[name])
    raise AttributeError(f"module 'grokinterp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS, *(name for name in globals() if name.startswith("__"))})
