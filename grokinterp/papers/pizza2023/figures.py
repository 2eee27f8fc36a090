"""The figures of the results page: our runs beside the published means by attention rate, in the plane of both measures, and over training."""

from __future__ import annotations

import numpy as np
import pandas as pd

from grokinterp.laws.drawing import draw, line, points
from grokinterp.measures.algorithm_figures import PUBLISHED, published_cloud
from grokinterp.papers.tables import RUN
from grokinterp.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, STEPS, VERMILLION, layout_figure
from grokinterp.plots.lazy import go

COLOURS = dict(zip((0.0, 0.25, 0.5, 0.75, 1.0), (BLUE, GREEN, PURPLE, ORANGE, VERMILLION), strict=True))
SHORT = {"gradient_symmetricity": "symmetricity s_g", "distance_irrelevance_wrong": "irrelevance, wrong logit"}


def by_rate(runs: pd.DataFrame) -> go.Figure:
    """Symmetricity and irrelevance of every run by attention rate, and the published means."""
    traces, middles = [], np.arange(0.05, 1, 0.1)
    for i, ((name, label), published) in enumerate(zip(SHORT.items(), PUBLISHED["all"], strict=True)):
        traces.append(points(runs["alpha"].to_numpy(), runs[name].to_numpy(), label, i))
        traces.append(line(middles, np.array(published), f"published mean of {label}", i, "dot"))
    caption = "A dot is a run of ours at its end. Dotted: means of the authors' 2,373 runs by tenths of the attention rate, after 20,000 epochs."
    return draw("From pizza to clock", caption, traces, "attention rate α", "value")


def in_plane(runs: pd.DataFrame) -> go.Figure:
    """Our runs at their end by both measures, before the published means."""
    traces = published_cloud()
    for alpha in sorted({*runs["alpha"]}):
        own = runs[runs["alpha"] == alpha]
        marker = {
            "color": COLOURS.get(alpha, GREY),
            "size": 10,
            "symbol": ["circle" if c else "circle-open" for c in own["circularity"] >= 0.995],
        }
        traces.append(
            go.Scatter(x=own["gradient_symmetricity"], y=own["distance_irrelevance_wrong"], mode="markers", marker=marker, name=f"α = {alpha:g}")
        )
    caption = "Grey: the authors' means by tenths of the attention rate. Coloured: our runs; filled where the embedding is circular."
    figure = layout_figure("Symmetricity and irrelevance", caption, traces, "gradient symmetricity s_g", "distance irrelevance, wrong logit")
    return figure.update_layout(hovermode="closest")


def over_training(curves: pd.DataFrame) -> go.Figure:
    """Distance irrelevance of the right logit over epochs, a line a run; large dots where it reads as clock or pizza."""
    traces, named = [], set[float]()
    for _, own in curves.groupby(RUN, sort=False):
        alpha = float(own["alpha"].iloc[0])
        colour = COLOURS.get(alpha, GREY)
        sizes = np.where(own["verdict"].isin(["clock", "pizza"]), 8, 0)
        traces.append(
            go.Scatter(
                x=own["step"],
                y=own["distance_irrelevance"],
                text=own["verdict"],
                mode="lines+markers",
                line={"color": colour, "width": 1.5},
                marker={"size": sizes, "color": colour},
                name=f"α = {alpha:g}",
                legendgroup=str(alpha),
                showlegend=alpha not in named,
            )
        )
        named.add(alpha)
    caption = (
        "q of the right answer's logit. Dots: checkpoints with a verdict, a pizza below 0.4 and a clock above; before, the embedding is not circular."
    )
    figure = layout_figure("When a run reads as clock or pizza", caption, traces, STEPS, "distance irrelevance q")
    return figure.add_hline(0.4, line={"color": GREY, "width": 1, "dash": "dot"})
