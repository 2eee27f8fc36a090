"""Every causal language model that TransformerLens wraps, from Hugging Face's layout: what transformers computes, under one set of names."""

from __future__ import annotations

import csv
import json
import re
import shutil
import socket
import time
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers import models as tokenizer_models
from torch.nn.functional import normalize
from torch.testing import assert_close

from families.models import FAMILIES, OTHERS, READ_FROM_4, REFUSED, TOKENIZER, random_model, random_tokens, read_and_refused
from families.parity import COMPARED, differences
from grokinterp import GrokinterpError, Task, analyze, load_model
from grokinterp.interventions import NoAttention, Sphere, UniformAttention
from grokinterp.language.agreement import verb_scores
from grokinterp.language.prompts import agreement
from grokinterp.models import hub
from grokinterp.models.adapter import HEAD, Adapter
from grokinterp.models.readout import values_of
from grokinterp.models.transformers import trained_parameters

pytestmark = pytest.mark.lens4
ROOT = Path(__file__).parents[2]
STORIES = ROOT.parent / "shared" / "data" / "stories260k"
STEPS = (0, 1000, 143_000)
Loaded = tuple[Any, Any, Path]


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A model of each family as loaded, transformers' own, and the folder."""
    folder = tmp_path_factory.mktemp("families") / request.param
    reference = random_model(request.param, folder)
    return load_model(folder, tokenizer=False), reference, folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of a LLaMA with a head of its own, and transformers' model of it."""
    folder = tmp_path_factory.mktemp("llama") / "tiny"
    return folder, random_model("llama", folder)


