"""Clock or pizza: the published models have the numbers of the method sheet, and models that are one or the other by construction are told apart."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from circles import clock_transformer, pizza_transformer
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from grokinterp import GrokinterpError, Snapshot, analyze, load_checkpoint, tasks
from grokinterp.measures.algorithm import algorithm, circularity, distance_irrelevance, gradient_cosines, verdict
from grokinterp.measures.algorithm_figures import PUBLISHED, RATES
from grokinterp.measures.circles import amplitudes, circle_frequencies, isolated_circles, isolated_components
from grokinterp.measures.verdicts import in_words, stretches
from grokinterp.models import ModelConfig, build_model
from grokinterp.models.baselines import BaselineShape
from grokinterp.tasks import Task, modular_addition

pytestmark = pytest.mark.lens4

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "pizza2023"
TABLE = {  # q, q of the largest wrong logit, s_g of the 100 published triples, s_g of all, circularity by operand, verdict
    "p99zdpze5l": (0.17174, 0.22181, 0.99367, 0.99376, (0.99782, 0.99782), "pizza"),
    "l8k1hzciux": (0.84826, 0.88492, 0.33364, 0.34613, (0.99891, 0.99891), "clock"),
    "18c9ev5v5p": (0.17393, 0.18079, 0.99737, 0.99730, (0.99964, 0.99923), "pizza"),
    "q9rsl94xlv": (0.89661, 0.93547, 0.59791, 0.57029, (0.77857, 0.77857), "neither"),
    "h9m153uuh9": (0.18555, 0.23686, 0.99738, 0.99706, (0.99980, 0.99980), "pizza"),
    "f5dh675z97": (0.99191, 0.99368, 0.62167, 0.60946, (0.14459, 0.14459), "no verdict"),
    "p71frej8t7": (0.23020, 0.32868, 1, 1, (0.99504, 0.99504), "pizza"),
    "qlvxqhkvit": (0.92946, 0.93914, 0.01907, 0.00028, (0.99770, 0.99770), "clock"),
}


def published(run: str) -> Snapshot:
    if not FOLDER.exists():
        pytest.skip("the published models of arXiv 2306.17844 are not beside the checkout (shared/data/pizza2023 is missing)")
    checkpoint = load_checkpoint(FOLDER / f"model_{run}.pt")
    return Snapshot(checkpoint.model(), checkpoint.task)


@pytest.mark.parametrize("run", TABLE)
def test_the_published_models_have_the_sheets_numbers(run: str) -> None:
    q, q_wrong, published_triples, all_triples, circles, word = TABLE[run]
    snapshot = published(run)
    found = algorithm(snapshot, "published")
    assert float(found["distance_irrelevance"]) == pytest.approx(q, abs=1e-3)
    assert float(found["distance_irrelevance_wrong"]) == pytest.approx(q_wrong, abs=1e-3)
    assert float(found["gradient_symmetricity"]) == pytest.approx(published_triples, abs=1e-3)
    assert found["circularity"].to_numpy() == pytest.approx(circles, abs=1e-3)
    assert verdict(found).startswith(word)
    # One answer for each of p² pairs estimates the mean over all p³ triples.
    one = gradient_cosines(snapshot)
    assert len(one) == 59**2
    assert abs(float(one.mean()) - all_triples) <= 4 * float(one.std()) / 59 + 1e-4


class Circles(HookedRootModule):
    """Numbers on circles of the frequencies k, each circle smaller than the last, combined as a clock or a pizza does.

    In the clock each number has a size of its own, too, within some percent: without it every pair's right logit would be the same.
    """

    def __init__(self, p: int, frequencies: tuple[int, ...], pizza: bool) -> None:
        super().__init__()
        angles = 2 * torch.pi * torch.arange(p).double()[:, None] * torch.tensor(frequencies) / p
        circles = torch.polar(torch.ones_like(angles), angles)
        radii = torch.arange(len(frequencies), 0, -1)
        sizes = 1 if pizza else 1 + 0.01 * torch.randn(p, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.W_E = nn.Parameter(torch.view_as_real(circles * radii * sizes).flatten(1))
        self.answers, self.pizza = circles, pizza
        self.hook_embed = HookPoint()
        self.cfg = BaselineShape(1, 2 * len(frequencies), p, p, 2, None, attn_only=True)
        self.setup()

    def forward(self, tokens: Tensor) -> Tensor:
        a, b = torch.view_as_complex(self.hook_embed(self.W_E[tokens]).unflatten(-1, (-1, 2))).unbind(1)
        both = a + b
        combined = both.square() / (2 * both.abs()) if self.pizza else a * b
        return (combined[:, None] * self.answers.conj()).real.sum(-1)[:, None]


def circles(pizza: bool) -> tuple[Any, Task]:
    return Circles(13, (1, 3, 4), pizza), modular_addition(13, equals=False)


def test_a_clock_is_a_clock_and_a_pizza_a_pizza() -> None:
    model, task = circles(pizza=False)
    found = algorithm(Snapshot(model, task), "all")
    assert float(found["distance_irrelevance"]) > 0.9
    assert abs(float(found["gradient_symmetricity"])) < 0.01  # over all pairs cos w_k(a − b) has mean 0
    assert verdict(found).startswith("clock: q")
    assert "hybrid" not in verdict(found)

    model, task = circles(pizza=True)
    found = algorithm(Snapshot(model, task), "all")
    assert float(found["distance_irrelevance"]) == pytest.approx(0, abs=1e-9)
    assert float(found["gradient_symmetricity"]) == pytest.approx(1, abs=1e-9)
    assert verdict(found).startswith("pizza: q")
    assert "hybrid" not in verdict(found)


@pytest.mark.parametrize(
    ("s", "q", "circle", "right", "words"),
    [
        (0.3, 0.4, 0.995, 1, "clock: q 0.400 ≥ 0.4, symmetricity 0.300 ≤ 0.98, circularity 0.9950"),
        (0.99, 0.39, 1, 1, "pizza: q 0.390 < 0.4, symmetricity 0.990 > 0.98, circularity 1.0000"),
        (0.98, 0.39, 1, 1, "pizza: q 0.390 < 0.4, symmetricity 0.980 ≤ 0.98, circularity 1.0000; the two disagree"),
        (0.99, 0.9, 1, 1, "clock: q 0.900 ≥ 0.4, symmetricity 0.990 > 0.98, circularity 1.0000; the two disagree"),
        (0.3, 0.9, 0.99, 1, "neither: circularity 0.9900 < 0.995"),
        (0.3, 0.9, 1, 0.999, "no verdict: the model answers 99.9% of the pairs"),
        (math.nan, 0.9, 1, 1, "no verdict: gradient symmetricity not defined"),
    ],
)
def test_the_verdict_names_its_values_and_thresholds(s: float, q: float, circle: float, right: float, words: str) -> None:
    numbers = {"gradient_symmetricity": s, "distance_irrelevance": q, "circularity": ("operand", [1.0, circle]), "right_answers": right}
    assert verdict(xr.Dataset(numbers)).startswith(words)


def test_a_lookup_of_the_sum_is_neither(clock_model: Any) -> None:
    """Its logits are a clock's, but it adds numbers on a line, and its right logit is the same for every pair."""
    model, task = clock_model(7, (1, 2))
    found = algorithm(Snapshot(model, task))
    assert float(found["right_answers"]) == 1
    assert float(gradient_cosines(Snapshot(model, task)).nanmean()) == pytest.approx(1)
    assert math.isnan(float(found["distance_irrelevance"]))
    assert "same for every pair" in found["distance_irrelevance"].attrs["undefined"]
    assert np.isnan(found["circularity"]).all()
    assert "fewer than 4" in found["circularity"].attrs["undefined"]
    assert verdict(found).endswith("distance irrelevance and circularity not defined")


