"""GPT-2 from Hugging Face's layout: equal to Hugging Face's model, to the library's own converter and to a bridge, and clear about bad files."""

from __future__ import annotations

import http.server
import json
import os
import shlex
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from gpt2_folders import random_gpt2, random_tokens
from safetensors.torch import load_file, save_file, save_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.testing import assert_close
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.pretrained.weight_conversions.gpt2 import convert_gpt2_weights

from grokinterp import GrokinterpError, Task, analyze, load_model
from grokinterp.models import hub

GPT2_TOKENIZER = Path(__file__).parents[3] / "shared" / "data" / "gpt2-tokenizer"
TINY: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 16}
PROMPT, PROMPT_IDS = "The keys to the cabinet are", [464, 8251, 284, 262, 13447, 389]


@pytest.fixture(scope="session")
def gpt2_tokenizer() -> Path:
    """The folder with GPT-2's vocab.json and merges.txt, which are not part of the repository."""
    if not (GPT2_TOKENIZER / "vocab.json").exists():
        pytest.skip(f"GPT-2's tokenizer is not beside the checkout ({GPT2_TOKENIZER.parent.parent.name}/… is missing)")
    return GPT2_TOKENIZER


@pytest.fixture(scope="module")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with a GPT-2 of 2 layers, and Hugging Face's model of it."""
    folder = tmp_path_factory.mktemp("gpt2") / "tiny"
    return folder, random_gpt2(folder, **TINY)


