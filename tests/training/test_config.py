"""Configurations survive JSON and refuse what they do not know."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from grokinterp import GrokinterpError, MLPConfig, Run, RunConfig, TaskConfig, grid, presets
from grokinterp.training.config import CheckpointSchedule, full_names
from grokinterp.training.fork import children
from grokinterp.training.optimizers import AdamW


@pytest.mark.parametrize("name", presets.PRESETS)
def test_json_round_trip(name: str) -> None:
    config = presets.PRESETS[name]()
    again = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.digest == config.digest
    assert config.with_(seed=99).digest != config.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sede": 1}, "unknown key in config: 'sede'; did you mean seed"),
        ({"optimizer": {"weight_decy": 1.0}}, "config.optimizer: 'weight_decy'; did you mean weight_decay"),
        ({"steps": "many"}, "config.steps must be int; got 'many'"),
        ({"steps": True}, "config.steps must be int; got True"),
        ({"model": [1]}, "config.model must be an object"),
        ({"optimizer": {"lr": -1.0}}, "lr -1.0"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, r"betas are two numbers in \[0, 1\); got \(0.9, 1.0\)"),
        ({"stop": "loss low"}, "cannot read the condition 'loss low'"),
        ({"checkpoints": {"every": 0}}, "every >= 1"),
        ({"dtype": "float16"}, "unknown dtype 'float16'; did you mean"),
        ({"batch_size": 0}, "batch_size >= 1"),
    ],
)
def test_bad_values_are_named(change, message) -> None:
    with pytest.raises(GrokinterpError, match=message):
        RunConfig.from_dict(presets.demo().to_dict() | change)


def test_with_reaches_inside() -> None:
    config = presets.nanda2023().with_(**{"optimizer.lr": 1e-4, "task.args.p": 53, "seed": 3})
    assert (config.optimizer.lr, config.task.args["p"], config.seed) == (1e-4, 53, 3)
    assert presets.nanda2023().optimizer.lr == 1e-3


# --- names of settings ------------------------------------------------------------------------------------------------------------------


def settings_of(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every setting of a config by its full name, read off its JSON values."""
    found = {}
    for name, value in values.items():
        found |= {f"{prefix}{name}": value} | (settings_of(value, f"{prefix}{name}.") if isinstance(value, dict) else {})
    return found


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_every_setting_goes_by_its_full_name_and_by_its_last_part_where_that_is_unambiguous(preset: str) -> None:
    config = presets.PRESETS[preset]()
    settings = {name: value for name, value in settings_of(config.to_dict()).items() if not isinstance(value, dict) and not name.endswith(".kind")}
    last = Counter(name.rpartition(".")[2] for name in settings)
    assert last["weight_decay"] == last["d_model" if "model.d_model" in settings else "lr"] == 1
    for full, value in settings.items():
        short = full.rpartition(".")[2]
        assert config.with_(**{full: value}) == config
        if last[short] == 1 or "." not in full:
            assert full_names(config, {short: value}) == {full: value}
            assert config.with_(**{short: value}) == config.with_(**{full: value})
        elif short not in settings:
            with pytest.raises(GrokinterpError, match=f"{short} is the name of {last[short]} settings; write .*{full}"):
                config.with_(**{short: value})


def test_one_way_of_naming_settings_everywhere() -> None:
    short, full = {"weight_decay": 0.5, "d_model": 64}, {"optimizer.weight_decay": 0.5, "model.d_model": 64}
    config = presets.nanda2023()
    expected = config.with_(**full)
    assert (expected.optimizer.weight_decay, expected.model.d_model) == (0.5, 64)  # type: ignore[union-attr]
    assert config.with_(**short) == expected
    assert grid(config, short) == grid(config, full) == grid(config, **short) == [expected]
    several = {"p": [5, 7], "seed": range(2), "split_seed": 3}
    assert grid(config, several) == grid(config, {"task.args.p": [5, 7], "seed": [0, 1], "task.split_seed": 3})
    assert [child.task.args["p"] for child in grid(config, several)] == [5, 5, 7, 7]


def test_the_folder_of_a_fork_does_not_depend_on_how_a_setting_was_named(tiny_run: Run) -> None:
    at = tiny_run.steps[-1]
    for short, full, folder in (
        ({"weight_decay": [0.5, 2]}, {"optimizer.weight_decay": [0.5, 2]}, ["weight_decay=0.5", "weight_decay=2.0"]),
        ({"every": 30, "lr": 1e-2}, {"checkpoints.every": 30, "optimizer.lr": 1e-2}, ["checkpoints.every=30,lr=0.01"]),
    ):
        assert list(children(tiny_run, at, **short)) == list(children(tiny_run, at, **full)) == folder
        assert children(tiny_run, at, **short) == children(tiny_run, at, **full)


def test_ambiguous_and_unknown_names_are_refused() -> None:
    twice = presets.nanda2023().with_(task=TaskConfig("mine", {"n_layers": 3, "lr": 1}))
    with pytest.raises(GrokinterpError, match=r"n_layers is the name of 2 settings; write task.args.n_layers or model.n_layers"):
        twice.with_(n_layers=2)
    with pytest.raises(GrokinterpError, match=r"lr is the name of 2 settings; write task.args.lr or optimizer.lr"):
        grid(twice, lr=[1, 2])
    for name in ("weight_decy", "optimizer.weight_decy"):
        with pytest.raises(GrokinterpError, match="unknown config field 'weight_decy'; did you mean weight_decay"):
            twice.with_(**{name: 1.0})
    with pytest.raises(GrokinterpError, match="unknown config field 'kind'"):
        twice.with_(model=MLPConfig()).with_(kind="lstm")  # what a class is cannot be set
    with pytest.raises(GrokinterpError, match=r"optimizer.weight_decay is given twice, as 1 and as 2"):
        twice.with_(**{"weight_decay": 1, "optimizer.weight_decay": 2})
    assert twice.with_(seed=4) == twice.with_(**{"seed": 4})
    assert twice.with_(seed=4).task.split_seed == twice.task.split_seed  # a field of the config itself is always that one


def test_a_part_is_replaced_before_what_is_inside_it() -> None:
    config = presets.nanda2023()
    for changes in ({"lr": 0.5, "optimizer": AdamW(eps=1e-5)}, {"optimizer": AdamW(eps=1e-5), "optimizer.lr": 0.5}):
        assert config.with_(**changes).optimizer == AdamW(eps=1e-5, lr=0.5)
    assert config.with_(d_hidden=8, model=MLPConfig()).model == MLPConfig(d_hidden=8)
    with pytest.raises(GrokinterpError, match="unknown config field 'n_heads'"):
        config.with_(n_heads=8, model=MLPConfig())


def test_warm_up_starts_at_zero() -> None:
    optimizer = AdamW(lr=2.0, warmup_steps=10)
    assert [optimizer.lr_at(step) for step in (0, 5, 10, 11)] == [0.0, 1.0, 2.0, 2.0]
    assert AdamW(lr=2.0).lr_at(0) == 2.0


def test_schedule_is_dense_early() -> None:
    schedule = CheckpointSchedule(every=10, dense_every=2, dense_until=5)
    assert [step for step in range(31) if schedule.includes(step)] == [0, 2, 4, 10, 20, 30]
