"""Every layout is written from a model here and read back to the same logits; what its tensors do not tell is asked for by name."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from grokinterp import AttentionRate, GrokinterpError, ModelConfig, PostNorm, Snapshot, analyze, load_checkpoint, tasks
from grokinterp.checkpoints import READERS, Facts, Reader
from grokinterp.cli import main
from grokinterp.interventions import InForce
from grokinterp.models import build_model

P = 7
TASK = tasks.modular_addition(P).split(0.6, seed=0)
State = dict[str, Tensor]


def model_of(*interventions: InForce, task: tasks.Task = TASK, seed: int = 0, **settings: Any) -> Any:
    """A random model of two layers in float64, biases and norms included."""
    config = ModelConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=12, interventions=interventions, init="pytorch", **settings)
    model = build_model(config, task, seed, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name.endswith((".w", ".b")):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def weights_of(model: Any) -> State:
    return {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}


def transposed(model: Any) -> State:
    """As Nanda et al. and "The Clock and the Pizza" keep them, outputs first."""
    state = {}
    for name, value in weights_of(model).items():
        last = name.rpartition(".")[2]
        if last in ("W_Q", "W_K", "W_V"):
            value = value.transpose(1, 2)
        elif last == "W_O":
            value = value.flatten(0, 1).T
        elif last in ("W_E", "W_in", "W_out"):
            value = value.T
        state[name] = value
    return state


def joined(w: State, attn: str) -> tuple[Tensor, Tensor]:
    """Queries, keys and values in one Linear."""
    d_model = w[f"{attn}W_O"].shape[-1]
    weight = torch.cat([w[f"{attn}W_{kind}"].transpose(0, 1).reshape(d_model, -1).T for kind in "QKV"])
    return weight, torch.cat([w[f"{attn}b_{kind}"].flatten() for kind in "QKV"])


def nanogpt(model: Any) -> State:
    w = weights_of(model)
    state = {"wte.weight": w["embed.W_E"], "wpe.weight": w["pos_embed.W_pos"], "ln_f.weight": w["ln_final.w"], "ln_f.bias": w["ln_final.b"]}
    for i in range(2):
        ours, theirs = f"blocks.{i}.", f"h.{i}."
        for norm, name in (("ln1", "ln_1"), ("ln2", "ln_2")):
            state |= {f"{theirs}{name}.weight": w[f"{ours}{norm}.w"], f"{theirs}{name}.bias": w[f"{ours}{norm}.b"]}
        state[f"{theirs}attn.c_attn.weight"], state[f"{theirs}attn.c_attn.bias"] = joined(w, f"{ours}attn.")
        state |= {f"{theirs}attn.c_proj.weight": w[f"{ours}attn.W_O"].flatten(0, 1).T, f"{theirs}attn.c_proj.bias": w[f"{ours}attn.b_O"]}
        state |= {f"{theirs}mlp.c_fc.weight": w[f"{ours}mlp.W_in"].T, f"{theirs}mlp.c_fc.bias": w[f"{ours}mlp.b_in"]}
        state |= {f"{theirs}mlp.c_proj.weight": w[f"{ours}mlp.W_out"].T, f"{theirs}mlp.c_proj.bias": w[f"{ours}mlp.b_out"]}
        state[f"{theirs}attn.bias"] = torch.ones(1, 1, 3, 3).tril()  # a mask, in minGPT and older nanoGPTs
    return {f"transformer.{name}": value for name, value in state.items()} | {"lm_head.weight": w["unembed.W_U"].T}


@dataclass(frozen=True)
class Case:
    """A layout: its reader, how a model is written in it, and what has to be said to read it."""

    reader: str
    model: Callable[[], Any]
    write: Callable[[Any], State]
    facts: Mapping[str, Any]


ALL = ("attn", "mlp")
CASES = {
    "HookedTransformer": Case("HookedTransformer", model_of, weights_of, {"act_fn": "relu", "causal": True, "normalization": "none"}),
    "HookedTransformer, LayerNorm": Case(
        "HookedTransformer", lambda: model_of(normalization="pre", act_fn="gelu", causal=False), weights_of, {"act_fn": "gelu", "causal": False}
    ),
    "nanda2023": Case("nanda2023", model_of, transposed, {"act_fn": "relu", "causal": True}),
    "pizza2023": Case(
        "pizza2023",
        lambda: model_of(AttentionRate(0.3), causal=False, task=tasks.modular_addition(P, equals=False)),
        transposed,
        {"act_fn": "relu", "attention_rate": 0.3},
    ),
    "nanoGPT": Case("nanoGPT", lambda: model_of(normalization="pre", act_fn="gelu", biases=ALL), nanogpt, {"n_heads": 2, "act_fn": "gelu"}),
}


@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.", "_orig_mod.module.", "net."])
@pytest.mark.parametrize("name", CASES)
def test_a_round_trip_has_the_same_logits(name: str, wrapper: str) -> None:
    case = CASES[name]
    model = case.model()
    task = TASK if model.cfg.n_ctx == 3 else tasks.modular_addition(P, equals=False)
    state = {wrapper + key: value for key, value in case.write(model).items()}
    found = load_checkpoint(state, task, check=model, **case.facts)
    assert found.layout == READERS[case.reader].layout
    with torch.no_grad():
        torch.testing.assert_close(found.model()(task.tokens), model(task.tokens), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_every_fact_is_asked_for_by_name(name: str) -> None:
    case = CASES[name]
    state, task = case.write(case.model()), TASK if "pizza" not in name else tasks.modular_addition(P, equals=False)
    for fact in case.facts:
        others = {key: value for key, value in case.facts.items() if key != fact}
        with pytest.raises(GrokinterpError, match=rf"does not say {fact}; pass load_checkpoint\(…, {fact}="):
            load_checkpoint(state, task, **others)
    with pytest.raises(GrokinterpError, match=r"does not say .* and "):
        load_checkpoint(state, task)
    with pytest.raises(GrokinterpError, match="depth=3 is not used"):
        load_checkpoint(state, task, depth=3, **case.facts)


class Mine(nn.Module):
    """A transformer as people write it around nn.TransformerEncoder."""

    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, activation="relu", batch_first=True, norm_first=norm_first)
        self.embedding, self.pos_embedding = nn.Embedding(P + 1, 8), nn.Parameter(torch.randn(1, 3, 8))
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8) if norm_first else None, enable_nested_tensor=False)
        self.fc_out = nn.Linear(8, P)
        for parameter in self.parameters():  # layers begin as copies, and norms at 1 and 0
            nn.init.normal_(parameter, std=0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc_out(self.encoder(self.embedding(tokens) + self.pos_embedding))[:, -1]


@pytest.mark.parametrize("norm_first", [True, False])
def test_an_encoder_of_torchs_own_computes_the_same(norm_first: bool) -> None:
    torch.manual_seed(0)
    mine = Mine(norm_first).double().eval()
    facts = {"n_heads": 2, "act_fn": "relu", "causal": False, "norm_first": norm_first}
    found = load_checkpoint(mine.state_dict(), TASK, check=mine, **facts)
    assert [type(part) for part in getattr(found.model(), "interventions", ())] == ([] if norm_first else [PostNorm])
    with pytest.raises(GrokinterpError, match="differs from check by"):
        load_checkpoint(mine.state_dict(), TASK, check=mine, **{**facts, "n_heads": 4})
    with pytest.raises(GrokinterpError, match="does not say n_heads and act_fn and causal and norm_first"):
        load_checkpoint(mine.state_dict(), TASK)
    renamed = {name.replace("embedding.weight", "symbols.weight"): value for name, value in mine.state_dict().items()}
    with pytest.raises(GrokinterpError, match="does not say embed; pass"):
        load_checkpoint(renamed, TASK, **facts)
    assert load_checkpoint(renamed, TASK, check=mine, embed="symbols.weight", **facts)
    with pytest.raises(GrokinterpError, match=r"a final encoder.norm is not read"):
        load_checkpoint(mine.state_dict(), TASK, **{**facts, "norm_first": not norm_first})


class GPT(nn.Module):
    """A GPT as minGPT lays it out, in the names of 2020 or of 2022."""

    def __init__(self, year: int) -> None:
        super().__init__()
        self.year = year
        d = 8
        sizes = {"wte.weight": (P + 1, d), "wpe.weight": (3, d), "lm_head.weight": (P, d), "ln_f.weight": (d,), "ln_f.bias": (d,)}
        for i in range(2):
            maps = {"attn.c_attn": (3 * d, d), "attn.c_proj": (d, d), "mlp.c_fc": (12, d), "mlp.c_proj": (d, 12)}
            for name, shape in maps.items():
                sizes |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[:1]}
            sizes |= {f"h.{i}.{norm}.{kind}": (d,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
        generator = torch.Generator().manual_seed(3)
        self.weights = {name: 0.6 * torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in sizes.items()}

    def forward(self, tokens: Tensor) -> Tensor:
        w = self.weights
        x = w["wte.weight"][tokens] + w["wpe.weight"]
        for i in range(2):
            q, k, v = (
                part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.linear(self.norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").chunk(3, -1)
            )
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.linear(mixed.transpose(1, 2).flatten(2), f"h.{i}.attn.c_proj")
            inner = self.linear(self.norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
            inner = nn.functional.gelu(inner, approximate="tanh" if self.year == 2022 else "none")
            x = x + self.linear(inner, f"h.{i}.mlp.c_proj")
        return self.norm(x, "ln_f") @ w["lm_head.weight"].T

    def norm(self, x: Tensor, name: str) -> Tensor:
        return nn.functional.layer_norm(x, (8,), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def linear(self, x: Tensor, name: str) -> Tensor:
        return nn.functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def saved(self) -> State:
        """The state dict of that year's minGPT."""
        mask = torch.ones(1, 1, 3, 3).tril()
        if self.year == 2022:
            names = {name: name if name.startswith("lm_head") else f"transformer.{name}" for name in self.weights}
            return {names[name]: value for name, value in self.weights.items()} | {f"transformer.h.{i}.attn.bias": mask for i in range(2)}
        state: State = {f"blocks.{i}.attn.mask": mask for i in range(2)}
        new = {"wte": "tok_emb", "lm_head": "head", "h.": "blocks.", "ln_1": "ln1", "ln_2": "ln2", "c_proj": "proj", "mlp.c_fc": "mlp.0"}
        for name, value in self.weights.items():
            if "c_attn" in name:
                block, kind = name.split(".")[1], name.rpartition(".")[2]
                parts = zip(("query", "key", "value"), value.chunk(3))
                state |= {f"blocks.{block}.attn.{part}.{kind}": each for part, each in parts}
                continue
            renamed = name.replace("mlp.c_proj", "mlp.2")
            for old, short in new.items():
                renamed = renamed.replace(old, short)
            state["pos_emb" if name == "wpe.weight" else renamed] = value[None] if name == "wpe.weight" else value
        return state


