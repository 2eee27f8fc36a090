"""Commands that read what was trained: analyze, report, watch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from grokinterp.cli.arguments import importable, once, setting, show, task_of


@dataclass(frozen=True)
class CheckpointFacts:
    """What is said of a checkpoint that it does not say itself.

    Attributes:
        task: of a checkpoint that states none, like modular_addition.
        p: modulus of that task.
        train_fraction: share of that task's examples that was trained on; without it there is no split.
        split: how the examples were shuffled.
        seed: of that shuffle.
        facts: what the weights do not tell, like act_fn=relu causal=true n_heads=4; arguments of the task as task.equals=false.
    """

    task: str | None = None
    p: int | None = None
    train_fraction: float | None = None
    split: Literal["torch", "python", "first"] = "torch"
    seed: int = 0
    facts: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()


About = Annotated[CheckpointFacts, tyro.conf.arg(name="")]  # each of its fields an option of the command's own
NO_FACTS = CheckpointFacts()


def analyze(
    path: tyro.conf.Positional[Path],
    measures: tuple[str, ...] = ("progress",),
    steps: tuple[int, ...] = (),
    workers: int = 0,
    about: About = NO_FACTS,
    save: Path | None = None,
    force: bool = False,
) -> None:
    """Read measures off a run folder or other people's checkpoint and print the numbers of the last step.

    Args:
        path: a run folder, or a file with weights.
        measures: loss, progress, spectrum, representations, cosets, fsd, filtered_loss, heads, algorithm, equivalent, ace, neuron_maps,
            attention_maps, weights_path, or my_module:my_function of this folder.
        steps: of a run, the checkpoints to read (in steps); all unless given.
        workers: processes that share the checkpoints of a run; 0 for this one.
        about: of a checkpoint: what it does not say itself.
        save: also write everything as one netCDF file, which `report` and xarray open.
        force: overwrite the file at --save, whatever it is.
    """
    from grokinterp.analysis import analyze as analyze_subject
    from grokinterp.outputs import NETCDF, check_output

    if save is not None:
        check_output(save, NETCDF, force=force)  # before anything is computed
    subject = _subject(path, about)
    found = analyze_subject(subject, importable(measures), steps=steps or None, workers=workers)
    show(found)
    if save is not None:
        print(f"\nsaved as {found.save(save, force=force)}")


def report(
    path: tyro.conf.Positional[Path],
    others: tyro.conf.Positional[tuple[Path, ...]] = (),
    out: Path = Path("report.html"),
    measures: tuple[str, ...] = ("progress", "spectrum"),
    workers: int = 0,
    about: About = NO_FACTS,
    force: bool = False,
) -> None:
    """Write one self-contained HTML page about a run folder, other people's checkpoint or a saved report, or about several of them side by side.

    Args:
        path: a run folder, a file with weights, or a .nc file that `analyze --save` wrote; or a sweep's folder, whose runs are compared.
        others: more of these, to compare with it.
        out: the page to write.
        measures: as for `analyze`; not used for a saved report.
        workers: processes that share the checkpoints of a run; 0 for this one.
        about: of a checkpoint: what it does not say itself.
        force: overwrite the file at --out, whatever it is.
    """
    from grokinterp.analysis import analyze as analyze_subject
    from grokinterp.outputs import PAGE, check_output
    from grokinterp.reports.report import Report

    check_output(out, PAGE, force=force)  # before anything is computed
    subjects = [Report.load(each) if each.suffix == ".nc" else _subject(each, about) for each in (path, *others)]
    single = subjects[0] if len(subjects) == 1 else subjects
    found = single if isinstance(single, Report) else analyze_subject(single, importable(measures), workers=workers)
    print(found.summary)
    print(f"\nwrote {found.to_html(out, force=force)}")


def watch(folder: tyro.conf.Positional[Path] = Path("runs"), port: int = 0) -> None:
    """Serve a page that grows while runs and sweeps train: progress, curves, time left, failures; until Ctrl-C.

    It reads the folders and writes nothing, answers on this machine alone (127.0.0.1), and only at the address that it prints.

    Args:
        folder: of runs and sweeps, at any depth, or one run.
        port: of the address; 0 for any that is free.
    """
    import contextlib

    from grokinterp.reports.live import Watch

    with Watch(folder, port=port) as served:
        print(f"Open {served.address}\nCtrl-C ends it; the runs go on.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            served.wait()


def _subject(path: Path, about: CheckpointFacts) -> Any:
    """What a path names: itself, or the checkpoint that lies there where something is said about it."""
    if not about.facts and all(given is None for given in (about.task, about.p, about.train_fraction)):
        return path
    from grokinterp.checkpoints import load_checkpoint

    known = once(map(setting, about.facts))
    return load_checkpoint(path, task_of(about.task, about.p, about.train_fraction, about.split, about.seed, known), **known)
