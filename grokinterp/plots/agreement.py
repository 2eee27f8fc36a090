"""Figures of the core of grammatical number in language models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from grokinterp.plots.lazy import go
from grokinterp.plots.parts import (
    BAR,
    BLUE,
    GREY,
    ORANGE,
    SKY,
    STYLES,
    VERMILLION,
    at_last_step,
    has,
    heat_style,
    layout_figure,
    need,
    same_scale,
    values_of,
)

if TYPE_CHECKING:
    import xarray as xr


def agreement_by_layer(dataset: xr.Dataset) -> go.Figure:
    """AUC of the agreement margin on the test half, clean and with the core kept, removed and flipped, over layers; the chosen layer is marked.

    Draws ``agreement_auc``, ``random_auc`` and ``chosen_layer``.
    """
    values, best = at_last_step(need(dataset, "agreement_auc")).sel(half="test"), int(at_last_step(need(dataset, "chosen_layer")))
    caption = (
        "How well the margin tells plural from singular: 1 perfect, ½ chance, 0 inverted. Below chance what is left follows the attractor, which "
        f"always has the other number. The layer, {best} of {int(values['layer'].max())}, was chosen on the extraction half."
    )
    layers, modes = values["layer"].to_numpy(), [str(mode) for mode in values["mode"].to_numpy()]
    marks = {"mode": "lines+markers", "line_width": 2}
    lines = [
        go.Scatter(x=layers, y=values_of(values.sel(mode=mode)), name=mode, line_color=STYLES[i][0], line_dash=STYLES[6 * (i == 0)][1], **marks)
        for i, mode in enumerate(modes)
    ]
    if has(dataset, "random_auc"):
        control = float(at_last_step(dataset["random_auc"]).sel(mode="flip").mean())
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
    margin = at_last_step(need(dataset, "margin")).sel(mode="base")
    z, y, number = (values_of(at_last_step(need(dataset, name)) if name != "margin" else margin) for name in ("core_coordinate", "margin", "number"))
    slope, intercept, r2 = (float(at_last_step(need(dataset, f"knob_{name}"))) for name in ("slope", "intercept", "r2"))
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
    values = at_last_step(need(dataset, "verb_probability"))
    verbs = [str(verb).strip() for verb in values["verb"].to_numpy()]
    groups = [("singular", "base", SKY, "clean"), ("singular", "flip", BLUE, "flipped"), ("plural", "base", ORANGE, "clean")]
    groups.append(("plural", "flip", VERMILLION, "flipped"))
    bars = [
        go.Bar(
            x=verbs, y=values_of(values.sel(head_number=number, mode=mode)), name=f"{number} head, {label}", marker_color=colour, hovertemplate=BAR
        )
        for number, mode, colour, label in groups
    ]
    caption = "Behind the prompt, mean over the test half. The flip hands each verb's probability to its form of the other number."
    return layout_figure("Verbs before and after the flip", caption, bars, "verb", "probability").update_layout(barmode="group")


def agreement_strength(dataset: xr.Dataset) -> go.Figure:
    """Mean margin of singular and plural heads when the core of the chosen layer is multiplied by a factor.

    Draws ``strength_margin``.
    """
    values = at_last_step(need(dataset, "strength_margin"))
    factor = values["strength"].to_numpy()
    lines = [
        go.Scatter(x=factor, y=values_of(values.sel(head_number=number)), name=f"{number} head", mode="lines", line={"color": colour, "width": 2})
        for number, colour in (("singular", BLUE), ("plural", VERMILLION))
    ]
    caption = "At 1 nothing is changed, at 0 the core is removed, at −1 it is flipped; the test half."
    return layout_figure("Margin by strength of the core", caption, lines, "factor of the core", "mean margin (nats)")


def coordinate_correlations(dataset: xr.Dataset) -> go.Figure:
    """Correlations of several models' core coordinates on the same prompts: Pearson below the diagonal, Spearman above.

    Draws ``coordinate_pearson`` and ``coordinate_spearman``.
    """
    pearson, spearman = (values_of(at_last_step(need(dataset, f"coordinate_{kind}"))) for kind in ("pearson", "spearman"))
    names = [str(name) for name in dataset["model"].to_numpy()]
    values = np.tril(pearson) + np.triu(spearman, 1)
    hover = "%{y} and %{x}<br>%{z:.3f}<extra></extra>"
    cells = go.Heatmap(x=names, y=names, z=values, zmin=-1, zmax=1, texttemplate="%{z:.3f}", **heat_style(hover, "correlation"))
    caption = "How alike two models order the same prompts along their cores: Pearson's correlation below the diagonal, Spearman's above."
    return same_scale(layout_figure("Core coordinates across models", caption, [cells], "model", "model")).update_yaxes(autorange="reversed")
