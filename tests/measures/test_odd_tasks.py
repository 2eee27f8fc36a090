"""Every measure on tasks for which many are not defined: a sentence that says why, or numbers of which each NaN has its reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from grokinterp import GrokinterpError, Snapshot, analyze, groups, tasks
from grokinterp.measures import MEASURES
from grokinterp.models import ModelConfig, build_model
from grokinterp.tasks import Task

SHUFFLED = groups.cyclic(7).renumbered([3, 1, 0, 5, 4, 2, 6]).product.tolist()
ODD: dict[str, tuple[Callable[[], Task], dict[str, str]]] = {
    "three operands": (lambda: tasks.modular_sum(3), {"representations": "has no group", "cosets": "has no group", "algorithm": "no cyclic group"}),
    "a power": (lambda: tasks.modular_power(3), {"representations": "has no group", "progress": "has no cyclic group, so Fourier measures do not"}),
    "parity": (lambda: tasks.sparse_parity(4), {"representations": "has no group", "fsd": "has no group", "neuron_maps": "has no group"}),
    "two elements": (
        lambda: tasks.composition("Z_2"),
        {"cosets": "Z_2 has no subgroup but", "fsd": "at least 4 elements; got 2", "equivalent": "got none"},
    ),
    "two elements of D_1": (lambda: tasks.composition("D_1"), {"cosets": "D_1 has no subgroup but", "fsd": "at least 4 elements; got 2"}),
    "three elements": (lambda: tasks.composition("Z_3"), {"cosets": "Z_3 has no subgroup but", "fsd": "at least 4 elements; got 3"}),
    "four elements": (
        lambda: tasks.composition("Z_2 x Z_2"),
        {"progress": "whose product is g + h mod n, but Z_2 × Z_2; take measures of representations"},
    ),
    "cyclic in another numbering": (
        lambda: tasks.composition(table=tuple(map(tuple, SHUFFLED))),
        {"progress": "no cyclic group whose product is g + h mod n, but table", "cosets": "no subgroup but"},
    ),
    "operands of their own": (lambda: tasks.composition("S_3", separate=True), {"algorithm": "no cyclic group"}),
    "random answers": (lambda: tasks.composition("S_3").with_random_answers(0), {"spectrum": "no cyclic group"}),
}


@pytest.mark.parametrize("name", ODD)
def test_a_measure_that_is_undefined_says_why(name: str) -> None:
    make, told = ODD[name]
    task = make().split(0.5, 0)
    model = build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=12), task, seed=0)
    refused = {}
    for measure in MEASURES.values():
        if measure.name == "ace":  # it needs no group, and takes seconds
            continue
        try:
            found = measure(Snapshot(model, task))
        except GrokinterpError as error:
            refused[measure.name] = str(error)
        else:
            partly = {str(variable) for variable, array in found.data_vars.items() if array.dtype.kind == "f" and bool(array.isnull().any())}
            assert {variable for variable in partly if "undefined" not in found[variable].attrs} == set()
    for measure_name, words in told.items():
        assert words in refused[measure_name]
    report = analyze(model, [*told, "loss"], task=task)
    assert report.failures == {measure_name: refused[measure_name] for measure_name in told}


def test_a_table_that_lacks_a_pair_has_no_group() -> None:
    whole = tasks.composition("S_3")
    kept = torch.arange(36) != 5
    table = {"tokens": whole.tokens[kept], "answers": whole.answers[kept], "n_vocab": 7, "n_classes": 6}
    with pytest.raises(GrokinterpError, match=r"each pair of the 6 elements of S_3, \[x, y\]; got no pairs; of a table that lacks some .* None"):
        Task("own", structure=whole.structure, **table)
    with pytest.raises(GrokinterpError, match="pairs hold indices of examples, 0 … 34; got 0 … 35"):
        Task("own", structure=whole.structure, pairs=whole.pairs, **table)
    task = Task("own", **table).split(0.5, 0)
    model = build_model(ModelConfig(d_model=16, n_heads=2, d_mlp=12), task, seed=0)
    assert "has no group" in analyze(model, ["loss", "representations"], task=task).failures["representations"]
