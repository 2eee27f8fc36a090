"""Every entry of a published file is used or refused: operations, activation functions, sizes, splits, types, losses, and claimed sizes."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import json
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from grokinterp import GrokinterpError, analyze, load_checkpoint, published
from grokinterp.models import ModelConfig, build_model
from grokinterp.tasks import TaskConfig

P, EPOCH = 7, 149


@functools.cache
def trained(task: str, settings: tuple[tuple[str, Any], ...]) -> tuple[ModelConfig, Any, list[float]]:
    """A small model that has learned its training pairs, and the record of its loss."""
    table = TaskConfig(task, {"p": P}, 0.5, 3, "python").build()
    config = ModelConfig(**{"d_model": 8, "n_heads": 2, "d_mlp": 12} | dict(settings))
    model, chosen = build_model(config, table, seed=0), table.indices("train")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    losses = []
    for _ in range(EPOCH + 1):
        loss = torch.nn.functional.cross_entropy(model(table.tokens[chosen])[:, -1].double(), table.answers[chosen])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return config, model, losses


def checkpoint(task: str = "modular_addition", fn_name: str = "add", **settings: Any) -> dict[str, Any]:
    """A file of the authors' kind, its weights an update after the last loss."""
    config, built, losses = trained(task, tuple(settings.items()))
    state: dict[str, torch.Tensor] = {}
    for name, value in built.named_parameters():
        match name.split(".")[-1]:
            case "W_Q" | "W_K" | "W_V":
                state[name] = value.detach().transpose(1, 2)
            case "W_O":
                state[name] = value.detach().flatten(0, 1).T
            case "W_E" | "W_in" | "W_out":
                state[name] = value.detach().T
            case "W_pos" | "W_U" | "b_in" | "b_out":
                state[name] = value.detach()
    for layer in range(config.n_layers):
        state[f"blocks.{layer}.attn.mask"] = torch.ones(3, 3).tril()
    return {
        "model": {name: value.contiguous() for name, value in state.items()},
        "optimizer": {"param_groups": [{"lr": 1e-3, "betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": 0.1}]},
        "train_losses": losses,
        "test_losses": [3.0] * 15,
        "epoch": EPOCH,
        "config": {"p": P, "d_model": 8, "fn_name": fn_name, "frac_train": 0.5, "seed": 3},
    }


