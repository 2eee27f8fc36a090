"""Figures from the dataset that an analysis gives: datasets in, plotly figures out, no models.

Every figure says how it is read in ``figure.layout.meta["caption"]``. A function whose variables a dataset lacks raises
`MissingVariables`; `figures` draws all that a dataset holds. Long lines are thinned (`thin`). Colours are Okabe and Ito's, which stay apart for
colour-blind readers, and Cividis for heat maps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from grokinterp.errors import GrokinterpError

if TYPE_CHECKING:
    import xarray as xr

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999"
STYLES = [(colour, dash) for dash in ("solid", "dash", "dot", "dashdot") for colour in (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)]
PHASES = {"memorization": ORANGE, "circuit formation": SKY, "cleanup": GREEN}

_BAR = "%{x}: %{y:.4~g}<extra>%{fullData.name}</extra>"
STEPS = "training steps"
MAX_POINTS = 2000
MAX_COLUMNS = 1000
EXPLAINED = 0.85
"""Share of variance above which a neuron counts as explained by one frequency (Nanda et al. 2023, section 4)."""


class MissingVariables(GrokinterpError):
    """A dataset lacks what a figure draws."""


def figures(dataset: xr.Dataset) -> dict[str, go.Figure]:
    """Every figure that a dataset has the variables for, by name, in reading order.

    Args:
        dataset: what an analysis gives. Scalars over ``step`` or ``eval_step`` that no figure of this module draws get a line figure
            under their own name.
    """
    drawn: dict[str, go.Figure] = {}
    for draw in FIGURES:
        try:
            drawn[draw.__name__] = draw(dataset)
        except MissingVariables:
            continue
    for name in sorted(str(name) for name in dataset.data_vars):
        if name not in (*RECORDED, *drawn) and dataset[name].dims in (("step",), ("eval_step",)) and _has(dataset, name, steps=2):
            drawn[name] = scalar(dataset, name)
    return drawn


# --- over training ---------------------------------------------------------------------------------------------------------------


def losses(dataset: xr.Dataset) -> go.Figure:
    """Train and test loss (nats, logarithmic) over steps, the phases of training shaded.

    Draws the metrics recorded while training, or else ``loss`` over at least two steps.
    """
    caption = "Training loss falls first; test loss falls when the model generalizes, which may be much later. The scale is logarithmic."
    lines = _train_and_test(dataset, "loss")
    return _shade(layout_figure("Loss over training", caption, lines, STEPS, "loss (nats)", log=True), dataset)


def accuracy(dataset: xr.Dataset) -> go.Figure:
    """Train and test accuracy over steps.

    Draws the metrics recorded while training, or else ``accuracy`` over at least two steps.
    """
    caption = "Share of pairs answered correctly; the gap between the lines is memorization without generalization."
    return layout_figure("Accuracy over training", caption, _train_and_test(dataset, "accuracy"), STEPS, "accuracy (share correct)")


def progress(dataset: xr.Dataset) -> go.Figure:
    """Train, test, restricted (all pairs) and excluded (training pairs) loss in nats: lines over steps, or bars for a single step.

    Draws ``loss``, ``restricted_loss`` and ``excluded_loss``.
    """
    wanted = {"train": ("loss", "train"), "test": ("loss", "test"), "restricted": ("restricted_loss", "all"), "excluded": ("excluded_loss", "train")}
    values = {label: _need(dataset, name).sel(split=split) for label, (name, split) in wanted.items()}
    title, caption = "Progress measures", "Restricted loss keeps only the key frequencies in the logits, excluded loss takes them out: "
    if dataset.sizes["step"] > 1:
        caption += "while the circuit forms, the first falls and the second rises, before test loss falls."
        return _shade(layout_figure(title, caption, _lines(values), STEPS, "loss (nats)", log=True), dataset)
    caption += "a model that computes with the key frequencies has a low restricted and a high excluded loss. The scale is logarithmic."
    bars = _bars({label: float(value[-1]) for label, value in values.items()}, [colour for colour, _ in STYLES[: len(values)]])
    return layout_figure(title, caption, [bars], "pairs or frequencies", "loss (nats)", log=True)


def key_frequencies_removed(dataset: xr.Dataset) -> go.Figure:
    """Training loss (nats, logarithmic) with one key frequency removed: a line for each over steps, or bars for a single step.

    Draws ``excluded_loss_each``.
    """
    title, each = "Training loss without one key frequency", _need(dataset, "excluded_loss_each")
    caption = "Training loss with one key frequency taken out of the logits; the higher it is, the more the model relies on that frequency."
    keys = [int(key) for key in each["key_frequency"]]
    if dataset.sizes["step"] > 1:
        lines = _lines({f"frequency {key}": each.isel(key_frequency=i) for i, key in enumerate(keys)})
        return layout_figure(title, caption, lines, STEPS, "loss (nats)", log=True)
    bars = _bars({str(key): float(value) for key, value in zip(keys, _last(each), strict=True)}, [BLUE] * len(keys))
    return layout_figure(title, caption, [bars], "key frequency removed", "loss (nats)", log=True).update_xaxes(type="category")


def fve(dataset: xr.Dataset) -> go.Figure:
    """Fraction of the logits' variance that the key frequencies explain, over steps, in each form of centring.

    Draws ``fve`` over at least two steps.
    """
    caption = (
        "How much of the logits is the Fourier circuit: at 1 the key frequencies explain all of it. The lines differ in which means come off first."
    )
    shares = _need(dataset, "fve", steps=2)
    lines = _lines({str(form).replace("_", "-"): shares.sel(form=form) for form in shares["form"].to_numpy()})
    return layout_figure("Variance of the logits explained", caption, lines, STEPS, "fraction of variance explained")


def gini(dataset: xr.Dataset) -> go.Figure:
    """Gini coefficient of the Fourier spectra of the embedding and of the neuron-to-logit map, over steps.

    Draws ``gini`` over at least two steps.
    """
    caption = "At 0 all Fourier components are equally large, near 1 a few hold all; it rises as the weights become sparse in the Fourier basis."
    value = _need(dataset, "gini", steps=2)
    pairs = [(str(matrix), str(kind)) for matrix in value["matrix"].to_numpy() for kind in value["kind"].to_numpy()]
    lines = _lines({f"{matrix}, {kind}": value.sel(matrix=matrix, kind=kind) for matrix, kind in pairs})
    return layout_figure("Sparsity of the Fourier spectra", caption, lines, STEPS, "Gini coefficient")


def scalar(dataset: xr.Dataset, name: str) -> go.Figure:
    """One scalar variable over at least two steps, as its attributes ``long_name``, ``units`` and ``description`` present it."""
    value = _need(dataset, name, steps=2)
    label, units = str(value.attrs.get("long_name", name.removeprefix("metric_").replace("_", " "))), value.attrs.get("units")
    caption = str(value.attrs.get("description", f"The value of {name} at each step."))
    return layout_figure(label[:1].upper() + label[1:], caption, _lines({label: value}), STEPS, f"{label} ({units})" if units else label)


# --- spectra and neurons ---------------------------------------------------------------------------------------------------------


def embedding_spectrum(dataset: xr.Dataset) -> go.Figure:
    """Norm of the embedding W_E at each frequency: a heat map over steps, or bars for a single step, key frequencies set apart.

    Draws ``W_E_norm``.
    """
    caption = "How strongly the embedding varies with its token at each frequency. "
    return _spectrum(dataset, "W_E_norm", "Fourier spectrum of the embedding W_E", caption)


def logit_map_spectrum(dataset: xr.Dataset) -> go.Figure:
    """Norm of the neuron-to-logit map W_L at each frequency: a heat map over steps, or bars for a single step, key frequencies set apart.

    Draws ``W_L_norm``.
    """
    caption = "How strongly the neurons write to the logits at each frequency. "
    return _spectrum(dataset, "W_L_norm", "Fourier spectrum of the neuron-to-logit map W_L", caption)


def logits_2d(dataset: xr.Dataset) -> go.Figure:
    """Norm over answers of every two-dimensional Fourier component of the logits at the last step, one square cell each.

    Draws ``logit_component_norm``.
    """
    caption = (
        "Each cell is a wave over the first operand times a wave over the second; the circuit shows as bright 2 × 2 blocks on the diagonal, "
        "one for each key frequency. Colours are stretched near zero and end at the largest cell other than the constant."
    )
    last = _last(_need(dataset, "logit_component_norm")).transpose("component_y", "component_x")
    x, y = ([str(name) for name in last[dim].to_numpy()] for dim in ("component_x", "component_y"))
    varying = last.where((last["component_x"] != "1") | (last["component_y"] != "1"))
    hover = "x: %{x}, y: %{y}<br>norm %{z:.4g}<extra></extra>"
    cells = go.Heatmap(x=x, y=y, z=_values(last), zmin=0, zmax=float(varying.max()), **_heat(hover))
    cells.colorscale = [(position**2, colour) for position, colour in cells.colorscale]  # else one strong frequency hides the others
    figure = layout_figure("Logits in the two-dimensional Fourier basis", caption, [cells], "component of x", "component of y")
    # Left to itself, plotly stretches cells to the panel and puts the constant at the bottom.
    figure.update_yaxes(type="category", scaleanchor="x", constrain="domain", autorange="reversed")
    figure.update_xaxes(type="category", constrain="domain", constraintoward="left", tickangle=-90)
    return figure.update_layout(height=700)


def neurons(dataset: xr.Dataset) -> go.Figure:
    """Number of neurons by the frequency that explains most of their variance, at the last step, split at `EXPLAINED`.

    Draws ``neuron_frequency`` and ``neuron_share``.
    """
    frequency, share = (_values(_last(_need(dataset, name))) for name in ("neuron_frequency", "neuron_share"))
    alive = np.isfinite(frequency)
    bars = []
    for label, chosen, colour in ((f"share above {EXPLAINED}", share > EXPLAINED, BLUE), ("share below", ~(share > EXPLAINED), GREY)):
        found, count = np.unique(frequency[alive & chosen].astype(int), return_counts=True)
        bars.append(go.Bar(x=found, y=count, name=label, width=0.8, marker_color=colour, hovertemplate=_BAR))
    caption = f"Each neuron counts at the frequency that explains most of its variance, in blue where that is more than {EXPLAINED:.0%}."
    caption += "" if alive.all() else f" Left out: {(~alive).sum():,} neurons that are constant over all inputs."
    return layout_figure("Neurons by dominant frequency", caption, bars, "frequency", "number of neurons").update_layout(barmode="stack")


def _spectrum(dataset: xr.Dataset, name: str, title: str, caption: str) -> go.Figure:
    norm = _need(dataset, name).transpose("frequency", "step")
    frequency, steps = norm["frequency"].to_numpy(), norm["step"].to_numpy()
    if len(steps) > 1:
        columns = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MAX_COLUMNS)).round().astype(int))
        hover = "step %{x:,}, frequency %{y}<br>norm %{z:.4g}<extra></extra>"
        cells = go.Heatmap(x=steps[columns], y=frequency, z=_values(norm)[:, columns], **_heat(hover))
        return layout_figure(title, caption + "Rows that brighten are frequencies that the model comes to use.", [cells], STEPS, "frequency")
    key = np.isin(frequency, dataset["key_frequency"].to_numpy() if "key_frequency" in dataset.coords else [])
    height = _values(norm)[:, -1]
    groups = (("key frequencies", key, VERMILLION), ("other frequencies", ~key, GREY))
    bars = [
        go.Bar(x=frequency[chosen], y=height[chosen], name=label, width=0.8, marker_color=colour, hovertemplate=_BAR)
        for label, chosen, colour in groups
        if chosen.any()
    ]
    return layout_figure(title, caption + "Tall bars are frequencies that the model uses.", bars, "frequency", "norm").update_layout(
        barmode="overlay"
    )


# --- cores -----------------------------------------------------------------------------------------------------------------------


def core_size(dataset: xr.Dataset) -> go.Figure:
    """Energy, necessary and sufficient rank of the core over steps.

    Draws ``core_size`` over at least two steps.
    """
    size = _need(dataset, "core_size", steps=2)
    caption = (
        "How many dimensions hold the energy share, how many have to go before accuracy is at chance, and how few alone reach the whole model's "
        "accuracy. A gap between the last two is redundancy."
    )
    lines = _lines({name: size.sel(rank=name) for name in ("energy", "necessary", "sufficient")})
    return layout_figure("Core size over training", caption, lines, STEPS, "dimensions").update_yaxes(rangemode="tozero")


def core_r2(dataset: xr.Dataset) -> go.Figure:
    """R² of the operator that takes the core from one answer to the next, over steps: fitted, held out, and with shuffled answers.

    Draws ``core_r2`` over at least two steps, cut off at −1.
    """
    r2 = _need(dataset, "core_r2", steps=2)
    caption = (
        "How well one linear map takes the core from each answer to the next. The fit alone shows nothing; held out, the line rises when the core "
        "goes round a cycle, and shuffled answers stay below. Cut off at −1."
    )
    labels = {"fitted": "fitted", "held out": "held_out", "shuffled, held out": "null"}
    figure = layout_figure("Operator of the core", caption, _lines({name: r2.sel(fit=fit) for name, fit in labels.items()}), STEPS, "R²")
    return figure.update_yaxes(range=[-1.05, 1.05])


def core_eigenvalues(dataset: xr.Dataset) -> go.Figure:
    """Eigenvalues of the core's operator at the last step, in the complex plane with the unit circle.

    Draws ``core_eigenvalue``.
    """
    values = _values(_last(_need(dataset, "core_eigenvalue")).transpose("eigenvalue", "part"))
    caption = "Each dot is a mode of the core: on the circle it turns for ever, its angle being its frequency; inside it decays."
    return _plane("Eigenvalues of the core's operator", caption, [_dots(values, "eigenvalues")], "real part", "imaginary part", circle=True)


def core_clock(dataset: xr.Dataset) -> go.Figure:
    """Mean core vector of each answer, or of each input token of a sequence, in the core's strongest two directions, at the last step.

    Draws ``core_mean``.
    """
    means = _values(_last(_need(dataset, "core_mean")).transpose("core_class", "core_axis"))
    caption = "Each dot is an answer of a cyclic task, or a token of a sequence; where the dots go round in order, the core is a clock."
    ring = np.concatenate([means, means[:1]])
    path = go.Scatter(x=ring[:, 0], y=ring[:, 1], mode="lines", line={"color": GREY, "width": 1}, hoverinfo="skip", showlegend=False)
    return _plane("Means in the strongest two core dimensions", caption, [path, _dots(means, "means")], "first dimension", "second dimension")


def _dots(values: np.ndarray, name: str) -> go.Scatter:
    """Points [entry, 2] with their numbers."""
    hover = "%{text}: %{x:.3~g}, %{y:.3~g}<extra></extra>"
    text = [str(i) for i in range(len(values))]
    return go.Scatter(x=values[:, 0], y=values[:, 1], text=text, name=name, mode="markers", marker={"color": BLUE, "size": 7}, hovertemplate=hover)


def _plane(title: str, caption: str, traces: Sequence[Any], x: str, y: str, circle: bool = False) -> go.Figure:
    """A figure of a plane: the same scale both ways, nothing hidden by an empty entry."""
    figure = layout_figure(title, caption, traces, x, y).update_layout(hovermode="closest", showlegend=False)
    if circle:
        figure.add_shape(type="circle", x0=-1, y0=-1, x1=1, y1=1, line={"color": GREY, "width": 1}, layer="below")
    return figure.update_yaxes(scaleanchor="x", constrain="domain").update_xaxes(constrain="domain")


# --- agreement -------------------------------------------------------------------------------------------------------------------


def agreement_by_layer(dataset: xr.Dataset) -> go.Figure:
    """AUC of the agreement margin on the test half, clean and with the core kept, removed and flipped, over layers; the chosen layer is marked.

    Draws ``agreement_auc``, ``random_auc`` and ``chosen_layer``.
    """
    values, best = _last(_need(dataset, "agreement_auc")).sel(half="test"), int(_last(_need(dataset, "chosen_layer")))
    caption = (
        "How well the margin tells plural from singular: 1 perfect, ½ chance, 0 inverted. Below chance what is left follows the attractor, which "
        f"always has the other number. The layer, {best} of {int(values['layer'].max())}, was chosen on the extraction half."
    )
    layers, modes = values["layer"].to_numpy(), [str(mode) for mode in values["mode"].to_numpy()]
    marks = {"mode": "lines+markers", "line_width": 2}
    lines = [
        go.Scatter(x=layers, y=_values(values.sel(mode=mode)), name=mode, line_color=STYLES[i][0], line_dash=STYLES[6 * (i == 0)][1], **marks)
        for i, mode in enumerate(modes)
    ]
    if _has(dataset, "random_auc"):
        control = float(_last(dataset["random_auc"]).sel(mode="flip").mean())
        lines.append(
            go.Scatter(x=[best], y=[control], name="flip, random directions", mode="markers", marker={"color": GREY, "symbol": "x", "size": 9})
        )
    figure = layout_figure("Agreement by layer", caption, lines, "layer (blocks before the hook)", "AUC")
    figure.update_xaxes(dtick=max(1, len(layers) // 12)).update_yaxes(range=[-0.03, 1.03])
    return figure.add_vline(x=best, line={"color": GREY, "dash": "dot", "width": 1})


def agreement_knob(dataset: xr.Dataset) -> go.Figure:
    """The margin of each test prompt against its core coordinate at the chosen layer, with the least-squares line.

    Draws ``margin``, ``core_coordinate``, ``number``, ``knob_slope``, ``knob_intercept`` and ``knob_r2``.
    """
    margin = _last(_need(dataset, "margin")).sel(mode="base")
    z, y, number = (_values(_last(_need(dataset, name)) if name != "margin" else margin) for name in ("core_coordinate", "margin", "number"))
    slope, intercept, r2 = (float(_last(_need(dataset, f"knob_{name}"))) for name in ("slope", "intercept", "r2"))
    texts = np.array([str(text) for text in margin["prompt"].to_numpy()])
    dots = [
        go.Scatter(
            x=z[number == sign],
            y=y[number == sign],
            text=texts[number == sign],
            name=name,
            mode="markers",
            marker={"color": colour, "size": 5, "opacity": 0.6},
        )
        for sign, name, colour in ((-1, "singular head", BLUE), (1, "plural head", VERMILLION))
    ]
    ends = np.array([z.min(), z.max()])
    dots.append(go.Scatter(x=ends, y=slope * ends + intercept, name="least squares", mode="lines", line={"color": GREY, "width": 2}))
    caption = f"One number inside the model sets the margin: a line explains {r2:.1%} of its variance over the test prompts."
    figure = layout_figure("Margin against core coordinate", caption, dots, "core coordinate z", "margin (nats), plural minus singular verbs")
    return figure.update_layout(hovermode="closest")


def agreement_probabilities(dataset: xr.Dataset) -> go.Figure:
    """Mean probability of each verb form before and after the flip, for singular and for plural heads.

    Draws ``verb_probability``.
    """
    values = _last(_need(dataset, "verb_probability"))
    verbs = [str(verb).strip() for verb in values["verb"].to_numpy()]
    groups = [("singular", "base", SKY, "clean"), ("singular", "flip", BLUE, "flipped"), ("plural", "base", ORANGE, "clean")]
    groups.append(("plural", "flip", VERMILLION, "flipped"))
    bars = [
        go.Bar(x=verbs, y=_values(values.sel(head_number=number, mode=mode)), name=f"{number} head, {label}", marker_color=colour, hovertemplate=_BAR)
        for number, mode, colour, label in groups
    ]
    caption = "Behind the prompt, mean over the test half. The flip hands each verb's probability to its form of the other number."
    return layout_figure("Verbs before and after the flip", caption, bars, "verb", "probability").update_layout(barmode="group")


def agreement_strength(dataset: xr.Dataset) -> go.Figure:
    """Mean margin of singular and plural heads when the core of the chosen layer is multiplied by a factor.

    Draws ``strength_margin``.
    """
    values = _last(_need(dataset, "strength_margin"))
    factor = values["strength"].to_numpy()
    lines = [
        go.Scatter(x=factor, y=_values(values.sel(head_number=number)), name=f"{number} head", mode="lines", line={"color": colour, "width": 2})
        for number, colour in (("singular", BLUE), ("plural", VERMILLION))
    ]
    caption = "At 1 nothing is changed, at 0 the core is removed, at −1 it is flipped; the test half."
    return layout_figure("Margin by strength of the core", caption, lines, "factor of the core", "mean margin (nats)")


def coordinate_correlations(dataset: xr.Dataset) -> go.Figure:
    """Correlations of several models' core coordinates on the same prompts: Pearson below the diagonal, Spearman above.

    Draws ``coordinate_pearson`` and ``coordinate_spearman``.
    """
    pearson, spearman = (_values(_last(_need(dataset, f"coordinate_{kind}"))) for kind in ("pearson", "spearman"))
    names = [str(name) for name in dataset["model"].to_numpy()]
    values = np.tril(pearson) + np.triu(spearman, 1)
    hover = "%{y} and %{x}<br>%{z:.3f}<extra></extra>"
    heat = _heat(hover)
    heat["colorbar"] = heat["colorbar"] | {"title": {"text": "correlation", "side": "right"}}
    cells = go.Heatmap(x=names, y=names, z=values, zmin=-1, zmax=1, texttemplate="%{z:.3f}", **heat)
    caption = "How alike two models order the same prompts along their cores: Pearson's correlation below the diagonal, Spearman's above."
    figure = layout_figure("Core coordinates across models", caption, [cells], "model", "model")
    return figure.update_yaxes(autorange="reversed", scaleanchor="x", constrain="domain").update_xaxes(constrain="domain")


# --- data ------------------------------------------------------------------------------------------------------------------------


def thin(values: np.ndarray, limit: int = MAX_POINTS) -> np.ndarray:
    """Indices, ascending and at most `limit`, that draw a long line without losing a spike.

    The first and the last point stay, and the smallest and largest of each of equal stretches between.

    Args:
        values: the line's finite heights.
        limit: at least 4.
    """
    n = len(values)
    if n <= limit:
        return np.arange(n)
    edges = np.linspace(1, n - 1, (limit - 2) // 2 + 1).astype(int)
    extremes = [start + pick(values[start:stop]) for start, stop in pairwise(edges) for pick in (np.argmin, np.argmax)]
    return np.unique([0, *extremes, n - 1])


def _has(dataset: xr.Dataset, name: str, steps: int = 1) -> bool:
    """Whether a variable is there in numbers, with a finite value at no fewer than `steps` steps."""
    if name not in dataset.data_vars or dataset[name].dtype.kind not in "iufb":
        return False
    value = dataset[name]
    # Infinities count as missing too: nothing can be drawn of them.
    finite = value.where(abs(value) < np.inf).notnull()
    return int(finite.any([dim for dim in finite.dims if dim not in ("step", "eval_step")]).sum()) >= steps


def _need(dataset: xr.Dataset, name: str, steps: int = 1) -> xr.DataArray:
    if not _has(dataset, name, steps):
        over = f" over at least {steps} steps" if steps > 1 else ""
        raise MissingVariables(f"this figure draws {name!r}{over}, which the dataset does not hold; run the measure that gives it")
    return dataset[name]


def _last(value: xr.DataArray) -> xr.DataArray:
    return value.isel(step=-1) if "step" in value.dims else value


def _values(value: xr.DataArray) -> np.ndarray:
    return np.asarray(value.to_numpy(), dtype=float)


def _train_and_test(dataset: xr.Dataset, quantity: str) -> list[go.Scatter]:
    recorded = {split: dataset[name] for split in ("train", "test") if _has(dataset, name := f"metric_{split}_{quantity}", steps=2)}
    if recorded:
        return _lines(recorded)
    measured = _need(dataset, quantity, steps=2)
    return _lines({split: measured.sel(split=split) for split in ("train", "test")})


# --- drawing ---------------------------------------------------------------------------------------------------------------------


def _lines(values: dict[str, xr.DataArray]) -> list[go.Scatter]:
    """A line for each array over its own steps, long ones thinned, values that are not finite left out."""
    lines = []
    for i, (label, value) in enumerate(values.items()):
        colour, dash = STYLES[i % len(STYLES)]
        x, y = value[value.dims[0]].to_numpy(), _values(value)
        kept = np.flatnonzero(np.isfinite(y))
        kept = kept[thin(y[kept])]
        lines.append(go.Scatter(x=x[kept], y=y[kept], name=label, mode="lines", line={"color": colour, "dash": dash, "width": 2}))
    return lines


def _bars(heights: dict[str, float], colours: list[str]) -> go.Bar:
    """Losses as bars with their values written above, since a bar on a logarithmic axis has no foot to measure from."""
    bars = go.Bar(x=list(heights), y=list(heights.values()), name="loss", marker_color=colours, hovertemplate=_BAR)
    return bars.update(text=[f"{height:.2g}" for height in heights.values()], textposition="outside", textangle=0, cliponaxis=False)


def _shade(figure: go.Figure, dataset: xr.Dataset) -> go.Figure:
    """Shade the phases of training, named in the legend, as far as their ends were found in order."""
    first = min((int(line.x[0]) for line in figure.data if len(line.x)), default=0)
    for (start, stop), (label, colour) in zip(_phase_spans(dataset, first), PHASES.items(), strict=False):
        # The legend names phases: a label inside a band that is a hundredth of the run wide could not be read.
        figure.add_vrect(x0=start, x1=stop, fillcolor=colour, opacity=0.18, line_width=0, layer="below", showlegend=True, name=label)
    return figure.update_layout(showlegend=True)


def _phase_spans(dataset: xr.Dataset, first: int) -> Iterator[tuple[int, int]]:
    phases = json.loads(dataset.attrs.get("phases") or "{}")
    start = first
    for name in ("memorization_end", "circuit_end", "cleanup_end"):
        stop = phases.get(name)
        if stop is None or stop <= start:
            return
        yield start, int(stop)
        start = int(stop)


def _heat(hover: str) -> dict[str, Any]:
    # Below the panel, where it takes nothing of a narrow screen's width.
    bar = {
        "title": {"text": "norm", "side": "right"},
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "yref": "container",
        "y": 0,
        "yanchor": "bottom",
    }
    return {"colorscale": "Cividis", "colorbar": bar | {"thickness": 10, "nticks": 5, "tickangle": 0, "outlinewidth": 0}, "hovertemplate": hover}


def layout_figure(title: str, caption: str, traces: Sequence[Any], x: str, y: str, *, log: bool = False) -> go.Figure:
    """The one layout of every figure: title, caption, named axes, legend below."""
    figure = go.Figure(list(traces), layout={"template": "none"})
    figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "y": 1, "yanchor": "top", "yref": "container", "pad": {"t": 10, "b": 10}},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1a1a1a"},
        hovermode="x unified" if figure.data[0].type == "scatter" else "closest",
        legend={"orientation": "h", "xref": "container", "x": 0, "yref": "container", "y": 0, "yanchor": "bottom"},
        showlegend=len(figure.data) > 1,
        margin={"l": 8, "r": 20, "t": 40, "b": 8},
        meta={"caption": caption},
    )
    figure.update_xaxes(title_text=x, automargin=True, gridcolor="#e4e4e4", zeroline=False, hoverformat=",d" if x == STEPS else None)
    figure.update_yaxes(title_text=y, automargin=True, gridcolor="#e4e4e4", zeroline=False, hoverformat=".4g" if log or x == STEPS else None)
    return figure.update_yaxes(type="log", exponentformat="power", tickfont_size=10) if log else figure


FIGURES = (
    losses,
    accuracy,
    progress,
    key_frequencies_removed,
    embedding_spectrum,
    logit_map_spectrum,
    logits_2d,
    neurons,
    fve,
    gini,
    core_size,
    core_r2,
    core_eigenvalues,
    core_clock,
    agreement_by_layer,
    agreement_knob,
    agreement_probabilities,
    agreement_strength,
    coordinate_correlations,
)
RECORDED = tuple(f"metric_{split}_{quantity}" for split in ("train", "test") for quantity in ("loss", "accuracy"))
