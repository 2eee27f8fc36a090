"""`analyze()`: the one way in, for every kind of subject."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import xarray as xr
from tqdm.auto import tqdm

from grokinterp.checkpoints import Checkpoint, checkpoint_of, checkpoint_of_published, load_checkpoint
from grokinterp.checkpoints.opening import SUFFIXES
from grokinterp.checkpoints.published import Published
from grokinterp.conditions import Condition
from grokinterp.errors import GrokinterpError, os_errors_explained, unknown_name
from grokinterp.measures import MEASURES, Measure, find
from grokinterp.measures.measure import Function, as_measure
from grokinterp.measures.undefined import UNDEFINED, has_finite_weights, reasons_of
from grokinterp.models.adapter import is_model
from grokinterp.reports.comparison import Comparison, compare
from grokinterp.reports.figures import without_user_variables
from grokinterp.reports.report import Report
from grokinterp.reports.rows import Rows, along_steps, recorded
from grokinterp.reports.several import in_order
from grokinterp.reports.summary import in_words
from grokinterp.reports.words import phases
from grokinterp.snapshot import Snapshot
from grokinterp.tasks import Prompts, Task
from grokinterp.training.executors import side_by_side
from grokinterp.training.runs import Run
from grokinterp.training.sweep import default_workers, runs_in


@os_errors_explained()
def analyze(
    subject: Any,
    measures: Sequence[str | Function | Measure] = ("progress",),
    *,
    task: Task | Prompts | None = None,
    steps: Iterable[int] | None = None,
    workers: int | None = 0,
    progress_bar: bool = True,
) -> Report:
    """Read measures off every checkpoint of a run, off other people's checkpoints, or off any model with a task.

    Args:
        subject: a `Run` or its folder; a `Checkpoint` or its file, if that needs no further facts; a HookedTransformer, or models of a training
            loop of your own as ``{step: model}``, together with `task`; in place of a model a function that makes it, called in its turn, so that
            the last one and one more are in memory. Several of them, as a list or as ``{name: subject}``, and a folder of runs such as a sweep's,
            give a `Comparison`, with a dimension ``run``; reports among them are taken as they are, and what cannot be read is named in its
            ``failed``.
        measures: names out of `MEASURES`, or functions of your own that take a `Snapshot` and return named scalars,
            arrays with dimensions, or an xarray Dataset, themselves or as "module:name"; a `Measure` has rows and figures of its own, too.
        task: of a bare model, of models by step, or of a file that states none; or agreement prompts of a language model, for the measure "ace".
        steps: of a run or a checkpoint, those to read; None for all.
        workers: processes that share a run's checkpoints; 0 for this one, None for as many as cores. What a killed one had begun is done again.
        progress_bar: show a progress bar on a terminal or in a notebook.

    Raises:
        GrokinterpError: an unknown measure, a subject that is none of these, or no measure that applies to it. When some
            measures apply, those that do not are left out and named in ``report.failures`` with the reason. What a measure gives but
            cannot define is NaN, and named in ``report.undefined``.
    """
    workers = default_workers("cpu") if workers is None else workers
    if workers < 0:
        raise GrokinterpError(f"workers counts processes, with 0 for this one; got {workers}")
    named = dict(_named(measure) for measure in measures)
    if (several := _several(subject)) is not None:
        return _comparison(several, measures, task=task, steps=steps, workers=workers, progress_bar=progress_bar)
    if isinstance(subject, str | Path) and Path(subject).suffix not in SUFFIXES:
        subject = Run(subject)
    if isinstance(subject, Run | Published | Checkpoint) and task is not None:
        name = subject.title if isinstance(subject, Checkpoint) else subject.path
        raise GrokinterpError(f"{name} has a task of its own, {subject.task.name!r}; leave task={task.name!r} out, or give it with a bare model")
    if isinstance(subject, str | Path):
        subject = load_checkpoint(subject, task)
    elif isinstance(subject, Mapping):
        subject = checkpoint_of(subject, task)
    elif isinstance(subject, Published):
        subject = checkpoint_of_published(subject)
    if steps is not None and not isinstance(subject, Run | Checkpoint):
        raise GrokinterpError(f"steps chooses among the checkpoints of a run; a {type(subject).__name__} has none to choose from")
    if isinstance(subject, Run | Checkpoint):
        chosen = sorted(subject.steps if steps is None else {subject.kept(step) for step in steps})
    if isinstance(subject, Run):
        if not chosen:
            raise GrokinterpError(f"{subject.path} has no checkpoint yet")
        found, reasons = _measure_run(subject, chosen, named, workers, progress_bar)
        return _report(found, reasons, named, recorded(subject.metrics), str(subject.path), subject.config.to_dict(), subject.provenance)
    if isinstance(subject, Checkpoint):
        if workers:
            raise GrokinterpError(f"workers share the checkpoints of a run's folder; {subject.title} is read in this process, so pass workers=0")
        found, reasons = _measure(_snapshots(subject, chosen), named)
        title = f"{subject.task.name}, {subject.title}"
        return _report(found, reasons, named, _recorded_series(subject), title, subject.facts(), dict(subject.provenance))
    if is_model(subject) and task is not None:
        found, reasons = _measure([Snapshot(subject, task, step=0)], named)
        return _report(found, reasons, named, xr.Dataset(), task.name, {}, getattr(subject, "provenance", {}))
    hint = "pass task=… with a model" if is_model(subject) else "pass a Run or its folder, a published .pth file, or a model with task=…"
    raise GrokinterpError(f"cannot analyze a {type(subject).__name__}: {hint}")


def _several(subject: Any) -> dict[str, Any] | list[Any] | None:
    """The subjects that one of several stands for, by name where they have names; None where it is a single one."""
    if isinstance(subject, Mapping) and subject and all(isinstance(name, str) for name in subject):
        return dict(subject)
    if isinstance(subject, list | tuple):
        return list(subject)
    if isinstance(subject, str | Path) and Path(subject).is_dir() and not (Path(subject) / "config.json").exists():
        return list(in_order(runs_in(subject))) if any(Path(subject).glob("*/config.json")) else None
    return None


def _comparison(subjects: dict[str, Any] | list[Any], measures: Sequence[str | Function | Measure], **options: Any) -> Comparison:
    """The reports of several subjects as one; those that cannot be read are named in it.

    Raises:
        GrokinterpError: none of them can be read.
    """
    each = list(subjects.values() if isinstance(subjects, dict) else subjects)
    names = list(subjects) if isinstance(subjects, dict) else [_title(subject, i) for i, subject in enumerate(each, 1)]
    steps = None if options["steps"] is None else list(options["steps"])
    found: dict[int, Report] = {}
    failed: dict[str, str] = {}
    for i, subject in enumerate(each):
        try:
            found[i] = subject if isinstance(subject, Report) else analyze(subject, measures, **(options | {"steps": steps}))
        except GrokinterpError as error:
            failed[names[i]] = str(error)
    if not found:
        raise GrokinterpError("; ".join(f"{name}: {reason}" for name, reason in failed.items()) or f"a comparison needs subjects; got {len(each)}")
    chosen = [names[i] for i in found] if isinstance(subjects, dict) else None
    return Comparison(compare(*found.values(), names=chosen).reports, failed)


def _title(subject: Any, i: int) -> str:
    """What to call a subject of a list that cannot be read."""
    return str(subject if isinstance(subject, str | Path) else getattr(subject, "path", f"subject {i}"))


def when(condition: str) -> Callable[[Run], int | None]:
    """A finder of the first checkpoint of a run at which a measured number satisfies a condition, for ``fork(run, at=when("fsd[1] >= 0.8"), …)``.

    Of "fsd[1] >= 0.8 for 2" it is the first of the two, see `grokinterp.conditions`. The measure is the first of `MEASURES` that gives the
    variable; that of the same name is asked before the others.

    Args:
        condition: on a variable of a measure, with a label in brackets for each dimension: "fsd[3] >= 0.8 for 2" checkpoints,
            "restricted_loss[test] < 0.5", "head_similarity > .9".

    Raises:
        GrokinterpError: a condition that cannot be read; when the finder is used also a variable that no measure gives, or labels that leave
            several of its entries.
    """
    wanted = Condition.parse(condition)

    def first(run: Run) -> int | None:
        if not run.steps:
            raise GrokinterpError(f"{run.path} has no checkpoint yet")
        measure = _giving(wanted.quantity, next(iter(_snapshots(run, run.steps[-1:]))).reference)

        def value(snapshot: Snapshot) -> float:
            try:
                variables = measure(snapshot)
            except GrokinterpError:  # it applies to this run, as `_giving` has seen; at this step it is not defined
                return np.nan
            return wanted.entry(variables[wanted.quantity])

        found = wanted.first(run.steps, map(value, _snapshots(run, run.steps)))
        return None if found is None else int(found.onset)

    return first


def _giving(variable: str, snapshot: Snapshot) -> Measure:
    """The measure that gives a variable; errors say which variables there are."""
    known: dict[str, list[str]] = {}
    failures: dict[str, str] = {}
    for name in sorted(MEASURES, key=lambda name: name != variable):
        try:
            known[name] = [str(each) for each in MEASURES[name](snapshot)]
        except GrokinterpError as error:
            failures[name] = str(error)
            continue
        if variable in known[name]:
            return MEASURES[name]
    if variable in known:
        raise GrokinterpError(f"{variable} is a measure with several variables; name one of them: {', '.join(known[variable])}")
    if variable in failures:
        raise GrokinterpError(failures[variable])
    raise unknown_name("variable of a measure", variable, {name for names in known.values() for name in names})


def _named(measure: str | Function | Measure) -> tuple[str, Measure]:
    if isinstance(measure, str):
        found = find(measure)
        return (measure if measure in MEASURES else found.name), found
    return (found := as_measure(measure, known=MEASURES.values())).name, found


Reasons = dict[tuple[Literal["measure", "variable"], str], dict[str, list[int]]]
"""Why a measure or a variable is missing: by reason, the steps."""


def _measure(snapshots: Iterable[Snapshot], measures: Mapping[str, Measure]) -> tuple[xr.Dataset, Reasons]:
    """The measures of each snapshot, side by side along ``step``; what a step lacks is NaN there, with the reason."""
    reasons: Reasons = {}
    rows = Rows()
    for snapshot in snapshots:
        step = cast("int", snapshot.step)
        row = xr.Dataset()
        for name, measure in measures.items():
            try:
                with snapshot.read_by(f"measure {name!r}"):
                    found = measure(snapshot)
            except GrokinterpError as error:
                reasons.setdefault(("measure", name), {}).setdefault(str(error), []).append(step)
                continue
            for variable, reason in reasons_of(found).items():
                reasons.setdefault(("variable", variable), {}).setdefault(reason, []).append(step)
            row = row.merge(found, compat="no_conflicts", join="outer")
        rows.add(step, row)
        del snapshot  # before the next one's model is made
    return rows.dataset(), reasons


def _measure_run(run: Run, steps: list[int], measures: Mapping[str, Measure], workers: int, progress_bar: bool) -> tuple[xr.Dataset, Reasons]:
    bar = tqdm(total=len(steps), unit="checkpoint", desc=f"analyze {run.path.name}", disable=None if progress_bar else True)
    with bar:
        if not workers:
            return _measure(_snapshots(run, steps, bar.update), measures)
        shares = {f"steps {share[0]} … {share[-1]}": share.tolist() for share in np.array_split(steps, min(workers, len(steps)))}
        calls = {name: (_measure_share, (run.path, share, dict(measures))) for name, share in shares.items()}
        threads = max(1, torch.get_num_threads() // workers)
        parts = side_by_side(calls, workers, threads=threads, done=lambda name: bar.update(len(shares[name]))).values()
    reasons: Reasons = {}
    for _, lacking in parts:
        for name, by_reason in lacking.items():
            for reason, where in by_reason.items():
                reasons.setdefault(name, {}).setdefault(reason, []).extend(where)
    return along_steps([found for found, _ in parts]), reasons


def _measure_share(path: Path, steps: list[int], measures: Mapping[str, Measure]) -> tuple[xr.Dataset, Reasons]:
    """One worker's checkpoints."""
    return _measure(_snapshots(Run(path), steps), measures)


