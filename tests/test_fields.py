"""No config holds NaN, inf, text in place of a number, or a size that nothing can hold; all of them are one sentence."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from grokinterp import GrokinterpError, ModelConfig, RunConfig, presets
from grokinterp.interventions.architecture import CosineUnembed, FourierInit, PostNorm, Sphere
from grokinterp.interventions.events import ClipNorm, ReinitialiseHeads
from grokinterp.models.baseline_configs import LSTMConfig, MambaConfig, MLPConfig
from grokinterp.tasks import TaskConfig
from grokinterp.training.config import CheckpointSchedule, ParentConfig
from grokinterp.training.optimizers import AdamW

CONFIGS = [
    *(presets.demo(), AdamW(), CheckpointSchedule(), ModelConfig(), TaskConfig(), ParentConfig("runs/x", "0" * 12, 20)),
    *(MLPConfig(), LSTMConfig(), MambaConfig(), Sphere(), CosineUnembed(), PostNorm(), FourierInit(), ClipNorm(1.0), ReinitialiseHeads()),
]
BAD: list[Any] = [math.nan, math.inf, -math.inf, "1", b"1", [], ["a", "b"], [math.nan, math.nan], {}, {"p": math.nan}, object(), True, None]
BAD += [10**30, -(10**30), 10**400, 2.5, -1, 0, "\udcff", {"p": "\udcff"}, {"\udcff": 1}, np.float64("nan"), np.array([1.0, math.inf])]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_a_config_takes_what_its_types_declare_and_nothing_else(config: Any) -> None:
    sentences = []
    for field in fields(config):
        for value in BAD if field.init else ():
            try:
                made = replace(config, **{field.name: value})
            except GrokinterpError as error:
                sentences.append(str(error))
                continue
            found = getattr(made, field.name)
            assert not isinstance(found, np.generic)
            if not is_dataclass(found):
                json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
            for number in found if isinstance(found, tuple) else [found]:
                assert not isinstance(number, int | float) or math.isfinite(number), (field.name, value)
                assert not (isinstance(number, int) and field.type == "int") or abs(number) < 2**63, (field.name, value)
    assert len(sentences) > 5
    assert not [text for text in sentences if "\n" in text or len(text) > 400]


def test_numpys_numbers_are_numbers() -> None:
    config = presets.nanda2023(p=7).with_(seed=np.int64(3), **{"optimizer.lr": np.float32(0.5), "task.args": {"p": np.int32(11)}})
    assert config.digest == presets.nanda2023(p=7).with_(seed=3, **{"optimizer.lr": 0.5, "task.args": {"p": 11}}).digest
    assert RunConfig(seed=np.int64(3)).to_dict()["seed"] == 3  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimizer.eps", math.inf, "config.eps must be finite; got inf"),
        ("optimizer.lr", math.nan, "must be finite; got nan"),
        ("optimizer.betas", ["a", "b"], r"betas\[0\] must be float; got 'a'"),
        ("task.args.p", math.nan, "must be finite; got nan"),
        ("task.args.p", "7", "task.args.p must be int; got '7'"),
        ("task.args.p", 10**6, "at most 8,192, since the table has p² pairs; got 1000000"),
        ("task.train_fraction", math.nan, "must be finite"),
        ("model.n_layers", 10**9, "at most 2,147,483,648 weights in its blocks"),
        ("steps", 10**30, r"must be int; got 1.000e\+30"),
        ("seed", -1, "the order of minibatches needs a seed >= 0; got -1"),
    ],
)
def test_what_is_refused_names_the_setting(name: str, value: object, message: str) -> None:
    with pytest.raises(GrokinterpError, match=message.replace("config.eps", "eps")):
        presets.fsd2026(p=13).with_(**{name: value}).task.build()


@pytest.mark.parametrize("change", [{"parent": None}, {"model": None}, {"task": {"args": None}}, {"model": {"kind": []}}, {"model": {"kind": None}}])
def test_null_and_kinds_in_a_file(change: dict[str, Any]) -> None:
    values = {**presets.demo().to_dict(), **change}
    if change == {"parent": None}:
        assert RunConfig.from_dict(values) == presets.demo()
    else:
        with pytest.raises(GrokinterpError, match=r"must be|unknown kind"):
            RunConfig.from_dict(values)
