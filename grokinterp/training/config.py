"""Everything that determines a training, as frozen data with JSON both ways."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import itertools
import json
import reprlib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from grokinterp.checks import LARGEST, check_fields, conformed, subclasses
from grokinterp.conditions import Condition
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.interventions.events import Event
from grokinterp.models.baseline_configs import Baselines
from grokinterp.models.transformers import ModelConfig
from grokinterp.tasks import TaskConfig
from grokinterp.training.optimizers import AdamW, Optimizer


@dataclass(frozen=True)
class CheckpointSchedule:
    """At which steps the weights are kept: densely early on, then at a regular spacing, and always at the end.

    Attributes:
        every: spacing in steps.
        dense_every: spacing in steps up to and including `dense_until`.
        dense_until: last step of the dense part; 0 for none.
        moments: keep the optimizer's state of every checkpoint (with Adam three times the disk), so that a run can be forked
            there; otherwise only those of the newest, which resuming needs.
    """

    every: int = 100
    dense_every: int = 10
    dense_until: int = 0
    moments: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.every < 1 or self.dense_every < 1 or self.dense_until < 0:
            raise GrokinterpError(
                f"checkpoints need every >= 1, dense_every >= 1 and dense_until >= 0 steps; got {self.every}, {self.dense_every}, {self.dense_until}"
            )

    def includes(self, step: int) -> bool:
        """Whether the weights of this step are kept."""
        return step % self.every == 0 or (step <= self.dense_until and step % self.dense_every == 0)


@dataclass(frozen=True)
class ParentConfig:
    """The checkpoint that a forked run goes on from.

    It is part of the fork's config, so that a fork is a run like any other: a function of its config, with a digest
    of its own. Where the parent lies is no part of that identity; which parent, which step and what of Adam are.

    Attributes:
        path: the parent's folder; looked at only until the fork has its first checkpoint.
        digest: of the parent's config.
        step: of the checkpoint; the fork's step counter goes on from there.
        moments: "restore" the optimizer's state with the weights, or "reset" it to none.
        edit: what is done to the weights and moments before the fork goes on, see `grokinterp.interventions.events`; None for nothing.
    """

    path: str = field(compare=False)
    digest: str
    step: int
    moments: typing.Literal["restore", "reset"] = "restore"
    edit: Event | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.step < 0:
            raise GrokinterpError(f"a fork begins at a step >= 0 of its parent; got {self.step}")
        if self.moments == "reset" and self.edit is not None and self.edit.needs_state:
            raise GrokinterpError(f'{type(self.edit).__name__} changes nothing in a fork with moments="reset"; leave one out')

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; without an edit there is no such key, so that older files and digests stay as they are."""
        values = asdict(self)
        if self.edit is None:
            del values["edit"]
        return values