def toy(equals: bool = True) -> tuple[Any, Task]:
    task = modular_addition(5, equals=equals).split(0.6, seed=0)
    return build_model(ModelConfig(d_model=8, n_heads=2, d_mlp=12, init="pytorch"), task, seed=0, dtype=torch.float64), task


def test_random_weights_give_no_verdict_and_the_report_says_so() -> None:
    model, task = toy()
    report = analyze(model, ["algorithm"], task=task)
    (row,) = [number for number in report.headline() if number.quantity == "clock or pizza"]
    assert row.value.startswith("no verdict: the model answers")
    assert float(report["gradient_symmetricity"].isel(step=0)) == float(algorithm(Snapshot(model, task))["gradient_symmetricity"])


@pytest.mark.parametrize("p", [5, 7, 12])
def test_random_weights_get_no_verdict_whatever_the_seed_even_if_they_answered(p: int) -> None:
    for seed in range(20):
        task = modular_addition(p)
        found = algorithm(Snapshot(build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=16), task, seed), task))
        assert verdict(found).startswith("no verdict: the model answers")
        assert verdict(found.assign(right_answers=1.0)).startswith("neither: circularity")


@pytest.mark.parametrize("hang", [False, True])
def test_gradients_are_those_of_one_triple_after_the_other(hang: bool) -> None:
    """By central differences of the residual stream's start, also where somebody hung a hook on the embedding."""
    model, task = toy()
    if hang:
        model.hook_embed.add_hook(lambda value, hook: value * torch.linspace(0.5, 2, 8, dtype=torch.float64))

    def logits(shift: Tensor) -> Tensor:
        with torch.no_grad(), model.hooks(fwd_hooks=[("blocks.0.hook_resid_pre", lambda value, hook: value + shift)]):
            return model(task.tokens)[:, -1, :5]  # [example, c]

    gradients = torch.zeros(2, 8, 25, 5, dtype=torch.float64)
    for position in range(2):
        for i in range(8):
            shift = torch.zeros(3, 8, dtype=torch.float64)
            shift[position, i] = 1e-5
            gradients[position, i] = (logits(shift) - logits(-shift)) / 2e-5
    expected = torch.cosine_similarity(*gradients, dim=0).T.flatten()  # [c, example]
    found = gradient_cosines(Snapshot(model, task), "all")
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-6)

    order = [(a, b, c) for a in range(5) for b in range(5) for c in range(5)]
    random.Random(42).shuffle(order)
    first = [float(found.reshape(5, 5, 5)[c, a, b]) for a, b, c in order[:100]]
    assert sorted(gradient_cosines(Snapshot(model, task), "published").tolist()) == pytest.approx(sorted(first), abs=1e-12)