def _snapshots(run: Run | Checkpoint, steps: list[int], done: Callable[[], Any] = lambda: None) -> Iterable[Snapshot]:
    """One snapshot a step, one at a time in memory, beside its reference: the last checkpoint, or the last before the training diverged."""
    reference = _reference(run)
    for step in steps:
        yield reference if step == reference.step else Snapshot(run.model(step), run.task, step, reference)
        done()


def _reference(run: Run | Checkpoint) -> Snapshot:
    """The last checkpoint with finite weights, or the last of all."""
    for step in reversed(run.steps):
        snapshot = Snapshot(run.model(step), run.task, step)
        if has_finite_weights(snapshot.model):
            return snapshot
    return Snapshot(run.model(), run.task, run.steps[-1])


def _joined(reasons: list[str]) -> str:
    """A few reasons in full, of many the first ones."""
    more = [f"and {len(reasons) - 3} more reasons"] if len(reasons) > 4 else []
    return "; ".join([*reasons[:3], *(more or reasons[3:])])


def _named_steps(steps: Sequence[int]) -> str:
    """A few steps by number, many as a count."""
    if len(steps) > 3:
        return f"{len(steps)} checkpoints from step {min(steps):,} to {max(steps):,}"
    return f"step {', '.join(f'{step:,}' for step in steps)}"


