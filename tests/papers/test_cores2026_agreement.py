"""The agreement section of arXiv 2602.22600 on models of the grammar that are trained here, and in outline on GPT-2s of random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from gpt2_folders import random_gpt2
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from grokinterp.errors import GrokinterpError
from grokinterp.language.grammar import FRAMES, vocabulary
from grokinterp.language.tiny import TinyConfig
from grokinterp.papers.claims import read_claims
from grokinterp.papers.cores2026 import agreement

CLAIMS = read_claims("cores2026")

SMALL = TinyConfig(n_layers=2, d_model=48, n_ctx=32, n_nouns=24, steps=400, lr=5e-3)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> agreement.AgreementStudy:
    """Two seeds of a smaller model than the default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROKINTERP_CACHE", str(tmp_path_factory.mktemp("cache")))
        return agreement.tiny_agreement((0, 1), n=240, n_written=10, config=SMALL)


def test_one_axis_carries_number_on_nouns_it_was_not_extracted_from(found: agreement.AgreementStudy) -> None:
    assert found.layers["base"].min() > 0.99
    assert found.layers["keep"].min() > 0.95
    assert found.layers["remove"].max() < 0.7
    assert found.layers["flip"].max() < 0.05
    assert (found.layers["base"] - found.layers["random_least"]).max() < 0.05
    assert found.correlations["pearson"].min() > 0.8
    assert found.p_value < 1e-6


def test_frames_are_held_out_one_by_one(found: agreement.AgreementStudy) -> None:
    assert found.held_out.index.get_level_values("frame").tolist() == 2 * [*FRAMES, "all"]
    assert found.held_out["flip"].max() < 0.1


def test_what_is_written_under_the_flip_has_the_other_number(found: agreement.AgreementStudy) -> None:
    assert found.written["clean_agrees"].min() > 0.8
    assert found.written["flipped_disagrees"].min() > 0.8
    assert (found.written["flipped_disagrees"] <= found.written["flipped_grammatical"]).all()


def test_every_claim_about_these_models_is_measured_and_every_table_kept(found: agreement.AgreementStudy) -> None:
    measured = agreement.measure_tiny(found)
    assert measured.keys() == {claim.id for claim in CLAIMS if claim.id.startswith("tiny_")}
    assert measured["tiny_remove"].value == measured["tiny_remove"].high == found.layers["remove"].max()
    assert "fronted" in measured["tiny_frames_remove"].note
    tables = found.tables("tiny")
    assert list(tables) == [f"tiny-{part}" for part in ("layers", "correlations", "example", "held-out", "written")]
    again = agreement.AgreementStudy.from_tables("tiny", tables)
    assert again is not None
    assert agreement.measure_tiny(again) == measured
    assert agreement.AgreementStudy.from_tables("gpt2", tables) is None
    assert list(found.figures) == ["seed-0-by-layer", "seed-0-knob", "seed-1-by-layer", "seed-1-knob", "correlations"]


def test_the_papers_table_is_filled_from_folders_of_weights(tmp_path: Path) -> None:
    """Three depths with random weights: nothing is learned there, but every number of the table has its place."""
    words = ["<unk>", *vocabulary()]
    tokenizer = Tokenizer(models.WordLevel({word: token for token, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    for n_layer, name in enumerate(agreement.SIZES, 1):
        (tmp_path / name).mkdir()
        random_gpt2(tmp_path / name, vocab_size=len(words), n_positions=32, n_embd=24, n_layer=n_layer, n_head=3)
        tokenizer.save(str(tmp_path / name / "tokenizer.json"))
    found = agreement.gpt2_agreement(tmp_path, n=40)
    assert found.layers["of"].tolist() == [1, 2, 3]
    measured = agreement.measure_gpt2(found)
    assert measured.keys() == {claim.id for claim in CLAIMS if claim.id.startswith("agreement_") and "full" in claim.budgets}
    assert "gpt2-written" not in found.tables("gpt2")


def test_a_study_needs_two_models() -> None:
    with pytest.raises(GrokinterpError, match="at least 2; got 0"):
        agreement.study({}, None)  # type: ignore[arg-type]
