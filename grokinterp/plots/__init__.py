"""Figures from the dataset that an analysis gives: datasets in, plotly figures out, no models.

Every figure says how it is read in ``figure.layout.meta["caption"]``. A function whose variables a dataset lacks raises
`MissingVariables`; `figures` draws all that a dataset holds. Long lines are thinned (`thin`). Colours are Okabe and Ito's, which stay apart for
colour-blind readers, and Cividis for heat maps. A figure of your own takes `layout_figure` and `STYLES`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from grokinterp.plots.agreement import agreement_by_layer, agreement_knob, agreement_probabilities, agreement_strength, coordinate_correlations
from grokinterp.plots.cores import core_clock, core_eigenvalues, core_r2, core_size
from grokinterp.plots.default import default
from grokinterp.plots.frames import MAX_FRAMES, by_step
from grokinterp.plots.lazy import go
from grokinterp.plots.parts import (
    BLUE,
    GREEN,
    GREY,
    MAX_POINTS,
    ORANGE,
    PURPLE,
    SKY,
    STEPS,
    STYLES,
    VERMILLION,
    MissingVariables,
    heat_map,
    layout_figure,
    lines_of,
    need,
    thin,
)
from grokinterp.plots.representations import coset_maps, coset_neuron_maps, coset_neurons, representation_losses, representation_spectrum
from grokinterp.plots.small_maps import above, map_traces, mark, small_maps
from grokinterp.plots.spectra import embedding_spectrum, logit_map_spectrum, logits_2d, neurons
from grokinterp.plots.training import accuracy, fve, gini, key_frequencies_removed, losses, phase_spans, progress, scalar

if TYPE_CHECKING:
    import xarray as xr

    Figure = Callable[[xr.Dataset], go.Figure]

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "MAX_FRAMES",
    "MAX_POINTS",
    "ORANGE",
    "PURPLE",
    "SKY",
    "STEPS",
    "STYLES",
    "VERMILLION",
    "MissingVariables",
    "above",
    "accuracy",
    "agreement_by_layer",
    "agreement_knob",
    "agreement_probabilities",
    "agreement_strength",
    "by_step",
    "coordinate_correlations",
    "core_clock",
    "core_eigenvalues",
    "core_r2",
    "core_size",
    "coset_maps",
    "coset_neuron_maps",
    "coset_neurons",
    "default",
    "embedding_spectrum",
    "figures",
    "fve",
    "gini",
    "heat_map",
    "key_frequencies_removed",
    "layout_figure",
    "lines_of",
    "logit_map_spectrum",
    "logits_2d",
    "losses",
    "map_traces",
    "mark",
    "need",
    "neurons",
    "phase_spans",
    "progress",
    "representation_losses",
    "representation_spectrum",
    "scalar",
    "small_maps",
    "thin",
]

# Drawn by `losses` and `accuracy`.
_RECORDED = tuple(f"metric_{split}_{quantity}" for split in ("train", "test", "unseen") for quantity in ("loss", "accuracy"))


def figures(dataset: xr.Dataset, draw: Iterable[Figure], also: Iterable[str] = (), drawn_already: Iterable[str] = ()) -> dict[str, go.Figure]:
    """Every figure that a dataset has the variables for, by name, in the order given.

    Args:
        dataset: what an analysis gives.
        draw: functions of a dataset, as measures bring them; one that raises `MissingVariables` is left out.
        also: variables that get the default figure of their shape, see `default`. So does every other scalar over ``step`` or ``eval_step``.
        drawn_already: scalars that get none, because a figure of their measure shows what matters.
    """
    drawn: dict[str, go.Figure] = {}
    for each in draw:
        with contextlib.suppress(MissingVariables):
            drawn[each.__name__] = each(dataset)
    scalars = [str(name) for name, array in dataset.data_vars.items() if array.dims in (("step",), ("eval_step",)) and name not in _RECORDED]
    for name in sorted({*scalars, *also} - drawn.keys() - set(drawn_already)):
        with contextlib.suppress(MissingVariables):
            drawn[name] = default(dataset, name)
    return drawn