@pytest.fixture
def copy(tiny_gpt2: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy of that folder that a test may spoil."""
    return Path(shutil.copytree(tiny_gpt2[0], tmp_path / "copy"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to reach another machine fails the test."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def word_tokenizer(folder: Path, words: str = "the keys cabinet are is") -> None:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<|endoftext|>", *words.split()])}, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def assert_same_function(model: Any, reference: Any, tokens: torch.Tensor, atol: float = 1e-4) -> None:
    """Logits, and the residual stream behind every block but the last, which Hugging Face shows after the final LayerNorm only."""
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith(("hook_resid_post", "hook_embed")))
        wanted = reference(tokens, output_hidden_states=True)
    assert_close(logits, wanted.logits, atol=atol, rtol=0, check_dtype=False)
    assert float(wanted.logits.std()) > 0.5  # else anything would be close
    for layer in range(model.cfg.n_layers - 1):
        assert_close(cache[f"blocks.{layer}.hook_resid_post"], wanted.hidden_states[layer + 1], atol=atol, rtol=0, check_dtype=False)


# The published depths and numbers of heads, at an eighth of the width.
SIZES = {
    "distilgpt2": {"n_layer": 6, "n_head": 12, "n_embd": 96},
    "gpt2": {"n_layer": 12, "n_head": 12, "n_embd": 96},
    "gpt2-medium": {"n_layer": 24, "n_head": 16, "n_embd": 128},
    "gpt2-large": {"n_layer": 36, "n_head": 20, "n_embd": 160},
    "gpt2-xl": {"n_layer": 48, "n_head": 25, "n_embd": 200},
}


@pytest.mark.parametrize("size", SIZES)
def test_logits_are_hugging_faces_at_every_size(size: str, tmp_path: Path) -> None:
    reference = random_gpt2(tmp_path, **SIZES[size])
    model = load_model(tmp_path, tokenizer=False)
    assert (model.cfg.n_layers, model.cfg.n_heads, model.cfg.d_model) == tuple(SIZES[size].values())
    assert_same_function(model, reference, random_tokens())


def test_logits_are_hugging_faces_at_the_real_size_with_the_real_tokenizer(tmp_path: Path, gpt2_tokenizer: Path) -> None:
    reference = random_gpt2(tmp_path, vocab_size=50257, n_positions=1024)  # every other size is GPT2Config's default, which is gpt2's
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(gpt2_tokenizer / file, tmp_path)
    model = load_model(tmp_path)
    assert sum(p.numel() for p in model.parameters()) == 124_439_808 + 50257 * 768 + 50257  # published count; W_U of its own, b_U = 0
    assert_same_function(model, reference, model.to_tokens(PROMPT))


@pytest.mark.parametrize(
    "options",
    [
        {"tie_word_embeddings": False},
        {"n_inner": 24},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False},
        {"layer_norm_epsilon": 0.1},
        {"activation_function": "gelu"},
        {"activation_function": "gelu_fast"},
        {"activation_function": "gelu_pytorch_tanh"},
        {"activation_function": "relu"},
        {"activation_function": "silu"},
    ],
    ids=str,
)
def test_every_option_of_the_configuration_counts(options: dict[str, Any], tmp_path: Path) -> None:
    reference = random_gpt2(tmp_path, **TINY, **options)
    assert_same_function(load_model(tmp_path, tokenizer=False), reference, random_tokens())


def test_float64_agrees_to_rounding_and_half_precision_files_are_read(tiny_gpt2: tuple[Path, Any], tmp_path: Path) -> None:
    folder, reference = tiny_gpt2
    model = load_model(folder, dtype=torch.float64, tokenizer=False)
    assert model.W_E.dtype == torch.float64
    assert_close(model(random_tokens()), reference.double()(random_tokens()).logits.detach(), atol=1e-12, rtol=0)
    reference.float()
    half = random_gpt2(tmp_path, **TINY).half()
    half.save_pretrained(tmp_path)
    assert_same_function(load_model(tmp_path, dtype=torch.float32, tokenizer=False), half.float(), random_tokens())
    assert load_model(tmp_path, tokenizer=False).W_E.dtype == torch.float16


def test_parameters_are_those_of_the_librarys_converter(tiny_gpt2: tuple[Path, Any]) -> None:
    folder, reference = tiny_gpt2
    model = load_model(folder, tokenizer=False)
    converted = convert_gpt2_weights(reference, model.cfg)
    own = dict(model.named_parameters())
    assert own.keys() - converted.keys() == {"unembed.b_U"}
    assert not own["unembed.b_U"].any()
    for name, value in converted.items():
        assert torch.equal(own[name], value), name


def test_the_hubs_older_layout_and_shards_are_read(tiny_gpt2: tuple[Path, Any], tmp_path: Path) -> None:
    folder, reference = tiny_gpt2
    old = tmp_path / "old"  # as in the published gpt2: no prefix, and causal masks among the weights
    old.mkdir()
    shutil.copy(folder / "config.json", old)
    weights = {name.removeprefix("transformer."): value for name, value in load_file(folder / "model.safetensors").items()}
    masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 32, 32).tril() for layer in range(2)} | {"h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file(weights | masks, old / "model.safetensors")
    sharded = tmp_path / "sharded"
    reference.save_pretrained(sharded, max_shard_size="10KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    for layout in (old, sharded):
        assert_same_function(load_model(layout, tokenizer=False), reference, random_tokens())
    next(sharded.glob("*.safetensors")).unlink()
    with pytest.raises(GrokinterpError, match=r"has no model-0000\d-of.*the download is incomplete"):
        load_model(sharded, tokenizer=False)


def test_the_model_is_frozen_in_eval_mode_and_says_where_it_comes_from(tiny_gpt2: tuple[Path, Any]) -> None:
    model = load_model(tiny_gpt2[0], tokenizer=False)
    assert not model.training
    assert not model(random_tokens()).requires_grad
    assert model.tokenizer is None
    folder = str(tiny_gpt2[0])
    assert model.provenance == {
        "source": folder,
        "folder": folder,
        "revision": None,
        "commit": None,
        "processed": False,
        "dtype": "torch.float32",
    }


def test_processing_is_asked_for_and_keeps_the_probabilities_only(tiny_gpt2: tuple[Path, Any]) -> None:
    folder, reference = tiny_gpt2
    model = load_model(folder, processed=True, tokenizer=False)
    tokens = random_tokens()
    logits = reference(tokens).logits.detach()
    assert_close(model(tokens).log_softmax(-1), logits.log_softmax(-1), atol=1e-4, rtol=0)
    assert float((model(tokens) - logits).abs().max()) > 0.1
    assert float(model.W_U.mean(1).abs().max()) < 1e-6
    assert (model.provenance["processed"], model.cfg.normalization_type) == (True, "LNPre")
    assert load_model(folder, tokenizer=False).cfg.normalization_type == "LN"


@pytest.mark.parametrize("kept", ["lm_head.weight", "transformer.wte.weight"])
@pytest.mark.parametrize("noted", [True, False])
def test_one_name_of_a_tied_weight_is_enough(kept: str, noted: bool, tiny_gpt2: tuple[Path, Any], copy: Path) -> None:
    """safetensors' save_model writes a shared tensor under one of its names, and notes the other in the header."""
    weights = load_file(copy / "model.safetensors")
    embedding = weights.pop("transformer.wte.weight")
    other = ({"lm_head.weight", "transformer.wte.weight"} - {kept}).pop()
    save_file(weights | {kept: embedding}, copy / "model.safetensors", {"format": "pt"} | ({other: kept} if noted else {}))
    assert_same_function(load_model(copy, tokenizer=False), tiny_gpt2[1], random_tokens())
    if noted:  # then the note is enough where the configuration does not tie the two
        edit_config(copy, tie_word_embeddings=False)
        assert_same_function(load_model(copy, tokenizer=False), tiny_gpt2[1], random_tokens())


def test_save_models_own_files_are_read(tiny_gpt2: tuple[Path, Any], copy: Path) -> None:
    save_model(tiny_gpt2[1], str(copy / "model.safetensors"))
    assert_same_function(load_model(copy, tokenizer=False), tiny_gpt2[1], random_tokens())


def test_a_head_of_its_own_is_used_or_refused_never_dropped(tiny_gpt2: tuple[Path, Any], copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    save_file(weights | {"lm_head.weight": weights["transformer.wte.weight"].clone()}, copy / "model.safetensors")
    assert_same_function(load_model(copy, tokenizer=False), tiny_gpt2[1], random_tokens())
    head = torch.randn(weights["transformer.wte.weight"].shape, generator=torch.Generator().manual_seed(3))
    save_file(weights | {"lm_head.weight": head}, copy / "model.safetensors")
    with pytest.raises(GrokinterpError, match=r"lm_head.weight differs from wte.weight, and its config.json says that they are tied; write"):
        load_model(copy, tokenizer=False)
    edit_config(copy, tie_word_embeddings=False)
    assert torch.equal(load_model(copy, tokenizer=False).W_U, head.T)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_wrapped_names_are_the_same_weights(prefix: str, tiny_gpt2: tuple[Path, Any], copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    save_file({prefix + name: value for name, value in weights.items()}, copy / "model.safetensors")
    assert_same_function(load_model(copy, tokenizer=False), tiny_gpt2[1], random_tokens())


# The tokenizer


def test_gpt2s_tokenizer_in_both_forms_adds_no_bos(tiny_gpt2: tuple[Path, Any], tmp_path: Path, gpt2_tokenizer: Path, no_network: None) -> None:
    random_gpt2(tmp_path, vocab_size=50257, **TINY)
    model = load_model(tmp_path, tokenizer=gpt2_tokenizer)
    model.tokenizer.save_pretrained(tmp_path)  # as tokenizer.json
    for loaded in (model, load_model(tmp_path)):
        assert loaded.tokenizer(PROMPT)["input_ids"] == PROMPT_IDS
        assert loaded.to_tokens(PROMPT).tolist() == [PROMPT_IDS]
        assert loaded.to_tokens(PROMPT, prepend_bos=True).tolist() == [[50256, *PROMPT_IDS]]
        assert loaded.to_tokens([PROMPT, "The keys"]).tolist() == [PROMPT_IDS, [464, 8251] + [50256] * 4]
        assert loaded.to_single_token(" is") == 318
        assert loaded.to_string(PROMPT_IDS) == PROMPT


def test_another_kind_of_tokenizer_is_read_as_it_is(copy: Path, no_network: None) -> None:
    word_tokenizer(copy)
    model = load_model(copy)
    assert model.tokenizer("the keys is")["input_ids"] == [1, 2, 5]
    assert model.to_tokens(["the keys", "is"]).tolist() == [[1, 2], [5, 0]]


TEMPLATES: dict[str, tuple[str, list[str], bool]] = {
    # What a tokenizer puts around a text, the tokens of "the keys" under it, and whether its first is a BOS, which is left out.
    "nothing": ("$A", ["the", "keys"], False),
    "EOS behind": ("$A <|endoftext|>", ["the", "keys", "<|endoftext|>"], False),
    "CLS and SEP": ("[CLS] $A [SEP]", ["[CLS]", "the", "keys", "[SEP]"], False),
    "BOS in front": ("<s> $A", ["the", "keys"], True),
    "BOS and EOS": ("<s> $A <|endoftext|>", ["the", "keys", "<|endoftext|>"], True),
}


@pytest.mark.parametrize("what", TEMPLATES)
def test_no_word_is_lost_whatever_the_tokenizer_puts_around(what: str, copy: Path, no_network: None) -> None:
    template, expected, has_bos = TEMPLATES[what]
    word_tokenizer(copy, "the keys cabinet are is <s> [CLS] [SEP]")
    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    special = ["<|endoftext|>", "<s>", "[CLS]", "[SEP]"]
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(name, tokenizer.token_to_id(name)) for name in special]
    )
    tokenizer.save(str(copy / "tokenizer.json"))
    if has_bos:
        (copy / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>"}))
    model = load_model(copy)
    for texts in ("the keys", ["the keys", "the keys"]):
        for row in model.to_tokens(texts).tolist():
            assert model.tokenizer.convert_ids_to_tokens(row) == expected
    if has_bos:
        assert model.tokenizer.convert_ids_to_tokens(model.to_tokens("the keys", prepend_bos=True)[0].tolist()) == ["<s>", *expected]


# The cache and the hub


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return cache


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes a port of this machine the hub."""

    def use(port: int) -> None:
        url = f"http://127.0.0.1:{port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")

    return use


@pytest.mark.parametrize("name", ["gpt2", "gpt2-small", "openai-community/gpt2"])
@pytest.mark.parametrize("repository", ["models--openai-community--gpt2", "models--gpt2"])
def test_the_cache_is_enough(repository: str, name: str, copy: Path, empty_cache: Path, no_network: None) -> None:
    word_tokenizer(copy)
    snapshot = empty_cache / repository / "snapshots" / "607a30d7"
    shutil.copytree(copy, snapshot)
    (empty_cache / repository / "refs").mkdir()
    (empty_cache / repository / "refs" / "main").write_text("607a30d7")
    model = load_model(name)
    assert (model.provenance["source"], model.provenance["commit"], model.cfg.model_name) == (name, "607a30d7", name)
    (snapshot / "tokenizer.json").unlink()
    assert hub.cached("gpt2") is None


def test_what_is_not_cached_is_downloaded_once(
    copy: Path, empty_cache: Path, endpoint: Callable[[int], None], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQDM_POSITION", "-1")  # the hub's client then shows its progress bars where there is no terminal, too
    word_tokenizer(copy)
    asked: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def answer(self, with_body: bool) -> None:
            asked.append(self.path)
            repository, _, name = self.path.lstrip("/").partition("/resolve/main/")
            file = copy / name
            found = repository == "openai-community/gpt2-medium" and file.is_file()
            body = file.read_bytes() if found else b""
            self.send_response(200 if found else 404)
            for header, value in {"X-Repo-Commit": "c0ffee", "ETag": f'"{name}"', "Content-Length": str(len(body))}.items():
                self.send_header(header, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        endpoint(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        model = load_model("gpt2-medium")
        server.shutdown()
    settings = {"added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"}
    assert {path.rpartition("/")[2] for path in asked if "/resolve/" in path} == {"config.json", "tokenizer.json", "model.safetensors", *settings}
    assert "model.safetensors: 100%" in capfd.readouterr().err  # the progress bar
    asked.clear()
    again = load_model("gpt2-medium")
    assert not asked
    assert again.provenance["commit"] == "c0ffee"
    assert torch.equal(model.W_E, again.W_E)


@pytest.fixture(params=["silent", "closed"])
def unreachable(request: pytest.FixtureRequest, endpoint: Callable[[int], None]) -> Iterator[None]:
    """A hub that takes the connection and never answers, or that refuses it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "silent":
            listener.listen()
        endpoint(listener.getsockname()[1])
        yield


def test_neither_cache_nor_network_is_one_sentence_within_seconds(unreachable: None, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PATIENCE", 0.5)
    start = time.monotonic()
    with pytest.raises(GrokinterpError) as caught:
        load_model("gpt2-large")
    assert time.monotonic() - start < 5
    said = str(caught.value)
    assert "\n" not in said
    for word in ("gpt2-large", "config.json", "model.safetensors", "tokenizer.json", "vocab.json", "merges.txt", "huggingface.co/openai-community"):
        assert word in said


def test_a_name_server_that_never_answers_does_not_hold_us(
    empty_cache: Path, endpoint: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def resolve(*_: Any, **__: Any) -> None:
        released.wait(10)
        raise OSError("no name server")

    endpoint(9)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(hub, "PATIENCE", 0.3)
    start = time.monotonic()
    with pytest.raises(GrokinterpError, match=r"did not answer within 0.3 seconds\); put config.json"):
        load_model("distilgpt2")
    assert time.monotonic() - start < 5
    released.set()


# Bad input


def test_unknown_names_and_folders(tmp_path: Path) -> None:
    with pytest.raises(GrokinterpError, match="unknown model or folder 'gpt2-midium'; did you mean gpt2-medium"):
        load_model("gpt2-midium")
    with pytest.raises(GrokinterpError, match=r"nowhere is not a folder; pass one with config.json, model.safetensors and .* gpt2-medium"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(GrokinterpError, match=r"has no config.json; a model.s folder holds config.json, model.safetensors"):
        load_model(tmp_path)


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "llama"}, "asks for 32 layers, and the weights are 28 tensors"),
        ({"n_layer": "two"}, "is not a configuration of GPT-2: .*n_layer.*expected int"),
        ({"n_head": 3}, "divides a width of 16 among 3 heads"),
        ({"n_head": 0}, "config.json: n_head is a whole number, 1 … .* got 0"),
        ({"activation_function": "gelu_nwe"}, "gelu_nwe.*did you mean gelu_new"),
        ({"add_cross_attention": True}, "cross-attention"),
        (
            {"n_layer": 3},
            "its config.json asks for; missing: h.2.attn.c_attn.bias, h.2.attn.c_attn.weight, .*; use weights and config.json of one",
        ),
        ({"n_layer": 1}, "its config.json asks for; not in the model: h.1.attn.c_attn.bias, h.1"),
        ({"n_positions": 64}, r"of another shape: wpe.weight \(32, 16\), wanted \(64, 16\)"),
        ({"n_inner": 32}, r"of another shape: .*h.0.mlp.c_fc.weight \(16, 64\), wanted \(16, 32\)"),
        ({"tie_word_embeddings": False}, "missing: lm_head.weight; use weights and"),
    ],
    ids=str,
)
def test_a_configuration_that_is_not_this_models(changes: dict[str, Any], said: str, copy: Path) -> None:
    edit_config(copy, **changes)
    with pytest.raises(GrokinterpError, match=said):
        load_model(copy, tokenizer=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_layer": 10**9}, "n_layer is a whole number, 1 … 10,000,000; got 1000000000"),
        ({"n_layer": 10**6}, "asks for 1,000,000 layers, and the weights are"),
        ({"n_layer": 0}, "n_layer .* got 0"),
        ({"n_positions": -1}, "n_positions .* got -1"),
        ({"n_embd": 10**7, "n_head": 1}, r"wte.weight \(211, 16\), wanted \(211, 10000000\)"),
        ({"vocab_size": 10**7}, "wte.weight"),
        ({"n_inner": 0}, "n_inner .* got 0"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is a number in 0 … 1; got nan"),
        ({"layer_norm_epsilon": float("inf")}, "got inf"),
        ({"pruned_heads": {"0": [1]}}, r"has pruned_heads \{'0': \[1\]\}, which load_model does not carry out"),
        ({"quantization_config": {"bits": 4}}, "has quantization_config"),
    ],
    ids=str,
)
def test_sizes_out_of_range_allocate_nothing(changes: dict[str, Any], said: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr("grokinterp.models.gpt2._build", refuse)
    edit_config(copy, **changes)
    with pytest.raises(GrokinterpError, match=said):
        load_model(copy, tokenizer=False)


def test_a_model_beyond_the_memory_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    with pytest.raises(GrokinterpError, match=r"needs 0.0 GB of memory, and this machine has 0.0 GB"):
        load_model(copy, tokenizer=False)


def test_layers_of_torch_nn_linear_are_called_transposed(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    turned = {name: value.T.contiguous() if ".c_" in name and value.ndim == 2 else value for name, value in weights.items()}
    save_file(turned, copy / "model.safetensors")
    with pytest.raises(GrokinterpError, match=r"they are laid out outputs first, as in torch.nn.Linear: transpose each of them; use weights and"):
        load_model(copy, tokenizer=False)


@pytest.mark.parametrize("name", ["../stolen.safetensors", "/etc/hostname", "sub/model.safetensors", "..", "", 3])
def test_an_index_that_leaves_its_folder_is_refused(name: Any, copy: Path) -> None:
    (copy / "model.safetensors").rename(copy.parent / "stolen.safetensors")
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"transformer.wte.weight": name}}))
    with pytest.raises(GrokinterpError, match=r"lies outside its folder|is not an index of weights|is a folder"):
        load_model(copy, tokenizer=False)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "folder", "device"])
