"""The cores of models that learn a Markov chain (arXiv 2602.22600): what is read off each, and what two of them share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from grokinterp import ace
from grokinterp.papers.cores2026.runs import Plan
from grokinterp.papers.tables import NOTHING, RUN, Tables, not_known
from grokinterp.papers.training import finished_runs, train_all
from grokinterp.snapshot import Snapshot
from grokinterp.training.runs import Run

ENERGY = 0.999
N_JACOBIANS = 1_000  # where the tail is not linear
RESIDUAL, NORMALIZED = "blocks.0.hook_resid_post", "ln_final.hook_normalized"
ARMS = {"post": ("post", RESIDUAL), "pre_normalized": ("pre", NORMALIZED), "pre_residual": ("pre", RESIDUAL)}  # by normalisation and hook


@dataclass(frozen=True, eq=False)
class ChainCore:
    """The core of one Markov model at one hook, its coordinates on the test sequences [position of a sequence, rank], and its weights."""

    core: ace.Core
    coordinates: Tensor
    weights: Tensor


def chains(plan: Plan, folder: Path, tables: Tables = NOTHING, train: bool = True) -> dict[str, pd.DataFrame]:
    """Train the Markov models, all of them or, where tables know all, none, since every two are compared; and read the cores of those in the folder.

    Returns:
        ``markov``, a row each arm, learning rate and seed: ``run``, ``rank``, ``base``, ``keep``, ``remove`` (accuracies at every position of the
        test sequences), ``real``, ``imaginary``, ``third`` (eigenvalues), ``r2_of_oracle``, ``energy_1`` … (cumulative shares);
        and ``markov-pairs``, a row each arm, learning rate and pair of seeds: ``overlap``, ``angle_1`` … in degrees, ``cca_1`` …, and ``weights``,
        a cosine.
    """
    if train and not_known(plan.chains.values(), tables.get("markov")):
        train_all(list(plan.chains.values()), folder, **plan.how)
    runs = {chain: run for chain, config in plan.chains.items() for run in finished_runs([config], folder)}
    seeds, pairs = [], []
    for arm, (normalization, hook) in ARMS.items():
        own = {chain: run for chain, run in runs.items() if chain.normalization == normalization}
        cores = {chain: core_of(run, hook) for chain, run in own.items()}
        seeds += [{RUN: run.config.digest, "arm": arm, "lr": chain.lr, "seed": chain.seed} | chain_numbers(run, hook) for chain, run in own.items()]
        for one, other in combinations(cores, 2):
            if one.lr == other.lr:
                both = {RUN: own[one].config.digest, "other_run": own[other].config.digest}
                pairs.append({**both, "arm": arm, "lr": one.lr, "seed": one.seed, "other": other.seed} | compared(cores[one], cores[other]))
    return {"markov": pd.DataFrame(seeds), "markov-pairs": pd.DataFrame(pairs)}


def chain_numbers(run: Run, hook: str) -> dict[str, float]:
    """The numbers of a trained Markov model's core at a hook."""
    measure = partial(ace.measure, hook=hook, energy=ENERGY, refined=False, split="test", n_jacobians=N_JACOBIANS)
    with torch.no_grad():
        found = measure(Snapshot(run.model(), run.task, run.steps[-1]))
    values = found["core_eigenvalue"].to_numpy() @ np.array([1, 1j])
    turning, standing = values[values.imag > 1e-9], values[np.abs(values.imag) <= 1e-9].real
    pair = turning[0] if len(turning) else complex(math.nan, math.nan)
    accuracy = dict(zip(("base", "keep", "remove"), found["core_accuracy"].to_numpy().tolist(), strict=True))
    return {
        "rank": float(found["core_size"].sel(rank="energy")),
        **accuracy,
        "real": float(pair.real),
        "imaginary": float(pair.imag),
        "third": float(standing.max()) if len(standing) else math.nan,
        "r2_of_oracle": float(found["core_r2_of_oracle"]),
        **{f"energy_{i}": float(share) for i, share in enumerate(found["core_energy"][:8], 1)},
    }


def core_of(run: Run, hook: str) -> ChainCore:
    """A trained Markov model's core, from all positions of the test sequences."""
    model, task = run.model(), run.task
    core = ace.extract(model, task, hook, energy=ENERGY, split="test", n_jacobians=N_JACOBIANS)
    z = core.project(ace.Tail(model, hook).activations(task.tokens[task.indices("test")])).flatten(0, 1)
    weights = torch.cat([weight.flatten() for weight in run.weights().values() if weight.ndim > 1])
    return ChainCore(core, z, weights)


def compared(one: ChainCore, other: ChainCore) -> dict[str, float]:
    """What two cores share: directions, coordinates, weights."""
    angles = ace.principal_angles(one.core, other.core)
    correlations = ace.canonical_correlations(one.coordinates, other.coordinates)
    return {
        "overlap": ace.overlap(one.core, other.core),
        **{f"angle_{i}": float(angle) for i, angle in enumerate(angles, 1)},
        **{f"cca_{i}": float(correlation) for i, correlation in enumerate(correlations, 1)},
        "weights": float(torch.cosine_similarity(one.weights, other.weights, dim=0)),
    }