def saved(value: Any, folder: Path) -> Path:
    torch.save(value, folder / "own.pth")
    return folder / "own.pth"


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint with entries changed by their dotted names; ... takes one out."""
    found = checkpoint()
    for place, value in changes.items():
        *path, last = place.split("/")
        inner: Any = found
        for name in path:
            inner = inner[name]
        if value is ...:
            del inner[last]
        else:
            inner[last] = value
    return found


@pytest.mark.parametrize(
    ("fn_name", "task"),
    [
        ("add", "modular_addition"),
        ("Addition", "modular_addition"),
        ("modular_addition", "modular_addition"),
        ("mod-subtract", "modular_subtraction"),
        ("subtract", "modular_subtraction"),
        ("multiply", "modular_multiplication"),
        ("x2xyy2", "modular_quadratic"),
    ],
)
def test_operations_are_known_by_their_other_names(fn_name: str, task: str, tmp_path: Path) -> None:
    found = published.load(saved(checkpoint(task, fn_name), tmp_path))
    assert found.task.name == task
    assert found.task.indices("train").tolist() == TaskConfig(task, {"p": P}, 0.5, 3, "python").build().indices("train").tolist()


@pytest.mark.parametrize("said", ["GeLU", "gelu", "ReLU", None])
def test_the_activation_function_is_the_one_that_is_named(said: str | None, tmp_path: Path) -> None:
    name = "relu" if said is None else said.lower()
    value = checkpoint(act_fn=name)
    if said is not None:
        value["config"]["act_type"] = said
    found = published.load(saved(value, tmp_path))
    assert found.model.cfg.act_fn == name
    other = {"relu": "gelu", "gelu": "relu"}[name]
    value["config"]["act_type"] = other
    with pytest.raises(GrokinterpError, match=rf"another operation, split or activation function than its config says \(modular_addition, {other}\)"):
        published.load(saved(value, tmp_path))
    assert published.load(saved(value, tmp_path), check_loss=False).model.cfg.act_fn == other


@pytest.mark.parametrize("lie", [{"config/fn_name": "subtract"}, {"config/seed": 4}, {"config/frac_train": 0.9}])
def test_a_config_that_the_recorded_loss_contradicts_is_refused(lie: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(GrokinterpError, match=r"the model has a training loss of .* nats, and .* was recorded last"):
        published.load(saved(changed(lie), tmp_path))


def test_two_layers_full_masks_and_double_precision_are_read(tmp_path: Path) -> None:
    value = checkpoint(n_layers=2)
    assert published.load(saved(value, tmp_path)).model.cfg.n_layers == 2
    value["model"] = {name: tensor.double() for name, tensor in value["model"].items()}
    assert published.load(saved(value, tmp_path)).model.W_E.dtype == torch.float64
    full = checkpoint(causal=False)
    full["model"]["blocks.0.attn.mask"] = torch.ones(3, 3)
    assert published.load(saved(full, tmp_path)).model.cfg.attention_dir == "bidirectional"


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "_orig_mod.module."])
def test_wrapped_names_are_the_same_weights(prefix: str, tmp_path: Path) -> None:
    value = checkpoint()
    plain = published.load(saved(value, tmp_path))
    value["model"] = {prefix + name: tensor for name, tensor in value["model"].items()}
    assert torch.equal(published.load(saved(value, tmp_path)).model.W_E, plain.model.W_E)


def test_whatever_a_configuration_holds_can_be_reported(tmp_path: Path) -> None:
    extra = {
        "device": torch.device("cuda:0"),
        "dtype": torch.float32,
        "wd": np.float64(0.5),
        "n": np.int64(3),
        "flag": np.bool_(True),
        "half": np.float16(0.5),
        "tensor": torch.tensor(2),
        "pair": (1, 2.0),
        "size": torch.Size([2]),
        "inner": {"a": {1}},
        "none": None,
        "huge": 10**500,
        "bytes": b"\0",
    }
    value = checkpoint()
    value["config"] |= extra
    value["train_losses"] = [np.float64(loss) for loss in value["train_losses"]]
    value["test_losses"] = torch.tensor(value["test_losses"])
    value["optimizer"]["param_groups"][0]["betas"] = [np.float64(0.9), 0.98]
    found = published.load(saved(value, tmp_path))
    assert found.optimizer["betas"] == (0.9, 0.98)
    report = analyze(found, ["progress"])
    config = json.loads(report.dataset.attrs["config"])
    assert config["device"] == "cuda:0"
    assert (config["wd"], config["n"], config["flag"], config["half"], config["tensor"]) == (0.5, 3, True, 0.5, 2)
    assert (config["pair"], config["size"], config["inner"]) == ([1, 2.0], [2], {"a": [1]})
    by_hand = dataclasses.replace(found, config={"device": torch.device("cpu"), "n": np.int64(3)})
    assert json.loads(analyze(by_hand, ["progress"]).dataset.attrs["config"])["n"] == 3
    report.to_html(tmp_path / "report.html")
    report.save(tmp_path / "report.nc")


W_K = "blocks.0.attn.W_K"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no epoch": ({"epoch": ...}, "2023: it has no epoch; load_checkpoint reads it without$"),
    "several missing": (
        {"epoch": ..., "train_losses": ..., "optimizer": ...},
        "no optimizer with its param_groups, train_losses, epoch;",
    ),
    "no param groups": ({"optimizer": {"param_groups": []}}, "no optimizer with its param_groups"),
    "a model of text": ({"model": "weights"}, "holds no weights under model"),
    "no betas": ({"optimizer/param_groups": [{"lr": 1e-3}]}, "optimizer has no betas, eps, weight_decay; the published files"),
    "betas of strings": ({"optimizer/param_groups": [{"lr": 1, "betas": "ab", "eps": 1, "weight_decay": 0}]}, "betas are two numbers; got 'ab'"),
    "a beta of 2": ({"optimizer/param_groups": [{"lr": 1, "betas": (2, 0), "eps": 1, "weight_decay": 0}]}, r"betas is a number in 0 … 1; got 2"),
    "a NaN rate": ({"optimizer/param_groups": [{"lr": math.nan, "betas": (0, 0), "eps": 1, "weight_decay": 0}]}, "lr is a number .* got nan"),
    "no losses": ({"train_losses": []}, "it has no train_losses; load_checkpoint reads it without"),
    "losses of text": ({"test_losses": ["1.0"]}, "test_losses are a list of numbers; got '1.0' in it"),
    "losses as text": ({"test_losses": "123"}, "test_losses are a list of numbers; got '123'"),
    "a number of losses that fits no spacing": ({"test_losses": [1.0] * 500}, "500 numbers, which no regular spacing lays over 150 steps"),
    "an epoch of text": ({"epoch": "last"}, "it has no epoch"),
    "a negative epoch": ({"epoch": -1}, "it has no epoch"),
    "an epoch of 500 digits": ({"epoch": 10**500}, "it has no epoch"),
    "no p": ({"config/p": ...}, "it has no p; load_checkpoint"),
    "a p of a billion": ({"config/p": 10**9}, "p in the config is a whole number, 3 … 1,000; got 1000000000"),
    "another p": ({"config/p": 11}, "the weights have 8 tokens and task 'modular_addition' has 12"),
    "a p of True": ({"config/p": True}, "got True"),
    "no fraction": ({"config/frac_train": ...}, "it has no frac_train; load_checkpoint"),
    "a NaN fraction": ({"config/frac_train": math.nan}, "got nan"),
    "no seed": ({"config/seed": ...}, "it has no seed; load_checkpoint"),
    "an operation without answers": ({"config/fn_name": "rand"}, "own.pth: unknown fn_name 'rand'; (did you mean|known: add)"),
    "no operation": ({"config/fn_name": ...}, "it has no fn_name; load_checkpoint"),
    "an activation function of its own": ({"config/act_type": "SiLU"}, "own.pth: unknown act_fn 'silu'"),
    "another width": ({"config/d_model": 16}, "the config says d_model 16, and the weights 8"),
    "another number of heads": ({"config/num_heads": 4}, "the config says num_heads 4, and the weights 2"),
    "a tensor in the config": ({"config/extra": torch.zeros(3)}, r"its config holds a tensor of shape \(3,\)"),
    "no weights at all": ({"model": {}}, "holds no weights under model, state_dict"),
    "odd shapes": ({f"model/{W_K}": torch.zeros(4, 8)}, r"say a model's sizes; got \{'blocks.0.attn.W_K': \(4, 8\)\}"),
    "an MLP of one number": ({"model/blocks.0.mlp.W_in": torch.tensor(1.0)}, r"say a model's sizes; got \{'blocks.0.mlp.W_in': \(\)\}"),
    "an unembedding of one number": ({"model/unembed.W_U": torch.tensor(1.0)}, r"unembed.W_U is a matrix in a transformer; got shape \(\)"),
    "a missing weight": ({"model/embed.W_E": ...}, "embed.W_E .* say a model's sizes"),
    "several wrong weights": (
        {"model/blocks.0.attn.W_Q": ..., "model/blocks.0.mlp.W_out": torch.zeros(3, 3), "model/ln.w": torch.ones(8)},
        r"missing: blocks.0.attn.W_Q; not in the model: ln.w; of another shape: blocks.0.mlp.W_out \(3, 3\), wanted \(12, 8\)$",
    ),
    "a billion layers": (
        {"model/blocks.999999999.attn.W_K": torch.zeros(2, 4, 8)},
        r"have the blocks \[0, 999999999\] and should have 0, 1",
    ),
    "whole numbers as weights": ({"model/embed.W_E": torch.zeros(8, 8, dtype=torch.int8)}, "embed.W_E is a torch.strided tensor of torch.int8"),
    "no tensors": ({"model/embed.W_E": [1.0]}, "embed.W_E is a list"),
    "a strange mask": ({"model/blocks.0.attn.mask": torch.eye(3)}, r"masks are neither causal nor full: \[\[1.0, 0.0, 0.0\]"),
    "a terabyte from one number": ({"model/blocks.0.mlp.b_in": torch.zeros(1).expand(10**12)}, "claims weights of 4,000,000,0.* bytes and has"),
    "weights one level down": ({"model": {"state_dict": {}}}, "one level down; pass what is under 'state_dict'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_such_checkpoint_is_refused_for_what_it_is(what: str, tmp_path: Path) -> None:
    changes, said = REFUSED[what]
    with pytest.raises(GrokinterpError, match=said) as caught:
        published.load(saved(changed(changes), tmp_path))
    assert str(tmp_path / "own.pth") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_that_holds_itself_is_refused(tmp_path: Path) -> None:
    value = checkpoint()
    value["config"]["self"] = value["config"]
    with pytest.raises(GrokinterpError, match="its config is nested deeper than 4 levels"):
        published.load(saved(value, tmp_path))
    wide: Any = [0]
    for _ in range(4):
        wide = [wide] * 100
    with pytest.raises(GrokinterpError, match="or has more than 10,000 values"):
        published.load(saved(changed({"config/wide": wide[0]}), tmp_path))


def bomb(path: Path) -> None:
    """The checkpoint in an archive that unpacks to more than it is."""
    inside = io.BytesIO()
    torch.save(changed({"model/blocks.0.mlp.b_in": torch.zeros(100_000)}), inside)
    with zipfile.ZipFile(inside) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))


LAYOUTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a whole module": (lambda path: torch.save(nn.Linear(2, 3), path), "like a whole module, and was not opened, because it could run code"),
    "TorchScript": (
        lambda path: torch.jit.save(torch.jit.trace(nn.Linear(2, 3), torch.zeros(2)), path),
        "is TorchScript, a program with its weights",
    ),
    "a bare state dict": (
        lambda path: torch.save(checkpoint()["model"], path),
        "it has no p, fn_name, .*, epoch; load_checkpoint reads it",
    ),
    "a bare state dict of torch's": (lambda path: torch.save(nn.Linear(2, 3).state_dict(), path), "no whole checkpoint .*: it has no p, fn_name"),
    "a list": (lambda path: torch.save([1, 2], path), "holds a list, not a checkpoint"),
    "a tensor": (lambda path: torch.save(torch.zeros(2), path), "holds a Tensor, not a checkpoint"),
    "nothing": (lambda path: path.write_bytes(b""), "cut short or not a PyTorch checkpoint"),
    "text": (lambda path: path.write_text("hello, world"), "cut short or not a PyTorch checkpoint"),
    "an archive of something else": (lambda path: zipfile.ZipFile(path, "w").close(), "cut short or not a PyTorch checkpoint"),
    "a packed archive": (bomb, r"unpacks to [\d,]+ bytes from [\d,]+, which torch.save never makes"),
    "a pipe": (os.mkfifo, "is a pipe, not a file"),
    "a folder": (Path.mkdir, "is a folder, not a file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
}


@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning")
@pytest.mark.parametrize("what", LAYOUTS)
def test_other_layouts_are_called_by_their_name(what: str, tmp_path: Path) -> None:
    make, said = LAYOUTS[what]
    make(tmp_path / "own.pth")
    with pytest.raises(GrokinterpError, match=said):
        published.load(tmp_path / "own.pth")


def test_no_flipped_byte_and_no_cut_is_a_traceback(tmp_path: Path) -> None:
    path = saved(checkpoint(), tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), size=3):
            damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged[: int(rng.integers(1, len(whole)))] if rng.random() < 0.3 else damaged)
        try:
            published.load(path)
        except GrokinterpError as error:
            said = str(error)
            assert "own.pth" in said, said


def test_a_checkpoint_is_one_and_the_same_through_both_doors(tmp_path: Path) -> None:
    """`load_checkpoint` looks at masks, at operations by their other names and at sizes as `published.load` does, of a file and of a dictionary."""
    value = changed({"config/fn_name": "Addition"})
    whole = published.load(saved(value, tmp_path))
    for found in (load_checkpoint(tmp_path / "own.pth"), load_checkpoint(value)):
        assert (found.task.name, found.steps, found.recorded["test_loss"].index[1]) == ("modular_addition", [EPOCH], 10)
        assert torch.equal(found.model().W_E, whole.model.W_E)
        assert found.model().absent_parameters == whole.model.absent_parameters > {"blocks.0.attn.b_Q", "unembed.b_U"}
    full = checkpoint(causal=False, n_layers=2)
    masks = {f"blocks.{layer}.attn.mask": torch.ones(3, 3) for layer in range(2)}
    assert load_checkpoint({**full, "model": full["model"] | masks}).model().cfg.attention_dir == "bidirectional"
    with pytest.raises(GrokinterpError, match=r"the model has a training loss of .* nats, and .* was recorded last"):
        load_checkpoint(full)
    assert load_checkpoint(full, causal=False).model().cfg.attention_dir == "bidirectional"


REFUSED_THROUGH_BOTH = (
    "a terabyte from one number",
    "a number of losses that fits no spacing",
    "losses as text",
    "another width",
    "a p of a billion",
)


@pytest.mark.parametrize("what", REFUSED_THROUGH_BOTH)
def test_what_published_load_refuses_is_refused_by_load_checkpoint(what: str, tmp_path: Path) -> None:
    changes, said = REFUSED[what]
    with pytest.raises(GrokinterpError, match=said):
        load_checkpoint(saved(changed(changes), tmp_path))


def test_a_checkpoint_is_not_changed_by_being_read(tmp_path: Path) -> None:
    value = checkpoint()
    before = copy.deepcopy(value["config"])
    path = saved(value, tmp_path)
    assert published.load(path).config == before
