"""Every causal language model that TransformerLens wraps, from Hugging Face's layout: what transformers computes, under one set of names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from families.models import FAMILIES
from families.parity import COMPARED, differences
from grokinterp import load_model
from grokinterp.models.adapter import Adapter

pytestmark = pytest.mark.lens4
STORIES = Path(__file__).parents[3] / "shared" / "data" / "stories260k"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_the_function_that_transformers_computes(family: str, tmp_path: Path) -> None:
    found = differences(family, tmp_path)
    assert found.keys() == COMPARED.keys()
    assert {what: difference for what, difference in found.items() if not difference <= 1e-4} == {}


def test_a_llama_that_somebody_else_trained_tells_its_story() -> None:
    """The figures are those that whoever converted it measured with transformers."""
    if not STORIES.exists():
        pytest.skip(f"the LLaMA of children's stories is not beside the checkout ({STORIES.parent.parent.name}/… is missing)")
    model = load_model(STORIES)
    tokens = model.to_tokens("The dog")
    assert tokens.tolist() == [model.tokenizer.encode("The dog")]  # with the BOS that its tokenizer puts in front
    with torch.no_grad():
        probabilities = model(tokens)[0, -1].softmax(-1)
        model.run_with_cache(tokens)
    assert probabilities[model.tokenizer.convert_tokens_to_ids("▁was")].item() == pytest.approx(0.472, abs=5e-4)
    assert Adapter(model).bare  # neither the pass nor the cache has left anything hanging
