"""The figures of clock or pizza: where the embedding puts the numbers, the two measures against each other, and the verdict over training."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from grokinterp.measures.verdicts import CIRCULAR, CLOCK, READ, SYMMETRIC, in_words, stretches
from grokinterp.plots.frames import by_step
from grokinterp.plots.lazy import go
from grokinterp.plots.parts import GREY, ORANGE, SKY, STEPS, VERMILLION, at_last_step, layout_figure, lines_of, need, values_of

if TYPE_CHECKING:
    import xarray as xr

SHOWN = 6  # circles in a figure, the strongest first (chosen here)
RATES = tuple(f"{low / 10:.1f}–{(low + 1) / 10:.1f}" for low in range(10))
# Means of the authors' runs with one layer by attention rate, s_g and q of the largest wrong logit: all 2,373 and the 817 circular ones.
PUBLISHED = {
    "all": (
        (0.993, 0.992, 0.992, 0.992, 0.992, 0.955, 0.841, 0.717, 0.605, 0.477),
        (0.42, 0.41, 0.43, 0.42, 0.42, 0.47, 0.61, 0.70, 0.78, 0.84),
    ),
    "circular": (
        (0.994, 0.993, 0.992, 0.993, 0.990, 0.916, 0.733, 0.626, 0.545, 0.451),
        (0.29, 0.28, 0.30, 0.29, 0.32, 0.42, 0.62, 0.69, 0.78, 0.82),
    ),
}
COLOURS = {"clock": ORANGE, "pizza": SKY}


def verdict_over_training(dataset: xr.Dataset) -> go.Figure:
    """What the verdict is read off, over steps, with the thresholds as thin lines and the stretches that read as clock or pizza shaded.

    Draws ``distance_irrelevance``, ``gradient_symmetricity``, ``circularity`` and ``right_answers``.
    """
    values = {name: need(dataset, name, steps=2) for name in sorted(READ)}
    lines = {
        "distance irrelevance q": values["distance_irrelevance"],
        "gradient symmetricity": values["gradient_symmetricity"],
        "circularity": values["circularity"].min("operand"),
        "share of right answers": values["right_answers"],
    }
    caption = f"Clock or pizza over training: {in_words(dataset)}. Dotted, its limits: q {CLOCK}, symmetricity {SYMMETRIC}, circularity {CIRCULAR}."
    caption += " Symmetricity, a cosine, lies in −1 … 1, the others in 0 … 1."
    figure = layout_figure("Clock or pizza", caption, lines_of(lines), STEPS, "value, without units")
    begins = [*stretches(dataset), (int(dataset["step"][-1]), "")]
    for (first, word), (last, _) in pairwise(begins):
        if word in COLOURS:
            figure.add_vrect(first, last, fillcolor=COLOURS[word], opacity=0.15, line_width=0, annotation_text=word, layer="below")
    for threshold in (CLOCK, SYMMETRIC, CIRCULAR):
        figure.add_hline(threshold, line={"color": GREY, "width": 1, "dash": "dot"})
    return figure


def symmetricity_and_irrelevance(dataset: xr.Dataset) -> go.Figure:
    """Distance irrelevance of the largest wrong logit against gradient symmetricity, over steps, before the means of the authors' runs.

    Draws ``gradient_symmetricity`` and ``distance_irrelevance_wrong``.
    """
    s, q = (need(dataset, name) for name in ("gradient_symmetricity", "distance_irrelevance_wrong"))
    caption = (
        "Grey: means of the authors' runs (arXiv 2306.17844, one layer, d 128, 20,000 epochs) by attention rate α, pizzas lower right and clocks "
        "upper left. The wrong logit's q is what their table holds. Coloured: this model; the large mark is its last step."
    )
    traces = published_cloud()
    steps = np.atleast_1d(dataset["step"].to_numpy())
    hover = "step %{text}<br>s_g %{x:.3f}, q %{y:.3f}<extra></extra>"
    sizes = [5] * (len(steps) - 1) + [13]
    path = {"mode": "lines+markers", "line": {"color": VERMILLION, "width": 1}, "marker": {"size": sizes, "color": VERMILLION}}
    traces.append(go.Scatter(x=values_of(s), y=values_of(q), text=[f"{step:,}" for step in steps], name="this model", hovertemplate=hover, **path))
    figure = layout_figure("Symmetricity and irrelevance", caption, traces, "gradient symmetricity s_g", "distance irrelevance, wrong logit")
    for end in (0, -1):
        x, y = (values[end] for values in PUBLISHED["circular"])
        figure.add_annotation(x=x, y=y, text=f"α {RATES[end]}", xanchor="right", xshift=-8, showarrow=False, font_color=GREY)
    return figure.update_layout(hovermode="closest")


def published_cloud() -> list[go.Scatter]:
    """The means of the authors' runs by attention rate, all of them and the circular ones, as traces."""
    hover = "α %{text}<br>s_g %{x:.3f}, q %{y:.2f}<extra>%{fullData.name}</extra>"
    marks = {"all": "circle-open", "circular": "circle"}
    return [
        go.Scatter(
            x=s,
            y=q,
            text=RATES,
            name=f"published, {name}",
            mode="markers",
            marker={"color": GREY, "symbol": marks[name], "size": 9},
            hovertemplate=hover,
        )
        for name, (s, q) in PUBLISHED.items()
    ]