@pytest.mark.parametrize(("year", "reader", "act_fn", "other"), [(2020, "minGPT", "gelu", "gelu_new"), (2022, "nanoGPT", "gelu_new", "gelu")])
def test_mingpt_of_both_years_computes_the_same_with_its_own_gelu(year: int, reader: str, act_fn: str, other: str) -> None:
    mine = GPT(year)
    found = load_checkpoint(mine.saved(), TASK, check=mine, n_heads=2, act_fn=act_fn)
    assert found.layout == READERS[reader].layout
    torch.testing.assert_close(found.model()(TASK.tokens), mine(TASK.tokens), rtol=0, atol=1e-12)
    difference = load_checkpoint(mine.saved(), TASK, n_heads=2, act_fn=other).model()(TASK.tokens) - mine(TASK.tokens)
    assert float(difference.detach().abs().max()) > 1e-4  # the two forms of GELU are told apart where the tolerance is that of float64
    with pytest.raises(GrokinterpError, match="differs from check by"):
        load_checkpoint(mine.saved(), TASK, check=mine, n_heads=2, act_fn=other)
    for extra in ("attn.rotary.freqs", "mlp.3.weight"):
        block = next(name for name in mine.saved() if ".0." in name).partition(".0.")[0]
        with pytest.raises(GrokinterpError, match=r"is no part of a nanoGPT; a reader of your own"):
            load_checkpoint(mine.saved() | {f"{block}.0.{extra}": torch.zeros(2)}, TASK, n_heads=2, act_fn=act_fn)


