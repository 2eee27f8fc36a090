"""Figures from the dataset that an analysis gives: datasets in, plotly figures out, no models.

Every figure says how it is read in ``figure.layout.meta["caption"]``. A function whose variables a dataset lacks raises
`MissingVariables`; `figures` draws all that a dataset holds. Long lines are thinned (`thin`). Colours are Okabe and Ito's, which stay apart for
colour-blind readers, and Cividis for heat maps. A figure of your own takes `layout_figure` and `STYLES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grokinterp.plots.agreement import agreement_by_layer, agreement_knob, agreement_probabilities, agreement_strength, coordinate_correlations
from grokinterp.plots.cores import core_clock, core_eigenvalues, core_r2, core_size
from grokinterp.plots.parts import BLUE, GREEN, GREY, MAX_POINTS, ORANGE, PURPLE, SKY, STYLES, VERMILLION, MissingVariables, has, layout_figure, thin
from grokinterp.plots.spectra import embedding_spectrum, logit_map_spectrum, logits_2d, neurons
from grokinterp.plots.training import accuracy, fve, gini, key_frequencies_removed, losses, progress, scalar

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

__all__ = [
    "BLUE",
    "FIGURES",
    "GREEN",
    "GREY",
    "MAX_POINTS",
    "ORANGE",
    "PURPLE",
    "SKY",
    "STYLES",
    "VERMILLION",
    "MissingVariables",
    "accuracy",
    "agreement_by_layer",
    "agreement_knob",
    "agreement_probabilities",
    "agreement_strength",
    "coordinate_correlations",
    "core_clock",
    "core_eigenvalues",
    "core_r2",
    "core_size",
    "embedding_spectrum",
    "figures",
    "fve",
    "gini",
    "key_frequencies_removed",
    "layout_figure",
    "logit_map_spectrum",
    "logits_2d",
    "losses",
    "neurons",
    "progress",
    "scalar",
    "thin",
]

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
"""In reading order."""
_RECORDED = tuple(f"metric_{split}_{quantity}" for split in ("train", "test") for quantity in ("loss", "accuracy"))  # drawn by the first two


def figures(dataset: xr.Dataset) -> dict[str, go.Figure]:
    """Every figure that a dataset has the variables for, by name, in reading order.

    Args:
        dataset: what an analysis gives. Scalars over ``step`` or ``eval_step`` that no figure here draws get a line figure
            under their own name.
    """
    drawn: dict[str, go.Figure] = {}
    for draw in FIGURES:
        try:
            drawn[draw.__name__] = draw(dataset)
        except MissingVariables:
            continue
    for name in sorted(str(name) for name in dataset.data_vars):
        if name not in (*_RECORDED, *drawn) and dataset[name].dims in (("step",), ("eval_step",)) and has(dataset, name, steps=2):
            drawn[name] = scalar(dataset, name)
    return drawn
