"""The command line: ``grokinterp demo | train | analyze | report | fork | sweep | reproduce | cite | flip``.

Torch and the rest of the package are imported inside the commands, so that ``grokinterp --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from grokinterp.errors import GrokinterpError, explained, unknown_name

if TYPE_CHECKING:
    from grokinterp.analysis import Report
    from grokinterp.tasks import Task
    from grokinterp.training.config import RunConfig
    from grokinterp.training.runs import Run


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
    _show(found)
    found.to_html(report, force=force)
    print(f"\nDone in {time.monotonic() - started:.0f} s. Open {report} to see it; the run is in {out}.")
    return _status([run])


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
    config = _config(preset, {name: value for name, value in given.items() if value is not None})
    changes = _once([*map(_setting, set), *([] if stop is None else [("stop", stop)])])
    run = train_run(config.with_(**changes), out, device=device)
    last = run.metrics.iloc[-1]
    losses = f"train loss {last['train_loss']:.3g}, test loss {last['test_loss']:.3g} nats"
    print(f"{shown(run.path)}: {run.status['reason']} at step {run.status['step']:,}")
    print(f"{losses}; test accuracy {last['test_accuracy']:.4f}; {len(run.steps)} checkpoints")
    return _status([run])


def analyze(
    path: tyro.conf.Positional[Path],
    measures: tuple[str, ...] = ("progress",),
    steps: tuple[int, ...] = (),
    workers: int = 0,
    task: str | None = None,
    p: int | None = None,
    train_fraction: float | None = None,
    split: Literal["torch", "python", "first"] = "torch",
    seed: int = 0,
    facts: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = (),
    save: Path | None = None,
    force: bool = False,
) -> None:
    """Read measures off a run folder or somebody else's checkpoint and print the numbers of the last step.

    Args:
        path: a run folder, or a file with weights.
        measures: loss, progress, spectrum, fsd, filtered_loss, heads, algorithm, ace, or my_module:my_function of this folder.
        steps: of a run, the checkpoints to read (in steps); all unless given.
        workers: processes that share the checkpoints of a run; 0 for this one.
        task: of a checkpoint that states none, like modular_addition.
        p: modulus of that task.
        train_fraction: share of that task's examples that was trained on; without it there is no split.
        split: how the examples were shuffled.
        seed: of that shuffle.
        facts: what the weights do not tell, like act_fn=relu causal=true n_heads=4; arguments of the task as task.equals=false.
        save: also write everything as one netCDF file, which `report` and xarray open.
        force: overwrite the file at --save, whatever it is.
    """
    from grokinterp.analysis import analyze as analyze_subject
    from grokinterp.outputs import NETCDF, check_output

    if save is not None:
        check_output(save, NETCDF, force=force)  # before anything is computed
    subject: Any = path
    if facts or any(given is not None for given in (task, p, train_fraction)):
        from grokinterp.checkpoints import load_checkpoint

        known = _once(map(_setting, facts))
        table = _table(task, p, train_fraction, split, seed, known)
        subject = load_checkpoint(path, table, **known)
    found = analyze_subject(subject, _measures(measures), steps=steps or None, workers=workers)
    _show(found)
    if save is not None:
        print(f"\nsaved as {found.save(save, force=force)}")


def report(
    path: tyro.conf.Positional[Path],
    out: Path = Path("report.html"),
    measures: tuple[str, ...] = ("progress", "spectrum"),
    workers: int = 0,
    force: bool = False,
) -> None:
    """Write one self-contained HTML page about a run folder, a published .pth file or a saved report.

    Args:
        path: a run folder, an author's checkpoint, or a .nc file that `analyze --save` wrote.
        out: the page to write.
        measures: as for `analyze`; not used for a saved report.
        workers: processes that share the checkpoints of a run; 0 for this one.
        force: overwrite the file at --out, whatever it is.
    """
    from grokinterp.analysis import Report
    from grokinterp.analysis import analyze as analyze_subject
    from grokinterp.outputs import PAGE, check_output

    check_output(out, PAGE, force=force)  # before anything is computed
    found = Report.load(path) if path.suffix == ".nc" else analyze_subject(path, _measures(measures), workers=workers)
    print(found.summary)
    print(f"\nwrote {found.to_html(out, force=force)}")


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
    changes = _once([*((name, values) for name, values in given.items() if values), *map(_values, grid)])
    children = fork_run(Run(run), _where(Run(run), at), out, moments=moments, device=device, **changes)
    for child in children:
        print(f"{shown(child.path)}: {child.status['reason']}")
    return _status(children)


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

    configs = sweeps.grid(_config(preset, {}), _once(map(_values, grid)))
    with _executor(executor) as pool:
        table = sweeps.sweep(configs, out, executor=pool, workers=workers, ensemble=ensemble, device=device)
    print(table.drop(columns=["error"]).to_string(index=False))
    print("\n" + ", ".join(f"{count} {state}" for state, count in table["state"].value_counts().items()))
    print(f"saved as {out / sweeps.TABLE}")
    return int((table["state"] != "finished").any())


def reproduce(
    paper: tyro.conf.Positional[str],
    budget: Literal["smoke", "cpu", "full", "gpu"] = "smoke",
    out: Path = Path("runs/reproduce"),
    docs: Path | None = None,
    force: bool = False,
    tables: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    train: bool = True,
    time_limit: float = math.inf,
    tf32: bool = False,
) -> None:
    """Run a paper's experiments and set our numbers beside its own, claim by claim.

    Args:
        paper: its short name, like nanda2023.
        budget: smoke (a minute, reduced sizes), cpu (hours at most on two cores), full, or gpu (weightdecay2026 at its own size on one card).
        out: folder of the runs; finished ones are not run again.
        docs: also write the table as Markdown and CSV, with figures, into this folder.
        force: overwrite files there, whatever they are.
        tables: folder with tables of finished runs, like docs/results; what they know is not trained again, and counts.
        train: with --no-train only what is finished is read.
        time_limit: under gpu, seconds for which to train; the same command goes on later.
        tf32: under gpu, let matrix products round their inputs to TF32: faster, with 10 bits of mantissa.
    """
    from grokinterp.outputs import check_folder
    from grokinterp.papers import reproduce as reproduce_paper

    if docs is not None:
        check_folder(docs)  # before anything is computed
    found = reproduce_paper(paper, budget, out, tables=tables, train=train, seconds=time_limit, tf32=tf32)
    print(found)
    if docs is not None:
        print(f"\nwrote {found.save(docs, force=force)}")


def cite(papers: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Print BibTeX for this package and for the papers whose measures it implements.

    Args:
        papers: short names, like nanda2023; all unless given.
    """
    from grokinterp.citations import cite as entries

    print(entries(*papers))


