"""What is read off the trainings of arXiv 2306.17844: one row a run at its end, and the measures at every checkpoint. No claims here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from grokinterp.interventions import AttentionRate
from grokinterp.measures.algorithm import algorithm
from grokinterp.measures.circles import circle_frequencies, circle_shares, isolated_circles
from grokinterp.measures.equivalent import CANDIDATES, loss_recovered
from grokinterp.measures.verdicts import stretches, verdict, verdicts
from grokinterp.models.transformers import ModelConfig, trained_parameters
from grokinterp.papers.tables import RUN
from grokinterp.papers.training import finished_runs, measured
from grokinterp.snapshot import Snapshot
from grokinterp.training.config import RunConfig
from grokinterp.training.runs import Run

MEASURED = ["gradient_symmetricity", "distance_irrelevance", "distance_irrelevance_wrong", "right_answers"]
KINDS = ("clock", "pizza")


def read(configs: Sequence[RunConfig], folder: Path) -> dict[str, pd.DataFrame]:
    """Finished runs of a folder of run folders: a row each, and a row for each of their checkpoints.

    Returns:
        - ``runs``: ``alpha``, ``seed``, ``epochs``; at the end the variables of `algorithm` on the 100 published triples, the smaller ``circularity``
          of both operands, ``verdict``; ``reads_from``, the first kept epoch of the last stretch with that verdict; ``turned``, whether it was both
          a clock and a pizza on the way; ``loss`` over all pairs and ``norm`` of the weights; ``recovered_`` clock, pizza and hybrid at the
          neurons' inputs; ``isolated_`` clock and pizza, the FVE of the strongest circle alone
        - ``curves``: ``alpha``, ``seed``, ``step``, the variables of `algorithm`, ``circularity`` and ``verdict``
    """
    rows, curves = [], []
    for run in finished_runs(configs, folder):
        facts = {RUN: run.config.digest, "alpha": alpha_of(run.config), "seed": run.config.seed}
        dataset = measured(run, ["algorithm"], "algorithm").dataset
        read_as = verdicts(dataset)
        values = {name: dataset[name].to_numpy() for name in MEASURED} | {"circularity": dataset["circularity"].min("operand").to_numpy()}
        curves.append(pd.DataFrame({**facts, "step": dataset["step"].to_numpy(), **values, "verdict": read_as}))
        history = {"reads_from": stretches(dataset)[-1][0], "turned": {*KINDS} <= {*read_as}}
        rows.append({**facts, "epochs": run.steps[-1], **at_end(run), **history})
    return {"runs": pd.DataFrame(rows), "curves": pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()}


def alpha_of(config: RunConfig) -> float:
    """The attention rate of a run of `presets.pizza2023`."""
    assert isinstance(config.model, ModelConfig)
    rate = config.model.intervention(AttentionRate)
    assert rate is not None
    return rate.alpha


def at_end(run: Run) -> dict[str, Any]:
    """What the last checkpoint of a run says."""
    snapshot = Snapshot(run.model(), run.task, run.steps[-1])
    found = algorithm(snapshot, "published")
    keys = circle_frequencies(snapshot)
    strongest = np.array([int(circle_shares(snapshot).argmax()) + 1])
    alone = isolated_circles(snapshot, strongest).isel(circle=0)["isolated_fve"]
    circles = tuple(int(k) for k in keys)
    recovered = {f"recovered_{name}": loss_recovered(snapshot, kind(circles)).recovered for name, kind in CANDIDATES.items()}
    squares = sum(float(weight.detach().double().square().sum()) for weight in trained_parameters(snapshot.model).values())
    with torch.no_grad():
        loss = float(cross_entropy(snapshot.outputs, run.task.answers))
    return {
        **{name: float(found[name]) for name in MEASURED},
        "circularity": float(found["circularity"].min()),
        "verdict": verdict(found).partition(":")[0],
        "n_circles": len(keys),
        "loss": loss,
        "norm": math.sqrt(squares),
        **recovered,
        **{f"isolated_{form}": float(alone.sel(form=form)) for form in KINDS},
    }
