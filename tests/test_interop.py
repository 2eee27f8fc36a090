"""A run's model as other libraries have it, and a run on a hub that this machine stands in for."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from torch.nn.utils import parametrize
from torch.testing import assert_close

from grokinterp import GrokinterpError, ModelConfig, PostNorm, Run, interop, load_checkpoint, load_model, tasks
from grokinterp.models import MLPConfig, build_model, hub
from grokinterp.models.hooked import has_hooked_transformer, hooked_transformer

pytestmark = pytest.mark.lens4
TASK = tasks.modular_addition(7).split(0.6, seed=0)
CONFIGS = {
    "plain": ModelConfig(d_model=16, n_heads=2, d_mlp=24),
    "not causal": ModelConfig(d_model=16, n_heads=2, d_head=4, d_mlp=24, causal=False, outputs="classes", biases=("mlp", "unembed")),
    "pre-norm": ModelConfig(d_model=16, n_heads=2, d_mlp=24, n_layers=2, normalization="pre", act_fn="gelu", biases=("attn", "mlp")),
}


def a_model(config: ModelConfig) -> Any:
    """A model whose every trained weight is random, biases and norms too."""
    model = build_model(config, TASK, seed=0, dtype=torch.float64).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(TASK.tokens)
    return found


# TransformerLens's own classes


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_plain_hooked_transformer_is_the_same_function(config: ModelConfig) -> None:
    model = a_model(config)
    if not has_hooked_transformer():
        with pytest.raises(GrokinterpError, match=r"TransformerLens 4.* has no HookedTransformer"):
            interop.hooked_transformer(model)
        return
    plain = interop.hooked_transformer(model)
    assert type(plain).__module__.startswith("transformer_lens")
    assert torch.equal(logits_of(plain), logits_of(model))
    with torch.no_grad():
        plain.W_E.zero_()  # a copy
    assert model.W_E.any()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_bridge_is_the_same_function_under_both_lines(config: ModelConfig) -> None:
    model = a_model(config)
    bridge = interop.bridge(model)
    assert type(bridge).__name__ == "TransformerBridge"
    assert_close(logits_of(bridge), logits_of(model), atol=1e-12, rtol=0)
    hooks = ["blocks.0.hook_resid_post", "blocks.0.mlp.hook_post", "blocks.0.attn.hook_pattern"]
    ours, theirs = (subject.run_with_cache(TASK.tokens)[1] for subject in (model, bridge))
    for hook in hooks:
        assert_close(theirs[hook], ours[hook], atol=1e-12, rtol=0)


def test_what_these_classes_cannot_hold_is_refused() -> None:
    post = a_model(ModelConfig(d_model=16, n_heads=2, d_mlp=24, interventions=(PostNorm(),)))
    for convert in (interop.hooked_transformer, interop.bridge):
        with pytest.raises(GrokinterpError, match=r"PostNorm.* is in force in this model, and a .* does not have it"):
            convert(post)
        with pytest.raises(GrokinterpError, match=r"is made of a toy transformer, run.model\(\) for example; got a "):
            convert(build_model(MLPConfig(), TASK, seed=0))
    with pytest.raises(GrokinterpError, match="this model has no MLP"):
        interop.bridge(a_model(ModelConfig(d_model=16, n_heads=2, d_mlp=0)))


class Doubled(torch.nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


HUNG: dict[str, Callable[[Any], Any]] = {
    "hook": lambda model: model.add_hook("blocks.0.hook_mlp_out", lambda value, hook: 0 * value),
    "hook of torch": lambda model: model.blocks[0].register_forward_pre_hook(lambda module, inputs: None),
    "replaced forward": lambda model: setattr(model.blocks[0].mlp, "forward", torch.zeros_like),
    "parametrized weight": lambda model: parametrize.register_parametrization(model.blocks[0].mlp, "W_in", Doubled()),
}


@pytest.mark.parametrize("hang", HUNG.values(), ids=HUNG)
def test_what_hangs_on_a_model_is_not_left_behind_in_silence(hang: Callable[[Any], Any], tmp_path: Path) -> None:
    model = a_model(CONFIGS["pre-norm"])
    hang(model)
    for convert in (interop.hooked_transformer, interop.bridge, lambda model: interop.hugging_face(model, tmp_path / "none")):
        with pytest.raises(GrokinterpError, match=r"something hangs on blocks\.0.*; take it off first, hooks with model.reset_hooks\(\), or pass"):
            convert(model)
    assert not any(tmp_path.iterdir())


def test_a_model_with_another_epsilon_stays_the_same_function(tmp_path: Path) -> None:
    weights = {name: value.detach() for name, value in a_model(CONFIGS["pre-norm"]).named_parameters()}
    model = load_checkpoint({"model": weights, "config": {"eps": 0.1, "act_fn": "gelu", "attention_dir": "causal"}}, TASK).model()
    assert_close(logits_of(interop.bridge(model)), logits_of(model), atol=1e-12, rtol=0)
    assert_close(logits_of(load_model(interop.hugging_face(model, tmp_path / "eps"), tokenizer=False)), logits_of(model), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"positional_embedding_type": "rotary", "rotary_dim": 8}, "positional_embedding_type='rotary'"),
        ({"gated_mlp": True}, "gated_mlp=True"),
        ({"n_key_value_heads": 1}, "n_key_value_heads=1"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ({"act_fn": "solu"}, "solu"),
        ({"normalization_type": "RMS"}, "the norm RMS"),
    ],
    ids=str,
)
def test_a_hooked_transformer_of_ones_own_is_copied_whole_or_refused(setting: dict[str, Any], said: str, tmp_path: Path) -> None:
    if not has_hooked_transformer():
        return
    sizes = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 24, "n_ctx": 3, "d_vocab": 8}
    model = hooked_transformer(**{**sizes, "act_fn": "gelu", "normalization_type": "LN", **setting})
    model.init_weights()
    assert torch.equal(logits_of(interop.hooked_transformer(model)), logits_of(model))
    for convert in (interop.bridge, lambda model: interop.hugging_face(model, tmp_path / "none")):
        with pytest.raises(GrokinterpError, match=said):
            convert(model)


# Hugging Face


def test_a_folder_of_hugging_face_holds_the_same_function(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = a_model(CONFIGS["pre-norm"])
    folder = interop.hugging_face(model, tmp_path / "new" / "gpt2")
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    with torch.no_grad():
        assert_close(theirs(TASK.tokens).logits, logits_of(model), atol=1e-12, rtol=0)
    again = load_model(folder, tokenizer=False)
    assert_close(logits_of(again), logits_of(model), atol=1e-12, rtol=0)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["gpt2"]  # nothing half written beside it
    with pytest.raises(GrokinterpError, match=r"gpt2 is not empty; choose another folder"):
        interop.hugging_face(model, folder)


def test_a_tied_head_stays_tied(tmp_path: Path) -> None:
    model = a_model(CONFIGS["pre-norm"])
    with torch.no_grad():
        model.unembed.W_U.copy_(model.W_E.T)
    folder = interop.hugging_face(model, tmp_path / "tied")
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    assert_close(logits_of(load_model(folder, tokenizer=False)), logits_of(model), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"normalization": "none"}, "no norm"),
        ({"causal": False}, "attention to later tokens"),
        ({"d_mlp": 0}, "no MLP"),
        ({"outputs": "classes"}, "8 tokens and 7 outputs"),
        ({"d_head": 4}, "heads of 4 that do not fill the width 16"),
        ({"biases": ("unembed",)}, "a bias on its unembedding"),
    ],
    ids=str,
)
def test_an_architecture_that_hugging_face_lacks_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    model = a_model(ModelConfig(**{"d_model": 16, "n_heads": 2, "d_mlp": 24, "normalization": "pre", **change}))
    with pytest.raises(GrokinterpError, match=f"Hugging Face has no class for this model: it has {said}, unlike GPT-2"):
        interop.hugging_face(model, tmp_path / "none")
    assert not any(tmp_path.iterdir())


# Other libraries' tools on a run


def test_transformer_lenss_activation_patching_works_on_a_run(tiny_run: Run) -> None:
    """Held against patching by hand."""
    from transformer_lens import patching

    model, clean, corrupted = tiny_run.model().eval(), TASK.tokens[3:4], TASK.tokens[20:21]
    with torch.no_grad():
        cache = model.run_with_cache(clean)[1]
        found = patching.get_act_patch_resid_pre(model, corrupted, cache, lambda logits: logits[0, -1, 2])
    assert found.shape == (1, 3)
    for position in range(3):

        def patched(value: torch.Tensor, hook: Any, at: int = position) -> torch.Tensor:
            return torch.cat([value[:, :at], cache["blocks.0.hook_resid_pre"][:, at : at + 1], value[:, at + 1 :]], dim=1)

        with torch.no_grad():
            by_hand = model.run_with_hooks(corrupted, fwd_hooks=[("blocks.0.hook_resid_pre", patched)])[0, -1, 2]
        assert_close(found[0, position], by_hand, atol=1e-6, rtol=0)


def test_nnsight_reads_and_edits_a_run(tiny_run: Run) -> None:
    nnsight = pytest.importorskip("nnsight", reason="nnsight is no dependency of this package")
    model = tiny_run.model().eval()
    traced = nnsight.NNsight(model)
    with traced.trace(TASK.tokens):
        stream = traced.blocks[0].hook_resid_mid.output.save()
        traced.blocks[0].mlp.hook_post.output[:] = 0
        logits = traced.output.save()
    with torch.no_grad():
        cache = model.run_with_cache(TASK.tokens)[1]
        edited = model.run_with_hooks(TASK.tokens, fwd_hooks=[("blocks.0.mlp.hook_post", lambda value, hook: 0 * value)])
    assert_close(stream, cache["blocks.0.hook_resid_mid"], atol=1e-6, rtol=0)
    assert_close(logits, edited, atol=1e-6, rtol=0)


# A run on a hub


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as pushing and pulling small files take."""

    files: dict[str, bytes]
    asked: list[str]
    created: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append(self.path)
        if self.path == "/api/repos/create":
            self.created.append(json.loads(body))
            self.answer({"url": f"http://127.0.0.1:{self.server.server_address[1]}/me/grokked"})
        elif "/preupload/" in self.path:
            self.answer({"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitUrl": f"http://127.0.0.1:{self.server.server_address[1]}/me/grokked/commit/c0ffee", "commitOid": "c0ffee"})
        else:
            self.answer({"warnings": [], "errors": []})

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if "/resolve/" in self.path:
            self.file(with_body=True)
        elif "/tree/" in self.path:
            self.answer([{"type": "file", "path": name, "size": len(content), "oid": "0"} for name, content in self.files.items()])
        else:
            self.answer({"id": "me/grokked", "sha": "c0ffee", "siblings": [{"rfilename": name} for name in self.files], "private": True})

    def do_HEAD(self) -> None:
        self.file(with_body=False)

    def file(self, with_body: bool) -> None:
        found = self.files.get(self.path.split("/resolve/")[1].partition("/")[2].partition("?")[0])
        self.send_response(200 if found is not None else 404)
        extra = {"X-Error-Code": "EntryNotFound"} if found is None else {"ETag": f'"{hash(found)}"'}
        for header, value in {"X-Repo-Commit": "c0ffee", "Content-Length": str(len(found or b"")), **extra}.items():
            self.send_header(header, value)
        self.end_headers()
        if with_body:
            self.wfile.write(found or b"")

    def answer(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """Makes a port of this machine the hub."""

    def use(port: int) -> None:
        url = f"http://127.0.0.1:{port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    return use


@pytest.fixture
def stand_in(at: Callable[[int], None]) -> Iterator[type[Hub]]:
    own = type("Own", (Hub,), {"files": {}, "asked": [], "created": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), own) as server:
        at(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield own
        server.shutdown()


def test_a_run_is_pushed_with_a_card_and_pulled_bit_by_bit(tiny_run: Run, stand_in: type[Hub], tmp_path: Path) -> None:
    interop.push(tiny_run, "me/grokked")
    assert "private" in str(stand_in.created[0])
    assert {"config.json", "metrics.jsonl", "status.json", "README.md"} <= stand_in.files.keys()
    assert not any(name.startswith("moments/") for name in stand_in.files)
    stand_in.files["setup.py"] = b"print('code')"  # somebody else's: it stays there
    run = interop.pull("me/grokked", tmp_path / "pulled")
    assert (run.steps, run.config.digest, run.finished) == (tiny_run.steps, tiny_run.config.digest, tiny_run.finished)
    for step in run.steps:
        theirs = tiny_run.weights(step)
        assert all(torch.equal(value, theirs[name]) for name, value in run.weights(step).items())
    assert run.metrics.equals(tiny_run.metrics)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["pulled"]
    assert not {"setup.py", ".cache"} & {path.name for path in run.path.iterdir()}
    interop.push(tiny_run, "me/grokked", moments=True)
    assert any(name.startswith("moments/") for name in stand_in.files)
    with pytest.raises(GrokinterpError, match=r"pulled is not empty; choose another folder"):
        interop.pull("me/grokked", tmp_path / "pulled")


def test_the_card_says_what_was_trained_and_how_it_is_opened(tiny_run: Run, stand_in: type[Hub]) -> None:
    interop.push(tiny_run, "me/grokked")
    card = stand_in.files["README.md"].decode()
    assert card.startswith("---\nlibrary_name: grokinterp\n")
    for said in ("modular_addition, p = 7", tiny_run.config.digest, f"{len(tiny_run.steps)}, the last at step {tiny_run.steps[-1]}"):
        assert said in card
    code = card.partition("```python\n")[2].partition("```")[0]
    assert 'run = gi.interop.pull("me/grokked", "grokked")' in code


def test_damage_on_the_way_leaves_nothing_behind(tiny_run: Run, stand_in: type[Hub], tmp_path: Path) -> None:
    interop.push(tiny_run, "me/grokked")
    name = max(name for name in stand_in.files if name.startswith("checkpoints/"))
    whole = stand_in.files[name]
    stand_in.files[name] = whole[:-1] + bytes([whole[-1] ^ 1])
    with pytest.raises(GrokinterpError, match="step_"):
        interop.pull("me/grokked", tmp_path / "pulled")
    del stand_in.files["config.json"]
    with pytest.raises(GrokinterpError, match=r"me/grokked could not be pulled .*; check the name and the network"):
        interop.pull("me/grokked", tmp_path / "pulled")
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


def test_without_a_network_it_is_one_sentence_within_seconds(
    tiny_run: Run, at: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(9)
    monkeypatch.setattr(hub, "PATIENCE", 0.5)
    start = time.monotonic()
    with pytest.raises(GrokinterpError, match=r"me/grokked could not be pushed \(.*\); log in with `hf auth login`"):
        interop.push(tiny_run, "me/grokked")
    with pytest.raises(GrokinterpError, match="me/grokked could not be pulled"):
        interop.pull("me/grokked", tmp_path / "pulled")
    assert time.monotonic() - start < 5
    for name in ("grokked", "me/grokked/more", "../me"):
        with pytest.raises(GrokinterpError, match="a repository of the hub is named owner/name"):
            interop.push(tiny_run, name)


def test_a_run_without_a_checkpoint_is_not_pushed(tiny_run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_run.path / "config.json").read_bytes())
    with pytest.raises(GrokinterpError, match="has no checkpoint yet, so there is nothing to push"):
        interop.push(tmp_path, "me/grokked")