def flip(
    model: tyro.conf.Positional[str],
    prompt: tyro.conf.Positional[str],
    hook: str | None = None,
    rank: int = 1,
    mode: Literal["flip", "keep", "remove"] = "flip",
    strength: float | Literal["auto"] = "auto",
    tokens: int = 20,
    temperature: float = 1.0,
    top_k: int = 50,
    seed: int = 0,
    prompts: Path | None = None,
    n: int = 120,
    device: str = "cpu",
) -> None:
    """Find a language model's axis of grammatical number, and continue a prompt with it flipped, beside the clean text.

    Args:
        model: tiny (trained here the first time, a minute or two; needs no network), gpt2, gpt2-medium, gpt2-large, distilgpt2, or a folder.
        prompt: ending just before its verb, like "The keys to the cabinet".
        hook: where to edit, like blocks.9.hook_resid_post; the layer whose flip works best on the extraction prompts unless given.
        rank: dimensions of the core.
        mode: flip, keep or remove the core.
        strength: factor of the edit, 1 for all of it, or auto: as much as each token needs.
        tokens: how many to generate.
        temperature: of the softmax; 0 takes the likeliest token.
        top_k: draw from that many likeliest tokens.
        seed: of prompts and random numbers.
        prompts: a file of your own to extract from, .csv or .jsonl with prompt and number; generated ones unless given.
        n: generated prompts, half of them to extract from and half to test on.
        device: cpu or cuda, for a pretrained model.
    """
    from grokinterp import ace
    from grokinterp.language.prompt_files import read_prompts
    from grokinterp.language.prompts import agreement, token_ids
    from grokinterp.language.tiny import tiny
    from grokinterp.models.pretrained import load_model

    language_model = tiny() if model == "tiny" else load_model(model, device=device)
    token_ids(language_model.tokenizer, prompt)  # what cannot be read is said before anything is computed
    texts = agreement(language_model.tokenizer, n, seed) if prompts is None else read_prompts(prompts, language_model.tokenizer, seed)
    core = ace.best_core(language_model, texts, rank=rank, hooks=None if hook is None else [hook])
    test = texts.half("test")
    edits = {"keep": core.keep, "remove": core.remove, "flip": core.flip}
    base, edited = ace.auc(ace.margins(test, ace.verb_logits(language_model, test, [edits[mode]()])), test.plural)
    print(f"core of rank {core.rank} at {core.hook}; over {len(test)} test prompts AUC {base:.3f} clean, {edited:.3f} with {mode}")
    print()
    print(ace.generate(language_model, prompt, core, mode, strength, n_tokens=tokens, temperature=temperature, top_k=top_k, seed=seed))


COMMANDS: dict[str, Callable[..., int | None]] = {
    "demo": demo,
    "train": train,
    "analyze": analyze,
    "report": report,
    "fork": fork,
    "sweep": sweep,
    "reproduce": reproduce,
    "cite": cite,
    "flip": flip,
}


def _table(task: str | None, p: int | None, train_fraction: float | None, split: Any, seed: int, facts: dict[str, Any]) -> Task | None:
    """The task that a checkpoint was trained on; what begins with ``task.`` among the facts is taken out of them."""
    from dataclasses import replace

    from grokinterp.tasks import TaskConfig

    if odd := [name for name in facts if name in ("source", "task", "check", "dtype")]:
        raise GrokinterpError(f"--facts says what the weights do not tell, like act_fn=relu; got {odd[0]}={facts[odd[0]]!r}")
    arguments = {name.removeprefix("task."): facts.pop(name) for name in list(facts) if name.startswith("task.")}
    arguments |= {} if p is None else {"p": p}
    if task is None:
        if arguments or train_fraction is not None:
            raise GrokinterpError(f"arguments and splits are of a --task; got {arguments} and train fraction {train_fraction} without one")
        return None
    table = TaskConfig(task, arguments, 0.5 if train_fraction is None else train_fraction, seed, split).build()
    return table if train_fraction is not None else replace(table, train=None)


