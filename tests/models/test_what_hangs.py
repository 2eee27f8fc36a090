"""Whatever hangs on a model is seen by every public function that runs it: each gives the numbers of slow, whole passes, or raises.

A new public function that takes a model or a snapshot fails `test_every_public_function_that_takes_a_model_is_in_the_table` until it is listed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from language_models import random_gpt2
from torch import Tensor, nn
from torch.nn.utils import parametrize

import grokinterp as gi
from grokinterp import GrokinterpError, Snapshot, ace
from grokinterp.language.prompts import agreement
from grokinterp.models import ModelConfig, build_model
from grokinterp.models.adapter import Adapter
from grokinterp.tasks import modular_addition

TASK = modular_addition(5).split(0.6, seed=0)
LAST = "blocks.1.hook_resid_post"
FIRST = "blocks.0.hook_resid_post"


class Slow(nn.Module):
    """A model behind a wall: it has hook points and takes tokens, and no fast path knows how to begin or end inside it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inside = model
        self.register_forward_hook(lambda module, inputs, output: None)  # nor is it ever bare

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.inside(tokens)
        return result

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inside"), name)


def toy(*interventions: Any, **changes: Any) -> Any:
    config = ModelConfig(d_model=8, n_heads=2, d_mlp=12, n_layers=2, init="pytorch", interventions=interventions, **changes)
    return build_model(config, TASK, seed=0, dtype=torch.float64)


def small_language_model() -> Any:
    model = random_gpt2(n_layers=2, d_model=8, n_heads=2, d_head=4, d_mlp=12)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.7)
    return model


GPT2 = small_language_model()
PROMPTS = agreement(GPT2.tokenizer, n=12)
TOYS = {
    "pre-LN": toy(normalization="pre", act_fn="gelu", biases=("attn", "mlp", "unembed")),
    "plain": toy(),
    "sphere": toy(gi.Sphere(), gi.CosineUnembed()),
    "post-norm": toy(gi.PostNorm(at_embedding=True)),
    "both ways": toy(causal=False),
}


def core_at(hook: str, width: int = 8) -> ace.Core:
    generator = torch.Generator().manual_seed(3)
    directions = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    mean = torch.randn(width, generator=generator, dtype=torch.float64)
    return ace.Core(directions=directions, rank=2, spectrum=torch.ones(width).double(), mean=mean, hook=hook, positions=-1, centred=True)


def generated(model: Any, cached: bool = True) -> Any:
    return ace.generate(
        model, "The keys to the cabinet", core_at(FIRST), n_tokens=3, threshold=0.0, cached=cached, tokenizer=GPT2.tokenizer, temperature=0.7
    )


EDITS = [core_at(hook).remove() for hook in ("blocks.0.hook_resid_pre", FIRST, LAST)]

# Every public function that runs a model, on a toy or a language model, and how; what it returns is compared number by number.
ON_TOYS: dict[str, Callable[[Any], Any]] = {
    "analyze": lambda model: gi.analyze(model, ["progress", "filtered_loss", "heads"], task=TASK).dataset,
    "measures.loss": lambda model: gi.measures.loss(Snapshot(model, TASK)),
    "ace.extract": lambda model: ace.extract(model, TASK, FIRST, positions=-1, n_jacobians=6).projector,
    "ace.size": lambda model: ace.size(model, core_at(FIRST), TASK).table(),
    "ace.measure": lambda model: ace.measure(Snapshot(model, TASK), FIRST, n_jacobians=5),
    "fsd.fsd": lambda model: gi.fsd.fsd(Snapshot(model, TASK)),
    "fsd.signals": lambda model: gi.fsd.signals(Snapshot(model, TASK)),
    "fsd.filtered_loss": lambda model: gi.fsd.filtered_loss(Snapshot(model, TASK)),
    "loss_recovered": lambda model: list(dataclasses.astuple(gi.loss_recovered(Snapshot(model, TASK), gi.Clock((1,))))),
    "heads.heads": lambda model: gi.heads.heads(Snapshot(model, TASK)),
    "Snapshot": lambda model: [Snapshot(model, TASK).logits, Snapshot(model, TASK).readout("blocks.1.attn.hook_pattern")],
    "ace.Tail": lambda model: [h for hook in (FIRST, LAST, "blocks.1.hook_attn_out", "unembed.hook_in") for h in tail_of(model, hook)],
}
ON_LANGUAGE: dict[str, Callable[[Any], Any]] = {
    "ace.agreement_cores": lambda model: [core.projector for core in ace.agreement_cores(model, PROMPTS).values()],
    "ace.verb_scores": lambda model: ace.verb_scores(model, PROMPTS, EDITS),
    "ace.verb_probabilities": lambda model: ace.verb_probabilities(model, PROMPTS, EDITS),
    "ace.coordinates": lambda model: ace.coordinates(model, PROMPTS, core_at(FIRST)),
    "ace.agreement_sweep": lambda model: ace.agreement_sweep(model, PROMPTS, hooks=[FIRST, LAST], strengths=(0.0,), n_random=1),
    "ace.best_core": lambda model: ace.best_core(model, PROMPTS, hooks=[FIRST, LAST]).projector,
    "ace.generate": generated,
}
# They fill a model, hold one or its configuration, or make another one of its weights.
RUNS_NO_MODEL = {"load_weights", "Published", "RunConfig", "Adapter", "hooked_transformer", "bridge", "hugging_face"}


