"""What a report says in one table: phases and headline numbers; `summary` says it in sentences.

Everything here is read off the dataset of a report; no models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from grokinterp.conditions import first_stretch
from grokinterp.measures import MEASURES, OURS, Measure, Number
from grokinterp.measures.measure import GIVEN_BY, scalars_of
from grokinterp.measures.undefined import reasons_of
from grokinterp.reports.figures import without_user_variables

LEARNED = 0.01  # train and test loss, in nats, below which pairs count as learned (chosen here)
FALL = 0.95  # share of restricted loss's fall, from its largest to its last value, that ends circuit formation (chosen here)


@dataclass(frozen=True)
class Phases:
    """When a run memorised, formed its circuit and cleaned up, in steps; None where a phase has no end in the run.

    Attributes:
        memorization_end: the minimum of excluded loss after train loss has fallen below 0.01.
        circuit_end: the first step after restricted loss's peak at which it has made 95 % of its fall.
        cleanup_end: the first step with test loss below 0.01.
    """

    memorization_end: int | None
    circuit_end: int | None
    cleanup_end: int | None

    @classmethod
    def from_curves(cls, steps: np.ndarray, train: np.ndarray, test: np.ndarray, restricted: np.ndarray, excluded: np.ndarray) -> Phases:
        """The three phases of training by rule, from losses over a run; of frequencies or of representations alike.

        The paper (Nanda et al. 2023, section 5.2) reads them off the curves by eye; this rule is chosen here. Steps at which a loss is not defined
        count as no end of a phase.

        Args:
            steps: ascending, [step].
            train: train loss, in nats.
            test: test loss.
            restricted: restricted loss over all pairs.
            excluded: excluded loss on the training pairs.
        """
        learned = np.flatnonzero(np.maximum.accumulate(train < LEARNED))
        learned = learned[np.isfinite(excluded[learned])]
        memorization_end = int(steps[learned[np.argmin(excluded[learned])]]) if len(learned) else None
        circuit_end = None
        if len(known := np.flatnonzero(np.isfinite(restricted))):
            peak = known[np.argmax(restricted[known])]
            fallen = restricted <= restricted[peak] - FALL * (restricted[peak] - restricted[known[-1]])
            circuit_end = _first(steps, fallen & (np.arange(len(steps)) > peak) & (restricted < restricted[peak]))
        return cls(memorization_end, circuit_end, _first(steps, test < LEARNED))

    @property
    def in_order(self) -> bool:
        """Whether all three were found, one after the other."""
        ends = [end for end in (self.memorization_end, self.circuit_end, self.cleanup_end) if end is not None]
        return len(ends) == 3 and ends == sorted(ends)


def phases(dataset: xr.Dataset) -> Phases:
    """The three phases of training, by the rule of `Phases.from_curves`.

    Args:
        dataset: `progress` over steps, as ``analyze(run, ["progress"])`` gives it.
    """
    train, test = (dataset["loss"].sel(split=split).to_numpy() for split in ("train", "test"))
    restricted, excluded = dataset["restricted_loss"].sel(split="all"), dataset["excluded_loss"].sel(split="train")
    return Phases.from_curves(dataset["step"].to_numpy(), train, test, restricted.to_numpy(), excluded.to_numpy())


def _first(steps: np.ndarray, condition: np.ndarray) -> int | None:
    found = first_stretch(steps.tolist(), condition.tolist())
    return None if found is None else int(found.onset)


def headline(dataset: xr.Dataset, measures: Mapping[str, Measure] = MEASURES) -> list[Number]:
    """The numbers of a report's last step that one quotes, as far as the dataset has them; losses in nats.

    Args:
        dataset: what an analysis gives.
        measures: whose rows are shown. Of a measure that is not among these it is each scalar.
    """
    if "step" not in dataset.sizes or "run" in dataset.sizes:  # what one quotes is a run's own
        return []
    last = dataset.isel(step=-1)
    numbers = [Number("step", f"{int(last['step']):,}", "updates of the weights")]
    for split in ("train", "test"):
        if f"metric_{split}_loss" in dataset:
            numbers.append(
                Number(
                    f"recorded {split} loss",
                    f"{_last_finite(dataset[f'metric_{split}_loss']):.4e}",
                    "the last that was written down while training",
                    aside=True,
                )
            )
    ours = without_user_variables(dataset)
    for name, measure in measures.items():
        numbers += measure.headline(ours if name in OURS else dataset)
    for name in dict.fromkeys(str(array.attrs[GIVEN_BY]) for array in last.data_vars.values() if GIVEN_BY in array.attrs):
        numbers += [] if name in measures else scalars_of(last, name)
    for split, below in (("train", 1e-2), ("test", 1.0), ("test", 1e-2)):
        if f"metric_{split}_loss" in dataset:
            first = _first(dataset["eval_step"].to_numpy(), dataset[f"metric_{split}_loss"].to_numpy() < below)
            shown = "not reached" if first is None else f"{first:,}"
            numbers.append(Number(f"first step with {split} loss < {below:g}", shown, aside=(split, below) != ("test", 1e-2)))
    return numbers


def missing(dataset: xr.Dataset) -> dict[str, str]:
    """What a report lacks, in words, with the reasons, each once: {"heads does not apply": …, "fsd and fsd_set are not defined": …}."""
    try:
        failures = json.loads(str(dataset.attrs.get("failures") or "{}"))
    except json.JSONDecodeError:
        failures = str(dataset.attrs["failures"])
    reasons = _once(failures, "does not apply", "do not apply") if isinstance(failures, dict) else {"analysis": str(failures)}
    return reasons | _once(reasons_of(dataset), "is not defined", "are not defined")


def _once(reasons: Mapping[str, str], one: str, several: str) -> dict[str, str]:
    """Reasons by what they hold of, in words: those that several names share stand once."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(str(reason), []).append(name)
    return {f"{listed(held)} {one if len(held) == 1 else several}": reason for reason, held in names.items()}


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _last_finite(values: xr.DataArray) -> float:
    finite = values.to_numpy()[np.isfinite(values.to_numpy())]
    return float(finite[-1]) if len(finite) else float("nan")