@pytest.fixture
def copy(llama: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy of that folder that a test may spoil."""
    return Path(shutil.copytree(llama[0], tmp_path / "copy"))


# The same function under the same names


def test_a_family_is_the_function_that_transformers_computes(loaded: Loaded) -> None:
    found = differences(*loaded[:2])
    assert found.keys() == COMPARED.keys()
    assert {what: difference for what, difference in found.items() if not difference <= 1e-4} == {}
    assert Adapter(loaded[0]).bare  # passes, caches and hooks have left nothing hanging


def test_the_pages_table_is_the_commands() -> None:
    rows = list(csv.reader((ROOT / "docs" / "families.csv").read_text().splitlines()))
    assert rows[0] == ["family", *COMPARED]
    assert [row[0] for row in rows[1:]] == list(FAMILIES)
    lines = [re.split(r" *\| *", line.strip("| ")) for line in (ROOT / "docs" / "families.md").read_text().splitlines() if line.startswith("|")]
    assert [line for line in lines if line[0] in FAMILIES] == rows[1:]


# One of a kind; `python -m tests.families` compares them all.
KINDS = ("bloom", "gptj", "granite", "mixtral", "falcon_h1", "cohere")


@pytest.mark.parametrize("family", [family for family in KINDS if family in read_and_refused()[0]])
def test_another_family_is_the_function_that_transformers_computes(family: str, tmp_path: Path) -> None:
    reference = random_model(family, tmp_path)
    found = differences(load_model(tmp_path, tokenizer=False), reference)
    assert {what: difference for what, difference in found.items() if not difference <= 1e-4} == {}


@pytest.mark.parametrize("family", read_and_refused()[1])
def test_a_family_that_is_not_read_is_refused_in_one_sentence_with_the_way_in(family: str, tmp_path: Path) -> None:
    random_model(family, tmp_path)
    with pytest.raises(GrokinterpError, match=read_and_refused()[1][family]) as caught:
        load_model(tmp_path, tokenizer=False)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800
    assert re.search(r"; .*(wrap the module yourself: analyze takes any model with hook points|save its language model alone)", str(caught.value))


def test_the_page_names_every_family_that_is_tried() -> None:
    page = " ".join((ROOT / "docs" / "families.md").read_text().split())
    for begins, families in (("Read as well", OTHERS), ("Refused", REFUSED), ("From TransformerLens 4 on", READ_FROM_4)):
        said = page.partition(f"- **{begins}**")[2].partition(" - **")[0]
        assert [name for name in families if f"`{name}`" not in said] == []


def test_heads_read_linearly_what_they_are_said_to(loaded: Loaded) -> None:
    model = loaded[0]
    with torch.no_grad():
        logits, cache = model.run_with_cache(random_tokens(), names_filter=list(HEAD))
    for hook in HEAD:
        readers = Adapter(model).linear_readers(hook)
        if Adapter(model).soft_cap:
            assert readers is None
            continue
        assert readers is not None
        rest = logits.double() - cache[hook].double() @ readers
        assert float((rest - rest[:1, :1]).abs().max()) < 1e-5, hook


def test_no_weight_counts_twice(loaded: Loaded) -> None:
    """A bridge keeps fused maps beside the copies that it uses; what is trained has the numbers of transformers' model, and all have gradients."""
    model, reference, folder = loaded
    n_parameters = sum(parameter.numel() for parameter in reference.parameters())
    if not Adapter(model).bridge:
        return  # a HookedTransformer keeps its unembedding beside the embedding
    assert sum(parameter.numel() for parameter in trained_parameters(model).values()) == n_parameters
    own = load_model(folder, tokenizer=False).requires_grad_(True)
    own(random_tokens()).square().sum().backward()
    assert [name for name, parameter in trained_parameters(own).items() if parameter.grad is None] == []


def a_task() -> Task:
    tokens = random_tokens()
    return Task("tokens", tokens, tokens[:, 0], n_vocab=len(TOKENIZER), n_classes=len(TOKENIZER))


def test_uniform_attention_is_uniform_under_the_models_own_mask(loaded: Loaded) -> None:
    model, task = loaded[0], a_task()
    patterns = [f"blocks.{layer}.attn.hook_pattern" for layer in range(Adapter(model).n_layers)]
    clean = values_of(model, task.tokens, patterns)
    with UniformAttention().applied(model, task):
        edited = values_of(model, task.tokens, patterns)
    for hook in patterns:
        allowed = (clean[hook] > 0).float()  # the causal mask, with a window of 4 in some layers
        assert_close(edited[hook], allowed / allowed.sum(-1, keepdim=True), atol=1e-6, rtol=0)


def test_no_attention_adds_nothing_and_the_sphere_is_kept_after_each_addition(loaded: Loaded) -> None:
    model, task = loaded[0], a_task()
    names = [f"blocks.1.hook_{part}" for part in ("resid_pre", "attn_out", "mlp_out", "resid_post")]
    with NoAttention().applied(model, task):
        before, attention, mlp, behind = values_of(model, task.tokens, names).values()
    assert not attention.any()
    assert_close(behind, before + mlp, atol=1e-5, rtol=0)
    with Sphere().applied(model, task):
        before, attention, mlp, behind = values_of(model, task.tokens, names).values()
    middle = before + attention if Adapter(model).parallel else normalize(before + attention, dim=-1)
    assert_close(before.norm(dim=-1), torch.ones(before.shape[:-1]), atol=1e-5, rtol=0)
    assert_close(behind, normalize(middle + mlp, dim=-1), atol=1e-5, rtol=0)


def test_processing_keeps_the_probabilities_only(llama: tuple[Path, Any]) -> None:
    folder, reference = llama
    model, tokens = load_model(folder, processed=True, tokenizer=False), random_tokens()
    with torch.no_grad():
        logits, wanted = model(tokens), reference(tokens).logits
    assert_close(logits.log_softmax(-1), wanted.log_softmax(-1), atol=1e-4, rtol=0)
    assert float((logits - wanted).abs().max()) > 0.1
    assert model.provenance["processed"]


# Files


def test_shards_are_read_and_one_that_is_missing_is_named(llama: tuple[Path, Any], tmp_path: Path) -> None:
    folder, reference = llama
    reference.save_pretrained(tmp_path, max_shard_size="6KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path, tokenizer=False)(random_tokens()), load_model(folder, tokenizer=False)(random_tokens()))
    shards[1].unlink()
    with pytest.raises(GrokinterpError, match=f"has no {shards[1].name}, which its model.safetensors.index.json names; the download is incomplete"):
        load_model(tmp_path, tokenizer=False)


@pytest.mark.parametrize("kept", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_weights_stay_as_they_are_saved_and_measures_widen_half_precision(kept: torch.dtype, llama: tuple[Path, Any], tmp_path: Path) -> None:
    copied = type(llama[1])(llama[1].config).to(kept)
    copied.load_state_dict({name: value.to(kept) for name, value in llama[1].state_dict().items()})
    copied.save_pretrained(tmp_path)
    model, wide = load_model(tmp_path, tokenizer=False), load_model(tmp_path, dtype=torch.float32, tokenizer=False)
    assert ({p.dtype for p in model.parameters()}, model.provenance["dtype"]) == ({kept}, str(kept))
    assert {p.dtype for p in wide.parameters()} == {torch.float32}
    prompts = agreement(TOKENIZER, n=8)
    scores = [verb_scores(subject, prompts) for subject in (model, wide)]
    assert scores[0].dtype == torch.float64
    assert_close(*scores, atol=30 * torch.finfo(kept).eps + 1e-5, rtol=0)
    entropies = [analyze(subject, ["heads"], task=a_task())["head_entropy"].to_numpy() for subject in (model, wide)]
    np.testing.assert_allclose(*entropies, atol=10 * torch.finfo(kept).eps + 1e-5)


def test_a_head_of_its_own_is_used_whatever_the_configuration_ties(llama: tuple[Path, Any], tmp_path: Path) -> None:
    """Where config.json ties embedding and head, a head in the file that differs is refused, not dropped."""
    random_model("llama, tied", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    save_file(weights | {"lm_head.weight": embedding.clone()}, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(load_model(tmp_path, tokenizer=False).W_U, embedding.T)
    save_file(weights | {"lm_head.weight": embedding + 1}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(GrokinterpError, match=r"lm_head.weight differs from .*embed_tokens.weight, and its config.json says that they are tied"):
        load_model(tmp_path, tokenizer=False)


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "lama"}, "of type 'lama', which transformers does not know; convert it to a layout that transformers reads"),
        ({"model_type": None}, "of type None, which transformers does not know"),
        ({"model_type": ["llama"]}, "which transformers does not know"),
        ({"model_type": "lama", "auto_map": {"AutoModel": "own.Own"}}, "does not know, and its own code from the hub, which load_model never runs"),
        ({"model_type": "vit"}, "of type 'vit'; load_model reads causal language models, and transformers has none of it"),
        ({"model_type": "mamba"}, "missing|asks for|cannot read|cannot build"),
        ({"quantization_config": {"bits": 4}}, "has quantization_config .*; save the model without"),
        ({"num_hidden_layers": 10**9}, "asks for 1000000000 layers, and the weights are 30 tensors"),
        ({"num_hidden_layers": "three"}, "is not a configuration of llama"),
        ({"num_hidden_layers": 4}, "asks for 13,744 weights, and the files hold 11,024"),
        ({"num_hidden_layers": 2}, r"not in the model: model.layers.2.input_layernorm.weight, model"),
        ({"vocab_size": 10**7}, "asks for .* weights, and the files hold"),
        ({"vocab_size": 3}, "transformers cannot read the weights"),
        ({"hidden_size": 0}, "config.json"),
        ({"num_attention_heads": 0}, "config.json"),
        ({"num_attention_heads": 3}, "config.json"),
        ({"num_key_value_heads": 3}, "config.json|transformers"),
        ({"intermediate_size": -1}, "config.json"),
        ({"hidden_act": "sulu"}, "config.json"),
        ({"rms_norm_eps": "small"}, "config.json"),
        ({"dtype": "float99"}, "config.json"),
    ],
    ids=str,
)
def test_a_configuration_that_is_not_this_models_is_one_sentence(changes: dict[str, Any], said: str, copy: Path) -> None:
    edit_config(copy, **changes)
    with pytest.raises(GrokinterpError, match=said) as caught:
        load_model(copy, tokenizer=False)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)


def test_weights_that_are_missing_left_over_quantised_or_pickled_are_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    weights = load_file(path)
    name = "model.layers.0.self_attn.q_proj.weight"

    def said(changed: dict[str, torch.Tensor]) -> str:
        save_file(changed, path, {"format": "pt"})
        with pytest.raises(GrokinterpError) as caught:
            load_model(copy, tokenizer=False)
        return str(caught.value)

    assert "the files hold" in said({key: value for key, value in weights.items() if key != name})
    assert f"missing: {name}" in said({key: value for key, value in weights.items() if key != name} | {"spare": torch.zeros(9_999)})
    assert "not in the model: model.layers.0.spare.weight" in said(weights | {"model.layers.0.spare.weight": torch.zeros(3)})
    assert f"{name} is saved as I8; load_model reads" in said(weights | {name: weights[name].to(torch.int8)})
    save_file(weights | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)}, path, {"format": "pt"})
    load_model(copy, tokenizer=False)  # older versions saved what is computed
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(GrokinterpError, match="is cut short or not a safetensors file"):
        load_model(copy, tokenizer=False)
    path.unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    with pytest.raises(GrokinterpError, match="a pickle that can run code; convert it once with python -c"):
        load_model(copy, tokenizer=False)