def _status(runs: Iterable[Run]) -> int:
    """The exit status of a command that trained: 1 where a run diverged."""
    return int(any(run.diverged for run in runs))


def _where(run: Run, at: str) -> int | str | Callable[[Run], int | None]:
    """A step, a condition on a recorded metric, or a finder for a condition on a measure."""
    from grokinterp.analysis import when
    from grokinterp.conditions import Condition

    if at.isdigit():
        return int(at)
    return at if Condition.parse(at).quantity in run.metrics.columns else when(at)


@contextlib.contextmanager
def _executor(address: str | None) -> Iterator[Any]:
    """The executor behind an address; None for processes on this machine."""
    if address is None:
        yield None
        return
    scheme, _, host = address.partition("://")
    if scheme != "dask" or not host:
        raise GrokinterpError(f"--executor takes dask://HOST:PORT; got {address!r}")
    try:
        from distributed import Client
    except ImportError:
        raise GrokinterpError("a Dask cluster needs `pip install 'grokinterp[dask]'`") from None
    connect: Any = Client
    with connect(f"tcp://{host}", timeout=10) as client:
        yield client.get_executor()


def _values(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise GrokinterpError(f"--grid takes NAME=V1,V2, like optimizer.weight_decay=0.3,1; got {text!r}")
    return name, [_setting(f"{name}={value}")[1] for value in values.split(",")]


def _once(settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Settings by name, each given once."""
    found: dict[str, Any] = {}
    for name, value in settings:
        if name in found:
            raise GrokinterpError(f"{name} is given twice, as {found[name]!r} and as {value!r}; leave one out")
        found[name] = value
    return found


def _measures(names: tuple[str, ...]) -> list[str]:
    """The names as they are; a module that one of them names may lie in this folder, as with ``python -m``."""
    if any(":" in name for name in names) and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return list(names)


def _show(found: Report) -> None:
    from grokinterp.reports.words import missing

    rows = found.headline()
    width = max((len(number.quantity) for number in rows), default=0)
    print("\n".join(f"{number.quantity:<{width}}  {number.value}" for number in rows))
    print("\n" + found.summary)
    for what, reason in missing(found.dataset).items():
        print(f"\n{what}: {reason}")


def _config(preset: str, given: dict[str, Any]) -> RunConfig:
    """The preset or configuration file with the given arguments."""
    from grokinterp import presets
    from grokinterp.files import read_json
    from grokinterp.training.config import RunConfig

    if preset.endswith(".json"):
        config = RunConfig.from_dict(read_json(Path(preset)))
        seeds = {"task.split_seed": given["seed"]} if "seed" in given else {}
        return config.with_(**given, **seeds)
    if preset not in presets.PRESETS:
        raise unknown_name("preset", preset, presets.PRESETS)
    builder: Any = presets.PRESETS[preset]
    accepted = inspect.signature(builder).parameters
    for name in given:
        if name not in accepted:
            raise GrokinterpError(
                f"preset {preset!r} takes no --{name.replace('_', '-')}; it takes {', '.join('--' + known.replace('_', '-') for known in accepted)}"
            )
    config = builder(**given)
    assert isinstance(config, RunConfig)
    return config


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise GrokinterpError(f"--set takes NAME=VALUE, like optimizer.lr=1e-4; got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
    except (ValueError, RecursionError):  # a number of 5,000 digits, brackets without end
        from grokinterp.files import parse_json

        return name, parse_json(value, f"--set {name}", "give another value")


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 when it worked; 1 when it did, but a training diverged or a run of a sweep is not finished; 2 for bad input and for
        what the operating system refuses, said in one line on standard error; 130 after an interrupt; 141 when nobody reads the output any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a λ in a terminal that has none, or a path that is no text, is no failure
    try:
        status: int | None = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="grokinterp", description="A laboratory for how transformers come to compute.", args=arguments
        )
        if sys.stdout is not None:
            sys.stdout.flush()
        return status or 0
    except GrokinterpError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from the last checkpoint", 130)
    except BrokenPipeError:
        return _fail("", 141)  # as the shell counts a program that a pipe's end has ended
    except OSError as error:
        return _fail(str(explained(error, "the output" if error.filename is None and error.errno else None)), 2)


def _fail(sentence: str, status: int) -> int:
    """Say a sentence where it can be said, and give up what could not be printed; the exit status."""
    if sentence:
        with contextlib.suppress(OSError):
            print(f"grokinterp: {sentence}", file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except (OSError, AttributeError):
        with contextlib.suppress(OSError, AttributeError):  # or the interpreter would try again, and fail, when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


if __name__ == "__main__":
    sys.exit(main())
