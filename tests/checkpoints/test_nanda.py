"""The authors' checkpoint of Nanda et al. 2023, whole and with parts of it gone: one model, and what is gone is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from grokinterp import GrokinterpError, load_checkpoint, published


def test_with_and_without_config_optimizer_and_losses(published_path: Path, tmp_path: Path) -> None:
    whole, saved = published.load(published_path), torch.load(published_path, map_location="cpu", weights_only=True)
    task = whole.task
    with torch.no_grad():
        expected = whole.model(task.tokens[:200])
    configured = {name: saved[name] for name in ("model", "config")}
    torch.save(configured, tmp_path / "configured.pth")
    for found, steps, losses in (
        (load_checkpoint(published_path), [107_790], {"train_loss", "test_loss"}),
        (load_checkpoint(tmp_path / "configured.pth"), [0], set()),
        (load_checkpoint({**configured, "epoch": 107_790}), [107_790], set()),
        (load_checkpoint(saved["model"], task, act_fn="relu", causal=True), [0], set()),
    ):
        assert (found.layout, found.steps, found.recorded.keys()) == ("nanda2023", steps, losses)
        assert torch.equal(found.task.train, task.train)
        with torch.no_grad():
            assert torch.equal(found.model()(task.tokens[:200]), expected)
    with pytest.raises(GrokinterpError, match="nanda2023 does not say act_fn and causal"):
        load_checkpoint(saved["model"], task)
    with pytest.raises(GrokinterpError, match="has a task of its own, 'modular_addition'"):
        load_checkpoint(tmp_path / "configured.pth", task)