def embedding_circles(dataset: xr.Dataset) -> go.Figure:
    """Where the embedding puts the numbers in the plane of each of its frequencies, at the last step, the strongest first.

    Draws ``circle_plane`` and ``circle_share``.
    """
    share, frequency = values_of(at_last_step(need(dataset, "circle_share"))), dataset["circle"].to_numpy()
    chosen = np.argsort(-share, kind="stable")[:SHOWN]
    columns = min(3, len(chosen))  # a phone shows three side by side
    rows = -(-len(chosen) // columns)

    def circles(dataset: xr.Dataset) -> list[go.Scatter]:
        plane = values_of(at_last_step(need(dataset, "circle_plane")))  # [circle, element, direction]
        n, traces = plane.shape[1], []
        for place, i in enumerate(chosen):
            points = plane[i] / np.abs(plane[i]).max()
            order = np.argsort(int(frequency[i]) * np.arange(n) % n, kind="stable")  # neighbours on the circle
            style = {"mode": "lines+markers", "line": {"color": GREY, "width": 0.5}, "marker": {"size": 6, "color": order, "colorscale": "Cividis"}}
            hover = f"%{{text}}<extra>k = {frequency[i]}</extra>"
            x, y = points[order, 0] + 2.5 * (place % columns), points[order, 1] - 2.8 * (place // columns)
            traces.append(go.Scatter(x=x, y=y, text=order.astype(str), name=f"k = {frequency[i]}", hovertemplate=hover, **style))
        return traces

    caption = (
        "Each number in the plane where the embedding has frequency k, in which it would step by 2πk/n; grey lines join numbers that are neighbours "
        "there, so that a circle is round, and colours go from 0, dark, to n − 1. Each is drawn at the same size; above it, its share of the "
        "embedding's variance at the last step."
    )
    figure = layout_figure("The embedding's circles", caption, circles(dataset), "", "")
    for place, i in enumerate(chosen):
        at = {"x": 2.5 * (place % columns), "y": 1.05 - 2.8 * (place // columns)}
        figure.add_annotation(text=f"k = {frequency[i]}, {share[i]:.1%}", yanchor="bottom", showarrow=False, **at)
    figure.update_xaxes(range=[-1.15, 2.5 * columns - 1.35], showticklabels=False, showgrid=False)
    figure.update_yaxes(range=[1.15 - 2.8 * rows + 0.5, 1.5], scaleanchor="x", constrain="domain", showticklabels=False, showgrid=False)
    aspect = round(1.25 * columns / (1.4 * rows + 0.4), 3)
    figure.update_layout(hovermode="closest", showlegend=False, height=120 + 200 * rows, meta={"caption": caption, "aspect": aspect})
    return by_step(figure, dataset, circles)
