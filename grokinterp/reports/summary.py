"""What happened in a run, in a few plain sentences for readers who do not know the measures.

Each sentence is said only where the numbers hold it: a run that diverged says so and stops, as does one that does not generalise. Only of a model
that generalises does the summary go on to phases and frequencies.
"""

from __future__ import annotations

import json
import math

import numpy as np
import xarray as xr

from grokinterp.measures.lookup import nearly_all
from grokinterp.reports.figures import without_user_variables
from grokinterp.reports.words import Phases, phases

LEARNED = 0.99  # accuracy that counts as having learned or generalised (chosen here)
PARTLY = 0.5  # accuracy on pairs that training did not show, from which a model generalises in part (chosen here)
AGREES, TURNED = 0.9, 0.1  # AUC from which a model agrees, and up to which a flip has turned agreement over (chosen here)


def in_words(dataset: xr.Dataset) -> str:
    """What happened, in paragraphs split by blank lines; empty without losses on both sides of a split, or a study of agreement.

    Args:
        dataset: `progress` at one step or several, with the recorded metrics of training where there are any; or `agreement_sweep`.
    """
    dataset = without_user_variables(dataset)
    if "agreement_auc" in dataset:
        return _agreement(dataset.isel(step=-1))
    if "loss" not in dataset:
        return ""
    if (diverged := _diverged(dataset)) is not None:
        return diverged
    last = dataset.isel(step=-1)
    train, test = (float(last["accuracy"].sel(split=split)) for split in ("train", "test"))
    answers = f"At step {int(last['step']):,} the model answers {train:.1%} of its training pairs and {test:.1%} of its test pairs."
    if math.isnan(test):
        return ""
    unseen = _value(last, "unseen_accuracy")
    if math.isfinite(unseen):
        answers += f" Where the mirror image of a test pair was not trained either, it answers {unseen:.1%}."
    if test >= LEARNED and not unseen < LEARNED:
        sentences = [f"{answers} It has generalised.", _when(dataset), _which_frequencies(last) or _which_representations(last)]
    else:
        sentences = [f"{answers} {_without_generalisation(dataset, train, test, unseen)}"]
    return "\n\n".join(part for part in sentences if part)


def _agreement(last: xr.Dataset) -> str:
    """What the edits of the chosen core do to agreement, beside the same edits of random directions."""
    layer = int(last["chosen_layer"])
    of = last["agreement_auc"].sel(half="test", layer=layer)
    base, keep, remove, flip = (float(of.sel(mode=mode)) for mode in ("base", "keep", "remove", "flip"))
    random = last["random_auc"].sel(mode="flip")
    if base < AGREES:
        verdict = "The model does not agree reliably, so what the edits do says little."
    elif flip <= TURNED:
        verdict = "The flip turns agreement over."
    else:
        verdict = "The flip does not turn agreement over."
    return (
        f"On the test half, a plural subject has a larger margin for plural verbs than a singular one with probability {base:.3f} (AUC; chance is "
        f"0.5). The core was chosen on the extraction half, at {last['hook'].sel(layer=layer).item()}.\n\n"
        f"With the core flipped the AUC is {flip:.3f}, with the core removed {remove:.3f}, with nothing else kept {keep:.3f}. "
        f"Flips of {random.size} random directions leave it at {float(random.min()):.3f} or more. {verdict}"
    )


def _diverged(dataset: xr.Dataset) -> str | None:
    """That training diverged, when, and the last finite numbers; None if it did not."""
    losses = {split: dataset["loss"].sel(split=split).to_numpy() for split in ("train", "test")}
    steps = dataset["step"].to_numpy()
    if "metric_train_loss" in dataset:  # written down more often than checkpoints are kept
        losses = {split: dataset[f"metric_{split}_loss"].to_numpy() for split in losses if f"metric_{split}_loss" in dataset}
        steps = dataset["eval_step"].to_numpy()
    finite = np.isfinite(losses["train"])
    if finite[-1]:
        return None
    if not finite.any():
        return f"Training diverged: train loss is {losses['train'][0]} from step {steps[0]:,} on. The weights hold no numbers that could be read."
    row = int(np.flatnonzero(finite)[-1])
    at_last = " and ".join(f"{split} loss {values[row]:.3g}" for split, values in losses.items() if np.isfinite(values[row]))
    return (
        f"Training diverged: train loss is {losses['train'][row + 1]} from step {steps[row + 1]:,} on. The last finite numbers are those of "
        f"step {steps[row]:,}: {at_last} nats. What is measured after that step means nothing."
    )


def _without_generalisation(dataset: xr.Dataset, train: float, test: float, unseen: float) -> str:
    """Why there is no circuit to speak of at the last step."""
    if test >= LEARNED:
        return "So far it generalises to mirror images of its training pairs, and not to all pairs."
    if (before := _first_generalised(dataset)) is not None:
        return f"It had generalised at step {before:,} and does not any more: read an earlier step, or train on if this one is a spike."
    if train >= LEARNED and (unseen if math.isfinite(unseen) else test) >= PARTLY:
        return "It has memorised its training pairs and generalises in part."
    if train >= LEARNED:
        return "It has memorised what it was trained on and does not generalise."
    return "It has not learned the task."


