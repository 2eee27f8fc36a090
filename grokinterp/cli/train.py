"""Commands that train: demo, train, fork, sweep."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import tyro

from grokinterp.cli.arguments import config_of, executor_at, once, setting, show, status, values, where


def demo(out: Path = Path("runs/demo"), report: Path = Path("report.html"), seed: int = 0, force: bool = False) -> int:
    """Train a small transformer until it groks, read its circuit and write report.html; under two minutes on two cores.

    Args:
        out: folder of the run; a second call finds it finished and only reads it.
        report: the HTML page to write.
        seed: of the initial weights and of the train/test split.
        force: overwrite the file at --report, whatever it is.
    """
    from grokinterp import presets
    from grokinterp.analysis import analyze
    from grokinterp.outputs import PAGE, check_output
    from grokinterp.training.train import train as train_run

    check_output(report, PAGE, force=force)  # before two minutes of training

    started = time.monotonic()
    config = presets.demo(seed=seed)
    p = config.task.args["p"]
    print(f"Training a one-layer transformer on a + b mod {p}, on {config.task.train_fraction:.0%} of all pairs, into {out} …")
    run = train_run(config, out)
    found = analyze(run, ["progress", "spectrum"])
    show(found)
    found.to_html(report, force=force)
    print(f"\nDone in {time.monotonic() - started:.0f} s. Open {report} to see it; the run is in {out}.")
    return status([run])


def train(
    preset: tyro.conf.Positional[str],
    out: Path,
    p: int | None = None,
    seed: int | None = None,
    weight_decay: float | None = None,
    train_fraction: float | None = None,
    steps: int | None = None,
    stop: str | None = None,
    device: str = "cpu",
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = (),
) -> int:
    """Train a preset, or a configuration file, into a run folder; the same command resumes it after an interruption.

    The exit status is 1 where the training diverged.

    Args:
        preset: name of a preset (nanda2023, demo), or the path of a config.json.
        out: folder of the run; new, or holding the same configuration.
        p: modulus of the task; as in the preset unless given, like the next four.
        seed: of the initial weights and of the train/test split.
        weight_decay: AdamW's λ, per step and unit of learning rate.
        train_fraction: share of all examples that is trained on, in (0, 1).
        steps: updates at most.
        stop: end early on a condition, like "test_loss < 1e-6" (nats).
        device: cpu or cuda.
        set: any other setting by its name in config.json, like optimizer.lr=1e-4; its last part is enough where it is the only one.
    """
    from grokinterp.training.runs import shown
    from grokinterp.training.train import train as train_run

    given = {"p": p, "seed": seed, "weight_decay": weight_decay, "train_fraction": train_fraction, "steps": steps}
    config = config_of(preset, {name: value for name, value in given.items() if value is not None})
    changes = once([*map(setting, set), *([] if stop is None else [("stop", stop)])])
    run = train_run(config.with_(**changes), out, device=device)
    last = run.metrics.iloc[-1]
    losses = f"train loss {last['train_loss']:.3g}, test loss {last['test_loss']:.3g} nats"
    print(f"{shown(run.path)}: {run.status['reason']} at step {run.status['step']:,}")
    print(f"{losses}; test accuracy {last['test_accuracy']:.4f}; {len(run.steps)} checkpoints")
    return status([run])


def fork(
    run: tyro.conf.Positional[Path],
    at: str,
    out: Path,
    weight_decay: tuple[float, ...] = (),
    lr: tuple[float, ...] = (),
    seed: tuple[int, ...] = (),
    steps: int | None = None,
    grid: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=V1,V2")] = (),
    moments: Literal["restore", "reset"] = "restore",
    device: str = "cpu",
) -> int:
    """Go on from a checkpoint of a run with changed settings; several values are one child each.

    The exit status is 1 where one of them diverged.

    Args:
        run: the parent's folder.
        at: where: a step whose checkpoint was kept, or a condition on a recorded metric or a measure, like "test_accuracy >= 0.9" or "fsd[1] >= 0.8".
        out: folder in which each child gets its own.
        weight_decay: AdamW's λ, one or more.
        lr: learning rate per step, one or more.
        seed: order of the minibatches after the fork, one or more.
        steps: updates at most, those of the parent included; as the parent unless given.
        grid: any other settings with their values, as in `sweep`, like warmup_steps=0,10.
        moments: restore Adam's state, or reset it.
        device: cpu or cuda.
    """
    from grokinterp.training.fork import fork as fork_run
    from grokinterp.training.runs import Run, shown

    given = {"weight_decay": list(weight_decay), "lr": list(lr), "seed": list(seed), "steps": [] if steps is None else [steps]}
    changes = once([*((name, values) for name, values in given.items() if values), *map(values, grid)])
    children = fork_run(Run(run), where(Run(run), at), out, moments=moments, device=device, **changes)
    for child in children:
        print(f"{shown(child.path)}: {child.status['reason']}")
    return status(children)


def sweep(
    preset: tyro.conf.Positional[str],
    out: Path,
    grid: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=V1,V2")] = (),
    workers: int | None = None,
    executor: str | None = None,
    ensemble: int | None = None,
    device: str = "cpu",
) -> int:
    """Train a preset over a grid of settings; the same command again does only what is left.

    The exit status is 1 where a run failed, diverged or is not finished; standard error names it.

    Args:
        preset: name of a preset, or the path of a config.json.
        out: folder of the run folders and of results.parquet, to which other grids may add.
        grid: settings with their values, like weight_decay=0.3,1,3 seed=0,1,2, or optimizer.weight_decay; the split follows the seed.
        workers: processes on this machine; as many as cores unless given.
        executor: dask://HOST:PORT to train on a Dask cluster instead.
        ensemble: how many runs at most train as one tensor program; 1 on a CPU and 32 on a GPU unless given.
        device: cpu or cuda.
    """
    from grokinterp.training import sweep as sweeps

    configs = sweeps.grid(config_of(preset, {}), once(map(values, grid)))
    with executor_at(executor) as pool:
        table = sweeps.sweep(configs, out, executor=pool, workers=workers, ensemble=ensemble, device=device)
    print(table.drop(columns=["error"]).to_string(index=False))
    print("\n" + ", ".join(f"{count} {state}" for state, count in table["state"].value_counts().items()))
    print(f"saved as {out / sweeps.TABLE}")
    return int((table["state"] != "finished").any())
