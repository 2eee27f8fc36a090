"""Whether several runs hold the same core: its sizes, and how alike its coordinates and directions are, run by run and pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm
from torch import Tensor

from grokinterp.ace.alignment import canonical_correlations, overlap, principal_angles
from grokinterp.ace.core import Core
from grokinterp.ace.dynamics import cyclic_dynamics
from grokinterp.ace.extract import ENERGY, extract
from grokinterp.ace.size import size
from grokinterp.errors import GrokinterpError
from grokinterp.laws.drawing import draw, line, points
from grokinterp.laws.results import Estimate, Result, check_level
from grokinterp.laws.subjects import runs_of
from grokinterp.models.adapter import Adapter
from grokinterp.models.tail import Tail, readout_of
from grokinterp.plots import GREY
from grokinterp.plots.lazy import go
from grokinterp.plots.parts import same_scale
from grokinterp.reports.several import labels
from grokinterp.shapes import Positions
from grokinterp.snapshot import Snapshot
from grokinterp.tasks import Task


@dataclass(frozen=True, eq=False, kw_only=True)
class CoreComparison(Result):
    """The cores of several runs at one hook, on the same inputs.

    Attributes:
        correlation: mean canonical correlation over pairs of runs; the interval is that of a jackknife over blocks of inputs.
        chance: the same with the inputs of one run of each pair shuffled.
        angle: mean principal angle over pairs, in degrees: of directions, which differ between trainings even where the core is the same.
        n_runs: runs compared.
        n_inputs: inputs on which they are.
        hook: where.
        sizes: a row a run: ``energy``, ``necessary`` and ``sufficient`` rank (NaN where no rank is), ``accuracy``, ``keep`` and ``remove``, the
            accuracies whole, with the core alone and without it.
        pairs: a row for each pair of runs: mean ``correlation`` with its limits ``low`` and ``high``, ``chance``, ``smallest`` correlation,
            ``angle``, and ``overlap`` of the directions.
        correlations: by pair, the canonical correlations, descending.
        angles: by pair, the principal angles in degrees, ascending.
        eigenvalues: by run, those of the operator that takes the core round the cycle of answers; none where the task has no cycle.
        cores: by run.
    """

    correlation: Estimate
    chance: float
    angle: float
    n_runs: int
    n_inputs: int
    hook: str
    sizes: pd.DataFrame = field(repr=False)
    pairs: pd.DataFrame = field(repr=False)
    correlations: Mapping[tuple[str, str], np.ndarray] = field(repr=False)
    angles: Mapping[tuple[str, str], np.ndarray] = field(repr=False)
    eigenvalues: Mapping[str, np.ndarray] = field(repr=False)
    cores: Mapping[str, Core] = field(repr=False)

    def figure(self) -> go.Figure:
        """The canonical correlations of each pair of runs, descending."""
        caption = (
            "Each line is a pair of models: at 1 a dimension of the core says the same about the inputs in both. The dotted line is the mean that "
            "shuffled inputs give."
        )
        return self._by_component(self.correlations, "Canonical correlations of cores", caption, "correlation", self.chance)

    def figures(self) -> dict[str, go.Figure]:
        """All figures by name: canonical_correlations, principal_angles, core_sizes and, of a cyclic task, eigenvalues."""
        caption = "Each line is a pair of models. Directions may stand at right angles although the cores say the same: weights differ between runs."
        drawn = {
            "canonical_correlations": self.figure(),
            "principal_angles": self._by_component(self.angles, "Principal angles between cores", caption, "angle (degrees)", 90.0),
            "core_sizes": self._sizes(),
        }
        return drawn | ({"eigenvalues": self._eigenvalues()} if self.eigenvalues else {})

    def _by_component(self, values: Mapping[tuple[str, str], np.ndarray], title: str, caption: str, name: str, level: float) -> go.Figure:
        longest = max(map(len, values.values()))
        lines = [line(np.arange(1, len(each) + 1), each, f"{a} and {b}", i) for i, ((a, b), each) in enumerate(values.items())]
        for each in lines:
            each.update(mode="lines+markers")
        name_of_level = "chance" if level < 2 else "right angle"
        lines.append(line(np.array([1, longest]), np.full(2, level), name_of_level, dash="dot").update(line_color=GREY))
        return draw(title, caption, lines, "component", name).update_yaxes(rangemode="tozero")

    def _sizes(self) -> go.Figure:
        named = [str(name) for name in self.sizes.index]
        dots = [points(self.sizes[kind].to_numpy(float), np.array(named), kind, i) for i, kind in enumerate(("energy", "necessary", "sufficient"))]
        caption = "How many dimensions hold the energy share, how many have to go before accuracy is at chance, and how few alone suffice."
        return draw("Core size by run", caption, dots, "dimensions", "run").update_yaxes(type="category", autorange="reversed")

    def _eigenvalues(self) -> go.Figure:
        dots = [points(each.real, each.imag, run, i) for i, (run, each) in enumerate(self.eigenvalues.items())]
        caption = "Each dot is a mode of a core: on the unit circle it turns for ever, its angle being its frequency; inside it decays."
        return same_scale(draw("Eigenvalues of the cores' operators", caption, dots, "real part", "imaginary part"), circle=True)

    def table(self) -> pd.DataFrame:
        """The pairs, a row each, then the means over pairs."""
        mean = {"a": "mean", "b": "over pairs", "correlation": self.correlation.value, "low": self.correlation.low, "high": self.correlation.high}
        mean |= {"chance": self.chance, **{name: float(self.pairs[name].mean()) for name in ("smallest", "angle", "overlap")}}
        return pd.concat([self.pairs, pd.DataFrame([mean])], ignore_index=True)

    def __str__(self) -> str:
        ranks = " / ".join(str(core.rank) for core in self.cores.values())
        compared = f"{self.n_runs} cores at {self.hook} of ranks {ranks}: mean canonical correlation {self.correlation}, by chance {self.chance:.3g}"
        return f"{compared}; mean principal angle {self.angle:.1f} degrees, over {self.n_inputs:,} inputs"


def compare(
    runs: Any,
    hook: str | None = None,
    *,
    rank: int | None = None,
    energy: float = ENERGY,
    positions: Positions | None = None,
    n_blocks: int = 20,
    seed: int = 0,
    level: float = 0.95,
) -> CoreComparison:
    """Whether several runs hold the same algorithmic core at a hook, and how large it is in each.

    Args:
        runs: at least two runs of one task, their folders, or a folder of runs such as a sweep's; or models by name, as ``{name: (model, task)}``.
        hook: None for the residual stream behind the last block.
        rank: of every core; None for the largest of the runs' energy ranks, so that all cores have one rank.
        energy: share of Σ S² behind the energy rank.
        positions: where the core is sampled; None for where the task's answers are read.
        n_blocks: random blocks of inputs; an interval comes from leaving out each of them in turn. Drawing inputs with replacement would repeat some,
            and repeated inputs raise canonical correlations.
        seed: of the blocks and of the shuffles.
        level: of the intervals.

    Raises:
        GrokinterpError: fewer than two runs or blocks, runs of different tables of inputs, a run that has no core, as one that diverged; an
            unknown hook, a level outside (0, 1).

    Source: "Transformers converge to invariant algorithmic cores" (arXiv 2602.22600), section on invariance; the shuffles and intervals are
    chosen here.
    """
    check_level(level)
    if n_blocks < 2:
        raise GrokinterpError(f"an interval needs at least 2 blocks of inputs to leave out; got n_blocks = {n_blocks}")
    models = _models(runs)
    tasks = [task for _, task in models.values()]
    if len(models) < 2 or any(not torch.equal(task.tokens, tasks[0].tokens) for task in tasks):
        raise GrokinterpError(f"cores are compared across at least 2 runs of one table of inputs; got {', '.join(models) or 'none'}")
    task = tasks[0]
    hook = hook or Adapter(next(iter(models.values()))[0]).residual_hooks()[-1]
    at = readout_of(task) if positions is None else positions
    own = {run: _extracted(run, model, task, hook, energy, at) for run, (model, task) in models.items()}
    common = rank or max(core.rank for core in own.values())
    cores = {run: core.with_rank(common) for run, core in own.items()}
    z = {run: _coordinates(models[run][0], core, task) for run, core in cores.items()}
    rng = np.random.default_rng(seed)
    inputs = len(next(iter(z.values())))
    blocks = np.array_split(rng.permutation(inputs), min(n_blocks, inputs))
    pairs, correlations, angles, without = [], {}, {}, []
    for a, b in combinations(cores, 2):
        correlations[a, b] = canonical_correlations(z[a], z[b]).numpy()
        angles[a, b] = principal_angles(cores[a], cores[b]).numpy()
        without.append(_without_each(z[a], z[b], blocks))
        shuffled = float(canonical_correlations(z[a], z[b][rng.permutation(len(z[b]))]).mean())
        estimate = _jackknife(float(correlations[a, b].mean()), without[-1], level)
        row = {"a": a, "b": b, "correlation": estimate.value, "low": estimate.low, "high": estimate.high, "chance": shuffled}
        row |= {"smallest": float(correlations[a, b].min()), "angle": float(angles[a, b].mean()), "overlap": overlap(cores[a], cores[b])}
        pairs.append(row)
    frame = pd.DataFrame(pairs)
    return CoreComparison(
        correlation=_jackknife(float(frame["correlation"].mean()), np.mean(without, axis=0), level),
        chance=float(frame["chance"].mean()),
        angle=float(frame["angle"].mean()),
        n_runs=len(models),
        n_inputs=inputs,
        hook=hook,
        sizes=pd.DataFrame([_sizes(models[run][0], core, models[run][1], energy) for run, core in cores.items()], index=pd.Index(cores, name="run")),
        pairs=frame,
        correlations=correlations,
        angles=angles,
        eigenvalues=_eigenvalues(models, cores),
        cores=cores,
    )


def _models(runs: Any) -> dict[str, tuple[Any, Task]]:
    """Models with their tasks, by name."""
    if isinstance(runs, Mapping):
        return {str(name): (model, task) for name, (model, task) in runs.items()}
    found = runs_of(runs)
    names = labels([run.config.to_dict() for run in found], [str(run.path) for run in found])
    return {name: (run.model(), run.task) for name, run in zip(names, found, strict=True)}


def _extracted(run: str, model: Any, task: Task, hook: str, energy: float, positions: Positions) -> Core:
    """A run's core; what stands in the way of it names the run."""
    try:
        return extract(model, task, hook, energy=energy, positions=positions)
    except GrokinterpError as error:
        raise GrokinterpError(f"{run}: {error}") from error


