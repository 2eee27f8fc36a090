"""Coset neurons against brute force over all subgroups, hand-built coset models, random weights and a published model; the causal test."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from published_groups import published

import grokinterp as gi
from grokinterp import GrokinterpError, plots, tasks
from grokinterp.groups.concentration import Sides, label_means, proper_subgroups
from grokinterp.groups.cosets import subgroups
from grokinterp.groups.families import cyclic, symmetric
from grokinterp.interventions import Cosets
from grokinterp.measures.cosets import cosets, sides
from grokinterp.measures.equivalent import loss_recovered
from grokinterp.models import TwoSidedMLPConfig, build_model
from grokinterp.snapshot import Snapshot


def coset_model(group: str = "S_4", signs: tuple[int, int] = (1, 1), noise: float = 0.0) -> Snapshot:
    """Neurons of the paper's form, for each point stabiliser H and coset Ht: relu(±(f(Ha) − f(Htb⁻¹))), zero exactly where ab lies in Ht."""
    task = tasks.composition(group, signs=signs, equals=False, separate=True).split(0.6, 0)
    found = task.operation.group
    n, source = found.order, torch.Generator().manual_seed(0)
    stabiliser = next(each for each in subgroups(found) if each.index == 4)
    columns, shared = [], []
    for members in stabiliser.conjugates():
        labels = type(stabiliser)(found, members, stabiliser.n_conjugates, "").right_cosets  # of g: Hg
        for number in range(4):
            values = torch.randn(4, generator=source, dtype=torch.float64)[labels]
            t = int((labels == number).int().argmax())
            left, right = values, -values[found.product[t, found.inverse]]  # f(Htb⁻¹), which depends on b⁻¹t⁻¹Ht alone
            columns += [(left, right), (-left, -right)]
            shared += [labels == number] * 2
    model = build_model(TwoSidedMLPConfig(d_model=2 * n, d_hidden=len(columns)), task, 0, dtype=torch.float64)
    element = torch.arange(n)
    x, y = (element if sign == 1 else found.inverse for sign in signs)
    with torch.no_grad():
        model.embed.W_E.copy_(torch.eye(2 * n))
        model.blocks[0].W_in.zero_()
        model.blocks[0].W_in[:n] = torch.stack([left[x] for left, _ in columns], 1)
        model.blocks[0].W_in[3 * n :] = torch.stack([right[y] for _, right in columns], 1)
        model.blocks[0].W_in += noise * torch.randn(model.blocks[0].W_in.shape, generator=source, dtype=torch.float64)
        model.unembed.W_U.copy_(-20 * torch.stack(shared).double())  # a neuron speaks against the coset for which it would be silent
    return Snapshot(model, task)


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1)])
def test_hand_built_coset_neurons_are_found_with_their_subgroup(signs: tuple[int, int]) -> None:
    snapshot = coset_model(signs=signs)
    found = cosets(snapshot)
    assert int(found["coset_neurons"]) == int(found["live_neurons"]) == 32
    counts = found["coset_neurons_of"]
    assert str(counts["subgroup"].values[int(counts.values.argmax())]).startswith("order 6")
    assert int(counts.max()) == 32
    assert float(found["coset_concentration"].max()) < 1e-12
    assert float(found["coset_neurons_null"]) == 0
    shown = found["coset_map"].to_numpy()
    changes = (np.abs(np.diff(shown, axis=1)) > 1e-9).sum(1)
    assert (changes <= 3).all()  # four cosets in a row


@pytest.mark.parametrize("group", ["Z_4", "S_3", "D_4", "Z_2 x Z_2 x Z_2", "Z_8", "A_4"])
def test_random_weights_have_no_coset_neurons_and_nothing_recovered(group: str) -> None:
    """Over 20 seeds of 40 neurons each; neither have their inputs permuted, nor on the other side's cosets."""
    task = tasks.composition(group, equals=False, separate=True)
    for seed in range(20):
        snapshot = Snapshot(build_model(TwoSidedMLPConfig(d_model=32, d_hidden=40), task, seed, dtype=torch.float64), task)
        found = cosets(snapshot, draws=1)
        assert [int(found[name]) for name in ("coset_neurons", "coset_neurons_null", "coset_neurons_wrong_side")] == [0, 0, 0]
        recovered = loss_recovered(snapshot, Cosets()).recovered
        assert np.isnan(recovered) or recovered < 1e-9


