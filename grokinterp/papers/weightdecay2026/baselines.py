"""The architecture table of arXiv 2605.20441: at which weight decay models without attention grok.

Times are epochs. The λ of the paper's seven settings are not stated; under "full" they are those of its multi-task table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from grokinterp import presets
from grokinterp.laws import onset
from grokinterp.laws.drawing import draw, line
from grokinterp.models import LSTMConfig, MambaConfig, MLPConfig
from grokinterp.models.baseline_configs import Baselines
from grokinterp.models.transformers import build_model, trained_parameters
from grokinterp.papers.claims import Budget, Measurement
from grokinterp.papers.tables import RUN
from grokinterp.papers.training import finished_runs
from grokinterp.papers.weightdecay2026.claims import BASELINES, MULTITASK_DECAYS, SMALLER_DECAYS
from grokinterp.papers.weightdecay2026.fits import boundary, located
from grokinterp.papers.weightdecay2026.rows import GROK
from grokinterp.plots.lazy import go
from grokinterp.training.config import CheckpointSchedule, RunConfig
from grokinterp.training.runs import Run
from grokinterp.training.sweep import grid

SMALLER: Mapping[str, Baselines] = {  # chosen here: each trains within a minute or two
    "mlp": MLPConfig(d_model=64, d_hidden=128),
    "lstm": LSTMConfig(n_layers=2, d_model=64, d_hidden=128),
    "mamba": MambaConfig(n_layers=2, d_model=64, expand=2, d_state=8),
}
EPOCH = 10  # steps, in all of these
PUBLISHED_EPOCHS = 10_000


def smaller(budget: Budget, seeds: Sequence[int]) -> dict[str, list[RunConfig]]:
    """Three λ and seeds of a smaller model of each architecture; one tiny MLP under "smoke"."""
    if budget == "smoke":
        tiny = _smaller("mlp", p=31, epochs=150, batch_size=77).with_(train_fraction=0.8, lr=1.5e-3)
        return {"mlp": grid(tiny, {"weight_decay": [SMALLER_DECAYS[0], SMALLER_DECAYS[-1]], "seed": [seeds[0]]})}
    settings = {"weight_decay": list(SMALLER_DECAYS), "seed": list(seeds[:3])}
    return {name: grid(_smaller(name), settings) for name in SMALLER}


def as_published(seeds: Sequence[int]) -> dict[str, list[RunConfig]]:
    """The paper's sizes, seven λ and all seeds."""
    settings = {"weight_decay": list(MULTITASK_DECAYS), "seed": list(seeds)}
    return {name: grid(presets.weightdecay2026_baseline(name), settings) for name in presets.ARCHITECTURES}


def _smaller(name: str, p: int = 53, epochs: int = 1_000, batch_size: int = 141) -> RunConfig:
    """In batches such that an epoch has 10 steps, as in the paper."""
    config = presets.weightdecay2026_baseline(name, p=p).with_(model=SMALLER[name], batch_size=batch_size)  # type: ignore[arg-type]
    return config.with_(steps=epochs * EPOCH, eval_every=10 * EPOCH, checkpoints=CheckpointSchedule(every=epochs * EPOCH))


def read(plan: Mapping[str, Sequence[RunConfig]], folder: Path) -> pd.DataFrame:
    """A row each finished run.

    Returns:
        ``run``, ``architecture``, ``weight_decay``, ``seed``; ``memorized`` and ``grok``, the first epochs with a train and a test accuracy of
        0.99, NaN for never; ``followed``, the last epoch, and ``test_accuracy`` there.
    """
    return pd.DataFrame([_row(name, run) for name, configs in plan.items() for run in finished_runs(configs, folder)])


def _row(name: str, run: Run) -> dict[str, Any]:
    metrics, config = run.metrics, run.config
    epochs = metrics["step"] / EPOCH
    return {
        RUN: config.digest,
        "architecture": name,
        "weight_decay": config.optimizer.weight_decay,
        "seed": config.seed,
        "memorized": onset(epochs, metrics["train_accuracy"], GROK, interpolate=False),
        "grok": onset(epochs, metrics["test_accuracy"], GROK, interpolate=False),
        "followed": float(epochs.iloc[-1]),
        "test_accuracy": float(metrics["test_accuracy"].iloc[-1]),
    }


def measure_smaller(table: pd.DataFrame) -> dict[str, Measurement]:
    """Which share of the smaller models of each architecture groks at the smallest and largest λ, and in which order."""
    found = {}
    for name, own in table.groupby("architecture"):
        rates = own["grok"].notna().groupby(own["weight_decay"]).mean()
        times = own.groupby("weight_decay")["grok"].mean()
        note = ", ".join(f"λ = {decay:g}: {rate:.2g}{_at(time)}" for (decay, rate), time in zip(rates.items(), times, strict=True))
        n = own.groupby("weight_decay").size().min()
        found[f"smaller_{name}_low"] = Measurement(float(rates.iloc[0]), n=int(n), note=note)
        found[f"smaller_{name}_high"] = Measurement(float(rates.iloc[-1]), n=int(n), note=note)
    largest = table[table["weight_decay"] == table["weight_decay"].max()].groupby("architecture")["grok"].mean()
    if set(BASELINES) <= set(largest.dropna().index):
        order = sorted(BASELINES, key=lambda name: float(largest[name]))
        expected = sorted(BASELINES, key=lambda name: BASELINES[name].boundary)
        words = " before ".join(f"{BASELINES[name].name} ({largest[name]:.0f})" for name in order)
        found["smaller_probes_order"] = Measurement(float(order == expected), n=len(table), note=f"mean epochs at the largest λ: {words}")
    return found


def _at(epoch: float) -> str:
    return "" if math.isnan(epoch) else f" (mean epoch {epoch:.0f})"


def measure_published(table: pd.DataFrame) -> dict[str, Measurement]:
    """λ_c and grokking runs of the paper's own sizes."""
    found = {}
    for name, own in table.groupby("architecture"):
        law = boundary(own, [PUBLISHED_EPOCHS]).logistic
        found[f"boundary_{name}"] = located(law, len(own))
        found[f"grokked_{name}"] = Measurement(float(own["grok"].notna().sum()), n=len(own))
    return found


def measure_parameters() -> dict[str, Measurement]:
    """Parameters of the models whose number the paper gives."""
    configs = {name: presets.weightdecay2026_baseline(name) for name, row in BASELINES.items() if row.counted}  # type: ignore[arg-type]
    return {f"parameters_{name}": Measurement(n_parameters(config)) for name, config in configs.items()}


def n_parameters(config: RunConfig) -> int:
    """How many numbers a training changes."""
    model = build_model(config.model, config.task.build(), config.seed)
    return sum(parameter.numel() for parameter in trained_parameters(model).values())


def figure(plan: Mapping[str, Sequence[RunConfig]], folder: Path) -> go.Figure:
    """Test accuracy of the first seed of each architecture and λ."""
    styles = ("dot", "dash", "solid")
    lines = []
    for i, (name, configs) in enumerate(plan.items()):
        first = [config for config in configs if config.seed == configs[0].seed]
        for config, style in zip(first, styles * len(first)):
            metrics, decay = Run(folder / config.digest).metrics, config.optimizer.weight_decay
            lines.append(line((metrics["step"] / EPOCH).to_numpy(), metrics["test_accuracy"].to_numpy(), f"{name}, λ = {decay:g}", i, style))
    caption = "A model without attention groks too, sooner the larger λ; a run ends when its test accuracy reaches 0.99. One seed each."
    return draw("Grokking without attention", caption, lines, "epochs", "test accuracy")