def test_a_decoder_is_not_taken_for_an_encoder() -> None:
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 12), 1)
    with pytest.raises(GrokinterpError, match=r"layers.0.multihead_attn.in_proj_bias is no part of a nn.TransformerEncoder"):
        load_checkpoint(decoder.state_dict() | {"embed.weight": torch.zeros(8, 8)}, TASK)


NAMES = {
    "model.layers.0.self_attn.q_proj.weight": ("LLaMA, Mistral", "gi.load_model"),
    "gpt_neox.layers.0.attention.query_key_value.weight": ("GPT-NeoX", "gi.load_model"),
    "transformer.h.0.attn.q_proj.weight": ("GPT-J", "gi.load_model"),
    "transformer.h.3.attn.attention.k_proj.weight": ("GPT-Neo", "gi.load_model"),
    "model.decoder.layers.0.self_attn.k_proj.weight": ("OPT", "gi.load_model"),
    "bert.encoder.layer.0.attention.self.query.weight": ("encoder of Hugging Face", "gi.analyze"),
    "layers.0.attention.wq.weight": ("llama2.c", "convert"),
    "decoder.layers.0.multihead_attn.in_proj_weight": ("encoder and a decoder", "gi.analyze"),
    "backbone.layers.0.mixer.A_log": ("Mamba", "gi.analyze"),
    "rnn.weight_ih_l0": ("LSTM, GRU or RNN", "LSTMConfig"),
    "attn_layers.layers.0.1.to_q.weight": ("x-transformers", "Reader"),
    "params/block_0/Dense_0/kernel": ("Flax", "Reader"),
}