def test_random_functions_have_the_concentration_that_the_sheet_states() -> None:
    task = tasks.composition("S_4", equals=False, separate=True)
    snapshot = Snapshot(build_model(TwoSidedMLPConfig(d_model=32, d_hidden=40), task, 0, dtype=torch.float64), task)
    assert 1.3 < float(cosets(snapshot)["coset_concentration"].median()) < 2.2  # near 2, the index of A_4 (the method sheet: 2.0 on S_5)


def test_shares_and_concentrations_are_those_of_sums_over_cosets() -> None:
    group = symmetric(3)
    values = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    proper = proper_subgroups(group)
    found = Sides.from_functions(proper, values[0], values[1], 0.99)
    for side in (0, 1):
        for j in range(5):
            f = values[side, :, j]
            smallest = np.inf
            for i, subgroup in enumerate(proper):
                shares = []
                for members in subgroup.conjugates():
                    of = [group.product[g, members] if side else group.product[members, g] for g in range(6)]
                    inside = torch.stack([f[each].var(correction=0) for each in of])  # every coset |H| times
                    shares.append(1 - float(inside.mean() / f.var(correction=0)))
                    smallest = min(smallest, float(inside.sum() / subgroup.order / f.var(correction=0)))
                assert float(found.shares[side, i, j]) == pytest.approx(max(shares), abs=1e-12)
            assert float(found.concentration[side, j]) == pytest.approx(smallest, abs=1e-12)
    labels = torch.tensor([[0, 1], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]])
    means = label_means(values[0, :, :2], labels)
    assert means[0, 0] == pytest.approx(float(values[0, :2, 0].mean()))
    assert means[4, 1] == pytest.approx(float(values[0, [2, 4], 1].mean()))


def test_the_coset_algorithm_recovers_a_coset_model_and_no_other() -> None:
    exact = loss_recovered(coset_model(), Cosets())
    assert exact.accuracy == 1
    assert exact.recovered == pytest.approx(1, abs=1e-9)
    blurred = loss_recovered(coset_model(noise=0.02), Cosets())
    assert blurred.recovered > 0.9
    task = tasks.composition("S_3", equals=False, separate=True)
    model = build_model(TwoSidedMLPConfig(d_model=12, d_hidden=36), task, 0, dtype=torch.float64)
    with torch.no_grad():  # a table of pairs: every neuron fires for one pair
        own = 2 * torch.eye(6, dtype=torch.float64) - 1
        model.embed.W_E.copy_(torch.eye(12))
        model.blocks[0].W_in.zero_()
        model.blocks[0].W_in[:6], model.blocks[0].W_in[18:] = own.repeat_interleave(6, 1), own.repeat(1, 6)
        model.unembed.W_U.copy_(10 * torch.nn.functional.one_hot(task.answers, 6))
    table = loss_recovered(Snapshot(model, task), Cosets())
    assert table.own < 1e-3
    assert table.recovered == pytest.approx(0, abs=1e-9)


def test_sides_are_what_operands_add() -> None:
    snapshot = coset_model()
    left, right, live = sides(snapshot)
    added = snapshot.model.side_weights.detach()
    torch.testing.assert_close(left, added[0, :24] - added[0, :24].mean(0), atol=1e-12, rtol=0)
    torch.testing.assert_close(right, added[1, 24:] - added[1, 24:].mean(0), atol=1e-12, rtol=0)
    assert bool(live.all())


