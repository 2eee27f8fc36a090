"""Cores of rising rank against hooks and scikit-learn, intervals over nouns, the layer chosen without the test half, and the page that is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from language_models import random_gpt2
from sklearn.metrics import roc_auc_score

from grokinterp import GrokinterpError, ace
from grokinterp.language.axes import NumberAxes, number_axes
from grokinterp.language.grammar import VERBS, parse
from grokinterp.language.nouns import NOUN_LISTS
from grokinterp.language.prompts import ATTRACTORS, Prompts, agreement
from grokinterp.models.adapter import Adapter
from grokinterp.papers.cores2026 import axes


@pytest.fixture(scope="module")
def model() -> Any:
    return random_gpt2(n_layers=2)


@pytest.fixture(scope="module")
def prompts(model: Any) -> Prompts:
    return agreement(model.tokenizer, n=72, held_out_nouns=True, attractors=ATTRACTORS)


@pytest.fixture(scope="module")
def found(model: Any, prompts: Prompts) -> NumberAxes:
    return number_axes(model, prompts, VERBS, n_ranks=2, n_random=3, n_resamples=40, n_written=1)


def test_every_kind_of_attractor_is_alike_often_and_is_what_it_says(prompts: Prompts) -> None:
    for half in ("extraction", "test"):
        own = prompts.half(half)  # type: ignore[arg-type]
        assert {kind: own.attractors.count(kind) for kind in ATTRACTORS} == dict.fromkeys(ATTRACTORS, 12)
        for i, (text, kind) in enumerate(zip(own.texts, own.attractors, strict=True)):
            subject = parse(text + " were old.").subject
            assert subject.plural == bool(own.plural[i])
            assert kind == ("none" if subject.attractor is None else ("same", "other")[subject.attractor_plural != subject.plural])
        assert own.plural.sum() * 2 == len(own)


def test_aucs_are_those_of_hooks_and_scikit_learn(model: Any, prompts: Prompts, found: NumberAxes) -> None:
    test = prompts.half("test")
    cores = ace.agreement_cores(model, prompts, rank=2)
    at = found.ranks.set_index(["rank", "attractors", "edit"])
    for rank in (1, 2):
        layer = int(at.loc[(rank, "none", "base"), "layer"])
        core = cores[Adapter(model).residual_hooks()[layer]].with_rank(rank)
        scores = ace.margins(test, ace.verb_scores(model, test, [core.keep(), core.remove(), core.flip()]))
        for kind in ATTRACTORS:
            own = [i for i, other in enumerate(test.attractors) if other == kind]
            plural = test.plural[own]
            base = None
            for edit, margin in zip(("base", "keep", "remove", "flip"), scores[:, own], strict=True):
                row = at.loc[(rank, kind, edit)]
                assert row["auc"] == pytest.approx(roc_auc_score(plural, margin))
                gap = float(margin[plural].mean() - margin[~plural].mean())
                base = gap if base is None else base
                assert row["gap"] == pytest.approx(gap / base)
                assert row["low"] <= row["high"]
                assert row["random_least"] <= row["random"] <= row["random_most"]
        chosen = found.layers[found.layers["chosen"] & (found.layers["rank"] == rank)]
        assert set(chosen["layer"]) == {layer}
        assert chosen.set_index("attractors")["flip"].to_dict() == pytest.approx({k: at.loc[(rank, k, "flip"), "auc"] for k in ("all", *ATTRACTORS)})


def test_layers_are_chosen_without_the_test_half(model: Any, prompts: Prompts, found: NumberAxes) -> None:
    turned = replace(prompts, plural=prompts.plural ^ ~prompts.extraction)
    other = number_axes(model, turned, VERBS, n_ranks=2, n_random=1, n_resamples=2, n_written=0)
    np.testing.assert_array_equal(other.layers["chosen"], found.layers["chosen"])
    np.testing.assert_allclose(other.layers["flip"], 1 - found.layers["flip"])


def test_intervals_draw_nouns_and_not_prompts(model: Any, prompts: Prompts) -> None:
    """Twice the same prompts say nothing more about nouns, so that the interval stays as it was."""
    once = number_axes(model, prompts, VERBS, n_ranks=1, n_random=1, n_resamples=30, n_written=0).ranks
    doubled = prompts.take(torch.arange(len(prompts)).repeat(2))
    twice = number_axes(model, doubled, VERBS, n_ranks=1, n_random=1, n_resamples=30, n_written=0).ranks
    for column in ("auc", "low", "high", "gap"):
        np.testing.assert_allclose(once[column], twice[column], atol=1e-9)


def made(keep: list[float], remove: list[float], flip: list[float], base: float = 0.99) -> NumberAxes:
    rows = [
        {"rank": rank, "attractors": "none", "edit": edit, "auc": values[rank - 1], "gap": 0.5, "bos": True}
        for rank in range(1, len(keep) + 1)
        for edit, values in (("base", [base] * len(keep)), ("keep", keep), ("remove", remove), ("flip", flip))
    ]
    empty = pd.DataFrame()
    return NumberAxes(empty, pd.DataFrame(rows), empty, empty)


@pytest.mark.parametrize(
    ("study", "needed", "said"),
    [
        (
            made([0.99], [0.55], [0.02]),
            [1, 1, 1],
            "one axis suffices (AUC 0.990 with nothing else) and turns number over when it is flipped (0.020)",
        ),
        (made([0.98, 0.99], [0.65, 0.55], [0.02, 0.02]), [1, 2, 1], "of the gap between the numbers; a core is all there is from rank 2 on"),
        (made([0.9, 0.99], [0.9, 0.8], [0.4, 0.05]), [2, None, 2], "a core suffices from rank 2 on, a core turns number over from rank 2 on"),
        (made([0.9], [0.3], [0.4]), [None, None, None], "no core that was tried suffices, no core that was tried turns number over"),
    ],
)
def test_the_answer_follows_from_the_numbers(study: NumberAxes, needed: list[int | None], said: str) -> None:
    assert [None if np.isnan(rank) else int(rank) for rank in study.needed().values()] == needed
    assert said in axes.answer(study)


def test_what_is_saved_is_read_back_and_the_page_holds_every_model(found: NumberAxes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axes, "svg_of", lambda figure, name: b"<svg></svg>")
    both = NumberAxes(*(getattr(found, part).assign(bos=True) for part in axes.PARTS))
    for name in ("one", "two"):
        page = axes.save(name, both, f"grokinterp agreement {name}", tmp_path).read_text()
    assert page.count("\n## ") == 2
    assert "Made by `grokinterp agreement one`" in page
    assert "![AUC by rank of the core](number-axes-two.svg)" in page
    again = axes.read(tmp_path)["two"]
    np.testing.assert_allclose(again.ranks["auc"], found.ranks["auc"], atol=1e-6)
    assert axes.page_of(axes.read(tmp_path)) == page
    for line in page.splitlines():
        assert "nan" not in line.split(), line
    (tmp_path / "number-axes-one-ranks.csv").unlink()
    with pytest.raises(GrokinterpError, match=r"has number-axes-one-facts\.csv without number-axes-one-ranks\.csv"):
        axes.read(tmp_path)


def test_what_is_drawn_names_its_axes(found: NumberAxes) -> None:
    drawn = axes.figure("one", NumberAxes(*(getattr(found, part).assign(bos=True) for part in axes.PARTS)))
    assert drawn.layout.xaxis.title.text == "rank of the core"
    flip = next(trace for trace in drawn.data if trace.name == "core flipped")
    rows = found.ranks[(found.ranks["attractors"] == "none") & (found.ranks["edit"] == "flip")]
    np.testing.assert_allclose(flip.y, rows["auc"])


def test_prompts_that_do_not_say_their_attractors_are_refused(model: Any, prompts: Prompts) -> None:
    with pytest.raises(GrokinterpError, match=r"the prompts 'agreement' do not say which attractors they have"):
        number_axes(model, replace(prompts, attractors=()), VERBS)


@pytest.mark.parametrize("name", NOUN_LISTS)
def test_lists_of_nouns_hold_each_noun_once_with_two_forms(name: str) -> None:
    nouns = NOUN_LISTS[name]
    assert len(nouns) > 90
    assert len({form for noun in nouns for form in noun}) == 2 * len(nouns)
