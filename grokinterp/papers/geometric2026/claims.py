"""What "The Geometric Inductive Bias of Grokking" (arXiv 2603.05228, v3) reports: its claims, in ``claims.csv``, and the arms that they are about.

Mean onsets are accepted within two standard errors of the difference between the paper's mean over ten seeds and ours, and one interval of its
grid below; a seed names other draws in the trial runs, so there means are compared too.
"""

from __future__ import annotations

from typing import NamedTuple

GRID = 200  # epochs between the paper's evaluations


class Onset(NamedTuple):
    """Epochs to grokking over the seeds that grok: mean and standard deviation."""

    mean: int
    sd: int


ONSETS = {
    "layer-1-1e-4": Onset(54_160, 13_490),
    "layer-1-6e-4": Onset(7_800, 1_095),
    "rms-1-1e-4": Onset(51_240, 11_200),
    "rms-1-6e-4": Onset(7_300, 925),
    "sphere-1-1e-4": Onset(2_400, 353),
    "sphere-1-6e-4": Onset(1_560, 853),
    "sphere-0-1e-4": Onset(2_480, 464),
    "sphere-0-6e-4": Onset(820, 199),
    "fourier-1-1e-4": Onset(2_120, 368),
    "fourier-1-6e-4": Onset(800, 163),
    "fourier-0-1e-4": Onset(2_100, 316),
    "fourier-0-6e-4": Onset(711, 203),
}
MULTIPLICATION = {"mul-layer-1": 28_220, "mul-rms-1": 31_360, "mul-sphere-1": 2_320, "mul-sphere-0": 2_200}
PERFECT = ("uniform-layer-1-b98", "uniform-sphere-1-b98", "uniform-sphere-0-b98")  # asked whether they reach 100 %
S5_ONSETS = {"s5-layer-1": Onset(39_900, 11_942), "s5-rms-1": Onset(38_250, 23_600)}
S5 = ("s5-layer-1", "s5-rms-1", "s5-sphere-1", "s5-sphere-0")
S5_UNIFORM = ("s5-uniform-layer-1", "s5-uniform-rms-1", "s5-uniform-sphere-1", "s5-uniform-sphere-0")
TRIALS = ("sphere-1-6e-4", "sphere-0-6e-4")  # three runs each, apart from the paper, looked at every 50 epochs
FREE_AT = 2_400  # the epoch at which a trial run with a free W_U was looked at
RATIOS = {  # mean onset of one arm over that of another, by the claim's id
    "speed_up_6e_4": ("layer-1-6e-4", "sphere-0-6e-4"),
    "speed_up_with_decay_6e_4": ("layer-1-6e-4", "sphere-1-6e-4"),
    "speed_up_1e_4": ("layer-1-1e-4", "sphere-0-1e-4"),
    "speed_up_with_decay_1e_4": ("layer-1-1e-4", "sphere-1-1e-4"),
    "speed_up_without_decay": ("layer-0-6e-4", "sphere-0-6e-4"),
    "decay_slows_6e_4": ("sphere-1-6e-4", "sphere-0-6e-4"),
    "decay_slows_1e_4": ("sphere-1-1e-4", "sphere-0-1e-4"),
    "free_1": ("free-1-6e-4", "sphere-1-6e-4"),
    "free_0": ("free-0-6e-4", "sphere-0-6e-4"),
    "beta2_layer_1": ("uniform-layer-1-b98", "uniform-layer-1-b999"),
    "beta2_learned_layer_1": ("layer-1-1e-4-b98", "layer-1-1e-4"),
    "beta2_sphere_1": ("uniform-sphere-1-b98", "uniform-sphere-1-b999"),
    "beta2_learned_sphere_1": ("sphere-1-1e-4-b98", "sphere-1-1e-4"),
    "beta2_sphere_0": ("uniform-sphere-0-b98", "uniform-sphere-0-b999"),
    "beta2_learned_sphere_0": ("sphere-0-1e-4-b98", "sphere-0-1e-4"),
    "uniform_sooner": ("uniform-layer-1-b999", "layer-1-1e-4"),
}


def tag(arm: str) -> str:
    """An arm as part of a claim's id."""
    return arm.replace("-", "_")
