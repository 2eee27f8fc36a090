"""What several tests share: where data beside the checkout lies, tiny configurations, hand-built models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from clock import clock_weights
from hypothesis import settings

from grokinterp import presets
from grokinterp.language.tiny import TinyConfig, train_tiny
from grokinterp.models import ModelConfig, build_model
from grokinterp.models.hooked import has_hooked_transformer
from grokinterp.tasks import Task, modular_addition
from grokinterp.training.config import CheckpointSchedule, RunConfig
from grokinterp.training.runs import Run
from grokinterp.training.train import train

torch.set_num_threads(1)  # tests are small, and the same bits are promised for the same number of threads

# A test of wall time fails on a busy machine.
settings.register_profile("without a deadline", deadline=None)
settings.load_profile("without a deadline")

PUBLISHED = Path(__file__).parents[2] / "shared" / "data" / "nanda2023" / "wd_10-1_mod_addition_loss_curve.pth"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Under TransformerLens 4 only the files that are marked for it are imported: the others may use HookedTransformer."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return True if is_test and not has_hooked_transformer() and "pytest.mark.lens4" not in collection_path.read_text() else None


@pytest.fixture(scope="session")
def published_path() -> Path:
    """The authors' checkpoint of Nanda et al. 2023, which is not part of the repository."""
    if not PUBLISHED.exists():
        pytest.skip(f"the published checkpoint is not beside the checkout ({PUBLISHED.parent.parent.parent.name}/… is missing)")
    return PUBLISHED


@pytest.fixture
def as_installed() -> Iterator[None]:
    """Without the tests' own check of every array argument, which would refuse first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def tiny() -> RunConfig:
    """A run of a second: p = 7, a model of 16 dimensions."""
    return _tiny(CheckpointSchedule(every=20, dense_every=2, dense_until=4))


def _tiny(checkpoints: CheckpointSchedule) -> RunConfig:
    config = presets.nanda2023(p=7, seed=0, train_fraction=0.6, steps=60)
    return config.with_(model=ModelConfig(d_model=16, n_heads=2, d_mlp=24), eval_every=5, checkpoints=checkpoints)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished tiny run."""
    return train(_tiny(CheckpointSchedule(every=20)), tmp_path_factory.mktemp("runs") / "tiny", progress_bar=False)


@pytest.fixture(scope="session")
def grammar_model() -> Any:
    """A small language model that has learned the agreement grammar; some ten seconds of training."""
    return train_tiny(TinyConfig(n_layers=2, d_model=48, n_ctx=32, n_nouns=24, steps=300, lr=5e-3), progress_bar=False)


@pytest.fixture(scope="session")
def clock_model() -> Callable[..., tuple[Any, Task]]:
    """Builds a HookedTransformer that computes a weighted sum of cos(w_k(a + b − c)) over chosen frequencies exactly.

    The embedding of token t is t itself, in one dimension; uniform attention adds a and b to u; ReLU units relu(u − j),
    weighted by second differences, look up cos and sin of w_k·u at every integer; the unembedding turns them into logits.
    Everything in float64. A second difference shrinks cos w_k by 2 − 2 cos w_k, so frequencies are weighted by
    `clock_weights` for the same power in W_L.
    """

    def build(p: int, frequencies: tuple[int, ...], scale: float = 10.0) -> tuple[Any, Task]:
        task = modular_addition(p).split(0.5, seed=0)
        n_sums, d_model = 2 * p - 1, 2 + 2 * len(frequencies)
        config = ModelConfig(d_model=d_model, n_heads=1, d_head=1, d_mlp=n_sums - 1, outputs="classes")
        model = build_model(config, task, seed=0, dtype=torch.float64)
        k = torch.tensor(frequencies, dtype=torch.float64)

        def clock(values: torch.Tensor) -> torch.Tensor:
            angle = 2 * torch.pi * values.double()[:, None] * k / p
            return torch.cat([angle.cos(), angle.sin()], dim=1)  # [value, 2·frequency]

        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            model.embed.W_E[:p, 0] = torch.arange(p).double()
            block = model.blocks[0]
            block.attn.W_V[0, 0, 0] = 3.0  # uniform attention over three positions: 3 · (a + b + 0) / 3
            block.attn.W_O[0, 0, 1] = 1.0
            block.mlp.W_in[1] = 1.0
            block.mlp.b_in.copy_(-torch.arange(n_sums - 1).double())  # unit j is relu(u − j)
            table = clock(torch.arange(n_sums)) * clock_weights(p, frequencies, scale).repeat(2)
            block.mlp.b_out[2:] = table[0]
            block.mlp.W_out[0, 2:] = table[1] - table[0]
            block.mlp.W_out[1:, 2:] = table[2:] - 2 * table[1:-1] + table[:-2]
            model.unembed.W_U[2:] = clock(torch.arange(p)).T
        return model, task

    return build