def test_code_in_a_folder_never_runs(copy: Path, llama: tuple[Path, Any], tmp_path: Path) -> None:
    trap = f"from pathlib import Path; Path({str(tmp_path / 'ran')!r}).write_text('code ran')\n"
    for file in ("modeling_own.py", "configuration_own.py", "tokenization_own.py"):
        (copy / file).write_text(trap)
    edit_config(copy, auto_map={"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"})
    with torch.no_grad():
        assert_close(load_model(copy, tokenizer=False)(random_tokens()), llama[1](random_tokens()).logits, atol=1e-4, rtol=0)
    assert not (tmp_path / "ran").exists()


# Tokenizers


def words(folder: Path, template: str) -> None:
    """The grammar's words as a tokenizer of the folder, with a template around each text."""
    own = Tokenizer(tokenizer_models.WordLevel({word: i for i, word in enumerate(TOKENIZER.words)}, unk_token=TOKENIZER.words[0]))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    bos, eos = TOKENIZER.words[:2]
    special = [(word, own.token_to_id(word)) for word in (bos, eos)]
    own.post_processor = processors.TemplateProcessing(single=template.format(bos=bos, eos=eos), special_tokens=special)
    own.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": bos, "eos_token": eos}))


@pytest.mark.parametrize("template", ["$A", "{bos} $A", "{bos} $A {eos}", "$A {eos}"])
def test_text_becomes_the_tokens_that_the_tokenizer_gives_it(template: str, copy: Path) -> None:
    words(copy, template)
    model = load_model(copy)
    for text in ("the key", "the keys near the box"):
        assert model.to_tokens(text).tolist() == [model.tokenizer(text)["input_ids"]]
    assert model.cfg.d_vocab == len(TOKENIZER)
    assert load_model(copy, tokenizer=False).tokenizer is None