def tail_of(model: Any, hook: str) -> list[Tensor]:
    """Logits and gradient of a tail that goes on from changed activations."""
    h, f = ace.Tail(model, hook, -1, -1).resume(TASK.tokens)
    h = (0.5 * h.detach() + 0.1).requires_grad_()
    y = f(h)
    (gradient,) = torch.autograd.grad(y[:, 2].sum(), h, allow_unused=True) if y.requires_grad else (None,)
    gradient = torch.zeros_like(h) if gradient is None else gradient
    return [y.detach(), gradient]


def numbers(found: Any) -> list[np.ndarray]:
    """Everything numerical in a result, in one order."""
    if isinstance(found, xr.Dataset):
        return [np.asarray(found[name]) for name in sorted(map(str, found.data_vars)) if np.asarray(found[name]).dtype.kind in "fiub"]
    if dataclasses.is_dataclass(found):
        return [np.asarray(value) for value in dataclasses.astuple(found) if not isinstance(value, str | dict)]
    if isinstance(found, list | tuple):
        return [array for each in found for array in numbers(each)]
    return [found.detach().numpy() if isinstance(found, Tensor) else np.asarray(found)]


def outcome(function: Callable[[Any], Any], model: Any) -> list[np.ndarray] | str:
    try:
        return numbers(function(model))
    except GrokinterpError as error:
        return str(error)


