"""Forks: runs that go on from a checkpoint of another run with changed settings.

A fork is an ordinary run whose config names its parent (`ParentConfig`), so everything that holds of runs holds of it:
it is resumed to the same bits, refuses a folder of another parent, and goes through `sweep` like the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from grokinterp.errors import GrokinterpError, os_errors_explained
from grokinterp.interventions.events import Event
from grokinterp.training.config import ParentConfig, RunConfig, combinations
from grokinterp.training.resume import parent_state
from grokinterp.training.runs import Run
from grokinterp.training.train import train
from grokinterp.training.writer import refuse_unless_usable

_BRIEF = {f"optimizer.{name}": name for name in ("weight_decay", "lr", "betas")}  # in the folders' names, however a setting was given

At = int | str | Callable[[Run], int | None]
"""Where to fork: a kept step, a condition on a recorded metric, or a function that finds the step."""


@os_errors_explained()
def fork(
    run: Run | str | Path,
    at: At,
    out: str | Path,
    *,
    moments: Literal["restore", "reset"] = "restore",
    edit: Event | None = None,
    device: str = "cpu",
    progress_bar: bool = True,
    **changes: Any,
) -> list[Run]:
    """Go on from a checkpoint of a run with changed settings, one child for each combination of them.

    ``fork(run, "test_accuracy >= 0.9", "forks", weight_decay=[1, 2, 3])`` trains forks/weight_decay=1.0 and so on, one
    after the other; a second call does only what is left. Hand the configs of `children` to `sweep` to train them in
    parallel, as an ensemble on a GPU, or on a cluster.

    Args:
        run: the parent, or its folder.
        at: a step whose checkpoint was kept; a condition like "test_accuracy >= 0.9", which means the first kept
            checkpoint at or after its onset (of "… for 3" the first of three evaluations, see `grokinterp.conditions`); or a
            function from the run to a kept step, like `when`.
        out: folder in which each child gets its own.
        moments: "restore" Adam's state and its count of updates, or "reset" it as at the beginning of a training.
        edit: what is done to the checkpoint first, `ReinitialiseHeads` for example; None for nothing.
        device: "cpu" or "cuda".
        progress_bar: show progress bars on a terminal or in a notebook.
        changes: settings by full or short name, see `grokinterp.training.config.full_names`. A list is one child each, several
            lists are their grid. ``seed`` is the order of minibatches alone, ``steps`` the total with the parent's.

    Raises:
        GrokinterpError: no such checkpoint, one without Adam's state, an edit that does not apply, settings that a fork cannot
            change, or a folder that holds another run; nothing has been trained then.
    """
    configs = children(run, at, moments=moments, edit=edit, **changes)
    folders = {name: Path(out) / name for name in configs}
    for name, config in configs.items():
        refuse_unless_usable(folders[name], config)
    return [train(config, folders[name], device=device, progress_bar=progress_bar) for name, config in configs.items()]


@os_errors_explained()
def children(
    run: Run | str | Path, at: At, *, moments: Literal["restore", "reset"] = "restore", edit: Event | None = None, **changes: Any
) -> dict[str, RunConfig]:
    """The configs of a run's forks, by a readable name made of their settings; arguments and errors are those of `fork`."""
    parent = run if isinstance(run, Run) else Run(run)
    origin = ParentConfig(str(parent.path.resolve()), parent.config.digest, _step(parent, at), moments, edit)
    if moments == "restore" and origin.step not in parent.steps_with_moments:
        raise GrokinterpError(
            f"{parent.path} has no optimizer state at step {origin.step}, only at {parent.steps_with_moments}; train the parent with "
            'checkpoints.moments = true to keep all of them, or fork with moments="reset", which starts the optimizer afresh'
        )
    checked: set[tuple[str, ...]] = set()
    found: dict[str, tuple[str, RunConfig]] = {}  # by digest, so that settings given twice are one child
    for settings in combinations(parent.config, changes):
        child = parent.config.with_(parent=origin, **settings)
        _refuse_what_changes_nothing(parent.config, child)
        if child.optimizer.state not in checked:
            parent_state(origin, child.optimizer)  # whole and readable
            checked.add(child.optimizer.state)
        child.task.build()
        found[child.digest] = _name(child, settings), child
    names = [name for name, _ in found.values()]
    # A folder's name leaves out what file systems do not like; where two children would share it, their digests tell them apart.
    return {name if names.count(name) == 1 else f"{name}-{digest}": child for digest, (name, child) in found.items()}


def _step(run: Run, at: At) -> int:
    """The step of the checkpoint that is meant."""
    if callable(at):
        step = at(run)
        if step is None:
            raise GrokinterpError(f"the function that chooses where to fork {run.path} returned None; it found no such checkpoint")
        return run.kept(step)
    if isinstance(at, int):
        return run.kept(at)
    first = run.first(at)
    if first is None:
        raise GrokinterpError(f"{at!r} does not hold at any of the evaluations of {run.path}; train it longer or ask for less")
    later = [step for step in run.steps if step >= first]
    if not later:
        raise GrokinterpError(f"{at!r} holds first at step {first} of {run.path}, but its last checkpoint is at {run.kept(None)}; let it go on")
    return later[0]


def _refuse_what_changes_nothing(parent: RunConfig, child: RunConfig) -> None:
    if child.model != parent.model:
        raise GrokinterpError("a fork has the model of its parent, whose weights it goes on with; train a new run to change model settings")
    if child.seed != parent.seed and child.batch_size is None:
        raise GrokinterpError(
            f"seed={child.seed} would change nothing: in a fork it orders the minibatches, and batch_size is None (full batch); leave it out"
        )


def _name(child: RunConfig, settings: dict[str, Any]) -> str:
    """A folder's name: "weight_decay=2.0,seed=1", after "edit=clip_norm" if there is one; the values as the config has them."""
    values = {name: re.sub(r"[^\w.+-]+", "_", str(_setting(child, name))).strip("_") for name in settings}
    edit = [] if child.parent is None or child.parent.edit is None else [f"edit={child.parent.edit.kind}"]
    return ",".join(edit + [f"{_BRIEF.get(name, name)}={value}" for name, value in values.items()]) or "unchanged"


def _setting(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = config[part] if isinstance(config, dict) else getattr(config, part)
    return config
