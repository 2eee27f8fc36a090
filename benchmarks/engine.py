"""How fast the training engine is: against a plain HookedTransformer loop, against its matrix products alone, and as sizes grow.

``python -m benchmarks.engine`` prints the table. Whatever is compared runs interleaved in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Row, interleaved, ratio, show
from grokinterp import presets
from grokinterp.models import ModelConfig
from grokinterp.training.config import RunConfig
from grokinterp.training.engine.engine import Engine
from grokinterp.training.engine.layout import Layout
from grokinterp.training.learner import Learner, ModuleLearner
from grokinterp.training.sweep import torch_threads

FULL_BATCH = presets.nanda2023(p=113)
MINIBATCH = presets.nanda2023(p=97).with_(
    model=ModelConfig(n_layers=2, act_fn="gelu", normalization="pre", biases=("attn", "mlp", "unembed"), init="pytorch"), batch_size=512
)
SETUPS = (("nanda2023, p = 113, full batch", FULL_BATCH, 2), ("2 layers, pre-LN, GELU, p = 97, batch 512", MINIBATCH, 1))
STEP = 100  # past the warm-up


def rows(repeats: int = 15) -> list[Row]:
    """Speed-ups, distances from the floor, and cost against p, members and layers."""
    return [row for name, config, n_threads in SETUPS for row in against_module_and_floor(name, config, n_threads, repeats)] + scaling(repeats)


def against_module_and_floor(name: str, config: RunConfig, n_threads: int, repeats: int) -> list[Row]:
    """A step of the engine beside one of `ModuleLearner` and beside the matrix products that it cannot avoid."""
    task = config.task.build()
    batches = minibatches(config, 1)
    products, flops = floor(config)
    with torch_threads(n_threads):
        learners: list[Learner] = [ModuleLearner(config, task), Engine([config], [task])]
        module, engine, least = interleaved([*(stepper(learner, batches) for learner in learners), products], repeats)
    note = f"{n_threads} thread{'s' * (n_threads > 1)}"
    return [
        Row(f"{name}: engine against HookedTransformer", ratio(module, engine), "times faster", f"{note}, {1e3 * median(engine):.1f} ms a step"),
        Row(
            f"{name}: engine against its floor",
            ratio(engine, least),
            "times the floor",
            f"{note}, matrix products at {flops / median(least) / 1e9:.0f} GFLOP/s",
        ),
    ]


def scaling(repeats: int) -> list[Row]:
    """Time of a step on one thread as one size grows and the others stay."""
    small = presets.nanda2023(p=53)
    series: list[tuple[str, list[tuple[int, list[RunConfig]]]]] = [
        ("p", [(p, [presets.nanda2023(p=p)]) for p in (31, 53, 97, 113, 131)]),
        ("members (p = 53)", [(n, [replace(small, seed=seed) for seed in range(n)]) for n in (1, 2, 4, 8)]),
        ("layers (p = 53)", [(n, [small.with_(**{"model.n_layers": n})]) for n in (1, 2, 3, 4)]),
    ]
    table = []
    with torch_threads(1):
        for name, points in series:
            engines = [Engine(configs, [config.task.build() for config in configs]) for _, configs in points]
            times = interleaved([stepper(engine, None) for engine in engines], repeats)
            table += [Row(f"full-batch step, {name} = {size}", 1e3 * median(own), "ms", "1 thread") for (size, _), own in zip(points, times)]
    return table


def scaling_figure(rows: Sequence[Row]) -> Any:
    """Milliseconds a step against p², members and layers; a plotly figure. All three should be straight lines."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.name.startswith("full-batch step, "):
            name, size = row.name.removeprefix("full-batch step, ").rsplit(" = ", 1)
            series.setdefault(name, []).append((float(size) ** 2 if name == "p" else float(size), row.value))
    figure = make_subplots(cols=len(series), subplot_titles=["p²" if name == "p" else name for name in series])
    for column, points in enumerate(series.values(), start=1):
        x, y = zip(*points, strict=True)
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines+markers", showlegend=False), row=1, col=column)
        figure.update_yaxes(rangemode="tozero", row=1, col=column)
        figure.update_xaxes(rangemode="tozero", row=1, col=column)
    return figure.update_yaxes(title="ms a step", col=1).update_layout(template="simple_white", margin={"t": 40, "b": 40})


def floor(config: RunConfig) -> tuple[Callable[[], None], float]:
    """The matrix products of one step at their own shapes, forward and both backward, and their floating-point operations.

    Rows are counted as the engine shares them, so that this is the least time of the same computation: attention
    weights, activations, normalisation, loss and optimizer are free.
    """
    shapes = matmul_shapes(config)
    generator = torch.Generator().manual_seed(0)
    operands = [tuple(torch.randn(*size, generator=generator) for size in ((n, a), (a, b), (n, b))) for n, a, b in shapes]

    def products() -> None:
        for x, weight, gradient in operands:
            x @ weight, gradient @ weight.T, x.T @ gradient

    return products, sum(3 * 2.0 * n * a * b for n, a, b in shapes)


def matmul_shapes(config: RunConfig) -> list[tuple[int, int, int]]:
    """(rows, inputs, outputs) of every linear map in one forward pass."""
    task, model = config.task.build(), config.model
    batch = torch.stack(minibatches(config, 1) or [task.indices("train")])
    width, heads = model.d_model, model.n_heads * model.head_width
    blocks, _ = Layout(task, model, "cpu").wire(batch)
    shapes, n_out = [], 0
    for block in blocks:
        n_in, n_out = sum(block.sizes), sum(query.sources.shape[1] for query in block.queries)
        n_asking = sum(block.sizes[query.position] for query in block.queries if query.sources.shape[2] > 1)
        shapes += [(n_in, width, heads)] * 2 + [(n_asking, width, heads), (n_out, heads, width)]
        shapes += [(n_out, width, model.d_mlp), (n_out, model.d_mlp, width)] if model.d_mlp else []
    return [*shapes, (n_out, width, model.n_outputs(task))]


def minibatches(config: RunConfig, members: int) -> list[Tensor] | None:
    """A seeded minibatch for each member, None for the full training set."""
    if config.batch_size is None:
        return None
    train = config.task.build().indices("train")
    generator = torch.Generator().manual_seed(0)
    return [train[torch.randperm(len(train), generator=generator)[: config.batch_size]] for _ in range(members)]


def stepper(learner: Learner, batches: Sequence[Tensor] | None) -> Callable[[], None]:
    """One training step as a function of nothing."""
    return lambda: learner.step(STEP, batches)


if __name__ == "__main__":
    show(rows())