def _recorded_series(checkpoint: Checkpoint) -> xr.Dataset:
    """What was recorded while training, at every step at which anything was; NaN where a series was not recorded."""
    if not checkpoint.recorded:
        return xr.Dataset()
    steps = sorted({int(step) for series in checkpoint.recorded.values() for step in series.index})
    columns = {f"metric_{name}": ("eval_step", series.reindex(steps).to_numpy()) for name, series in checkpoint.recorded.items()}
    return xr.Dataset(columns, coords={"eval_step": np.array(steps)})


def _report(
    found: xr.Dataset,
    reasons: Reasons,
    measures: Mapping[str, Measure],
    recorded: xr.Dataset,
    title: str,
    config: dict[str, Any],
    provenance: dict[str, Any],
) -> Report:
    """The report of what was found.

    Raises:
        GrokinterpError: no measure gave anything at any step.
    """
    if not found.data_vars:
        raise GrokinterpError("; ".join(reason for by_reason in reasons.values() for reason in by_reason) or "the measures returned nothing")
    everywhere = found.sizes["step"]
    failures: dict[str, str] = {}
    for (kind, name), by_reason in reasons.items():
        words = _joined([reason if len(steps) == everywhere else f"{reason} ({_named_steps(steps)})" for reason, steps in by_reason.items()])
        if kind == "measure":
            failures[name] = words
        else:
            found[name].attrs[UNDEFINED] = words
    dataset = found.merge(recorded)
    title = title.encode("utf-8", "backslashreplace").decode()  # a path need not be text, and netCDF holds nothing else
    dataset.attrs = {"title": title, "config": json.dumps(config), "provenance": json.dumps(provenance), "failures": json.dumps(failures)}
    ours = without_user_variables(dataset)
    if {"loss", "excluded_loss", "restricted_loss"} <= ours.keys() and ours.sizes["step"] > 1:
        dataset.attrs["phases"] = json.dumps(asdict(phases(ours)))
    dataset.attrs["summary"] = in_words(dataset)
    return Report(dataset, {name: measure for name, measure in measures.items() if MEASURES.get(name) is not measure})
