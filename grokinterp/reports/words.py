"""What a report says in one table: phases and headline numbers; `summary` says it in sentences.

Everything here is read off the dataset of a report; no models.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from grokinterp.conditions import first_stretch
from grokinterp.measures.algorithm import verdict

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Phases:
    """When a run memorized, formed its circuit and cleaned up, in steps; None where a phase has no end in the run.

    Attributes:
        memorization_end: the minimum of excluded loss after train loss has fallen below 0.01.
        circuit_end: the first step at which restricted loss has made 95 % of its fall.
        cleanup_end: the first step with test loss below 0.01.
    """

    memorization_end: int | None
    circuit_end: int | None
    cleanup_end: int | None

    @property
    def in_order(self) -> bool:
        """Whether all three were found, one after the other."""
        ends = [end for end in (self.memorization_end, self.circuit_end, self.cleanup_end) if end is not None]
        return len(ends) == 3 and ends == sorted(ends)


def phases(dataset: xr.Dataset, loss_below: float = 0.01, fall: float = 0.95) -> Phases:
    """The three phases of training by rule, from the progress measures over a run.

    The paper (Nanda et al. 2023, section 5.2) reads them off the curves by eye; this rule is chosen here.

    Args:
        dataset: `progress` over steps, as ``analyze(run, ["progress"])`` gives it.
        loss_below: train and test loss, in nats, that count as learned.
        fall: share of restricted loss's fall, from its largest to its last value, that ends circuit formation.
    """
    steps = dataset["step"].to_numpy()
    train, test = (dataset["loss"].sel(split=split).to_numpy() for split in ("train", "test"))
    excluded = dataset["excluded_loss"].sel(split="train").to_numpy()
    restricted = dataset["restricted_loss"].sel(split="all").to_numpy()

    learned = np.flatnonzero(np.maximum.accumulate(train < loss_below))
    memorization_end = steps[learned[np.argmin(excluded[learned])]] if len(learned) else None
    fallen = restricted <= restricted.max() - fall * (restricted.max() - restricted[-1])
    circuit_end = _first(steps, fallen & (restricted < restricted.max()))
    return Phases(None if memorization_end is None else int(memorization_end), circuit_end, _first(steps, test < loss_below))


def _first(steps: np.ndarray, condition: np.ndarray) -> int | None:
    found = first_stretch(steps.tolist(), condition.tolist())
    return None if found is None else int(found.onset)


class Number(NamedTuple):
    """One number of a report that one quotes."""

    quantity: str
    value: str
    meaning: str = ""


def headline(dataset: xr.Dataset) -> list[Number]:
    """The numbers of a report's last step that one quotes, as far as the dataset has them; losses in nats."""
    if "step" not in dataset.sizes:
        return []
    last = dataset.isel(step=-1)
    numbers = [Number("step", f"{int(last['step']):,}", "updates of the weights")]
    for split in ("train", "test"):
        if f"metric_{split}_loss" in dataset:
            numbers.append(
                Number(
                    f"recorded {split} loss", f"{_last_finite(dataset[f'metric_{split}_loss']):.4e}", "the last that was written down while training"
                )
            )
    for rows in (_losses, _circuit, _weights, _algorithm):
        with contextlib.suppress(KeyError):  # a measure that was not asked for
            numbers += rows(last)
    for split, below in (("train", 1e-2), ("test", 1.0), ("test", 1e-2)):
        if f"metric_{split}_loss" in dataset:
            first = _first(dataset["eval_step"].to_numpy(), dataset[f"metric_{split}_loss"].to_numpy() < below)
            numbers.append(Number(f"first step with {split} loss < {below:g}", "not reached" if first is None else f"{first:,}"))
    return numbers


_TABLE = ("train", "test", "all")


