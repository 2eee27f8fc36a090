"""The shortcut through the last block gives what the whole model gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from grokinterp import FourierAblation, GrokinterpError, analyze, tasks
from grokinterp.models import ModelConfig, build_model
from grokinterp.models.hanging import seal
from grokinterp.models.hooked import has_hooked_transformer
from grokinterp.snapshot import Snapshot

pytestmark = pytest.mark.lens4

SHAPES = [
    ModelConfig(d_model=16, n_heads=2, d_mlp=24),
    ModelConfig(d_model=16, n_heads=2, d_mlp=24, n_layers=2, normalization="pre", act_fn="gelu", biases=("attn", "mlp", "unembed"), init="pytorch"),
    ModelConfig(d_model=16, n_heads=2, d_mlp=0, n_layers=2),
    ModelConfig(d_model=16, n_heads=2, d_mlp=24, n_layers=2, causal=False),
]


@pytest.mark.parametrize("config", SHAPES)
def test_readout_equals_the_full_pass(config: ModelConfig) -> None:
    task = tasks.modular_addition(7)
    model = build_model(config, task, seed=0, dtype=torch.float64)
    snapshot = Snapshot(model, task)
    with torch.no_grad():
        logits, cache = model.run_with_cache(task.tokens)
    assert torch.allclose(snapshot.logits, logits[:, -1, :7], atol=1e-12)
    names = ["blocks.0.hook_resid_pre", f"blocks.{config.n_layers - 1}.hook_resid_post"]
    for name in names + (["blocks.0.mlp.hook_post"] if config.d_mlp else []):
        assert torch.allclose(snapshot.readout(name), cache[name][:, -1], atol=1e-12)
    assert all(not module._forward_hooks for module in model.modules())


def test_activations_are_computed_once() -> None:
    task = tasks.modular_addition(7)
    model = build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24), task, seed=0)
    passes: list[int] = []
    handle = model.embed.register_forward_hook(lambda *_: passes.append(1))
    snapshot = Snapshot(model, task)
    for _ in range(3):
        _ = snapshot.logits, snapshot.logit_table, snapshot.readout(snapshot.last_mlp)
    handle.remove()
    assert len(passes) == 1


def test_tables_follow_the_group_not_the_rows() -> None:
    task = tasks.modular_multiplication(7)
    snapshot = Snapshot(build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24), task, seed=0), task)
    table = snapshot.table(task.tokens[:, 0] * 10 + task.tokens[:, 1])
    powers = torch.tensor([3**x % 7 for x in range(6)])  # 3 is the least generator mod 7
    assert torch.equal(table, powers[:, None] * 10 + powers[None, :])
    assert snapshot.logit_table.shape == (6, 6, 6)


def fresh() -> Snapshot:
    model = build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24, n_layers=2), tasks.modular_addition(7), seed=0, dtype=torch.float64)
    return Snapshot(model, tasks.modular_addition(7).split(0.5, seed=0))


def by_hand(snapshot: Snapshot) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = snapshot.model(snapshot.task.tokens)[:, -1, :7]
    return logits


def test_a_filled_snapshot_under_an_intervention_is_filled_anew() -> None:
    snapshot = fresh()
    clean = snapshot.logits
    with FourierAblation("neurons", (1, 2)).applied(snapshot.model, snapshot.task):
        assert torch.allclose(snapshot.logits, by_hand(snapshot), atol=1e-12)
        assert not torch.allclose(snapshot.logits, clean)
    assert torch.equal(snapshot.logits, clean)


def double(weight: torch.Tensor) -> None:
    with torch.no_grad():
        weight.mul_(2)


@pytest.mark.parametrize(
    "change",
    [
        double,
        lambda weight: weight.data.mul_(2),
        lambda weight: weight.detach().numpy().__imul__(2),
        lambda weight: setattr(weight, "data", 2 * weight),
    ],
    ids=["in place", "data", "numpy", "replaced"],
)
def test_a_snapshot_is_never_older_than_the_weights(change: Callable[[torch.Tensor], object]) -> None:
    snapshot = fresh()
    clean = snapshot.logits
    change(snapshot.model.blocks[1].mlp.W_out)
    assert torch.allclose(snapshot.logits, by_hand(snapshot), atol=1e-12)
    assert not torch.allclose(snapshot.logits, clean)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", ["attn.hook_pattern", "attn.hook_attn_scores", "attn.hook_k", "attn.hook_z", "hook_resid_mid"])
def test_the_readout_is_the_querys_row_of_a_pattern_and_the_position_of_all_else(layer: int, name: str) -> None:
    snapshot, hook = fresh(), f"blocks.{layer}.{name}"
    with torch.no_grad():
        value = snapshot.model.run_with_cache(snapshot.task.tokens)[1][hook]
    expected = value[:, :, -1] if name.endswith(("pattern", "scores")) else value[:, -1]
    assert torch.allclose(snapshot.readout(hook), expected, atol=1e-12)
    with snapshot.model.hooks(fwd_hooks=[("blocks.0.hook_attn_out", lambda value, hook: 0 * value)]):
        assert snapshot.readout(hook).shape == expected.shape


def test_hooks_without_positions_or_values_are_refused() -> None:
    snapshot = fresh()
    behind_a_flag = r"never fires on this model; call model.set_use_attn_result\(True\)" if has_hooked_transformer() else "unknown hook"
    with pytest.raises(GrokinterpError, match=behind_a_flag):
        snapshot.readout("blocks.0.attn.hook_result")
    with pytest.raises(GrokinterpError, match="did you mean"):
        snapshot.readout("blocks.0.hook_resid_most")


def test_what_a_measure_changes_in_place_is_an_error_in_its_name() -> None:
    def greedy(snapshot: Snapshot) -> dict[str, float]:
        snapshot.logits.numpy()[:] = 0
        return {"greedy": 0.0}

    def shifting(snapshot: Snapshot) -> dict[str, float]:
        snapshot.readout("blocks.0.mlp.hook_post").add_(1)
        return {"shifting": 0.0}

    def training(snapshot: Snapshot) -> dict[str, float]:
        double(snapshot.model.W_U)
        return {"training": 0.0}

    def loss(snapshot: Snapshot) -> dict[str, float]:
        return {"found": float(torch.nn.functional.cross_entropy(snapshot.logits, snapshot.task.answers))}

    snapshot = fresh()
    expected = loss(snapshot)["found"]
    report = analyze(snapshot.model, [greedy, shifting, loss], task=snapshot.task)
    assert report["found"].item() == expected
    assert "measure 'greedy' changed" in report.failures["greedy"]
    assert "measure 'shifting' changed blocks.0.mlp.hook_post in place" in report.failures["shifting"]
    report = analyze(snapshot.model, ["spectrum", training, loss], task=snapshot.task)
    assert report.failures.keys() == {"training", "loss"}
    assert report.failures["loss"].startswith("measure 'training' changed the model's weights or hooks")


def test_dropout_in_force_is_refused() -> None:
    snapshot = fresh()
    snapshot.model.blocks[0].mlp.dropout = torch.nn.Dropout(0.1)
    assert snapshot.model.training
    with pytest.raises(GrokinterpError, match=r"in train mode and blocks.0.mlp.dropout drops activations at random; call model.eval\(\)"):
        _ = snapshot.logits
    snapshot.model.eval()
    assert torch.allclose(snapshot.logits, by_hand(snapshot), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.int64])
def test_a_seal_does_not_depend_on_the_number_of_threads(dtype: torch.dtype) -> None:
    values = (1e3 * torch.randn(113**3, generator=torch.Generator().manual_seed(0))).to(dtype)
    alone = seal(values)
    torch.set_num_threads(2)
    try:
        assert seal(values) == alone
    finally:
        torch.set_num_threads(1)
    values[5] = 0
    assert seal(values)[2] != alone[2]