def test_what_is_no_file_does_not_block(name: str, make: Callable[[Path], None], copy: Path) -> None:
    word_tokenizer(copy)
    (copy / name).unlink(missing_ok=True)
    if name.endswith("index.json"):
        (copy / "model.safetensors").unlink()
    make(copy / name)
    with pytest.raises(GrokinterpError, match=r"is a (pipe|folder|device), not a file|has no (config|tokenizer).json"):
        load_model(copy)


def test_files_that_are_cut_short(copy: Path) -> None:
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    for part in (b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", whole[:-100], whole[:1000]):
        weights.write_bytes(part)
        with pytest.raises(GrokinterpError, match=r"model.safetensors is cut short or not a safetensors file .* download it again"):
            load_model(copy, tokenizer=False)
    (copy / "config.json").write_text('{"model_type": "gpt2"')
    with pytest.raises(GrokinterpError, match=r"config.json is not readable as JSON"):
        load_model(copy, tokenizer=False)
    (copy / "config.json").write_text("[]")
    with pytest.raises(GrokinterpError, match="must hold an object with named fields; got"):
        load_model(copy, tokenizer=False)
    (copy / "config.json").write_text("{}")
    with pytest.raises(GrokinterpError, match="of type None"):
        load_model(copy, tokenizer=False)


def test_quantised_weights_are_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    save_file(weights | {"transformer.wpe.weight": torch.zeros(32, 16, dtype=torch.int8)}, copy / "model.safetensors")
    with pytest.raises(GrokinterpError, match=r"wpe.weight is saved as I8"):
        load_model(copy, tokenizer=False)


def test_a_folder_without_weights_and_one_with_a_pickle_that_the_advice_converts(tiny_gpt2: tuple[Path, Any], copy: Path, no_network: None) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "training_args.bin")  # settings of a trainer, no weights
    with pytest.raises(GrokinterpError, match=r"has no model.safetensors; a model.s folder holds"):
        load_model(copy, tokenizer=False)
    copy = copy.rename(copy.with_name('it\'s a "copy" $HOME'))
    torch.save(tiny_gpt2[1].state_dict(), copy / "pytorch_model.bin")
    with pytest.raises(GrokinterpError, match="a pickle that can run code; convert it once with python -c") as caught:
        load_model(copy, tokenizer=False)
    python, flag, code = shlex.split(str(caught.value).split("convert it once with ")[1])
    assert (python, flag) == ("python", "-c")
    exec(code, {})
    assert_same_function(load_model(copy, tokenizer=False), tiny_gpt2[1], random_tokens())