@pytest.mark.parametrize("name", NAMES)
def test_layouts_that_are_not_read_are_refused_by_name_with_the_way_in(name: str) -> None:
    with pytest.raises(GrokinterpError) as caught:
        load_checkpoint({"first": torch.zeros(1), "other.part": torch.zeros(1), name: torch.zeros(2, 2)}, TASK)
    for said in NAMES[name]:
        assert said in str(caught.value)


def test_a_dictionary_of_checkpoints_is_a_training_with_its_split(tmp_path: Path) -> None:
    models = {step: model_of(seed=step) for step in (0, 100, 200)}
    saved = {
        "model": weights_of(models[200]),
        "config": {"act_fn": "relu", "normalization_type": None, "attention_dir": "causal", "d_model": 8},
        "checkpoints": [weights_of(model) for model in models.values()],
        "checkpoint_epochs": list(models),
        "train_indices": torch.arange(20),
        "train_losses": [3.0, 2.0, 1.0],
        "test_losses": [3.0, 2.5, 2.0],
    }
    torch.save(saved, tmp_path / "grokking.pth")
    found = load_checkpoint(tmp_path / "grokking.pth", tasks.modular_addition(P))
    assert found.steps == [0, 100, 200]
    assert found.task.indices("train").tolist() == list(range(20))
    assert found.recorded["train_loss"].tolist() == [3.0, 2.0, 1.0]
    for step, model in models.items():
        with torch.no_grad():
            torch.testing.assert_close(found.model(step)(TASK.tokens), model(TASK.tokens), rtol=0, atol=1e-12)
    report = analyze(found, ["progress"])
    assert report["step"].to_numpy().tolist() == [0, 100, 200]
    assert report.phases is not None
    with pytest.raises(GrokinterpError, match=r"differs from the training indices of grokking.pth in \d+ examples"):
        load_checkpoint(tmp_path / "grokking.pth", TASK)
    with pytest.raises(GrokinterpError, match="has no weights of step 150; the nearest are"):
        found.model(150)


def test_models_of_ones_own_loop_share_a_reference() -> None:
    models = {step: model_of(seed=step) for step in (0, 50)}
    seen: list[tuple[int | None, int | None]] = []

    def steps(snapshot: Snapshot) -> dict[str, float]:
        seen.append((snapshot.step, snapshot.reference.step))
        return {"first": float(snapshot.logits[0, 0])}

    report = analyze(models, ["progress", steps], task=TASK)
    assert seen == [(0, 50), (50, 50)]
    with torch.no_grad():
        expected = [float(model(TASK.tokens)[0, -1, 0]) for model in models.values()]
    assert report["first"].to_numpy() == pytest.approx(expected, abs=1e-12)
    model = model_of()
    with pytest.raises(GrokinterpError, match="steps 0 and 10 hold the same model"):
        analyze({0: model, 10: model}, task=TASK)
    with pytest.raises(GrokinterpError, match="pass task=… with models of 2 steps"):
        analyze(models)
    with pytest.raises(GrokinterpError, match="step 10 holds a dict, others models"):
        analyze({0: model, 10: weights_of(model)}, task=TASK)


