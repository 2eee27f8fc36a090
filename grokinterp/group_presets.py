"""The set-up of the papers on groups as a run configuration; `grokinterp.presets` has it with the others."""

from __future__ import annotations

from grokinterp import groups
from grokinterp.models.baseline_configs import TwoSidedMLPConfig
from grokinterp.tasks import TaskConfig
from grokinterp.training.config import CheckpointSchedule, RunConfig
from grokinterp.training.optimizers import AdamW

_SHARES = {"S_5": 0.4, "S_6": 0.25, "A_5": 0.5}  # of pairs to train on; 0.3 of all other groups


def groups2023(group: str = "S_5", seed: int = 0, train_fraction: float | None = None, steps: int = 250_000) -> RunConfig:
    """The MLP of "A Toy Model of Universality" (arXiv 2302.03025) on composition in a group: full batch, no biases, two embeddings.

    On the CPU the split, the weights and their first steps are the published ones, seed for seed. Evaluated every 100 epochs (chosen here).

    Args:
        group: "Z_113", "D_59", "S_5", "S_6" or "A_5" in the paper; any that `groups.named` knows. S_5, S_6 and A_5 are numbered as published.
        seed: of the split and of the initial weights.
        train_fraction: share of all pairs that is trained on; None for the paper's, 0.4 of S_5, 0.25 of S_6, 0.5 of A_5, and 0.3 of any other.
        steps: updates at most (full batch, so steps are epochs).
    """
    name = groups.named(group).name  # however it is spelled
    numbering = "published" if name in _SHARES else "own"
    task = {"group": group, "equals": False, "separate": True, "numbering": numbering}
    return RunConfig(
        task=TaskConfig("composition", task, _SHARES.get(name, 0.3) if train_fraction is None else train_fraction, split_seed=seed),
        model=TwoSidedMLPConfig(),
        optimizer=AdamW(lr=1e-3, weight_decay=1.0, betas=(0.9, 0.98)),
        steps=steps,
        seed=seed,
        eval_every=100,
        checkpoints=CheckpointSchedule(every=1_000),
    )