def _losses(last: xr.Dataset) -> list[Number]:
    each = ", ".join(f"{k}: {value:.3g}" for k, value in zip(last["key_frequency"].to_numpy(), last["excluded_loss_each"].to_numpy(), strict=True))
    return [
        Number("loss, train / test / all pairs", _by(last["loss"], "split", _TABLE, ".4e"), "mean cross-entropy over the task's answers"),
        Number("accuracy, train / test / all pairs", _by(last["accuracy"], "split", _TABLE, ".4g"), "share of right answers"),
        Number(
            "restricted loss, train / test / all pairs",
            _by(last["restricted_loss"], "split", _TABLE, ".4g"),
            "only the key frequencies kept in the logits",
        ),
        Number("… without the mean logits, all pairs", f"{float(last['restricted_loss_no_mean'].sel(split='all')):.3g}"),
        Number(
            "excluded loss, train / test",
            _by(last["excluded_loss"], "split", ("train", "test"), ".4g"),
            "the key frequencies taken out of the logits",
        ),
        Number("excluded loss of one key, train", each, "one key frequency taken out at a time"),
    ]


def _circuit(last: xr.Dataset) -> list[Number]:
    frequencies, forms = last["frequency"].to_numpy(), ("raw", "row_centred", "class_centred")
    return [
        Number("key frequencies", _listed(last["key_frequency"].to_numpy()), "at least 1 % of the squared norm of W_L = W_out·W_U"),
        Number(
            "key frequencies, published rule", _listed(frequencies[last["published_key"].to_numpy().astype(bool)]), "strongest in at least one neuron"
        ),
        Number(
            "FVE raw / row-centred / less class mean",
            _by(last["fve"], "form", forms, ".4f"),
            "share of the logits' variance that cos w(a + b − c) of the keys explains",
        ),
        Number(
            "neurons above 85 % / 90 %",
            f"{_by(last['neurons_above'], 'threshold', (0.85, 0.90), '.0f')} of {last.sizes['neuron']}",
            "of their variance at one frequency",
        ),
    ]


def _weights(last: xr.Dataset) -> list[Number]:
    kinds = ("components", "frequencies")
    return [
        *(Number(f"{name}, strongest frequencies (norm)", _strongest(last[f"{name}_norm"])) for name in ("W_E", "W_L")),
        Number(
            "power in the key frequencies, W_L / W_E",
            _by(last["key_power_share"], "matrix", ("W_L", "W_E"), ".3f"),
            "of the squared norm, the constant removed",
        ),
        *(
            Number(
                f"Gini of {name}, components / frequencies", _by(last["gini"].sel(matrix=name), "kind", kinds, ".4f"), "0 all equal, near 1 sparse"
            )
            for name in ("W_E", "W_L")
        ),
        Number("sum of squared weights", f"{float(last['sum_of_squares']):.2f}", "over all trained parameters"),
    ]


def _algorithm(last: xr.Dataset) -> list[Number]:
    return [
        Number("clock or pizza", verdict(last), "by the thresholds of arXiv 2306.17844"),
        Number("distance irrelevance, right / largest wrong logit", _each(last, "distance_irrelevance", "distance_irrelevance_wrong")),
        Number("gradient symmetricity", _each(last, "gradient_symmetricity"), "1 where a logit's gradients for both operands agree"),
        Number("circularity of x / y", _by(last["circularity"], "operand", ("x", "y"), ".4f"), "1 where the embedding lies on circles"),
    ]


def _by(array: xr.DataArray, dimension: str, labels: tuple[object, ...], form: str) -> str:
    return " / ".join(format(float(array.sel({dimension: label})), form) for label in labels)


def _each(last: xr.Dataset, *names: str) -> str:
    return " / ".join(f"{float(last[name]):.4f}" for name in names)


def _listed(values: np.ndarray) -> str:
    return ", ".join(str(int(value)) for value in values) or "none"


def _strongest(norms: xr.DataArray, n: int = 6) -> str:
    order = np.argsort(-norms.to_numpy())[:n]
    return ", ".join(f"{int(norms['frequency'][i])} ({float(norms[i]):.3g})" for i in order)


def _last_finite(values: xr.DataArray) -> float:
    array = values.to_numpy()
    return float(array[np.isfinite(array)][-1])