def test_a_folder_of_one_file_a_step_is_a_training(tmp_path: Path) -> None:
    for step in (5, 20, 100):
        torch.save(weights_of(model_of(seed=step)), tmp_path / f"model_{step}.pt")
    found = load_checkpoint(tmp_path, TASK, **CASES["HookedTransformer"].facts)
    assert found.steps == [5, 20, 100]
    with torch.no_grad():
        torch.testing.assert_close(found.model(20)(TASK.tokens), model_of(seed=20)(TASK.tokens), rtol=0, atol=1e-12)


def test_a_reader_of_ones_own_needs_no_change_here(monkeypatch: pytest.MonkeyPatch) -> None:
    class Upper(Reader):
        layout = "upper case"

        def recognises(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> bool:
            return all(name.isupper() for name in state)

        def read(self, state: Mapping[str, Tensor], facts: Facts, task: tasks.Task) -> Any:
            (seed,) = facts.need("seed")
            return model_of(seed=seed)

    state = {"A": torch.zeros(1), "B": torch.zeros(1)}
    with pytest.raises(GrokinterpError, match=r"no reader knows weights named A, B …; known layouts are HookedTransformer"):
        load_checkpoint(state, TASK)
    assert load_checkpoint(state, TASK, reader=Upper(), seed=1).layout == "upper case"
    monkeypatch.setitem(READERS, "upper", Upper())
    with pytest.raises(GrokinterpError, match="does not say seed"):
        load_checkpoint(state, TASK)
    monkeypatch.setitem(READERS, "again", Upper())
    with pytest.raises(GrokinterpError, match="may be in the layout of upper or again; pass reader='upper'"):
        load_checkpoint(state, TASK, seed=1)


Config = type("HookedTransformerConfig", (), {"__module__": "transformer_lens.HookedTransformerConfig"})
"""Under the name that TransformerLens's class of settings has in files of its earlier versions."""


def test_a_pickled_config_is_read_as_values_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("transformer_lens.HookedTransformerConfig")
    module.HookedTransformerConfig = Config
    config: Any = Config()
    vars(config).update(act_fn="relu", normalization_type=None, attention_dir="causal", dtype=torch.float32, n_heads=2, device=torch.device("cpu"))
    model = model_of()
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, module.__name__, module)
        torch.save({"model": weights_of(model), "config": config, "train_losses": [1.0]}, tmp_path / "demo.pth")
    found = load_checkpoint(tmp_path / "demo.pth", TASK, check=model)
    assert found.config["act_fn"] == "relu"
    assert analyze(found, ["spectrum"]).dataset.attrs["config"]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"causal": "False"}, "causal is True or False; got 'False'"),
        ({"act_fn": 3}, 'act_fn is a name like "relu"; got 3'),
        ({"act_fn": "swish9"}, "unknown act_fn .swish9."),
        ({"normalization": "LN"}, r"these weights do not fit the model: missing: blocks.0…1.ln1.w, blocks.0…1.ln2.w, ln_final.w$"),
    ],
)
def test_facts_of_another_type_are_refused(facts: Mapping[str, Any], message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        load_checkpoint(weights_of(model_of()), TASK, **{**CASES["HookedTransformer"].facts, **facts})


def test_a_hooked_transformer_that_is_no_plain_one_is_refused() -> None:
    saved = {"model": weights_of(model_of()), "config": {"act_fn": "relu", "attention_dir": "causal", "normalization_type": None}}
    assert load_checkpoint(saved, TASK)
    for name, value in (("positional_embedding_type", "rotary"), ("parallel_attn_mlp", True), ("use_attn_scale", False)):
        with pytest.raises(GrokinterpError, match=f"this HookedTransformer has {name}={value!r}"):
            load_checkpoint({**saved, "config": {**saved["config"], name: value}}, TASK)


def test_hugging_faces_gpt2_is_sent_to_its_own_door() -> None:
    state = {name: value.T if name.endswith("c_attn.weight") else value for name, value in nanogpt(CASES["nanoGPT"].model()).items()}
    with pytest.raises(GrokinterpError, match=r"inputs first as in Hugging Face's GPT-2, not in nanoGPT; gi.load_model"):
        load_checkpoint(state, TASK, n_heads=2, act_fn="gelu")


def test_the_shell_reads_a_file_with_its_task_and_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "model.pt")
    torch.save(weights_of(model_of()), file)
    about = ["--task", "modular_addition", "--p", "7", "--train-fraction", "0.6", "--split", "torch", "--seed", "0"]
    said = [*about, "--facts", "act_fn=relu", "causal=true", "normalization=none"]
    page = tmp_path / "page.html"
    assert main(["report", file, *said, "--out", str(page)]) == 0
    assert "modular" in page.read_text() or "addition" in page.read_text()
    assert f"wrote {page}" in capsys.readouterr().out
    assert main(["analyze", file, *said]) == 0
    printed = capsys.readouterr().out
    assert f"{float(analyze(model_of(), ['progress'], task=TASK)['loss'].sel(split='test')[0]):.3g}"[:4] in printed
    for arguments, message in (
        ([], "does not say its task"),
        (about, "does not say normalization and causal and act_fn"),
        (["--p", "7"], "without one"),
        ([*about, "--facts", "dtype=half"], "got dtype='half'"),
    ):
        for command in (["analyze"], ["report", "--out", str(tmp_path / "other.html")]):
            assert main([*command, file, *arguments]) == 2
            assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w | {"blocks.1.attn.extra": torch.zeros(2)}, "not in the model: blocks.1.attn.extra"),
        (
            lambda w: {name: value for name, value in w.items() if name != "blocks.1.attn.W_K"},
            "these weights do not fit the model: missing: blocks.1.attn.W_K",
        ),
        (
            lambda w: w | {"blocks.1.mlp.W_in": torch.zeros(8, 13).double()},
            r"of another shape: blocks.1.mlp.W_in \(8, 13\), wanted \(8, 12\)",
        ),
        (lambda w: {name.replace("blocks.1", "blocks.2"): value for name, value in w.items()}, r"have the blocks \[0, 2\]"),
        (lambda w: {name: value for name, value in w.items() if "pos_embed" not in name}, "these weights have no pos_embed.W_pos"),
    ],
)
def test_weights_that_do_not_fit_together_are_refused(change: Callable[[State], State], message: str) -> None:
    with pytest.raises(GrokinterpError, match=message):
        load_checkpoint(change(weights_of(model_of())), TASK, **CASES["HookedTransformer"].facts)