def test_one_answer_a_pair_is_a_matter_of_the_seed() -> None:
    snapshot = Snapshot(*toy())
    same, again, other = (gradient_cosines(snapshot, rng=seed) for seed in (0, 0, 1))
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_distances_and_circles_in_closed_form() -> None:
    a, b = torch.arange(6)[:, None], torch.arange(6)[None]
    distances = (a - b) % 6
    assert distance_irrelevance(distances.double(), distances) == pytest.approx(0, abs=1e-12)
    assert distance_irrelevance(a.double().expand(6, 6), distances) == pytest.approx(1)
    assert math.isnan(distance_irrelevance(torch.ones(6, 6), distances))
    angles = 2 * torch.pi * torch.arange(8).double()[:, None] * torch.tensor([1.0, 3.0]) / 8
    assert circularity(torch.cat([angles.cos(), angles.sin()], 1) * torch.tensor([2, 1, 2, 1])) == pytest.approx(1)
    steps = torch.tensor([1.0, 1, 1, 1, -1, -1, -1, -1], dtype=torch.float64)  # 1 / (8 sin² π/8) of its power is at frequency 1
    signs = torch.tensor([1.0, -1] * 4, dtype=torch.float64)  # on no circle
    rows = torch.stack([4 * steps, 3 * (2 * angles[:, 0]).cos(), 2 * (2 * angles[:, 0]).sin(), signs], 1)
    assert circularity(rows) == pytest.approx((1 / (8 * math.sin(math.pi / 8) ** 2) + 1 + 1 + 0) / 4)
    assert math.isnan(circularity(torch.randn(8, 3, generator=torch.Generator().manual_seed(0))))


def test_what_is_not_there_is_said() -> None:
    snapshot = Snapshot(*toy())
    with pytest.raises(GrokinterpError, match="unknown choice of triples 'some'"):
        algorithm(snapshot, "some")  # type: ignore[arg-type]
    with torch.no_grad():
        snapshot.model.unembed.W_U[:, 0] = torch.nan
    with pytest.raises(GrokinterpError, match="25 of 125 logits are NaN or infinite"):
        algorithm(snapshot)


# --- one circle at a time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("build", "word", "other"), [(pizza_transformer, "pizza", "clock"), (clock_transformer, "clock", "pizza")])
def test_transformers_built_by_hand_get_their_verdict_and_each_circle_its_form(build: Any, word: str, other: str) -> None:
    model, task = build()
    found = algorithm(Snapshot(model, task))
    assert verdict(found).startswith(f"{word}: q")
    assert "hybrid" not in verdict(found)
    assert found["circle"].to_numpy().tolist() == [1, 3, 4]
    assert found["circle_share"].to_numpy() == pytest.approx([9 / 14, 4 / 14, 1 / 14])  # by their squared radii
    fit = found["amplitude_fit"]
    assert fit.sel(form=word).to_numpy() == pytest.approx([1, 1, 1], abs=1e-3)
    # Σ |cos(πd/13)| over the distances is 1/sin(π/26), Σ cos² is 13/2: what each form has of the other.
    assert fit.sel(form=other).to_numpy() == pytest.approx([2 / (169 * math.sin(math.pi / 26) ** 2)] * 3, abs=2e-3)
    alone = isolated_circles(Snapshot(model, task))
    assert alone["isolated_fve"].sel(form=word).to_numpy() == pytest.approx([1, 1, 1], abs=1e-3)
    assert (alone["isolated_fve"].sel(form=other) < 0.81).all()