def test_bad_input_is_named() -> None:
    snapshot = coset_model()
    with pytest.raises(GrokinterpError, match=r"above 0 and up to 1; got 0"):
        cosets(snapshot, threshold=0)
    with pytest.raises(GrokinterpError, match='take side="inputs"'):
        Cosets(side="outputs")
    with pytest.raises(GrokinterpError, match="Z_5 has no subgroup but the trivial one and itself"):
        proper_subgroups(cyclic(5))
    with pytest.raises(GrokinterpError, match="each neuron has its own subgroup"):
        Cosets().functions(snapshot.task)
    with Cosets().applied(snapshot.model, snapshot.task), pytest.raises(GrokinterpError, match="full table of 576 examples as its batch; got 3"):
        snapshot.model(snapshot.task.tokens[:3])
    with pytest.raises(GrokinterpError, match="has no group, so its operands lie in no cosets"):
        Cosets().hooks(snapshot.model, tasks.sparse_parity(4))


def test_figures_name_subgroups_and_have_colours_that_are_symmetric_about_0() -> None:
    found = cosets(coset_model(noise=0.001)).expand_dims(step=[0])
    maps = plots.coset_maps(found)
    assert (maps.data[0].zmin, maps.data[0].zmax) == (-1, 1)
    assert maps.layout.yaxis.ticktext == ("order 6",)
    assert maps.layout.yaxis.tickvals == (15.5,)  # the middle of its 32 rows
    few = found["coset_neurons_of"].copy(deep=True)
    few[0, int(few[0].to_numpy().argmax()) - 1] = 1  # the subgroup before has one row of 33, too few for its name
    assert plots.coset_maps(found.assign(coset_neurons_of=few)).layout.yaxis.ticktext == ("order 6",)
    none = found.assign(coset_neurons_of=0 * found["coset_neurons_of"])
    (line,) = plots.coset_neurons(xr.concat([none, none.assign_coords(step=[1])], "step")).data
    assert (line.name, list(line.y)) == ("any subgroup", [0, 0])
    (bars,) = plots.coset_neurons(found).data
    assert (list(bars.x), list(bars.y)) == (["order 6"], [32])


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1)])
def test_sorted_by_coset_a_coset_neuron_is_constant_in_each_block_and_unsorted_it_is_not(signs: tuple[int, int]) -> None:
    found = cosets(coset_model(signs=signs), draws=0).expand_dims(step=[0])
    figure = plots.coset_neuron_maps(found)
    assert len(figure.data) == 2
    unsorted = found["coset_activation"][0].to_numpy().reshape(2, 4, 6, 4, 6)
    assert unsorted.var((2, 4)).max() > 0.01
    for cells in figure.data:
        assert cells.name.endswith("<br>order 6, C = 0.00")
        blocks = cells.z.reshape(4, 6, 4, 6)
        assert blocks.var((1, 3)).max() < 1e-10
        assert blocks.mean((1, 3)).var() > 0.01
    assert len(figure.layout.shapes) == 2 * 2 * 3
    assert list(figure.layout.xaxis.tickvals) == [2.5, 8.5, 14.5, 20.5]


def test_maps_over_both_operands_keep_their_order_while_the_model_moves() -> None:
    last, early = coset_model(), coset_model(noise=0.5)
    report = gi.analyze({0: early.model, 1: last.model}, ["cosets"], task=last.task, progress_bar=False)
    assert bool((report["coset_number"][0] == report["coset_number"][1]).all())
    assert float(report["shown_concentration"][0].min()) > 0.05
    assert float(report["shown_concentration"][1].max()) < 1e-9
    assert len(report.plot("coset_neuron_maps").frames) == 2
    task = tasks.composition("S_3", equals=False, separate=True)
    random = cosets(Snapshot(build_model(TwoSidedMLPConfig(d_model=12, d_hidden=36), task, 0), task), draws=0)
    with pytest.raises(plots.MissingVariables, match="coset_activation"):
        plots.coset_neuron_maps(random.expand_dims(step=[0]))


def test_the_published_model_has_the_sheets_coset_neurons() -> None:
    found = cosets(published("S5_MLP_seed2"), draws=0)
    counts = {str(name): int(count) for name, count in zip(found["subgroup"].values, found["coset_neurons_of"], strict=True) if count}
    assert counts == {"order 12 b": 11, "order 24": 108, "order 60": 7}
    assert int(found["live_neurons"]) == 126
    assert float(found["coset_concentration"].median()) == pytest.approx(5e-8, rel=0.2)
    assert 126 - int(found["coset_neurons_wrong_side"]) == 67