def assert_same(function: Callable[[Any], Any], model: Any) -> None:
    fast, slow = outcome(function, model), outcome(function, Slow(model))
    if isinstance(fast, str):
        return  # it raised, which is no silent number
    assert not isinstance(slow, str), slow
    assert len(fast) == len(slow)
    for ours, theirs in zip(fast, slow, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def changed(kind: str, value: Tensor) -> Tensor:
    """A function of a value: of each entry, of the position, or of the batch."""
    if kind == "add":
        return value + torch.linspace(-0.5, 1.0, value.shape[-1], dtype=value.dtype)
    if kind == "scale":
        return 1.3 * value
    if kind == "zero":
        return torch.zeros_like(value)
    if kind == "last":
        return torch.cat([value[:, :-1], 0.5 * value[:, -1:]], dim=1)
    return value * torch.linspace(0.5, 1.5, value.shape[1], dtype=value.dtype).reshape(-1, *[1] * (value.ndim - 2)) if value.ndim > 1 else value


@contextlib.contextmanager
def hung(model: Any, sort: str, name: str, kind: str) -> Iterator[None]:
    """A hook of one sort on one hook point, or module around it."""
    if sort == "hooks":
        with model.hooks(fwd_hooks=[(name, lambda value, hook: changed(kind, value))]):
            yield
        return
    if sort == "in place":
        with model.hooks(fwd_hooks=[(name, lambda value, hook: value.mul_(0.5) and None)]):
            yield
        return
    module = model.hook_dict[name] if sort == "plain" else {"block": model.blocks[1], "unembed": model.unembed, "model": model}[sort]
    handle = module.register_forward_hook(lambda module, inputs, output: changed(kind, output))
    try:
        yield
    finally:
        handle.remove()


def names_of(model: Any) -> list[str]:
    adapter = Adapter(model)
    found = []
    for name in model.hook_dict:
        with contextlib.suppress(GrokinterpError):
            adapter.check_hook(name)
            found.append(name)
    return found


SORTS = st.sampled_from(["hooks", "hooks", "plain", "block", "unembed", "model"])
KINDS = st.sampled_from(["add", "scale", "zero", "last", "by position"])


@pytest.mark.parametrize("function", ON_TOYS)
@settings(max_examples=5, derandomize=True)
@given(data=st.data())
def test_a_toy_under_any_hook(function: str, data: st.DataObject) -> None:
    model = TOYS[data.draw(st.sampled_from(sorted(TOYS)))]
    with hung(model, data.draw(SORTS), data.draw(st.sampled_from(names_of(model))), data.draw(KINDS)):
        assert_same(ON_TOYS[function], model)


@pytest.mark.parametrize("function", ON_LANGUAGE)
@settings(max_examples=4, derandomize=True)
@given(data=st.data())
def test_a_language_model_under_any_hook(function: str, data: st.DataObject) -> None:
    with hung(GPT2, data.draw(SORTS), data.draw(st.sampled_from(names_of(GPT2))), data.draw(KINDS)):
        assert_same(ON_LANGUAGE[function], GPT2)


@pytest.mark.parametrize("function", ON_TOYS)
@pytest.mark.parametrize("name", TOYS)
def test_a_bare_toy(function: str, name: str) -> None:
    assert_same(ON_TOYS[function], TOYS[name])


@pytest.mark.parametrize("function", ON_LANGUAGE)
def test_a_bare_language_model(function: str) -> None:
    assert_same(ON_LANGUAGE[function], GPT2)


class Half(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 0.5 * weight


@pytest.mark.parametrize("path", ["blocks.1.attn.W_V", "blocks.0.mlp.W_in", "unembed.W_U", "ln_final.w"])
@pytest.mark.parametrize(
    ("make", "function"), [(small_language_model, "ace.verb_scores"), (lambda: toy(normalization="pre"), "ace.Tail")], ids=["language", "toy"]
)
def test_parametrizations_are_seen(make: Callable[[], Any], function: str, path: str) -> None:
    model, run = make(), (ON_LANGUAGE | ON_TOYS)[function]
    before = numbers(run(model))
    parent, _, name = path.rpartition(".")
    parametrize.register_parametrization(model.get_submodule(parent), name, Half())
    assert_same(run, model)
    assert any(not np.allclose(ours, clean) for ours, clean in zip(numbers(run(model)), before, strict=True))


def test_a_slow_pass_is_what_one_writes_by_hand() -> None:
    """The wall itself, under a steering hook, against the model run by hand, one unpadded prompt at a time."""
    with GPT2.hooks(fwd_hooks=[("blocks.0.hook_attn_out", lambda value, hook: changed("add", value))]), torch.no_grad():
        found = ace.verb_scores(GPT2, PROMPTS, EDITS)
        for i, (tokens, end) in enumerate(zip(PROMPTS.tokens, PROMPTS.ends, strict=True)):
            own = tokens[None, : int(end) + 1]
            assert torch.allclose(found[0, i], GPT2(own)[0, -1, PROMPTS.verbs], atol=1e-10)
            for j, edit in enumerate(EDITS):
                with GPT2.hooks(fwd_hooks=edit.hooks(GPT2)):
                    assert torch.allclose(found[1 + j, i], GPT2(own)[0, -1, PROMPTS.verbs], atol=1e-10)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.hook)
def test_an_edit_in_force_is_the_edit_as_an_argument(edit: Any) -> None:
    expected = ace.verb_scores(GPT2, PROMPTS, [edit])[1]
    with edit.applied(GPT2):
        assert torch.allclose(ace.verb_scores(GPT2, PROMPTS)[0], expected, atol=1e-10)


@pytest.mark.parametrize("name", ["blocks.0.hook_attn_out", "blocks.1.hook_mlp_out", LAST, "ln_final.hook_normalized", "unembed.hook_out"])
def test_a_cache_changes_no_text_under_hooks(name: str) -> None:
    clean = generated(GPT2)
    with GPT2.hooks(fwd_hooks=[(name, lambda value, hook: changed("add", value))]):
        assert generated(GPT2) == generated(GPT2, cached=False) != clean


def test_a_hook_that_counts_sees_every_pass_of_the_whole_table() -> None:
    model, seen = TOYS["plain"], []
    with model.hooks(fwd_hooks=[("blocks.1.hook_resid_post", lambda value, hook: seen.append(tuple(value.shape)))]):
        Snapshot(model, TASK).logits  # noqa: B018
    assert seen == [(25, 3, 8)]


def takes_a_model(function: Any) -> bool:
    try:
        given_names = set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return False
    return bool(given_names & {"model", "snapshot", "subject"})


def test_every_public_function_that_takes_a_model_is_in_the_table() -> None:
    listed = {name.rpartition(".")[2] for name in (*ON_TOYS, *ON_LANGUAGE, *RUNS_NO_MODEL)}
    missing = []
    for name in gi.__all__:
        offered = getattr(gi, name)
        inside = {name: offered}
        if inspect.ismodule(offered):
            inside = {inner: getattr(offered, inner) for inner in getattr(offered, "__all__", vars(offered)) if not inner.startswith("_")}
        for inner, item in inside.items():
            ours = str(getattr(item, "__module__", "")).startswith("grokinterp")
            if ours and (inspect.isfunction(item) or inspect.isclass(item)) and takes_a_model(item) and inner not in listed:
                missing.append(f"{name}.{inner}" if inside is not offered and inspect.ismodule(offered) else inner)
    assert not missing, f"list how these run a model, or that they run none: {missing}"
