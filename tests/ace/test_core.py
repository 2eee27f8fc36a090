"""The theorems of a projection, and what it does and leaves behind as an intervention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ace_models import PRE_LN, orthogonal
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from grokinterp import GrokinterpError
from grokinterp.ace import Core, Project
from grokinterp.models import build_model
from grokinterp.models.convert import bridge
from grokinterp.tasks import Task

HOOK = "blocks.0.hook_resid_post"


def core_of(d: int = 16, rank: int = 3, seed: int = 0, **settings: Any) -> Core:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(d, generator=generator, dtype=torch.float64)
    return Core(directions=orthogonal(d, seed), rank=rank, spectrum=torch.ones(d).double(), mean=mean, **{"hook": HOOK, **settings})


@settings(max_examples=25)
@given(d=st.integers(1, 12), data=st.data(), seed=st.integers(0, 1000), centred=st.booleans())
def test_a_core_is_a_projection(d: int, data: st.DataObject, seed: int, centred: bool) -> None:
    rank = data.draw(st.integers(1, d))
    core = core_of(d, rank, seed, centred=centred)
    h = torch.randn(5, 2, d, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    mean = core.mean if centred else torch.zeros_like(core.mean)
    p = core.projector
    keep, remove, flip = core.keep(), core.remove(), core.flip()
    close = lambda a, b: torch.allclose(a, b, atol=1e-10)  # noqa: E731
    assert close(p @ p, p)
    assert close(p, p.T)
    assert torch.linalg.matrix_rank(p) == rank
    assert torch.linalg.matrix_rank((keep(h) - mean).reshape(-1, d), atol=1e-9) <= rank
    assert close(keep(keep(h)), keep(h))
    assert close(keep(h) + remove(h) - mean, h)
    assert close(flip(flip(h)), h)
    assert close(flip(h), 2 * remove(h) - h)
    assert close(core.scale(-1)(h), flip(h))
    assert close(core.scale(0)(h), remove(h))
    assert close(core.scale(1)(h), h)
    assert close(core.scale(3)(h), h + 2 * (keep(h) - mean))
    assert close(core.project(keep(h)), core.project(h))
    assert close(core.project(flip(h)), -core.project(h))
    assert close(core.project(h) @ core.basis.T + mean, keep(h))


def test_wider_cores_hold_narrower_ones() -> None:
    wide, narrow = core_of(rank=5), core_of(rank=5).with_rank(2)
    assert narrow.basis.shape == (16, 2)
    assert torch.equal(narrow.basis, wide.basis[:, :2])
    assert torch.allclose(wide.projector @ narrow.projector, narrow.projector)


@pytest.mark.parametrize("positions", ["all", 1, -1])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("mode", ["keep", "remove", "flip"])
def test_it_edits_the_hook_where_it_should(model: Any, task: Task, positions: Any, centred: bool, mode: str) -> None:
    change: Project = getattr(core_of(positions=positions, centred=centred), mode)()
    before, after = [], []
    with torch.no_grad():
        clean = model.run_with_hooks(task.tokens, fwd_hooks=[(HOOK, lambda value, hook: before.append(value.clone()))])
        with change.applied(model):
            edited = model.run_with_hooks(task.tokens, fwd_hooks=[(HOOK, lambda value, hook: after.append(value.clone()))])
        assert torch.equal(model(task.tokens), clean)
    expected = before[0].clone()
    at = slice(None) if positions == "all" else positions
    expected[:, at] = change(before[0][:, at])
    assert torch.allclose(after[0], expected, atol=1e-12)
    assert not torch.allclose(edited, clean, atol=1e-6)


@pytest.mark.parametrize("positions", ["all", -1])
def test_gradients_pass_through_it_and_no_hook_stays(model: Any, task: Task, positions: Any) -> None:
    core = core_of(positions=positions)
    with core.flip().applied(model, task):
        model(task.tokens)[:, -1].square().mean().backward()
    gradient = model.embed.W_E.grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0
    with pytest.raises(RuntimeError, match="stop"), core.keep().applied(model):
        raise RuntimeError("stop")
    assert all(not module._forward_hooks and not module._backward_hooks for module in model.modules())


@pytest.mark.parametrize("positions", ["all", -1])
@pytest.mark.parametrize("mode", ["keep", "remove", "flip"])
def test_a_bridge_gives_the_same_logits(task: Task, positions: Any, mode: str) -> None:
    model = build_model(PRE_LN, task, seed=0)
    logits = []
    for subject in (model, bridge(model)):
        with torch.no_grad(), getattr(core_of(positions=positions, centred=True), mode)().applied(subject):
            logits.append(subject(task.tokens))
    assert torch.allclose(*logits, atol=1e-5)


def test_half_precision_keeps_its_dtype() -> None:
    edited = core_of().flip()(torch.randn(2, 16, dtype=torch.float16))
    assert edited.dtype == torch.float16


def test_saved_cores_are_the_same_after_loading(tmp_path: Path) -> None:
    core = core_of(rank=4, positions=-1, centred=True, provenance={"data": "modular_addition"})
    core.save(tmp_path / "core.safetensors")
    loaded = Core.load(tmp_path / "core.safetensors")
    for name in ("directions", "spectrum", "mean"):
        assert torch.equal(getattr(loaded, name), getattr(core, name))
    for name in ("rank", "hook", "positions", "centred", "provenance"):
        assert getattr(loaded, name) == getattr(core, name)
    assert [path.name for path in tmp_path.iterdir()] == ["core.safetensors"]


def test_a_file_that_holds_something_else_is_named(tmp_path: Path) -> None:
    save_file({"weights": torch.zeros(2)}, tmp_path / "weights.safetensors")
    (tmp_path / "text.safetensors").write_text("not a core")
    for name, message in (("weights", "holds no core"), ("text", "not a safetensors file"), ("none", "does not exist")):
        with pytest.raises(GrokinterpError, match=message):
            Core.load(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 17}, "lies in 1 … 16.*got 17"),
        ({"rank": 0}, "got 0"),
        ({"directions": torch.ones(16, 2).double(), "rank": 1}, "orthonormal"),
        ({"mean": torch.zeros(3).double()}, "mean has 3 dimensions"),
    ],
)
def test_bad_cores_are_named(settings: dict[str, Any], message: str) -> None:
    parts = {"directions": orthogonal(16), "rank": 2, "spectrum": torch.ones(16).double(), "mean": torch.zeros(16).double(), "hook": HOOK}
    with pytest.raises(GrokinterpError, match=message):
        Core(**{**parts, **settings})


def test_bad_places_are_named(model: Any, task: Task) -> None:
    def run(core: Core, subject: Any = model) -> None:
        with core.flip().applied(subject):
            subject(task.tokens)

    with pytest.raises(GrokinterpError, match=r"did you mean blocks\.0\.hook_resid_post"):
        run(core_of(hook="blocks.0.resid_post"))
    with pytest.raises(GrokinterpError, match="position 3 is not in a sequence of 3"):
        run(core_of(positions=3))
    with pytest.raises(GrokinterpError, match=r"lives in 8 dimensions; the activations at .* have shape \(49, 3, 16\)"):
        run(core_of(d=8))
    with pytest.raises(GrokinterpError, match="lives in 16 dimensions"):
        core_of().project(torch.zeros(2, 8))