# Names of the hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache; a hub that nothing may reach."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(hub, "PATIENCE", 0.5)
    return tmp_path / "cache"


@pytest.fixture
def pythia(cache: Path) -> str:
    """A repository in the cache with a revision for each of three steps of training."""
    for step in STEPS:
        snapshot = cache / "models--someone--pythia-tiny" / "snapshots" / f"commit{step}"
        random_model("gpt_neox", snapshot, seed=step)
        words(snapshot, "$A")
        (cache / "models--someone--pythia-tiny" / "refs").mkdir(exist_ok=True)
        (cache / "models--someone--pythia-tiny" / "refs" / f"step{step}").write_text(f"commit{step}")
    return "someone/pythia-tiny"


def test_revisions_of_a_repository_are_a_subject_with_steps_one_at_a_time_in_memory(pythia: str) -> None:
    alive: list[weakref.ref[Any]] = []
    at_once: list[int] = []

    def load(revision: str) -> Any:
        at_once.append(sum(model() is not None for model in alive))
        model = load_model(pythia, revision=revision)
        alive.append(weakref.ref(model))
        return model

    by_step = {step: partial(load, revision=f"step{step}") for step in STEPS}
    report = analyze(by_step, ["heads"], task=a_task())
    assert report["step"].to_numpy().tolist() == list(STEPS)
    assert at_once == [0, 1, 1]  # the last one, which is the reference, stays
    origins = json.loads(report.dataset.attrs["provenance"])["models"]
    assert {step: (origin["revision"], origin["commit"]) for step, origin in origins.items()} == {
        str(step): (f"step{step}", f"commit{step}") for step in STEPS
    }
    for step in STEPS:
        alone = analyze(load_model(pythia, revision=f"step{step}"), ["heads"], task=a_task())["head_entropy"].to_numpy()[0]
        np.testing.assert_array_equal(report["head_entropy"].sel(step=step).to_numpy(), alone)
    assert analyze(by_step, ["heads"], task=a_task(), steps=[0, 1000])["step"].to_numpy().tolist() == [0, 1000]


