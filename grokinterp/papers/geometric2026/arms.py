"""The arms of arXiv 2603.05228 and of its traps as configurations, those that are cheap and tell most first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from grokinterp import presets
from grokinterp.training.config import RunConfig

SEEDS = tuple(range(1, 11))  # the paper's
PERFECT = "test_accuracy >= 1 for 2"  # where the peak is asked for, a run ends at its highest possible one


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seed alone.

    Attributes:
        words: what it is, for tables.
        settings: of `presets.geometric2026`, or of `presets.geometric2026_s5`.
        horizon: epochs at most; several standard deviations above the published onset where there is one.
        n_cpu: seeds under the "cpu" budget; 0 for none. "full" has all ten.
        horizon_cpu: epochs at most under "cpu", where fewer.
        s5: composition in S5 instead of arithmetic.
        stop: when a run ends, where otherwise than in the preset.
    """

    words: str
    settings: Mapping[str, Any]
    horizon: int
    n_cpu: int = 0
    horizon_cpu: int | None = None
    s5: bool = False
    stop: str | None = None

    def configs(self, seeds: Sequence[int], horizon: int | None = None) -> list[RunConfig]:
        """One configuration a seed."""
        preset: Any = presets.geometric2026_s5 if self.s5 else presets.geometric2026
        configs = [preset(**self.settings, seed=seed, steps=horizon or self.horizon) for seed in seeds]
        return [config if self.stop is None else config.with_(stop=self.stop) for config in configs]


STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "layer": ("LayerNorm", {"arm": "layer"}),
    "rms": ("RMSNorm", {"arm": "rms"}),
    "sphere": ("sphere", {"arm": "sphere"}),
    "fourier": ("sphere with Fourier initialisation", {"arm": "sphere", "fourier": True}),
    "free": ("sphere with a free W_U and no temperature", {"arm": "sphere", "cosine_unembed": False}),
}


def _arm(stream: str, decay: int, lr: str, horizon: int, n_cpu: int = 0, words: str = "", **more: Any) -> Arm:
    """A row of the paper's table; further settings are the preset's."""
    name, settings = STREAMS[stream]
    words = f"{name}, λ = {decay}, lr {lr}{words}"
    return Arm(words, {**settings, "weight_decay": float(decay), "lr": float(lr), **more}, horizon, n_cpu)


def _spheres() -> Iterator[tuple[str, Arm]]:
    for stream, decay, n_cpu in (("sphere", 1, 10), ("sphere", 0, 10), ("fourier", 1, 5), ("fourier", 0, 5)):
        yield f"{stream}-{decay}-6e-4", _arm(stream, decay, "6e-4", 6_000, n_cpu)
    for stream, decay, n_cpu in (("sphere", 0, 2), ("sphere", 1, 3), ("fourier", 1, 3), ("fourier", 0, 3)):
        yield f"{stream}-{decay}-1e-4", _arm(stream, decay, "1e-4", 6_000, n_cpu)


def _baselines() -> Iterator[tuple[str, Arm]]:
    """What the spheres are compared with: LayerNorm with and without decay, and the sphere without its bounded read-out."""
    for decay in (1, 0):
        yield f"layer-{decay}-6e-4", _arm("layer", decay, "6e-4", 12_000, 5)
    for decay in (1, 0):
        yield f"free-{decay}-6e-4", _arm("free", decay, "6e-4", 6_000, 5)


def _multiplication() -> Iterator[tuple[str, Arm]]:
    """All with the cosine unembedding; the learning rate is not stated, and the sphere's onsets are those of 1e-4 (chosen here)."""
    for stream, decay, horizon, n_cpu in (("sphere", 1, 6_000, 3), ("sphere", 0, 6_000, 3), ("layer", 1, 80_000, 1), ("rms", 1, 80_000, 1)):
        words = ", multiplication, normalised W_U"
        yield f"mul-{stream}-{decay}", _arm(stream, decay, "1e-4", horizon, n_cpu, words, operation="multiplication")


def _uniform() -> Iterator[tuple[str, Arm]]:
    """Uniform attention at both β2, and the sphere's learned attention at the smaller one, which crosses the two."""
    for stream, decay in (("sphere", 0), ("layer", 1), ("sphere", 1)):
        for name, beta2 in (("b98", 0.98), ("b999", 0.999)):
            arm = _arm(stream, decay, "1e-4", 20_000, 2, f", β2 {beta2}, uniform attention", uniform_attention=True, beta2=beta2)
            yield f"uniform-{stream}-{decay}-{name}", replace(arm, stop=PERFECT)
        learned = _arm(stream, decay, "1e-4", 100_000 if stream == "layer" else 6_000, 2 if stream == "sphere" else 0, ", β2 0.98", beta2=0.98)
        yield f"{stream}-{decay}-1e-4-b98", learned


def _s5() -> Iterator[tuple[str, Arm]]:
    """The published arms, then other learning rates and temperatures; under "cpu" for the first 4,000 of 100,000 epochs."""
    for stream, decay, n_cpu in (("layer", 1, 1), ("sphere", 0, 1), ("sphere", 1, 1), ("rms", 1, 0)):
        yield f"s5-{stream}-{decay}", _on_s5(stream, decay, n_cpu)
    yield "s5-layer-1-lr3e-4", _on_s5("layer", 1, 1, lr=3e-4)
    for lr, temperature in ((1e-3, 5.0), (1e-3, 30.0), (3e-4, 5.0), (3e-4, 10.0), (3e-4, 30.0)):
        yield f"s5-sphere-0-lr{_short(lr)}-t{temperature:g}", _on_s5("sphere", 0, 1, lr=lr, temperature=temperature)
    for stream, decay in (("layer", 1), ("rms", 1), ("sphere", 1), ("sphere", 0)):
        yield f"s5-uniform-{stream}-{decay}", replace(_on_s5(stream, decay, 0, uniform_attention=True), stop=PERFECT)


def _on_s5(stream: str, decay: int, n_cpu: int, **more: Any) -> Arm:
    name, settings = STREAMS[stream]
    lr, temperature = more.get("lr", 1e-3), f", temperature {more.get('temperature', 10.0):g}" if stream == "sphere" else ""
    words = f"S5, {name}, λ = {decay}, lr {_short(lr)}{temperature}{', uniform attention' if more.get('uniform_attention') else ''}"
    return Arm(words, {**settings, "weight_decay": float(decay), **more}, 100_000, n_cpu, horizon_cpu=4_000, s5=True)


def _short(lr: float) -> str:
    """A learning rate as the paper writes it: 1e-3."""
    return f"{lr:.0e}".replace("e-0", "e-")


def _slow() -> Iterator[tuple[str, Arm]]:
    """What takes longest, and the paper's other baseline."""
    yield "layer-1-1e-4", _arm("layer", 1, "1e-4", 100_000, 2)
    yield "rms-1-6e-4", _arm("rms", 1, "6e-4", 12_000, 5)
    yield "rms-1-1e-4", _arm("rms", 1, "1e-4", 100_000, 1)


ARMS: dict[str, Arm] = dict([*_spheres(), *_multiplication(), *_baselines(), *_uniform(), *_s5(), *_slow()])
