"""The authors' checkpoint is read whole, its table is the sheet's, and a file that could run code is not opened."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from grokinterp import GrokinterpError, analyze, published
from grokinterp.groups.fourier import pair_spectrum
from grokinterp.laws import onset
from grokinterp.measures.progress import key_frequencies
from grokinterp.snapshot import Snapshot


@pytest.fixture(scope="module")
def report(published_path: Path):
    return analyze(published_path, ["progress"])


def test_settings_are_the_true_ones(published_path: Path) -> None:
    found = published.load(published_path)
    assert found.optimizer == {"lr": 1e-3, "betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": 0.1}
    assert found.config["weight_decay"] == 1  # what the file says, and is not so
    assert found.epoch == 107_790
    for losses, below, epoch in ((found.train_losses, 1e-2, 174), (found.test_losses, 1.0, 90_890), (found.test_losses, 1e-2, 98_730)):
        assert onset(losses.index, losses, below, "<", interpolate=False) == epoch


def test_losses_agree_with_the_record_and_the_sheet(report) -> None:
    last = report.dataset.isel(step=0)
    splits = ["train", "test", "all"]
    for name, values in {
        "loss": [9.2024e-9, 4.9884e-7, 3.51974e-7],
        "restricted_loss": [2.092e-9, 2.248e-9, 2.201e-9],
        "excluded_loss": [8.385, 9.318, None],
    }.items():
        for split, value in zip(splits, values):
            if value is not None:
                assert float(last[name].sel(split=split)) == pytest.approx(value, rel=1e-3)
    assert float(last["loss"].sel(split="train")) == pytest.approx(9.2025e-9, rel=1e-3)  # saved by the authors
    assert float(last["loss"].sel(split="test")) == pytest.approx(4.9915e-7, rel=1e-3)
    assert float(last["accuracy"].sel(split="all")) == 1
    assert float(last["restricted_loss_no_mean"].sel(split="all")) == pytest.approx(3.69e-9, rel=1e-3)
    each = dict(zip([6, 23, 37, 39, 41], [0.0293, 1.176, 4.36e-4, 6.55e-5, 2.61e-4]))
    for key, value in each.items():
        assert float(last["excluded_loss_each"].sel(key_frequency=key)) == pytest.approx(value, rel=2e-3)  # the sheet rounds to three digits


def test_circuit_numbers_are_the_sheets(report) -> None:
    last = report.dataset.isel(step=0)
    assert last["key_frequency"].to_numpy().tolist() == [6, 23, 37, 39, 41]
    assert last["fve"].to_numpy() == pytest.approx([0.9748, 0.9748, 0.9756], abs=1e-3)
    assert last["gini"].to_numpy() == pytest.approx(np.array([[0.5386, 0.5265], [0.7576, 0.7501]]), abs=1e-3)
    assert last["neurons_above"].to_numpy().tolist() == [185, 146]
    assert last["key_power_share"].to_numpy() == pytest.approx([0.830, 0.990], abs=1e-3)
    assert float(last["sum_of_squares"]) == pytest.approx(1180.97, abs=0.01)
    for matrix, strongest in {
        "W_E": {23: 6.84, 6: 5.75, 37: 5.47, 41: 5.32, 39: 5.00, 46: 2.53},
        "W_L": {23: 37.7, 6: 24.3, 41: 21.6, 39: 20.7, 37: 19.4, 54: 3.0},
    }.items():
        norms = last[f"{matrix}_norm"]
        assert (norms["frequency"].to_numpy()[np.argsort(-norms.to_numpy())[:6]]).tolist() == list(strongest)
        for frequency, value in strongest.items():
            assert float(norms.sel(frequency=frequency)) == pytest.approx(value, abs=0.05)


def test_the_published_rule_equals_a_search_over_the_full_transform(published_path: Path) -> None:
    """Against the rule as its authors wrote it: the full transform, then a search over 3×3 blocks for each neuron.

    The method sheet lists 6, 12, 23, 31, 37, 39, 41, 46, 54; both computations find 3 as well, in ten neurons.
    """
    found = published.load(published_path)
    snapshot = Snapshot(found.model, found.task)
    activations = snapshot.table(snapshot.readout(snapshot.last_mlp)).double()
    power = pair_spectrum(activations - activations.mean((0, 1))).square()
    blocks = [power[[0, 2 * k - 1, 2 * k]][:, [0, 2 * k - 1, 2 * k]].sum((0, 1)) for k in range(1, 113 // 2)]
    best = set((1 + torch.stack(blocks).argmax(0)).tolist())
    assert key_frequencies(snapshot, "published").tolist() == sorted(best)
    assert best == {3, 6, 12, 23, 31, 37, 39, 41, 46, 54}


def test_gelu_is_not_taken_for_relu(published_path: Path, tmp_path: Path) -> None:
    """The two losses are 7 % apart, at 1e-8 nats."""
    saved = torch.load(published_path, map_location="cpu", weights_only=True)
    saved["config"]["act_type"] = "GeLU"
    torch.save(saved, tmp_path / "gelu.pth")
    with pytest.raises(GrokinterpError, match=r"training loss of 8.57e-09 nats, and 9.203e-09 was recorded last, .* \(modular_addition, gelu\)"):
        published.load(tmp_path / "gelu.pth")


def test_cut_missing_and_foreign_files_are_refused(published_path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pth"
    cut.write_bytes(published_path.read_bytes()[:100_000])
    with pytest.raises(GrokinterpError, match=r"cut.pth is cut short"):
        published.load(cut)
    with pytest.raises(GrokinterpError, match="does not exist"):
        published.load(tmp_path / "nothing.pth")
    foreign = tmp_path / "foreign.pth"
    torch.save({"state_dict": {}}, foreign)
    with pytest.raises(GrokinterpError, match="holds no weights under model, state_dict"):
        published.load(foreign)
    listed = tmp_path / "listed.pth"
    torch.save([1, 2], listed)
    with pytest.raises(GrokinterpError, match="holds a list"):
        published.load(listed)


class _Hostile:
    def __reduce__(self):
        return os.mkdir, (self.target,)

    def __init__(self, target: str) -> None:
        self.target = target


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_holds_code_never_runs(tmp_path: Path, legacy: bool) -> None:
    target = tmp_path / "it-ran"
    file = tmp_path / "hostile.pth"
    if legacy:
        file.write_bytes(pickle.dumps(_Hostile(str(target)), protocol=2))
    else:
        torch.save({"model": _Hostile(str(target))}, file)
    with pytest.raises(GrokinterpError, match="could run code"):
        published.load(file)
    assert not target.exists()