def test_the_plane_of_a_circle_sees_no_skip_connection() -> None:
    """The skip connection carries the second operand's gradient alone, in directions where the embedding has nothing."""
    model, task = pizza_transformer()
    found = algorithm(Snapshot(model, task), "all")
    assert float(found["gradient_symmetricity"]) < 0.999
    assert found["plane_symmetricity"].to_numpy() == pytest.approx([1, 1, 1], abs=1e-9)


def test_amplitudes_are_those_of_the_logits() -> None:
    """By a sum over pairs and answers, also where the second operand enters with a minus sign."""
    for name in ("modular_addition", "modular_subtraction"):
        task = getattr(tasks, name)(5, equals=False)
        model = build_model(ModelConfig(d_model=8, n_heads=2, d_mlp=12, init="pytorch"), task, seed=0, dtype=torch.float64)
        logits, sign = Snapshot(model, task).logit_table, 1 if name == "modular_addition" else -1
        expected = torch.zeros(2, 5, dtype=torch.float64)
        for k in (1, 2):
            for a in range(5):
                for b in range(5):
                    wave = torch.cos(2 * torch.pi * k * (a + sign * b - torch.arange(5)).double() / 5)
                    expected[k - 1, (a - sign * b) % 5] += 2 / 25 * (logits[a, b] * wave).sum()
        torch.testing.assert_close(amplitudes(Snapshot(model, task), np.array([1, 2])), expected)


def test_published_circles_alone_are_the_sheets() -> None:
    pizza, clock = published("p99zdpze5l"), published("l8k1hzciux")
    assert circle_frequencies(pizza).tolist() == [3, 6, 15, 17, 25, 29]
    found = isolated_components(pizza, 3)
    assert found["circle"].to_numpy().tolist() == [17, 3, 15]
    assert found["isolated_accuracy"].to_numpy() == pytest.approx([0.3482, 0.3284, 0.2600], abs=1e-3)
    assert found["isolated_fve"].sel(form="pizza").to_numpy() == pytest.approx([0.9918, 0.9918, 0.9928], abs=1e-3)
    assert found["isolated_fve"].sel(form="clock").to_numpy() == pytest.approx([0.7541, 0.7562, 0.7538], abs=1e-3)
    found = isolated_components(clock, 3)
    assert found["circle"].to_numpy().tolist() == [13, 16, 21]
    assert float(found["isolated_accuracy"][0]) == pytest.approx(0.1350, abs=1e-3)
    assert found["isolated_fve"].sel(form="clock").to_numpy() == pytest.approx([0.766, 0.051, -0.599], abs=1.1e-3)


def test_a_frequency_on_a_line_has_no_plane(clock_model: Any) -> None:
    found = algorithm(Snapshot(*clock_model(7, (1, 2))))
    assert found["plane_symmetricity"].isnull().all()
    assert "on a line" in found["plane_symmetricity"].attrs["undefined"]


# --- over training -------------------------------------------------------------------------------------------------------------------


def test_when_it_becomes_a_clock_is_read_off_checkpoints() -> None:
    """Random weights first, then a pizza, then a clock, as if one training had made them."""
    task = pizza_transformer()[1]
    random_model = build_model(ModelConfig(d_model=18, n_heads=1, d_mlp=48), task, seed=0, dtype=torch.float64)
    report = analyze({0: random_model, 100: pizza_transformer()[0], 200: pizza_transformer()[0]}, ["algorithm"], task=task)
    assert stretches(report.dataset) == [(0, "no verdict"), (100, "pizza")]
    (row,) = [number for number in report.headline() if number.quantity == "clock or pizza over training"]
    assert row.value == in_words(report.dataset) == "no verdict from step 0, pizza from step 100"
    figure = report.figures["verdict_over_training"]
    assert "pizza from step 100" in figure.layout.meta["caption"]
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes if shape.type == "rect"] == [(100, 200)]
    cloud = report.figures["symmetricity_and_irrelevance"].data
    assert [trace.name for trace in cloud] == ["published, all", "published, circular", "this model"]
    assert len(cloud[2].x) == 3
    circles = report.figures["embedding_circles"].data
    assert [trace.name for trace in circles] == ["k = 1", "k = 3", "k = 4"]
    for place, trace in enumerate(circles):
        radius = np.hypot(np.array(trace.x) - 2.5 * (place % 3), np.array(trace.y) + 2.8 * (place // 3))
        assert radius == pytest.approx([radius[0]] * 13)  # a circle is round
    assert [len(values) for rows in PUBLISHED.values() for values in rows] == [len(RATES)] * 4
