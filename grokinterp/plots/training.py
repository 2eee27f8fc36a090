"""Figures of what changes over training: losses, accuracy, progress measures, sparsity, and any other scalar."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from grokinterp.plots.lazy import go
from grokinterp.plots.parts import BAR, BLUE, GREEN, ORANGE, SKY, STEPS, STYLES, at_last_step, has, layout_figure, lines_of, need

if TYPE_CHECKING:
    import xarray as xr

_SPLITS = {"train": "train", "test": "test", "unseen": "test, mirror unseen"}
PHASES = {"memorization": ORANGE, "circuit formation": SKY, "cleanup": GREEN}


def losses(dataset: xr.Dataset) -> go.Figure:
    """Train and test loss (nats, logarithmic) over steps, the phases of training shaded.

    Draws the metrics recorded while training, or else ``loss`` over at least two steps.
    """
    caption = "Training loss falls first; test loss falls when the model generalises, which may be much later. The scale is logarithmic."
    lines = _train_and_test(dataset, "loss")
    return _shade(layout_figure("Loss over training", caption, lines, STEPS, "loss (nats)", log=True), dataset)


def accuracy(dataset: xr.Dataset) -> go.Figure:
    """Train and test accuracy over steps.

    Draws the metrics recorded while training, or else ``accuracy`` over at least two steps.
    """
    caption = "Share of pairs answered correctly; the gap between the lines is memorisation without generalisation."
    return layout_figure("Accuracy over training", caption, _train_and_test(dataset, "accuracy"), STEPS, "accuracy (share correct)")


def progress(dataset: xr.Dataset) -> go.Figure:
    """Train, test, restricted (all pairs) and excluded (training pairs) loss in nats: lines over steps, or bars for a single step.

    Draws ``loss``, ``restricted_loss`` and ``excluded_loss``.
    """
    wanted = {"train": ("loss", "train"), "test": ("loss", "test"), "restricted": ("restricted_loss", "all"), "excluded": ("excluded_loss", "train")}
    values = {label: need(dataset, name).sel(split=split) for label, (name, split) in wanted.items()}
    title, caption = "Progress measures", "Restricted loss keeps only the key frequencies in the logits, excluded loss takes them out: "
    if dataset.sizes["step"] > 1:
        caption += "while the circuit forms, the first falls and the second rises, before test loss falls."
        return _shade(layout_figure(title, caption, lines_of(values), STEPS, "loss (nats)", log=True), dataset)
    caption += "a model that computes with the key frequencies has a low restricted and a high excluded loss. The scale is logarithmic."
    bars = _bars({label: float(value[-1]) for label, value in values.items()}, [colour for colour, _ in STYLES[: len(values)]])
    return layout_figure(title, caption, [bars], "pairs or frequencies", "loss (nats)", log=True)


def key_frequencies_removed(dataset: xr.Dataset) -> go.Figure:
    """Training loss (nats, logarithmic) with one key frequency removed: a line for each over steps, or bars for a single step.

    Draws ``excluded_loss_each``.
    """
    title, each = "Training loss without one key frequency", need(dataset, "excluded_loss_each")
    caption = "Training loss with one key frequency taken out of the logits; the higher it is, the more the model relies on that frequency."
    keys = [int(key) for key in each["key_frequency"]]
    if dataset.sizes["step"] > 1:
        lines = lines_of({f"frequency {key}": each.isel(key_frequency=i) for i, key in enumerate(keys)})
        return layout_figure(title, caption, lines, STEPS, "loss (nats)", log=True)
    bars = _bars({str(key): float(value) for key, value in zip(keys, at_last_step(each), strict=True)}, [BLUE] * len(keys))
    return layout_figure(title, caption, [bars], "key frequency removed", "loss (nats)", log=True).update_xaxes(type="category")


def fve(dataset: xr.Dataset) -> go.Figure:
    """Fraction of the logits' variance that the key frequencies explain, over steps, in each form of centring.

    Draws ``fve`` over at least two steps.
    """
    caption = (
        "How much of the logits is the Fourier circuit: at 1 the key frequencies explain all of it. The lines differ in which means come off first."
    )
    shares = need(dataset, "fve", steps=2)
    lines = lines_of({str(form).replace("_", "-"): shares.sel(form=form) for form in shares["form"].to_numpy()})
    return layout_figure("Variance of the logits explained", caption, lines, STEPS, "fraction of variance explained")


def gini(dataset: xr.Dataset) -> go.Figure:
    """Gini coefficient of the Fourier spectra of the embedding and of the neuron-to-logit map, over steps.

    Draws ``gini`` over at least two steps.
    """
    caption = "At 0 all Fourier components are equally large, near 1 a few hold all; it rises as the weights become sparse in the Fourier basis."
    value = need(dataset, "gini", steps=2)
    pairs = [(str(matrix), str(kind)) for matrix in value["matrix"].to_numpy() for kind in value["kind"].to_numpy()]
    lines = lines_of({f"{matrix}, {kind}": value.sel(matrix=matrix, kind=kind) for matrix, kind in pairs})
    return layout_figure("Sparsity of the Fourier spectra", caption, lines, STEPS, "Gini coefficient")


def scalar(dataset: xr.Dataset, name: str) -> go.Figure:
    """One scalar variable over at least two steps, as its attributes ``long_name``, ``units`` and ``description`` present it."""
    value = need(dataset, name, steps=2)
    label, units = str(value.attrs.get("long_name", name.removeprefix("metric_").replace("_", " "))), value.attrs.get("units")
    plain = (
        f"The {label} that was recorded at each evaluation while training." if name.startswith("metric_") else f"The value of {name} at each step."
    )
    caption = str(value.attrs.get("description", plain))
    return layout_figure(label[:1].upper() + label[1:], caption, lines_of({label: value}), STEPS, f"{label} ({units})" if units else label)


def _train_and_test(dataset: xr.Dataset, quantity: str) -> list[go.Scatter]:
    recorded = {label: dataset[name] for split, label in _SPLITS.items() if has(dataset, name := f"metric_{split}_{quantity}", steps=2)}
    if recorded:
        return lines_of(recorded)
    measured = need(dataset, quantity, steps=2)
    lines = {split: measured.sel(split=split) for split in ("train", "test")}
    if has(dataset, name := f"unseen_{quantity}", steps=2):
        lines[_SPLITS["unseen"]] = dataset[name]
    return lines_of(lines)


def _bars(heights: dict[str, float], colours: list[str]) -> go.Bar:
    """Losses as bars with their values written above, since a bar on a logarithmic axis has no foot to measure from."""
    bars = go.Bar(x=list(heights), y=list(heights.values()), name="loss", marker_color=colours, hovertemplate=BAR)
    return bars.update(text=[f"{height:.2g}" for height in heights.values()], textposition="outside", textangle=0, cliponaxis=False)


def _shade(figure: go.Figure, dataset: xr.Dataset) -> go.Figure:
    """Shade the phases of training, named in the legend, as far as their ends were found in order."""
    first = min((int(line.x[0]) for line in figure.data if len(line.x)), default=0)
    for (start, stop), (label, colour) in zip(_phase_spans(dataset, first), PHASES.items(), strict=False):
        # The legend names phases: a label inside a band that is a hundredth of the run wide could not be read.
        figure.add_vrect(x0=start, x1=stop, fillcolor=colour, opacity=0.18, line_width=0, layer="below", showlegend=True, name=label)
    return figure.update_layout(showlegend=True)


def phase_spans(dataset: xr.Dataset, steps: np.ndarray) -> list[tuple[str, str, tuple[int, int]]]:
    """Name, colour, first and last step of each phase of training and of what comes after; one stretch where no phases were found.

    Args:
        dataset: of a report.
        steps: ascending, all that are to be covered.
    """
    first, last = int(steps[0]), int(steps[-1])
    found = [(name, colour, span) for span, (name, colour) in zip(_phase_spans(dataset, first), PHASES.items(), strict=False)]
    reached = found[-1][2][1] if found else first
    rest = [("after" if found else "training", BLUE, (reached, last))] if reached < last else []
    return found + rest


def _phase_spans(dataset: xr.Dataset, first: int) -> Iterator[tuple[int, int]]:
    phases = json.loads(dataset.attrs.get("phases") or "{}")
    start = first
    for name in ("memorization_end", "circuit_end", "cleanup_end"):
        stop = phases.get(name)
        if stop is None or stop <= start:
            return
        yield start, int(stop)
        start = int(stop)
