"""What commands make of their arguments: settings, configurations, tasks, and the numbers that they print."""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grokinterp.errors import GrokinterpError, unknown_name

if TYPE_CHECKING:
    from grokinterp.reports.report import Report
    from grokinterp.tasks import Task
    from grokinterp.training.config import RunConfig
    from grokinterp.training.runs import Run


def task_of(task: str | None, p: int | None, train_fraction: float | None, split: Any, seed: int, facts: dict[str, Any]) -> Task | None:
    """The task that a checkpoint was trained on; what begins with ``task.`` among the facts is taken out of them.

    Raises:
        GrokinterpError: no fact has that name, or an argument or a split comes without a task.
    """
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


def status(runs: Iterable[Run]) -> int:
    """The exit status of a command that trained: 1 where a run diverged."""
    return int(any(run.diverged for run in runs))


def where(run: Run, at: str) -> int | str | Callable[[Run], int | None]:
    """A step, a condition on a recorded metric, or a finder for a condition on a measure."""
    from grokinterp.analysis import when
    from grokinterp.conditions import Condition

    if at.isdigit():
        return int(at)
    return at if Condition.parse(at).quantity in run.metrics.columns else when(at)


@contextlib.contextmanager
def executor_at(address: str | None) -> Iterator[Any]:
    """The executor behind an address; None for processes on this machine.

    Raises:
        GrokinterpError: another kind of address, or Dask is not installed.
    """
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


def values(text: str) -> tuple[str, list[Any]]:
    """The name and the values of NAME=V1,V2.

    Raises:
        GrokinterpError: the text is of another form.
    """
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise GrokinterpError(f"--grid takes NAME=V1,V2, like optimizer.weight_decay=0.3,1; got {text!r}")
    return name, [setting(f"{name}={value}")[1] for value in values.split(",")]


def once(settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Settings by name, each given once.

    Raises:
        GrokinterpError: one is given twice.
    """
    found: dict[str, Any] = {}
    for name, value in settings:
        if name in found:
            raise GrokinterpError(f"{name} is given twice, as {found[name]!r} and as {value!r}; leave one out")
        found[name] = value
    return found


def importable(names: tuple[str, ...]) -> list[str]:
    """The names as they are; a module that one of them names may lie in this folder, as with ``python -m``."""
    if any(":" in name for name in names) and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return list(names)


def show(found: Report) -> None:
    """Print the numbers that one quotes, the summary, and what is missing with its reason."""
    from grokinterp.reports.words import missing

    rows = found.headline()
    width = max((len(number.quantity) for number in rows), default=0)
    print("\n".join(f"{number.quantity:<{width}}  {number.value}" for number in rows))
    print("\n" + found.summary)
    for _, _, table in found.tables():
        print("\n" + table.to_string())
    for what, reason in missing(found.dataset).items():
        print(f"\n{what}: {reason}")


def config_of(preset: str, given: dict[str, Any]) -> RunConfig:
    """The preset or configuration file with the given arguments.

    Raises:
        GrokinterpError: an unknown preset, or an argument that it does not take.
    """
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


def setting(text: str) -> tuple[str, Any]:
    """The name and the value of NAME=VALUE; a value that is no JSON is text.

    Raises:
        GrokinterpError: the text is of another form.
    """
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