def test_a_reader_that_is_asked_for_says_what_its_weights_need() -> None:
    with pytest.raises(GrokinterpError, match=r"embed.W_E \[d_model, vocab\], .* say a model's sizes; got \{'embed.W_E': None"):
        load_checkpoint({"first": torch.zeros(1)}, TASK, reader="nanda2023", act_fn="relu", causal=True)


@pytest.mark.parametrize(
    ("case", "config"),
    [
        ("nanda2023", {"p": P, "fn_name": "rand", "frac_train": 0.6, "seed": 0, "act_type": "ReLU"}),
        ("pizza2023", {"C": P, "funcs": "lambda x: (x[0]-x[1])%7", "attn_coeff": 0.3, "act_type": "ReLU"}),
    ],
)
def test_a_task_that_is_passed_stands_for_one_that_no_reader_knows(case: str, config: dict[str, Any]) -> None:
    saved = {"model": CASES[case].write(CASES[case].model()), "config": config}
    with pytest.raises(GrokinterpError, match="pass task=…"):
        load_checkpoint(saved)
    task = tasks.modular_addition(P, equals=case == "nanda2023")
    assert load_checkpoint(saved, task).task is task


# What is around weights, and beside them

FACTS = {"act_fn": "relu", "causal": True, "normalization": "none"}


def under(prefix: str, state: State, inside: str = "") -> State:
    return {prefix + name.replace("blocks.0.", f"blocks.0.{inside}"): value for name, value in state.items()}


