"""The summary says what the numbers hold and no more: made-up runs of every fate, and random ones in which no sentence contradicts another."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from grokinterp.reports.summary import in_words

VERDICTS = (
    "It has generalised.",
    "It had generalised at step",
    "does not generalise.",
    "generalises in part.",
    "It has not learned the task.",
    "Training diverged",
)
OF_A_CIRCUIT = ("frequenc", "circuit", "weight decay", "Memorization", "Cleanup", "phases")


def run(
    train: Sequence[float],
    test: Sequence[float],
    *,
    loss: Sequence[float] | None = None,
    keys: Sequence[int] = (1, 2),
    n_frequencies: int = 11,
    recorded: bool = True,
    decay: float = 1.0,
    measured: float = 0.5,
) -> xr.Dataset:
    """A run as an analysis gives it, from its accuracies; losses fall with them unless given."""
    steps = 100 * np.arange(len(train))
    by_split = np.stack([train, test, test], axis=1).astype(float)
    losses = -np.log(np.clip(by_split, 1e-3, 0.9999)) if loss is None else np.stack([loss] * 3, axis=1)
    shape = ("step", "split")
    variables = {"accuracy": (shape, by_split), "loss": (shape, losses), "fve": (("step", "form"), np.full((len(train), 1), measured))}
    variables |= {name: (shape, np.full((len(train), 3), measured) + losses) for name in ("restricted_loss", "excluded_loss")}
    found = xr.Dataset(variables, coords={"step": steps, "split": ["train", "test", "all"], "form": ["raw"], "key_frequency": list(keys)})
    found = found.assign_coords(frequency=np.arange(1, n_frequencies + 1))
    if recorded:
        each = {f"metric_{split}_loss": ("eval_step", losses[:, i]) for i, split in enumerate(("train", "test"))}
        found = found.assign({**each, "metric_test_accuracy": ("eval_step", by_split[:, 1])}).assign_coords(eval_step=steps)
    found.attrs["config"] = json.dumps({"optimizer": {"weight_decay": decay}})
    return found


def test_a_run_that_never_generalises_says_so_and_stops() -> None:
    text = in_words(run([0.1, 1, 1], [0.1, 0.1, 0.1], keys=range(1, 12)))
    assert text == (
        "At step 200 the model answers 100.0% of its training pairs and 10.0% of its test pairs. "
        "It has memorised what it was trained on and does not generalise."
    )
    assert in_words(run([0.1, 0.2], [0.1, 0.1])).endswith("It has not learned the task.")


def test_a_run_on_its_way_is_not_said_to_have_nothing_but_memorised() -> None:
    partly, mirrored = run([0.1, 1], [0.1, 0.9]), run([0.1, 1], [0.1, 0.9])
    assert in_words(partly).endswith("It has memorised its training pairs and generalises in part.")
    mirrored["unseen_accuracy"] = ("step", [0.0, 0.1])  # the test pairs that it answers are mirror images of its training pairs
    assert in_words(mirrored).endswith("does not generalise.")


def test_a_run_that_generalises_is_told_to_the_end() -> None:
    text = in_words(run([0.1, 0.9999, 1, 1, 1, 1], [0.1, 0.1, 0.1, 0.1, 0.995, 1]))
    assert "It has generalised." in text
    assert "Its key frequencies are 2 of 11: 1, 2." in text
    assert "nearly all" not in text


def test_phases_are_told_in_their_order_or_not_at_all() -> None:
    dataset = run([0.1, 1, 1, 1, 1], [0.1, 0.1, 0.2, 0.9, 1], decay=0.0)
    dataset["excluded_loss"][:] = np.array([4, 0.1, 1, 2, 3])[:, None]
    dataset["restricted_loss"][:] = np.array([4, 4, 2, 0.1, 0.1])[:, None]
    told = in_words(dataset)
    assert "Memorization lasts until step 100" in told
    assert "Cleanup lasts until step 400: the memorised part goes" in told  # λ = 0: nothing decays
    dataset.attrs["config"] = json.dumps({"optimizer": {"weight_decay": 0.5}})
    assert "under weight decay 0.5 the memorised part goes" in in_words(dataset)
    at_once = in_words(run([0.1, 1, 1], [0.1, 1, 1]))
    assert "It has generalised." in at_once
    assert "The three phases do not follow each other here" in at_once or "Memorization lasts" in at_once


def test_a_spike_at_the_end_is_no_forgetting_and_no_circuit() -> None:
    text = in_words(run([0.1, 1, 1, 0.6], [0.1, 0.2, 1, 0.5]))
    assert "It had generalised at step 200 and does not any more" in text
    assert not any(word in text for word in OF_A_CIRCUIT)


def test_nearly_all_frequencies_as_keys_are_no_circuit() -> None:
    text = in_words(run([1.0], [1.0], keys=range(1, 11)))
    assert "Its key frequencies are 10 of 11" in text
    assert "nearly all frequencies" in text
    assert "no Fourier circuit is named" in in_words(run([1.0], [1.0], keys=()))


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_that_diverges_says_when_and_its_last_finite_numbers(recorded: bool) -> None:
    text = in_words(run([0.1, 0.5, 0.0, 0.0], [0.1] * 4, loss=[4.0, 1.5, math.inf, math.nan], recorded=recorded))
    assert text == (
        "Training diverged: train loss is inf from step 200 on. The last finite numbers are those of step 100: "
        "train loss 1.5 and test loss 1.5 nats. What is measured after that step means nothing."
    )
    at_once = in_words(run([0.1], [0.1], loss=[math.nan], recorded=recorded))
    assert at_once.startswith("Training diverged: train loss is nan from step 0 on.")
    recovered = in_words(run([0.1, 0.5, 1], [0.1] * 3, loss=[4.0, math.inf, 0.1], recorded=recorded))
    assert "diverged" not in recovered


def test_a_lookup_table_stands_beside_restricted_loss_and_unseen_pairs_beside_test_pairs() -> None:
    dataset = run([1.0], [1.0])
    by_split = ("step", "split"), np.full((1, 3), 3.2)
    dataset = dataset.assign(restricted_loss_lookup=by_split, restricted_loss_held_out=("step", [0.02]), unseen_accuracy=("step", [0.993]))
    text = in_words(dataset)
    assert "Where the mirror image of a test pair was not trained either, it answers 99.3%." in text
    assert "A lookup table of the training pairs, with the same training loss, has 3.2 there, so only a lower loss" in text
    assert "Averaged over test pairs alone, where such a table can only guess, the model has 0.02." in text
    undefined = dataset.assign(restricted_loss_lookup=(*by_split[:1], by_split[1] * np.nan), unseen_accuracy=("step", [np.nan]))
    assert "lookup" not in in_words(undefined)
    assert "mirror" not in in_words(undefined)
    mirrored = in_words(dataset.assign(unseen_accuracy=("step", [0.923])))
    assert mirrored.endswith("it answers 92.3%. So far it generalises to mirror images of its training pairs, and not to all pairs.")


def test_what_is_undefined_is_not_said_in_numbers() -> None:
    text = in_words(run([1.0], [1.0], measured=math.nan))
    assert "nan" not in text
    assert "variance" not in text
    assert in_words(xr.Dataset()) == ""


SHARES = st.one_of(st.sampled_from([0.0, 0.5, 0.98, 0.99, 1.0]), st.floats(0, 1))


@settings(max_examples=300)
@given(data=st.data(), n_steps=st.integers(1, 6), n_keys=st.integers(0, 11), recorded=st.booleans(), decay=st.sampled_from([0.0, 1.0]))
def test_no_sentence_contradicts_another(data: st.DataObject, n_steps: int, n_keys: int, recorded: bool, decay: float) -> None:
    train, test = (data.draw(st.lists(SHARES, min_size=n_steps, max_size=n_steps)) for _ in range(2))
    losses = st.one_of(st.floats(1e-9, 10), st.just(math.nan), st.just(math.inf))
    loss = data.draw(st.none() | st.lists(losses, min_size=n_steps, max_size=n_steps))
    measured = data.draw(st.one_of(st.floats(0, 1), st.just(math.nan)))
    text = in_words(run(train, test, loss=loss, keys=range(1, n_keys + 1), recorded=recorded, decay=decay, measured=measured))
    said = [verdict for verdict in VERDICTS if verdict in text]
    assert len(said) == 1
    diverged = loss is not None and not math.isfinite(loss[-1])
    assert (said[0] == "Training diverged") == diverged
    assert (said[0] == "It has generalised.") == (not diverged and test[-1] >= 0.99)
    if said[0] != "It has generalised.":
        assert not any(word in text for word in OF_A_CIRCUIT), "only a model that generalises has a circuit to speak of"
    if not diverged:
        assert not re.search(r"\b(nan|inf)\b", text)
    if decay == 0:
        assert "weight decay" not in text
    ends = [int(step.replace(",", "")) for step in re.findall(r"lasts until step ([\d,]+)", text)]
    assert ends == sorted(ends)
    assert len(ends) in (0, 3)


def test_key_representations_are_told_where_there_are_no_frequencies() -> None:
    found = run([1, 1], [0.995, 1]).drop_vars(["key_frequency", "frequency"])
    over = (("step", "split"), np.tile([0.25, 0.5, 0.75], (2, 1)))
    found = found.assign(restricted_loss_keys=over, excluded_loss_keys=over, logit_similarity=(("step", "irrep"), np.ones((2, 3))))
    found = found.assign_coords(irrep=["(3,1)", "(2,2)", "(2,1,1)"], key_irrep=["(3,1)"])
    text = in_words(found)
    assert "Its key representations are 1 of 3: (3,1)." in text
    assert "it has 0.5 nats on test pairs" in text  # restricted
    assert "it has 0.25 nats on training pairs" in text  # excluded
    assert "lookup" not in text
    assert "so none is named" in in_words(found.assign_coords(key_irrep=[]).drop_vars("key_irrep").assign_coords(key_irrep=("key_irrep", [])))
    assert "representation" not in in_words(found.drop_vars("key_irrep"))
