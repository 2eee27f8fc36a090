"""The published models of "The Clock and the Pizza" are read to the numbers of the method sheet, and what would change them is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from grokinterp import AttentionRate, GrokinterpError, Snapshot, analyze, load_checkpoint
from grokinterp.models import trained_parameters

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "pizza2023"
TABLE = {  # accuracy, loss over all pairs, root of the sum of squared weights
    "p99zdpze5l": (1, 1.3843e-7, 22.854),
    "l8k1hzciux": (1, 1.5609e-7, 24.814),
    "18c9ev5v5p": (1, 1.5438e-7, 23.968),
    "q9rsl94xlv": (1, 1.6883e-7, 25.470),
    "h9m153uuh9": (1, 3.5754e-8, 15.901),
    "f5dh675z97": (63 / 3481, 4.12508, 30.208),
    "p71frej8t7": (1, 6.1981e-7, 32.440),
    "qlvxqhkvit": (1, 9.1748e-6, 53.902),
}


@pytest.fixture
def pizza() -> Path:
    """The authors' files, which are not part of the repository."""
    if not FOLDER.exists():
        pytest.skip("the published models of arXiv 2306.17844 are not beside the checkout (shared/data/pizza2023 is missing)")
    return FOLDER


@pytest.mark.parametrize("run", TABLE)
def test_accuracy_loss_and_norm_are_the_sheets(pizza: Path, run: str) -> None:
    checkpoint = load_checkpoint(pizza / f"model_{run}.pt", dtype=torch.float64)
    snapshot = Snapshot(checkpoint.model(), checkpoint.task)
    accuracy, loss, norm = TABLE[run]
    assert checkpoint.task.train is None  # the authors drew the split without a seed
    assert float((snapshot.logits.argmax(1) == checkpoint.task.answers).double().mean()) == pytest.approx(accuracy, abs=1e-12)
    assert float(cross_entropy(snapshot.logits, checkpoint.task.answers)) == pytest.approx(loss, rel=5e-5)
    assert math.sqrt(sum(float(weight.detach().square().sum()) for weight in trained_parameters(snapshot.model).values())) == pytest.approx(
        norm, abs=1e-3
    )


def test_half_the_ones_go_unnoticed_in_the_accuracy_but_not_in_the_loss(pizza: Path) -> None:
    checkpoint = load_checkpoint(pizza / "model_p99zdpze5l.pt", dtype=torch.float64)
    model, task = load_checkpoint(pizza / "model_p99zdpze5l.pt", dtype=torch.float64, attention_rate=1.0).model(), checkpoint.task
    with AttentionRate(0.0, "uniform").applied(model, task), torch.no_grad():
        logits = model(task.tokens)[:, -1]
    assert bool((logits.argmax(1) == task.answers).all())
    assert float(cross_entropy(logits, task.answers)) == pytest.approx(9.12e-4, rel=1e-3)


def test_weights_alone_ask_for_the_rate_and_a_folder_of_several_models_for_one(pizza: Path, tmp_path: Path) -> None:
    state = torch.load(pizza / "model_p99zdpze5l.pt", map_location="cpu", weights_only=True)
    with pytest.raises(GrokinterpError, match="pizza2023 does not say attention_rate and act_fn; pass load_checkpoint"):
        load_checkpoint(state, load_checkpoint(pizza / "model_p99zdpze5l.pt").task)
    with pytest.raises(GrokinterpError, match="does not say its task"):
        load_checkpoint(state, attention_rate=0, act_fn="relu")
    with pytest.raises(GrokinterpError, match="not named by step; name one"):
        load_checkpoint(pizza)


def test_linear_models_of_another_kind_are_refused_by_name(pizza: Path) -> None:
    saved = {
        "model": torch.load(pizza / "model_p71frej8t7.pt", map_location="cpu", weights_only=True),
        "config": {"C": 59, "model_type": "C"},
    }
    with pytest.raises(GrokinterpError, match=r"model_type 'C' are not read, only 'A' \(α\), 'B' \(β\), 'D' \(δ\)"):
        load_checkpoint(saved)


def test_analyze_takes_the_file_itself(pizza: Path) -> None:
    report = analyze(pizza / "model_h9m153uuh9.pt", ["spectrum"])
    assert report["step"].to_numpy().tolist() == [0]
    assert "pizza2023" in report.dataset.attrs["provenance"]
