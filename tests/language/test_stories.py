"""A LLaMA of 260,000 parameters that somebody else trained on children's stories knows number, and its core turns it over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from random_cores import core_at

from grokinterp import ace, load_model
from grokinterp.language.generation import generate
from grokinterp.language.grammar import Verb
from grokinterp.language.prompts import agreement
from grokinterp.language.spelling import spellings, token_ids

pytestmark = pytest.mark.lens4
STORIES = Path(__file__).parents[3] / "shared" / "data" / "stories260k"


@pytest.fixture(scope="module")
def stories() -> Any:
    if not STORIES.is_dir():
        pytest.skip("needs the folder shared/data/stories260k beside the checkout")
    return load_model(STORIES)


WAS = (Verb("was", "were"),)


def test_a_llama_of_childrens_stories_knows_number(stories: Any) -> None:
    texts = {"The dog": (0.472, 0.011), "The dogs": (0.048, 0.653), "The boy": (0.445, 0.002), "The boys": (0.166, 0.507)}
    core = core_at("blocks.3.hook_resid_post", stories.cfg.d_model, 0)
    spelled = spellings(stories.tokenizer, ["The dog"], [["was", "were"]])
    assert list(map(len, spelled.values())) == [1, 2]
    first = spelled["were"][0]
    for text, (was, we) in texts.items():
        found = generate(stories, text, core, strength=0.0, n_tokens=1, verbs=WAS).probabilities
        ids = [1, *token_ids(stories.tokenizer, text)]
        with torch.no_grad():
            p = stories(torch.tensor([ids]))[0, -1].softmax(-1)
        assert found["was"][0] == pytest.approx(was, abs=1e-3)
        assert float(p[first]) == pytest.approx(we, abs=1e-3)
        assert found["were"][0] <= float(p[first])


def test_its_core_turns_number_over_on_nouns_that_it_was_not_extracted_from(stories: Any) -> None:
    prompts: Prompts = agreement(stories.tokenizer, n=80, held_out_nouns=True, attractors=("none",), verbs=WAS)
    assert prompts.bos
    core, test = ace.best_core(stories, prompts, hooks=["blocks.3.hook_resid_post"]), prompts.half("test")
    base, flipped = ace.auc(ace.margins(test, ace.verb_scores(stories, test, [core.flip()])), test.plural)
    assert base > 0.9
    assert flipped < 0.1
    found = generate(stories, "The dogs", core, n_tokens=5, temperature=0, verbs=WAS)
    assert found.clean.startswith("The dogs were")
    assert found.edited.startswith("The dogs was")
