"""From a folder in Hugging Face's layout to text with a flipped verb, in Python and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gpt2_folders import random_gpt2, with_words

from grokinterp import ace, analyze, load_model
from grokinterp.cli import main
from grokinterp.language.prompts import agreement

GPT2 = Path(__file__).parents[3] / "shared" / "data" / "gpt2-tokenizer"
SIZES = {"gpt2": {"n_layer": 12, "n_head": 12}, "gpt2-medium": {"n_layer": 24, "n_head": 16}, "gpt2-large": {"n_layer": 36, "n_head": 20}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with random weights and a tokenizer that knows the grammar's words."""
    return with_words(tmp_path_factory.mktemp("gpt2"))


def test_flip_prints_probabilities_and_both_texts(grammar_model: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("grokinterp.language.tiny.tiny", lambda: grammar_model)
    assert main(["flip", "tiny", "The keys to the cabinet", "--tokens", "5", "--temperature", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("core of rank 1 at blocks.1.hook_resid_post; over 60 test prompts AUC 1.000 clean, 0.000 with flip")
    clean, edited = (dict(zip(("is", "are"), (float(line.split()[i]) for line in lines[3:5]), strict=True)) for i in (1, 2))
    assert clean["are"] > 0.2 > clean["is"]
    assert edited["is"] > 0.15 > edited["are"]
    texts = {line.split()[0]: line for line in lines if line.startswith(("clean  ", "edited  "))}
    assert any(f" {verb} " in texts["clean"] for verb in ("are", "were"))
    assert any(f" {verb} " in texts["edited"] for verb in ("is", "was"))
    assert lines[-1].startswith("108 nouns were left out under this tokenizer: truck (not known to the tokenizer), boat (not known")


def test_flip_takes_a_folder_and_prompts_of_ones_own(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.csv"
    agreement(load_model(folder).tokenizer, n=40).table().to_csv(own, index=False)
    options = ["--prompts", str(own), "--hook", "blocks.0.hook_resid_post", "--mode", "remove", "--strength", "1", "--tokens", "3"]
    assert main(["flip", str(folder), "The keys to the cabinet", *options]) == 0
    out = capsys.readouterr().out
    assert "core of rank 1 at blocks.0.hook_resid_post; over 20 test prompts" in out
    assert "edited  the keys to the cabinet" in out.lower()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gpt3", "The key"], "unknown model or folder 'gpt3'; did you mean gpt2"),
        (["FOLDER", " "], "the prompt is empty"),
        (["FOLDER", "The key", "--hook", "blocks.9.hook_resid_post"], "unknown hook 'blocks.9.hook_resid_post'; did you mean blocks."),
        (["FOLDER", "The key", "--rank", "25"], "the rank of a core lies in 1 … d_model = 24; got 25"),
        (["FOLDER", "The key", "--mode", "keep"], "give 'keep' a number"),
        (["FOLDER", "The key", "--prompts", "none.csv"], "none.csv does not exist"),
        (["FOLDER", "The key", "--n", "6"], "a multiple of 4 and at least 8; got 6"),
        (["FOLDER", "The key", "--tokens", "40"], "do not fit into the context of 32"),
        (["EMPTY", "The key"], "has no config.json"),
    ],
)
def test_errors_are_one_sentence(folder: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    places = {"FOLDER": str(folder), "EMPTY": str(tmp_path / "empty")}
    assert main(["flip", *(places.get(argument, argument) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("grokinterp: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("size", SIZES)
def test_every_size_of_gpt2_goes_through_in_outline(size: str, tmp_path: Path) -> None:
    """Depth and heads as published, one dimension a head, GPT-2's own tokenizer."""
    if not GPT2.exists():
        pytest.skip("GPT-2's tokenizer is not beside the checkout (data/gpt2-tokenizer is missing)")
    config = SIZES[size]
    random_gpt2(tmp_path, vocab_size=50_257, n_positions=32, n_embd=config["n_head"], **config)
    model = load_model(tmp_path, tokenizer=GPT2)
    prompts = agreement(model.tokenizer, n=40)
    report = analyze(model, ["ace"], task=prompts)
    assert report["agreement_auc"].sizes == {"step": 1, "half": 2, "layer": config["n_layer"] + 1, "mode": 4}
    core = ace.best_core(model, prompts)
    assert core.hook == str(report["hook"][int(report["chosen_layer"][0])].item())
    test = prompts.half("test")
    flipped = ace.margins(test, ace.verb_scores(model, test, [core.flip()])[1])
    np.testing.assert_allclose(report["margin"].isel(step=0).sel(mode="flip"), flipped, atol=1e-4)
    for i in (0, 11):
        tokens = test.tokens[i : i + 1, : int(test.ends[i]) + 1]
        with torch.no_grad(), core.flip().applied(model):
            logits = model(tokens)[0, -1].double()
        assert float((logits[test.verbs] * test.signs[i]).sum()) == pytest.approx(float(flipped[i]), abs=1e-4)
    found = ace.generate(model, "The keys to the cabinet", core, n_tokens=3, threshold=0.0)
    assert found.edited.startswith("The keys to the cabinet")
    assert len(found.edited_tokens) == 3