def test_tokenizers_that_are_missing_broken_or_another_models(copy: Path) -> None:
    with pytest.raises(GrokinterpError, match=r"has no tokenizer.json, nor vocab.json with merges.txt; add them, or pass tokenizer="):
        load_model(copy)
    word_tokenizer(copy, " ".join(f"word{i}" for i in range(300)))
    with pytest.raises(GrokinterpError, match="has 301 tokens and the model 211; they belong to different models"):
        load_model(copy)
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(GrokinterpError, match=r"the tokenizer in .* cannot be read"):
        load_model(copy)


def test_devices_and_types_that_do_not_exist(tiny_gpt2: tuple[Path, Any]) -> None:
    with pytest.raises(GrokinterpError, match="device 'gpu' is not available on this machine; use 'cpu'"):
        load_model(tiny_gpt2[0], device="gpu")
    with pytest.raises(GrokinterpError, match=r"dtype must be a floating-point type like torch.float32; got torch.int8"):
        load_model(tiny_gpt2[0], dtype=torch.int8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_logits(tiny_gpt2: tuple[Path, Any]) -> None:
    model = load_model(tiny_gpt2[0], device="cuda", tokenizer=False)
    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}
    assert_close(model(random_tokens()).cpu(), tiny_gpt2[1](random_tokens()).logits.detach(), atol=1e-4, rtol=0)