def test_agreement_of_a_training_is_read_step_by_step(pythia: str) -> None:
    prompts = agreement(load_model(pythia, revision="step0").tokenizer, n=12)
    by_step = {step: partial(load_model, pythia, revision=f"step{step}") for step in (0, 1000)}
    report = analyze(by_step, ["ace"], task=prompts)
    alone = analyze(by_step[1000](), ["ace"], task=prompts)
    assert report["step"].to_numpy().tolist() == [0, 1000]
    np.testing.assert_array_equal(report["agreement_auc"].sel(step=1000).to_numpy(), alone["agreement_auc"].to_numpy()[0])
    with pytest.raises(GrokinterpError, match="a toy checkpoint is read on a task; got a Prompts, which is for a language model"):
        analyze({0: {"W": torch.zeros(1)}}, ["ace"], task=prompts)


def test_a_step_that_is_no_model_or_another_steps_is_refused(pythia: str) -> None:
    with pytest.raises(GrokinterpError, match="the function of step 5 gives a dict, and analyze takes models with hook points"):
        analyze({0: partial(load_model, pythia, revision="step0"), 5: dict}, ["heads"], task=a_task())
    late = {step: lambda: load_model(pythia, revision=f"step{step}") for step in (0, 1000)}  # noqa: B023, the mistake that this is about
    with pytest.raises(
        GrokinterpError, match="steps 1000 and 0 are the same model, someone/pythia-tiny at revision 'step1000'; bind each step's own"
    ):
        analyze(late, ["heads"], task=a_task())


@pytest.mark.parametrize("revision", [None, "step7"])
def test_neither_cache_nor_network_is_one_sentence_within_seconds(revision: str | None, cache: Path) -> None:
    start = time.monotonic()
    with pytest.raises(GrokinterpError, match=r"someone/pythia-tiny.* is not in the local Hugging Face cache and could not be downloaded") as caught:
        load_model("someone/pythia-tiny", revision=revision)
    assert time.monotonic() - start < 5
    assert "\n" not in str(caught.value)
    assert revision is None or revision in str(caught.value)


def test_a_folder_has_no_revision_and_a_path_is_no_name(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GrokinterpError, match="is a folder, which has no revision 'step1'; leave revision out"):
        load_model(copy, revision="step1", tokenizer=False)
    monkeypatch.chdir(copy.parent)
    with pytest.raises(GrokinterpError, match=r"copy/nowhere is not a folder; pass one with config.json"):
        load_model("copy/nowhere")


# Somebody else's model


def test_a_llama_that_somebody_else_trained_tells_its_story() -> None:
    """The figures are those that whoever converted it measured with transformers."""
    if not STORIES.exists():
        pytest.skip(f"the LLaMA of children's stories is not beside the checkout ({STORIES.parent.parent.name}/… is missing)")
    model = load_model(STORIES)
    tokens = model.to_tokens("The dog")
    assert tokens.tolist() == [model.tokenizer.encode("The dog")]  # with the BOS that its tokenizer puts in front
    with torch.no_grad():
        probabilities = model(tokens)[0, -1].softmax(-1)
    assert probabilities[model.tokenizer.convert_tokens_to_ids("▁was")].item() == pytest.approx(0.472, abs=5e-4)