@dataclass(frozen=True)
class RunConfig:
    """One training, whole: the same config on the same machine and thread count gives the same bits.

    Attributes:
        task: what is learned, with its split.
        model: the architecture and its initialisation; `MLPConfig`, `LSTMConfig` and `MambaConfig` are other ones than transformers.
        optimizer: `AdamW`, `Adam`, `SGD` or one of your own, with its settings.
        steps: number of updates at most.
        batch_size: examples an update; None for the full training set. Minibatches go through a fresh
            seeded shuffle each epoch; the last of an epoch may be smaller.
        seed: of the initial weights and of the order of minibatches.
        eval_every: steps between rows of metrics.
        checkpoints: when weights are kept.
        stop: end early when this holds of a metric, like "test_loss < 1e-6", or "test_accuracy >= 0.99 for 3" at the third evaluation in a
            row; see `grokinterp.conditions`.
        dtype: of the weights while training, "float32" or "float64". Losses are float64 either way.
        parent: the checkpoint that a fork goes on from, see `fork`; None for a run that begins at step 0.
        durable: wait at each checkpoint until the folder's entries are on disk as well as the files, so that a loss of power costs no more
            than the steps since the last checkpoint. It decides no number, and is no part of the run's identity.
    """

    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig | Baselines = field(default_factory=ModelConfig)
    optimizer: Optimizer = field(default_factory=AdamW)
    steps: int = 20_000
    batch_size: int | None = None
    seed: int = 0
    eval_every: int = 10
    checkpoints: CheckpointSchedule = field(default_factory=CheckpointSchedule)
    stop: str | None = None
    dtype: typing.Literal["float32", "float64"] = "float32"
    parent: ParentConfig | None = None
    durable: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batch_size is not None and self.seed < 0:
            raise GrokinterpError(f"the order of minibatches needs a seed >= 0; got {self.seed}")
        if self.steps < 0 or self.eval_every < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise GrokinterpError(
                f"a run needs steps >= 0, eval_every >= 1 and batch_size >= 1 or None; got {self.steps}, {self.eval_every}, {self.batch_size}"
            )
        if self.stop is not None:
            Condition.parse(self.stop)
        if self.parent is not None and self.steps < self.parent.step:
            raise GrokinterpError(f"a fork at step {self.parent.step} cannot end at step {self.steps}; steps counts from the parent's step 0")

    def __repr__(self) -> str:
        args = ", ".join(f"{name} = {reprlib.repr(value)}" for name, value in self.task.args.items())
        rates = f"lr {self.optimizer.lr:g}, weight decay {self.optimizer.weight_decay:g}"
        begins = "" if self.parent is None else f", forked at step {self.parent.step:,}"
        task = f"{self.task.name}{' ' * bool(args)}{args}"
        return f"RunConfig({self.digest}: {task}, {type(self.model).__name__}, {rates}, {self.steps:,} steps, seed {self.seed}{begins})"

    def to_dict(self) -> dict[str, Any]:
        """The config as plain JSON values; without a parent or interventions there is no such key, so that older digests stay as they are."""
        values = asdict(self)
        if not self.durable:
            del values["durable"]
        if isinstance(self.model, ModelConfig) and not self.model.interventions:
            del values["model"]["interventions"]
        del values["parent"]
        if self.parent is not None:
            values["parent"] = self.parent.to_dict()
        return typing.cast(dict[str, Any], json.loads(json.dumps(values)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """The config that `to_dict` wrote.

        Raises:
            GrokinterpError: an unknown key (the nearest known ones are named) or a bad value.
        """
        return typing.cast(RunConfig, _from_dict(cls, values, "config"))

    def with_(self, **changes: Any) -> RunConfig:
        """A copy with some settings changed: ``with_(weight_decay=0.5, d_model=64)``, or by full name ``with_(**{"optimizer.weight_decay": 0.5})``.

        Args:
            changes: values by name, see `full_names`. A whole part, like ``model=MLPConfig()``, is put in before settings inside it are changed.

        Raises:
            GrokinterpError: an unknown or ambiguous name, or a bad value.
        """
        paths = {tuple(name.split(".")): value for name, value in full_names(self, changes).items()}
        return typing.cast(RunConfig, _with(self, dict(sorted(paths.items(), key=lambda item: len(item[0])))))

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify the config."""
        return hashlib.sha256(json.dumps(identity(self.to_dict()), sort_keys=True).encode()).hexdigest()[:12]


def identity(values: Mapping[str, Any]) -> dict[str, Any]:
    """A config's JSON values without those that decide no number: where its parent lies, and how writing waits for the disk."""
    values = {name: value for name, value in values.items() if name != "durable"}
    if "parent" not in values:
        return values
    return {**values, "parent": {name: value for name, value in values["parent"].items() if name != "path"}}


def full_names(config: RunConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under their full names, which is how `with_`, `grid`, `fork` and the command line find them.

    A full name is dotted, as in config.json: "optimizer.weight_decay", "task.args.p". Its last part is enough where no other setting of the
    config ends in it: "weight_decay", "p". A field of the config itself, like ``seed``, always means that field.

    Args:
        config: in which the names are looked up.
        settings: values by full or short name, in any order.

    Raises:
        GrokinterpError: a short name that no setting has (the nearest are named) or several have (all are named), or a setting that is given twice.
    """
    parts = {field.name: settings.get(field.name, getattr(config, field.name)) for field in fields(config)}
    known = list(_names(parts))
    found: dict[str, Any] = {}
    for name, value in settings.items():
        meant = [name] if "." in name or name in parts else [full for full in known if full.rpartition(".")[2] == name]
        if not meant:
            raise unknown_name("config field", name, {full.rpartition(".")[2] for full in known})
        if len(meant) > 1:
            raise GrokinterpError(f"{name} is the name of {len(meant)} settings; write {' or '.join(meant)}")
        if meant[0] in found:
            raise GrokinterpError(f"{meant[0]} is given twice, as {found[meant[0]]!r} and as {value!r}; leave one out")
        found[meant[0]] = value
    return found


def _names(values: Any, prefix: str = "") -> Iterator[str]:
    """Full names of settings, also of those that hold others."""
    for name, value in _own(values).items():
        yield f"{prefix}{name}"
        if is_dataclass(value) or isinstance(value, Mapping):
            yield from _names(value, f"{prefix}{name}.")


def _own(config: Any) -> dict[str, Any]:
    """What can be set of a dataclass, or the entries of a mapping, by name."""
    return {field.name: getattr(config, field.name) for field in fields(config) if field.init} if is_dataclass(config) else dict(config)


def combinations(config: RunConfig, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of values, the last setting varying fastest, under full names.

    Args:
        config: in which the names are looked up.
        settings: by full or short name, see `full_names`. A list, range or array holds several values; anything else is one value, a tuple
            like betas as well.

    Raises:
        GrokinterpError: a list without values, or what `full_names` refuses.
    """
    lists: dict[str, list[Any]] = {}
    for name, value in settings.items():
        value = value.tolist() if hasattr(value, "tolist") else value
        lists[name] = list(value) if isinstance(value, list | range) else [value]
        if not lists[name]:
            raise GrokinterpError(f"{name} has an empty list of values; give at least one")
    for values in itertools.product(*lists.values()):
        yield full_names(config, dict(zip(lists, values, strict=True)))


def _with(config: Any, changes: Mapping[tuple[str, ...], Any]) -> Any:
    nested, known = is_dataclass(config), _own(config)
    updates: dict[str, Any] = {}
    for path, value in changes.items():
        if nested and path[0] not in known:
            raise unknown_name("config field", path[0], known)
        inner = updates.get(path[0], known.get(path[0]))
        if len(path) > 1:
            updates[path[0]] = _with(inner, {path[1:]: value})
        elif nested and not is_dataclass(value):
            updates[path[0]] = _convert(typing.get_type_hints(type(config))[path[0]], value, f"config.{path[0]}")
        else:
            updates[path[0]] = value
    return dataclasses.replace(config, **updates) if nested else {**known, **updates}


def _from_dict(cls: Any, values: Any, where: str) -> Any:
    """Build a dataclass from JSON values, checking keys and types all the way down."""
    if not isinstance(values, Mapping):
        raise GrokinterpError(f"{where} must be an object with named fields; got {values!r}")
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise unknown_name(f"key in {where}:", key, hints)
    missing = dataclasses.MISSING
    required = [field.name for field in dataclasses.fields(cls) if field.default is missing and field.default_factory is missing]
    if lacking := [name for name in required if name not in values]:
        raise GrokinterpError(f"{where} lacks {', '.join(lacking)}; it has {', '.join(map(str, values)) or 'no fields'}")
    return cls(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if inspect.isabstract(hint):
        return _one_of(subclasses(hint), value, where)
    if is_dataclass(hint):
        return value if isinstance(value, typing.cast(type, hint)) else _from_dict(hint, value, where)
    if origin in (typing.Union, types.UnionType):
        arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        if value is None and len(arms) < len(typing.get_args(hint)):
            return None
        return _one_of(arms, value, where) if len(arms) > 1 else _convert(arms[0], value, where)
    if origin is tuple and isinstance(value, list | tuple):
        element = typing.get_args(hint)[0]
        if inspect.isabstract(element):
            return tuple(_convert(element, item, f"{where}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < LARGEST else value
    return conformed(hint, value, where)


def _one_of(classes: list[Any], value: Any, where: str) -> Any:
    """Build the dataclass that an object's "kind" names; without one, the class that has none."""
    if isinstance(value, tuple(classes)):
        return value
    # Of two classes of one kind the later is meant, as when a notebook's cell is run again; without a kind, the package's own.
    plain = [cls for cls in classes if not getattr(cls, "kind", "")]
    by_kind = {cls.kind: cls for cls in classes if cls not in plain} | ({"": plain[0]} if plain else {})
    if not isinstance(value, Mapping) or ("kind" not in value and "" not in by_kind):
        raise GrokinterpError(f'{where} must be an object with a "kind"; got {value!r}')
    if not isinstance(value.get("kind", ""), str) or value.get("kind", "") not in by_kind:
        raise unknown_name(f"kind in {where}:", value["kind"], filter(None, by_kind))
    return _from_dict(by_kind[value.get("kind", "")], {key: item for key, item in value.items() if key != "kind"}, where)