AROUND: dict[str, Callable[[State], Any]] = {
    "Lightning": lambda w: {
        "state_dict": under("model.", w),
        "global_step": 5,
        "pytorch-lightning_version": "2",
        "loops": {},
        "hyper_parameters": {},
    },
    "Lightning, compiled, on several GPUs": lambda w: {"state_dict": under("model._orig_mod.module.", w), "global_step": 5},
    "FSDP": lambda w: {"model": under("_fsdp_wrapped_module.", w, "_fsdp_wrapped_module."), "step": torch.tensor(5)},
    "activation checkpointing": lambda w: {"model": under("", w, "_checkpoint_wrapped_module."), "step": 5},
    "compiled blocks": lambda w: {"model": under("", w, "_orig_mod."), "step": 5},
    "DeepSpeed": lambda w: {"module": w, "global_step": 5, "ds_config": {}},
    "parameters and buffers": lambda w: {
        "model": w | {"blocks.0.attn.mask": torch.ones(3, 3).bool(), "blocks.0.attn.IGNORE": torch.tensor(-1e5)},
        "step": 5,
    },
}


@pytest.mark.parametrize("around", AROUND)
def test_what_is_around_weights_is_taken_off(around: str, tmp_path: Path) -> None:
    model = model_of(biases=("attn", "mlp", "unembed"))
    torch.save(AROUND[around](weights_of(model)), tmp_path / "model.ckpt")
    found = load_checkpoint(tmp_path / "model.ckpt", TASK, check=model, **FACTS)
    assert found.steps == [5]


def test_a_folder_of_shards_is_one_model(tmp_path: Path) -> None:
    model = model_of()
    names = list(weights_of(model))
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: value.contiguous() for name, value in weights_of(model).items() if places[name] == file}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (tmp_path / "config.json").write_text(json.dumps({"act_fn": "relu", "attention_dir": "causal", "normalization_type": None}))
    assert load_checkpoint(tmp_path, TASK, check=model).steps == [0]
    (tmp_path / places[names[0]]).unlink()
    with pytest.raises(GrokinterpError, match=r"has no model-00001-of-00002.safetensors, which its .* names; the download is incomplete"):
        load_checkpoint(tmp_path, TASK)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda w: under("student.", w) | under("teacher.", w),
            "a model under student and one under teacher, among student, teacher; pass one",
        ),
        (lambda w: under("model.", w) | {"accuracy.correct": torch.zeros(1)}, "a model under model, among model, accuracy; pass one alone"),
        (lambda w: w | under("", w, "_orig_mod."), "blocks.0.attn.W_Q twice, with and without a wrapper's name in it"),
        (lambda w: {"model": w, "net": w}, "holds weights under model and net; pass the ones that you mean"),
        (lambda w: {"checkpoints": [w, w], "checkpoint_epochs": [1, 1]}, "names an epoch twice: 1, 1; each checkpoint has its own"),
        (lambda w: w | {"embed.W_E": torch.zeros(9, 8).double()}, r"have 9 tokens and task 'modular_addition' has 8, so a number may mean another"),
    ],
    ids=["two models", "a metric", "twice", "two states", "two of one epoch", "tokens from 1"],
)
def test_what_could_be_two_things_is_asked_for(change: Callable[[State], Any], said: str) -> None:
    with pytest.raises(GrokinterpError, match=said):
        load_checkpoint(change(weights_of(model_of())), TASK, **FACTS)


def test_a_task_that_says_how_many_tokens_the_model_has_is_read() -> None:
    other = tasks.modular_addition(5).split(0.6, seed=0)
    weights = weights_of(model_of())
    with pytest.raises(GrokinterpError, match=r"have 8 tokens and task 'modular_addition' has 6, .* dataclasses.replace\(task, n_vocab=8\)"):
        load_checkpoint(weights, other, **FACTS)
    assert load_checkpoint(weights, replace(other, n_vocab=8), **FACTS).task.n_vocab == 8


def test_half_precision_is_widened_and_not_asked_for() -> None:
    half = {name: value.half() for name, value in weights_of(model_of()).items()}
    assert load_checkpoint(half, TASK, **FACTS).model().W_E.dtype == torch.float32
    with pytest.raises(GrokinterpError, match=r"a toy model is read as torch.float32 or torch.float64; got dtype=torch.float16"):
        load_checkpoint(half, TASK, dtype=torch.float16, **FACTS)
    with pytest.raises(GrokinterpError, match=r"is a model with hook points, which needs no reading; pass it to analyze with task=…"):
        load_checkpoint(model_of(), TASK)
