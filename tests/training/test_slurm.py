"""Runs as jobs of a SLURM cluster, through submitit; `tests/slurm/cluster.sh up` makes one of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from test_sweep import fingerprints, tiny  # noqa: F401  (the fixture)

from grokinterp import RunConfig
from grokinterp.training.sweep import grid, sweep

UP = "a SLURM cluster is needed: `tests/slurm/cluster.sh up` as root, and `pip install submitit`"


@pytest.fixture
def executor(tmp_path: Path) -> Any:
    submitit = pytest.importorskip("submitit", reason=UP)
    if shutil.which("sinfo") is None or "SLURM_CONF" not in os.environ or subprocess.run(["sinfo"], capture_output=True).returncode:
        pytest.skip(UP)
    made = submitit.AutoExecutor(folder=tmp_path / "logs", cluster="slurm")
    made.update_parameters(timeout_min=10, cpus_per_task=1)
    return made


@pytest.mark.filterwarnings("ignore")
def test_jobs_of_a_cluster_give_the_same_bits(tiny: RunConfig, tmp_path: Path, executor: Any) -> None:  # noqa: F811
    configs = grid(tiny.with_(steps=50), {"weight_decay": [0.5, 1], "seed": range(2)})
    table = sweep(configs, tmp_path / "slurm", executor=executor, progress_bar=False)
    assert table["state"].tolist() == ["finished"] * 4
    assert len(list((tmp_path / "logs").glob("*_submission.sh"))) == 4
    sweep(configs, tmp_path / "here", workers=0, progress_bar=False)
    assert fingerprints(configs, tmp_path / "slurm") == fingerprints(configs, tmp_path / "here")