def _coordinates(model: Any, core: Core, task: Task) -> Tensor:
    """What the core says about every input of the table, [example, rank]."""
    with torch.no_grad():
        value = Tail(model, core.hook, core.positions, readout_of(task)).activations(task.tokens)
    return core.project(value).flatten(0, -2)


def _without_each(a: Tensor, b: Tensor, blocks: Sequence[np.ndarray]) -> np.ndarray:
    """The mean canonical correlation without each block of inputs."""
    n, found = len(a), []
    for block in blocks:
        kept = torch.ones(n, dtype=torch.bool)
        kept[torch.from_numpy(block)] = False
        found.append(float(canonical_correlations(a[kept], b[kept]).mean()))
    return np.array(found)


def _jackknife(value: float, without: np.ndarray, level: float) -> Estimate:
    """A correlation with the normal interval of the delete-a-block jackknife, within [0, 1]."""
    error = float(np.sqrt((len(without) - 1) * np.mean((without - without.mean()) ** 2)))
    reach = float(norm.ppf((1 + level) / 2)) * error
    return Estimate(value, max(0.0, value - reach), min(1.0, value + reach))


def _sizes(model: Any, core: Core, task: Task, energy: float) -> dict[str, float]:
    found = size(model, core, task, energy=energy)
    kept, removed = found.keep[found.energy - 1], found.remove[found.energy - 1]
    ranks = {"energy": found.energy, "necessary": found.necessary, "sufficient": found.sufficient}
    return {name: np.nan if rank is None else float(rank) for name, rank in ranks.items()} | {
        "accuracy": found.base,
        "keep": float(kept),
        "remove": float(removed),
    }


def _eigenvalues(models: Mapping[str, tuple[Any, Task]], cores: Mapping[str, Core]) -> dict[str, np.ndarray]:
    """Eigenvalues of each core's operator round the cycle of answers; none where the task has no cycle of at least five."""
    found = {}
    for run, (model, task) in models.items():
        snapshot = Snapshot(model, task)
        if task.cyclic is None or task.cyclic.order < 5:
            return {}
        z = cores[run].project(snapshot.table(snapshot.readout(cores[run].hook)).flatten(0, 1))
        found[run] = cyclic_dynamics(z, snapshot.answer_table.flatten(), task.cyclic.order, n_shuffles=0).eigenvalues
    return found