# What the rest of the package makes of it


def prompts() -> Task:
    tokens = random_tokens(211, 24, 9)
    return Task("prompts", tokens, tokens[:, 0], n_vocab=211, n_classes=211)


def test_a_bridge_of_the_same_folder_has_the_same_numbers(tiny_gpt2: tuple[Path, Any], copy: Path, no_network: None) -> None:
    word_tokenizer(copy)
    model = load_model(copy)
    bridge = TransformerBridge.boot_transformers(str(copy), device="cpu", tokenizer=model.tokenizer)
    hooks = [f"blocks.{layer}.hook_resid_post" for layer in range(2)]
    tokens = random_tokens()
    with torch.no_grad():
        (ours, cache), (theirs, bridged) = (subject.run_with_cache(tokens) for subject in (model, bridge))
    assert_close(ours, theirs, atol=1e-4, rtol=0)
    for hook in hooks:
        assert_close(cache[hook], bridged[hook], atol=1e-4, rtol=0)
    measured = [analyze(subject, ["heads"], task=prompts()).dataset for subject in (model, bridge)]
    for name in measured[0].data_vars:
        np.testing.assert_allclose(measured[0][name], measured[1][name], atol=1e-5, err_msg=str(name))


def test_head_diagnostics_are_those_of_hugging_faces_attentions(tiny_gpt2: tuple[Path, Any]) -> None:
    folder, reference = tiny_gpt2
    found = analyze(load_model(folder, tokenizer=False), ["heads"], task=prompts()).dataset
    with torch.no_grad():
        attentions = reference(prompts().tokens, output_attentions=True).attentions
    for layer, pattern in enumerate(attentions):
        p = pattern.double().numpy()  # [example, head, query, key]
        entropy = np.where(p > 0, -p * np.log(np.where(p > 0, p, 1)), 0).sum(-1).mean((0, 2))
        np.testing.assert_allclose(found["head_entropy"].to_numpy()[0, layer], entropy, atol=1e-5)
        a, b = p[:, 0].ravel(), p[:, 1].ravel()
        similarity = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        np.testing.assert_allclose(found["head_similarity_layer"].to_numpy()[0, layer], similarity, atol=1e-5)