def _first_generalised(dataset: xr.Dataset) -> int | None:
    """The first step with a test accuracy that counts as generalising."""
    found = [
        steps[values >= LEARNED]
        for steps, values in (
            (dataset["step"].to_numpy(), dataset["accuracy"].sel(split="test").to_numpy()),
            *([(dataset["eval_step"].to_numpy(), dataset["metric_test_accuracy"].to_numpy())] if "metric_test_accuracy" in dataset else []),
        )
    ]
    reached = [int(steps[0]) for steps in found if len(steps)]
    return min(reached, default=None)


def _when(dataset: xr.Dataset) -> str:
    """The phases of a model that has generalised; empty for a single step, or where a loss has no number at some step."""
    curves = ("loss", "excluded_loss", "restricted_loss")
    if dataset.sizes["step"] < 2 or not all(name in dataset and np.isfinite(dataset[name]).all() for name in curves):
        return ""
    found = phases(dataset)
    if not found.in_order:
        return f"The three phases do not follow each other here; by their rules {_ends(found)}."
    decay = _weight_decay(dataset)
    cause = f"under weight decay {decay:g} the memorised part goes" if decay else "the memorised part goes"
    return (
        f"Memorization lasts until step {found.memorization_end:,}: until then the model learns its training pairs by heart. "
        f"Circuit formation lasts until step {found.circuit_end:,}: the Fourier circuit grows underneath, while test loss hardly shows it. "
        f"Cleanup lasts until step {found.cleanup_end:,}: {cause} and test loss falls."
    )


def _ends(found: Phases) -> str:
    """The end of each phase in words."""
    names = {"memorization_end": "memorization", "circuit_end": "circuit formation", "cleanup_end": "cleanup"}
    ends = {words: getattr(found, name) for name, words in names.items()}
    return ", ".join(f"{words} has no end" if end is None else f"{words} ends at step {end:,}" for words, end in ends.items())


def _weight_decay(dataset: xr.Dataset) -> float:
    """λ as the configuration has it; 0 where it says nothing."""
    config = json.loads(str(dataset.attrs.get("config") or "{}"))
    optimizer = config.get("optimizer") if isinstance(config, dict) else None
    decay = optimizer.get("weight_decay") if isinstance(optimizer, dict) else None
    return float(decay) if isinstance(decay, int | float) else 0.0


def _which_frequencies(last: xr.Dataset) -> str:
    """The key frequencies of a model that has generalised, and what they carry; quantities without a value are left out."""
    if "key_frequency" not in last or "frequency" not in last:
        return ""
    keys, n = last["key_frequency"].to_numpy(), last.sizes["frequency"]
    if not len(keys):
        return "No frequency stands out in the weights from the neurons to the logits, so no Fourier circuit is named."
    fve, loss, held_out = _value(last, "fve", form="raw"), _value(last, "loss", split="test"), _value(last, "restricted_loss_held_out")
    restricted, lookup = (_value(last, name, split="test") for name in ("restricted_loss", "restricted_loss_lookup"))
    excluded = _value(last, "excluded_loss", split="train")
    by_number = [
        ([fve], f"Their cosines explain {fve:.1%} of the logits' variance."),
        (
            [restricted, loss],
            f"Keeping nothing but these frequencies (restricted loss) gives {restricted:.2g} nats on test pairs, the whole model {loss:.2g}.",
        ),
        (
            [lookup],
            f"A lookup table of the training pairs, with the same training loss, has {lookup:.2g} there, so only a lower loss speaks for a circuit.",
        ),
        ([held_out], f"Averaged over test pairs alone, where such a table can only guess, the model has {held_out:.2g}."),
        ([excluded], f"Removing them (excluded loss) gives {excluded:.2g} nats on training pairs, where guessing gives {np.log(2 * n + 1):.2g}."),
    ]
    sentences = [f"Its key frequencies are {len(keys)} of {n}: {', '.join(str(int(key)) for key in keys)}."]
    sentences += [sentence for numbers, sentence in by_number if np.isfinite(numbers).all()]
    if nearly_all(len(keys), n):
        sentences.append("These are nearly all frequencies: keeping them keeps nearly everything, so a small restricted loss shows no circuit.")
    return " ".join(sentences)


def _which_representations(last: xr.Dataset) -> str:
    """The key representations of a model that has generalised, and what they carry; empty where none were looked for."""
    if "key_irrep" not in last or "logit_similarity" not in last:
        return ""
    keys, n = [str(key) for key in last["key_irrep"].to_numpy()], last.sizes["irrep"]
    if not keys:
        return "Its logits resemble no irreducible representation by more than chance gives, so none is named."
    told = [f"Its key representations are {len(keys)} of {n}: {', '.join(keys)}."]
    restricted, lookup = (_value(last, f"restricted_loss_keys{table}", split="test") for table in ("", "_lookup"))
    loss, excluded = _value(last, "loss", split="test"), _value(last, "excluded_loss_keys", split="train")
    if math.isfinite(restricted):
        told.append(f"With nothing else in its neurons (restricted loss) it has {restricted:.2g} nats on test pairs, whole {loss:.2g}.")
    if math.isfinite(lookup):
        told.append(f"A lookup table of the training pairs has {lookup:.2g} there.")
    if math.isfinite(excluded):
        told.append(f"Without them (excluded loss) it has {excluded:.2g} nats on training pairs.")
    return " ".join(told)


def _value(last: xr.Dataset, name: str, **at: str) -> float:
    """One number of the last step, NaN where the dataset lacks it."""
    return float(last[name].sel(at)) if name in last else math.nan
