"""Golden values: what a version measures on run folders that are kept beside this file.

``python tests/golden/make.py`` trains the small runs where they are missing and writes golden.json. The committed files were written before the
rooms of the package were rebuilt; `test_golden.py` reads the same runs and compares. They are made again only when a number is meant to change.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

import grokinterp as gi
from grokinterp import presets
from grokinterp.papers.geometric2026.arms import ARMS, SEEDS
from grokinterp.papers.weightdecay2026.runs import plan
from grokinterp.training.config import RunConfig

HERE = Path(__file__).parent
MEASURES = ["progress", "spectrum", "fsd", "filtered_loss", "heads"]


def configs() -> dict[str, RunConfig]:
    """A cyclic task under LayerNorm and without, a sphere with uniform attention, and a symmetric group: each a few kilobytes."""
    small = {"model.d_model": 16, "model.d_mlp": 32, "steps": 40, "eval_every": 20, "checkpoints.every": 20}
    return {
        "addition": presets.nanda2023(p=13, seed=0).with_(**small),
        "two_layers": presets.fsd2026(p=13).with_(**small),
        "sphere": presets.geometric2026(arm="sphere", uniform_attention=True).with_(**{"task.args": {"p": 13}, "model.n_heads": 2, **small}),
        "composition": presets.geometric2026_s5().with_(**{"task.args": {"n": 3}, "model.n_heads": 2, **small}),
    }


def measured(run: gi.Run) -> dict[str, Any]:
    """Every variable of every measure that applies, by name, and the reasons of those that do not."""
    report = gi.analyze(run, MEASURES, progress_bar=False)
    return {str(name): np.asarray(array.values).tolist() for name, array in report.dataset.data_vars.items() if array.dtype.kind in "fib"}


def digests() -> dict[str, str]:
    """The digest of every preset as it is called without arguments."""
    names = [name for name in vars(presets) if not name.startswith("_") and callable(getattr(presets, name))]
    found = {}
    for name in sorted(names):
        preset = getattr(presets, name)
        if getattr(preset, "__module__", "") == presets.__name__:
            try:
                found[name] = preset().digest
            except TypeError:
                continue  # needs arguments
    return found


def plans() -> dict[str, str]:
    """One hash over the digests of all that a paper trains under its full budget."""
    everything = {"geometric2026": [config for arm in ARMS.values() for config in arm.configs(SEEDS)], "weightdecay2026": [*plan("full").configs]}
    return {paper: hashlib.sha256("".join(sorted(config.digest for config in configs)).encode()).hexdigest() for paper, configs in everything.items()}


if __name__ == "__main__":
    golden: dict[str, Any] = {"digests": digests(), "plans": plans(), "runs": {}}
    for name, config in configs().items():
        run = gi.train(config, HERE / name, progress_bar=False)
        golden["runs"][name] = measured(run)
    (HERE / "golden.json").write_text(json.dumps(golden, indent=None, sort_keys=True))
