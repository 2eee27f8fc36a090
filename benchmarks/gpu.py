"""What a GPU computes, whether it is what a CPU computes, and how fast: ``python -m benchmarks gpu``.

Every part that fails leaves its traceback in the table and the next one goes on. On a machine without a GPU the same parts run at toy size on
the CPU, as a rehearsal whose figures mean nothing.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor

from benchmarks.engine import matmul_shapes, minibatches
from benchmarks.timing import Row
from grokinterp import presets
from grokinterp.models.transformers import ModelConfig
from grokinterp.papers.weightdecay2026 import gpu as paper
from grokinterp.tasks import TaskConfig
from grokinterp.training.config import RunConfig
from grokinterp.training.engine.engine import Engine, tensor_cores
from grokinterp.training.slots import Job, Slots
from grokinterp.training.train import BatchOrder

PAPER = presets.weightdecay2026()
TINY = presets.weightdecay2026(p=23).with_(
    model=ModelConfig(
        n_layers=2, d_model=32, n_heads=2, d_mlp=64, act_fn="gelu", normalization="pre", biases=("attn", "mlp", "unembed"), init="pytorch"
    ),
    batch_size=96,
)
FULL_BATCH = presets.nanda2023(p=23).with_(model=ModelConfig(n_layers=1, d_model=32, n_heads=2, d_mlp=64))
MEMBERS = (1, 4, 16, 40, 64, 128, 256, 512)


def rows() -> list[Row]:
    """All parts, on the GPU if there is one."""
    there = torch.cuda.is_available()
    return list(parts("cuda" if there else "cpu", toy=not there, seconds=float(os.environ.get("BENCHMARK_SECONDS", "500"))))


def parts(device: str, toy: bool, seconds: float) -> Iterator[Row]:
    """The rows of every part in turn, none begun after so many seconds; printed as they come, since the last may not."""
    begun = time.monotonic()
    each: Sequence[tuple[str, Callable[[str, bool], Iterator[Row]]]] = (
        ("card", card),
        ("agreement with the CPU", agreement),
        ("captured, named, repeated", repeated),
        ("step by members", by_members),
        ("precision and grokking times", precision),
        ("compiled", compiled),
    )
    for name, part in each:
        if time.monotonic() - begun > seconds:
            yield Row(name, float("nan"), "", f"not begun: {seconds:.0f} s are over")
            continue
        try:
            for row in part(device, toy):
                print(f"  {time.monotonic() - begun:6.1f} s  {row.name}: {row.value:.5g} {row.unit}  {row.note}", flush=True)
                yield row
        except Exception:
            reason = traceback.format_exc()
            print(reason, flush=True)
            yield Row(name, float("nan"), "failed", " | ".join(reason.strip().splitlines()[-3:]))
        if device != "cpu":
            torch.cuda.empty_cache()


def seconds_of(function: Callable[[], object], device: str, repeats: int, warm: int = 3) -> float:
    """Median over rounds of the time of a call, by device events on a GPU, each round as many calls as last 20 ms."""
    for _ in range(warm):
        function()
    if device == "cpu":
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return median(times)
    calls, times = 1, []
    for round_ in range(repeats + 1):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            function()
        end.record()
        torch.cuda.synchronize()
        spent = start.elapsed_time(end) / 1e3 / calls
        if round_ == 0:
            calls = max(1, int(0.02 / spent))
        else:
            times.append(spent)
    return median(times)


# --- the card ------------------------------------------------------------------------------------------------------------------------


def card(device: str, toy: bool) -> Iterator[Row]:
    """Its memory and matrix rates."""
    name = "CPU" if device == "cpu" else torch.cuda.get_device_name(device)
    n, size = (2**16, 64) if toy else (2**29, 8192)
    source = torch.randn(n, device=device)
    target = torch.empty_like(source)
    yield Row(
        "copy within the card's memory, bytes read and written", 8 * n / seconds_of(lambda: target.copy_(source), device, 5) / 1e12, "TB/s", name
    )
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    for words, allowed in (("float32", False), ("TF32", True)):
        with tensor_cores(allowed):
            rate = 2 * size**3 / seconds_of(lambda: a @ b, device, 3) / 1e12
        yield Row(f"matrix product of {size}², {words}", rate, "TFLOP/s", name)


# --- the same numbers ----------------------------------------------------------------------------------------------------------------


def relative(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return float((found - expected).norm() / expected.norm())


def flat_gradient(engine: Engine, batches: Sequence[Tensor] | None) -> Tensor:
    """All gradients of all members in a row."""
    return torch.cat([value.flatten().cpu().double() for member in engine.gradients(batches)[1] for value in member.values()])


def batch_of(config: RunConfig, members: int, step: int, device: str = "cpu") -> Tensor | None:
    """The examples of a step, the same for a seed everywhere; None for the full batch."""
    if config.batch_size is None:
        return None
    return torch.stack([_order(config.task, config.batch_size, seed).at(step) for seed in range(members)]).to(device)


def _order(task: TaskConfig, size: int, seed: int) -> BatchOrder:
    key = (str(task), size, seed)
    if key not in _ORDERS:
        _ORDERS[key] = BatchOrder(replace(task, split_seed=seed).build().indices("train"), size, seed)
    return _ORDERS[key]


_ORDERS: dict[tuple[str, int, int], BatchOrder] = {}


def engine_of(config: RunConfig, members: int, device: str, **options: bool) -> Engine:
    """Members of different seeds and splits."""
    configs = [config.with_(**{"seed": seed, "task.split_seed": seed}) for seed in range(members)]
    return Engine(configs, [each.task.build() for each in configs], device, **options)


def agreement(device: str, toy: bool) -> Iterator[Row]:
    """Values, gradients, attention patterns and 300 steps, beside those of the CPU."""
    setups = [("full batch", FULL_BATCH), ("minibatch", TINY)] + ([] if toy else [("paper's model", PAPER)])
    for words, config in setups:
        for dtype in ("float64", "float32"):
            own = config.with_(dtype=dtype)
            batch = batch_of(own, 2, 0)
            with tensor_cores(False):
                cpu, gpu = engine_of(own, 2, "cpu"), engine_of(own, 2, device)
                yield Row(
                    f"{words}, {dtype}: gradient on the device against the CPU's",
                    relative(flat_gradient(gpu, batch), flat_gradient(cpu, batch)),
                    "relative",
                    "",
                )
                losses = [torch.tensor(engine.gradients(batch)[0], dtype=torch.float64) for engine in (gpu, cpu)]
                yield Row(f"{words}, {dtype}: loss", relative(*losses), "relative", "")
                metrics = [torch.tensor([list(row.values()) for row in engine.evaluate()], dtype=torch.float64) for engine in (gpu, cpu)]
                yield Row(f"{words}, {dtype}: evaluation", relative(*metrics), "relative", "")
                fixed = torch.stack([each.task.build().fixed_batch(64) for each in [own] * 2])
                yield Row(f"{words}, {dtype}: attention patterns", relative(gpu.patterns(fixed), cpu.patterns(fixed)), "relative", "")
    for words, config in setups[:2]:
        own = config.with_(dtype="float64")
        cpu, gpu = engine_of(own, 2, "cpu"), engine_of(own, 2, device)
        for step in range(20 if toy else 300):
            batch = batch_of(own, 2, step)
            cpu.step(step, batch)
            gpu.step(step, batch)
        ends = [torch.cat([value.flatten().cpu() for value in engine.weights(1).values()]) for engine in (gpu, cpu)]
        yield Row(f"{words}, float64: weights after {step + 1} steps, largest difference", float((ends[0] - ends[1]).abs().max()), "absolute", "")
    if device != "cpu":
        with tensor_cores(False):
            exact = flat_gradient(engine_of(PAPER.with_(dtype="float64"), 2, device), batch_of(PAPER, 2, 0))
            for words, allowed in (("float32", False), ("TF32", True)):
                with tensor_cores(allowed):
                    found = flat_gradient(engine_of(PAPER, 2, device), batch_of(PAPER, 2, 0))
                yield Row(f"paper's model: gradient in {words} against float64 on the device", relative(found, exact), "relative", "")


def repeated(device: str, toy: bool) -> Iterator[Row]:
    """Captured against uncaptured, the device named in two ways, and the same training twice: entries that differ in any bit."""
    config = TINY if toy else PAPER
    n = 5 if toy else 60

    def trained(where: str, captured: bool) -> Tensor:
        engine = engine_of(config, 3, where, captured=captured)
        for step in range(n):
            engine.step(step, batch_of(config, 3, step))
        return torch.cat([value.flatten().cpu() for member in range(3) for value in engine.weights(member).values()])

    once = trained(device, captured=True)
    others = [("twice", device, True), ("uncaptured", device, False), ("named with its number", device if device == "cpu" else f"{device}:0", True)]
    for words, where, captured in others:
        again = trained(where, captured)
        yield Row(
            f"{n} steps, {words}: entries that differ",
            float((once != again).sum()),
            "entries",
            f"of {len(once)}, by at most {(once - again).abs().max():.3g}",
        )
    engine = engine_of(config, 3, device)
    for step in range(n):
        engine.step(step, batch_of(config, 3, step))
    later = config.with_(**{"seed": 1, "task.split_seed": 1})
    engine.put(0, later, later.task.build())
    for step in range(n):
        engine.step(step, None if config.batch_size is None else batch_of(config, 3, step)[[1, 1, 2]])  # type: ignore[index]
    weights = torch.cat([value.flatten().cpu() for value in engine.weights(0).values()])
    start, size = len(once) // 3, len(once) // 3
    yield Row(
        "put in another's place and trained again: largest difference", float((weights - once[start : start + size]).abs().max()), "absolute", ""
    )


# --- speed ---------------------------------------------------------------------------------------------------------------------------


def by_members(device: str, toy: bool) -> Iterator[Row]:
    """Milliseconds a step against members, and many at once against as many in turn."""
    config = TINY if toy else PAPER
    flops = sum(3 * 2.0 * a * b * c for a, b, c in matmul_shapes(config))
    parameters = engine_of(config, 1, "cpu")._flat.numel()
    yield Row("least work of a step of one member", flops / 1e9, "GFLOP", f"matrix products; {parameters} parameters")
    for words, allowed in (("float32", False), ("TF32", True)):
        alone = 0.0
        for members in (1, 2) if toy else MEMBERS:
            try:
                with tensor_cores(allowed):
                    spent = _step_seconds(config, members, device)
            except torch.OutOfMemoryError:
                yield Row(f"paper's model, {words}, {members} members: a step", float("nan"), "ms", "does not fit the card's memory")
                break
            alone = alone or spent
            note = f"{1e6 * spent / members:.1f} µs a member, {flops * members / spent / 1e12:.1f} TFLOP/s"
            yield Row(f"paper's model, {words}, {members} members: a step", 1e3 * spent, "ms", note)
            if members in (2, 64):
                yield Row(f"{members} members at once against {members} in turn, {words}", members * alone / spent, "times faster", "goal ≥ 20")
            if device != "cpu":
                torch.cuda.empty_cache()


def _step_seconds(config: RunConfig, members: int, device: str, engine: Engine | None = None) -> float:
    engine = engine or _stand_in(config, members, device)
    train = config.task.build().indices("train")
    batch = torch.stack(
        [train[torch.randperm(len(train), generator=torch.Generator().manual_seed(i))[: config.batch_size]] for i in range(members)]
    ).to(device)
    return seconds_of(lambda: engine.step(100, batch), device, 3)


def _stand_in(config: RunConfig, members: int, device: str, **options: bool) -> Engine:
    """Many members of one seed: what they hold does not matter for the time that they take."""
    engine = Engine([config], [config.task.build()], device, **options)
    engine.keep([0] * members)
    return engine


def compiled(device: str, toy: bool) -> Iterator[Row]:
    """A step whose operations between matrix products are fused, beside the plain one."""
    if toy:
        return
    with tensor_cores(True):
        begun = time.monotonic()
        fused, plain = (_stand_in(PAPER, paper.PLACES, device, compiled=each) for each in (True, False))
        spent = _step_seconds(PAPER, paper.PLACES, device, fused)
        yield Row("torch.compile, first steps", time.monotonic() - begun, "s", "")
        name = f"paper's model, TF32, compiled, {paper.PLACES} members"
        yield Row(f"{name}: a step", 1e3 * spent, "ms", f"{1e6 * spent / paper.PLACES:.1f} µs a member")
        alone = _step_seconds(PAPER, 1, device)
        yield Row(f"{name}: against as many in turn, not compiled", paper.PLACES * alone / spent, "times faster", "goal ≥ 20")
        few = minibatches(PAPER.with_(batch_size=96), paper.PLACES)
        yield Row(f"{name}: an epoch's last step, of 96 examples", 1e3 * seconds_of(lambda: fused.step(0, few), device, 3), "ms", "not compiled")
        begun = time.monotonic()
        fused.evaluate()
        first = time.monotonic() - begun
        yield Row(f"{name}: evaluation", 1e3 * seconds_of(fused.evaluate, device, 3), "ms", f"{first:.1f} s to compile")
        yield Row("peak memory", torch.cuda.max_memory_allocated() / 2**30, "GiB", "")
        batch = torch.stack([PAPER.task.build().indices("train")[:512]] * paper.PLACES)
        plain._flat.data.copy_(fused._flat)
        error = relative(flat_gradient(fused, batch), flat_gradient(plain, batch))
        yield Row("compiled against plain: gradient", error, "relative", "both TF32")
        table = _profile(lambda: fused.step(100, batch))
        yield Row("kernels of a compiled step", float(len(table)), "kinds", "")
        for kernel, micro in table[:25]:
            print(f"      {micro:9.1f} µs  {kernel[:110]}")


def _profile(function: Callable[[], object]) -> list[tuple[str, float]]:
    """Kernels of a call with their time in microseconds, longest first."""
    from torch.profiler import ProfilerActivity, profile

    function()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        function()
        torch.cuda.synchronize()
    found = [(event.key, float(event.self_device_time_total)) for event in seen.key_averages()]
    return sorted(found, key=lambda item: -item[1])


def precision(device: str, toy: bool) -> Iterator[Row]:
    """Whether TF32 changes when runs grok: the same seeds in both."""
    base, decays, seeds = (TINY.with_(steps=30, eval_every=15), (1.0,), (7, 11)) if toy else (PAPER, (1.0, 2.0), paper.SEEDS)
    grid = paper.Grid(base, decays, seeds, 30 if toy else 250, example=(decays[0], 1))
    times = {}
    for words, allowed in (("float32", False), ("TF32", True)):
        jobs = [Job(job.name, job.config) for job in paper.plan(grid)]
        with tensor_cores(allowed):
            slots = Slots(jobs, len(jobs), device)
            done = slots.run(40)
        table = paper.run_table(with_no_heads(jobs)).set_index(["weight_decay", "seed"])["grok"]
        times[words] = table
        note = f"{slots.member_steps} member-steps in {slots.seconds:.1f} s{'' if done else ', not all ended'}"
        for decay, own in table.groupby("weight_decay"):
            yield Row(
                f"λ = {decay:g}, {words}: mean epoch of grokking", float(own.mean()), "epochs", f"{own.notna().sum()} of {len(own)} grok; {note}"
            )
    moved = times["TF32"] - times["float32"]
    yield Row(
        "TF32 − float32, grokking time: mean difference",
        float(moved.mean()),
        "epochs",
        f"between {moved.min():g} and {moved.max():g}, n = {moved.notna().sum()}",
    )


def with_no_heads(jobs: Sequence[Job]) -> list[Job]:
    """Jobs that were evaluated without head diagnostics, with NaN in their place."""
    for job in jobs:
        for row in job.rows:
            row |= {"head_similarity": float("nan"), "entropy_spread": float("nan")}
    return list(jobs)
