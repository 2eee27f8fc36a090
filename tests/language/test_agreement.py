"""Statistics against other libraries, cores against the general extraction, the sweep against hooks, and the science on a trained model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from language_models import by_hooks, random_gpt2
from scipy.stats import chi2, spearmanr
from sklearn.metrics import roc_auc_score

from grokinterp import GrokinterpError, ace, analyze
from grokinterp.ace import agreement_cores, best_core, canonical_correlations, coordinates, margins, verb_probabilities, verb_scores
from grokinterp.language.prompts import agreement
from grokinterp.language.sweep import agreement_sweep
from grokinterp.models.adapter import Adapter
from grokinterp.models.convert import bridge
from grokinterp.reports.summary import in_words
from grokinterp.tasks import Prompts, read_prompts

LAST = "blocks.2.hook_resid_post"


@pytest.fixture(scope="module")
def model() -> Any:
    return random_gpt2()


@pytest.fixture(scope="module")
def prompts(model: Any) -> Prompts:
    return agreement(model.tokenizer, n=80)


# Statistics


def test_auc_is_scikit_learns_also_with_ties() -> None:
    rng = np.random.default_rng(0)
    plural = rng.random(50) < 0.4
    scores = np.round(rng.normal(size=(3, 2, 50)), 1)
    found = ace.auc(torch.from_numpy(scores), torch.from_numpy(plural))
    expected = [[roc_auc_score(plural, row) for row in rows] for rows in scores]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    with pytest.raises(GrokinterpError, match="got 0 plural and 50 singular"):
        ace.auc(torch.from_numpy(scores), torch.zeros(50, dtype=torch.bool))


def test_the_knob_is_numpys_line() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(3, 2, 40)
    y = 1.5 * z - 4 + rng.normal(size=40)
    line = ace.knob(torch.from_numpy(z), torch.from_numpy(y))
    np.testing.assert_allclose(line[:2], np.polyfit(z, y, 1), rtol=1e-10)
    assert line.r_squared == pytest.approx(np.corrcoef(z, y)[0, 1] ** 2)
    with pytest.raises(GrokinterpError, match="vary"):
        ace.knob(torch.ones(3), torch.ones(3))


def test_margins_and_pairs_read_the_verbs_that_they_should(prompts: Prompts) -> None:
    of = {word: i for i, word in enumerate(prompts.words)}
    logits = torch.zeros(len(prompts), 4, dtype=torch.float64)
    for value, word in ((1.0, " are"), (10.0, " were"), (100.0, " is"), (1_000.0, " was")):
        logits[:, of[word]] = value
    assert set(margins(prompts, logits).tolist()) == {11.0 - 1_100.0}
    assert float(ace.pair_accuracy(prompts, logits)) == 0.5  # the singular form wins every pair
    past = torch.tensor([text.startswith("In the past") for text in prompts.texts])
    logits[past, of[" was"]] = 10.0  # a tie
    assert float(ace.pair_accuracy(prompts, logits)) == 0.5
    logits[past, of[" was"]] = 9.0
    assert float(ace.pair_accuracy(prompts, logits[None])[0]) == 0.5
    logits[:, of[" is"]] = 0.0
    assert float(ace.pair_accuracy(prompts, logits)) == 0.5  # now the plural form does
    logits[~prompts.plural, of[" is"]] = 2.0
    assert float(ace.pair_accuracy(prompts, logits)) == 0.75


def test_correlations_across_models_are_numpys_and_scipys() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    b = a @ torch.tensor([[0.0, -1.0], [2.0, 0.3]]).double() + 0.1 * torch.randn(60, 2, generator=generator, dtype=torch.float64)
    table = ace.coordinate_correlations({"a": a, "b": b, "c": -a[:, :1]})
    x, y = a[:, 0].numpy(), b[:, 0].numpy()
    assert float(table["coordinate_pearson"].sel(model="a", other="b")) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert float(table["coordinate_spearman"].sel(model="b", other="a")) == pytest.approx(spearmanr(x, y).statistic)
    assert float(table["coordinate_pearson"].sel(model="a", other="c")) == pytest.approx(-1)
    assert float(table["coordinate_canonical"].sel(model="a", other="c")) == pytest.approx(1)
    assert float(table["coordinate_canonical"].sel(model="a", other="b")) == pytest.approx(float(canonical_correlations(a, b)[0]))
    with pytest.raises(GrokinterpError, match="at least 2"):
        ace.coordinate_correlations({"a": a})


def test_p_values_of_a_flip(prompts: Prompts) -> None:
    right = torch.where(prompts.plural, 1.0, -1.0).double()
    noise = torch.randn(80, generator=torch.Generator().manual_seed(0)).double()
    assert ace.flip_p_value(prompts, 3 * right + noise, -3 * right + noise) < 1e-10
    assert ace.flip_p_value(prompts, noise, 3 * right) > 0.99
    p_values = [0.03, 0.2, 0.6]
    assert ace.combined_p_value(p_values) == pytest.approx(chi2.sf(-2 * np.log(p_values).sum(), 6))


# Cores


def test_cores_are_those_of_the_general_extraction(model: Any, prompts: Prompts) -> None:
    length = int(prompts.ends.mode().values)
    same = prompts.take(torch.nonzero(prompts.ends == length).squeeze(1))
    same = replace(same, extraction=torch.ones(len(same), dtype=torch.bool))
    assert len(same) > 15
    cores = agreement_cores(model, same)
    assert list(cores) == Adapter(model).residual_hooks()
    for hook in (LAST, "blocks.0.hook_resid_post"):

        def score(logits: torch.Tensor) -> torch.Tensor:
            return logits[..., same.verbs[same.plural_verbs[0]]].sum(-1) - logits[..., same.verbs[same.singular_verbs[0]]].sum(-1)

        general = ace.extract(model, same.tokens, hook, rank=1, score=score, positions=-1, readout=-1, centred=True)
        core = cores[hook]
        assert abs(float(core.basis[:, 0] @ general.basis[:, 0])) == pytest.approx(1, abs=1e-6)
        assert torch.allclose(core.mean, general.mean)
        assert torch.allclose(core.spectrum[:3], general.spectrum[:3], rtol=1e-3)
        assert (core.positions, core.centred, core.rank) == (-1, True, 1)


def test_more_prompts_than_dimensions_change_only_the_way(model: Any) -> None:
    many = agreement(model.tokenizer, n=80)
    few = replace(many, extraction=torch.arange(80) < 20)  # fewer than d_model
    for prompts in (few, many):
        core = agreement_cores(model, prompts, [LAST])[LAST]
        h = coordinates(model, prompts.half("extraction"), replace(core, rank=min(19, core.directions.shape[1])))
        assert torch.allclose(h.mean(0), torch.zeros(h.shape[1]).double(), atol=1e-9)
        assert core.directions.shape == (24, min(24, int(prompts.extraction.sum())))


def test_the_margin_rises_along_the_core(model: Any, prompts: Prompts) -> None:
    for core in agreement_cores(model, prompts).values():
        up = replace(core, mean=core.mean - 1e-3 * core.basis[:, 0])  # scaling about a shifted mean pushes everything along the axis
        push, still = up.scale(2.0), core.scale(2.0)
        pushed, plain = (margins(prompts, verb_scores(model, prompts, [edit])[1]) for edit in (push, still))
        assert float((pushed - plain)[prompts.extraction].mean()) > 0


def test_extract_takes_prompts(model: Any, prompts: Prompts) -> None:
    core, same = ace.extract(model, prompts, LAST, rank=2), agreement_cores(model, prompts, [LAST], rank=2)[LAST]
    assert torch.equal(core.basis, same.basis)
    assert core.rank == 2
    assert core.centred
    assert not ace.extract(model, prompts, LAST, rank=2, centred=False).centred
    arguments = {"positions": -1, "readout": -1, "split": "all", "n_jacobians": 5, "seed": 0, "sketch": 3, "score": lambda logits: logits[..., 0]}
    for name, value in arguments.items():
        with pytest.raises(GrokinterpError, match=f"leave out {name}, and pass rank, energy, centred and batch_size alone"):
            ace.extract(model, prompts, LAST, **{name: value})
    with pytest.raises(GrokinterpError, match="plain tokens have no split; leave split='test' out"):
        ace.extract(model, prompts.tokens, LAST, split="test")


def test_probabilities_and_coordinates_are_the_models_own(model: Any, prompts: Prompts) -> None:
    core = agreement_cores(model, prompts, [LAST])[LAST]
    found = verb_probabilities(model, prompts, [core.flip()], batch_size=7)
    for i, edit in enumerate((None, core.flip())):
        assert torch.allclose(found[i], by_hooks(model, prompts, edit).softmax(-1)[:, prompts.verbs], atol=1e-10)
    z = coordinates(model, prompts, core, batch_size=7)
    _, cache = model.run_with_cache(prompts.tokens[5:6, : int(prompts.ends[5]) + 1])
    assert torch.allclose(z[5], core.basis.T @ (cache[LAST][0, -1] - core.mean))


# The sweep


def test_the_sweep_is_that_of_hooks_and_scikit_learn(model: Any, prompts: Prompts) -> None:
    found = agreement_sweep(model, prompts, strengths=(-1.0, 0.0, 1.0), n_random=2)
    assert found["hook"].to_numpy().tolist() == Adapter(model).residual_hooks()
    cores = agreement_cores(model, prompts)
    for half in ("extraction", "test"):
        own = prompts.half(half)
        for layer in (0, 3):
            core = list(cores.values())[layer]
            for mode, edit in {"base": None, "keep": core.keep(), "remove": core.remove(), "flip": core.flip()}.items():
                margin = margins(own, by_hooks(model, own, edit)[:, own.verbs])
                auc = found["agreement_auc"].sel(half=half, layer=layer, mode=mode)
                assert float(auc) == pytest.approx(roc_auc_score(own.plural, margin), abs=1e-9)
    best = int(found["chosen_layer"])
    own, core = prompts.half("test"), list(cores.values())[best]
    assert torch.equal(best_core(model, prompts).basis, core.basis)
    flipped = margins(own, by_hooks(model, own, core.flip())[:, own.verbs])
    np.testing.assert_allclose(found["margin"].sel(mode="flip"), flipped, atol=1e-8)
    at = {name: found["strength_auc"].sel(strength=factor) for name, factor in (("flip", -1.0), ("remove", 0.0), ("base", 1.0))}
    for mode, auc in at.items():
        assert float(auc) == pytest.approx(float(found["agreement_auc"].sel(half="test", layer=best, mode=mode)))
    by_number = found["strength_margin"].sel(strength=-1.0, head_number="plural")
    assert float(by_number) == pytest.approx(float(flipped[own.plural].mean()))
    assert float(found["spectral_gap"][best]) == pytest.approx(float((core.spectrum[0] / core.spectrum[1]) ** 2))


def test_the_layer_is_chosen_without_the_test_half(model: Any, prompts: Prompts) -> None:
    swapped = replace(prompts, plural=prompts.plural ^ ~prompts.extraction)  # test labels turned over
    one, other = (agreement_sweep(model, each, strengths=(), n_random=1) for each in (prompts, swapped))
    assert int(one["chosen_layer"]) == int(other["chosen_layer"])
    auc, turned = (each["agreement_auc"].sel(half="test").to_numpy() for each in (one, other))
    np.testing.assert_allclose(auc, 1 - turned)
    flips = one["agreement_auc"].sel(half="extraction", mode="flip").to_numpy()
    assert flips[int(one["chosen_layer"])] == flips.min()


def test_a_bridge_of_the_same_weights_gives_equal_numbers() -> None:
    model = random_gpt2(dtype=torch.float32)
    prompts = agreement(model.tokenizer, n=40)
    ours, theirs = (agreement_sweep(each, prompts, n_random=2) for each in (model, bridge(model)))
    for name in ours.data_vars:
        if name == "spectral_gap":
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-2)
        elif ours[name].dtype.kind == "f":
            np.testing.assert_allclose(ours[name], theirs[name], atol=2e-4, rtol=2e-4, err_msg=str(name))
    assert int(ours["chosen_layer"]) == int(theirs["chosen_layer"])


def test_where_prompts_are_all_alike_there_is_no_core(model: Any, tmp_path: Any) -> None:
    subjects = [("key", "singular"), ("cup", "singular"), ("door", "singular"), ("keys", "plural"), ("cups", "plural"), ("doors", "plural")]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["prompt,number", *(f"the {noun} near the box over there,{number}" for noun, number in subjects)]))
    prompts = read_prompts(path, model.tokenizer)
    found = agreement_sweep(model, prompts, strengths=(), n_random=1)
    assert found["layer"].to_numpy().tolist() == [1, 2, 3]  # before the first block every prompt ends in "there"
    with pytest.raises(GrokinterpError, match="do not vary over the last tokens"):
        agreement_cores(model, prompts, ["blocks.0.hook_resid_pre"])


def test_what_cannot_be_extracted_is_said(model: Any, prompts: Prompts) -> None:
    with pytest.raises(GrokinterpError, match="1 … d_model = 24; got 25"):
        agreement_sweep(model, prompts, rank=25)
    with pytest.raises(GrokinterpError, match="20 prompts span at most 19 dimensions; got rank 20"):
        agreement_cores(model, replace(prompts, extraction=torch.arange(80) < 20), rank=20)
    with pytest.raises(GrokinterpError, match=r"unknown hook 'blocks\.2\.hook_resid_pots'; did you mean blocks\.2\.hook_resid_post"):
        agreement_cores(model, prompts, ["blocks.2.hook_resid_pots"])
    with pytest.raises(GrokinterpError, match="extraction half has 0 plural prompts of 20"):
        best_core(model, replace(prompts, extraction=prompts.extraction & ~prompts.plural))


# A model that knows the grammar


@pytest.fixture(scope="module")
def swept(grammar_model: Any) -> Any:
    prompts = agreement(grammar_model.tokenizer, n=400, held_out_nouns=True, held_out_frames=("trailing", "relative"))
    return analyze(grammar_model, ["ace", "progress"], task=prompts)


def test_flipping_one_axis_turns_agreement_over_on_nouns_and_frames_it_has_not_seen(swept: Any) -> None:
    last = swept.dataset.isel(step=-1)
    base, keep, remove, flip = last["agreement_auc"].sel(half="test", layer=int(last["chosen_layer"])).to_numpy()
    assert base >= 0.99
    assert keep >= 0.95
    assert remove <= 0.6
    assert flip <= 0.1
    random = last["random_auc"]
    assert float(random.sel(mode=["remove", "flip"]).min()) >= base - 0.01
    assert float(last["pair_accuracy"].sel(half="test", layer=int(last["chosen_layer"]), mode="flip")) <= 0.05
    assert float(last["flip_p_value"]) < 1e-10


def test_the_report_says_in_words_and_numbers_what_the_flip_does(swept: Any) -> None:
    last = swept.dataset.isel(step=-1)
    layer = int(last["chosen_layer"])
    values = [f"{float(last['agreement_auc'].sel(half='test', layer=layer, mode=mode)):.3f}" for mode in ("base", "keep", "remove", "flip")]
    assert all(value in swept.summary for value in values)
    assert swept.summary.endswith("The flip turns agreement over.")
    assert last["hook"].sel(layer=layer).item() in swept.summary
    rows = {row.quantity: row.value for row in swept.headline()}
    assert rows["AUC of the margin, model / core kept / removed / flipped"] == " / ".join(values)
    assert float(rows["smallest AUC under random directions, removed / flipped"].split(" / ")[1]) > 0.98


def test_words_about_agreement_follow_the_numbers(swept: Any) -> None:
    def told(**changes: float) -> str:
        changed = swept.dataset.copy(deep=True)
        at = {"half": "test", "layer": int(changed["chosen_layer"].item()), "step": changed["step"][-1].item()}
        for mode, value in changes.items():
            changed["agreement_auc"].loc[{**at, "mode": mode}] = value
        return in_words(changed)

    assert "does not agree reliably" in told(base=0.6)
    assert "The flip does not turn agreement over." in told(flip=0.4)


def test_the_report_keeps_its_figures_and_says_what_does_not_apply(swept: Any, tmp_path: Any) -> None:
    assert set(swept.failures) == {"progress"}
    assert set(swept.figures) == {"agreement_by_layer", "agreement_knob", "agreement_probabilities", "agreement_strength"}
    again = type(swept).load(swept.save(tmp_path / "report.nc"))
    np.testing.assert_array_equal(again["agreement_auc"], swept["agreement_auc"])
    flip = next(line for line in again.plot("agreement_by_layer").data if line.name == "flip")
    np.testing.assert_allclose(flip.y, swept["agreement_auc"].isel(step=-1).sel(half="test", mode="flip"))
    dots = [trace for trace in again.plot("agreement_knob").data if trace.mode == "markers"]
    assert sum(len(trace.x) for trace in dots) == 200
    bar = next(bar for bar in again.plot("agreement_probabilities").data if bar.name == "plural head, flipped")
    assert dict(zip(bar.x, bar.y, strict=True))["is"] > 0.1
