"""Points, lines and bands in the house's colours and layout; plotly is imported when something is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from grokinterp.plots import STYLES, layout_figure
from grokinterp.plots.lazy import go


def draw(title: str, caption: str, traces: Sequence[Any], x: str, y: str, *, log_x: bool = False, log_y: bool = False) -> go.Figure:
    """A figure with a title, how to read it, and named axes."""
    figure = layout_figure(title, caption, traces, x, y, log=log_y).update_layout(hovermode="closest")
    return figure.update_xaxes(type="log") if log_x else figure


def points(x: np.ndarray, y: np.ndarray, name: str, i: int = 0, symbol: str = "circle", error: np.ndarray | None = None) -> Any:
    """Dots in the i-th colour, with error bars down and up where `error` [2, point] is given."""
    bars = {} if error is None else {"error_y": {"type": "data", "symmetric": False, "arrayminus": error[0], "array": error[1], "thickness": 1}}
    return go.Scatter(x=x, y=y, name=name, mode="markers", marker={"color": _colour(i), "symbol": symbol, "size": 7}, **bars)


def line(x: np.ndarray, y: np.ndarray, name: str, i: int = 0, dash: str = "solid", shape: str = "linear") -> Any:
    """A line in the i-th colour."""
    return go.Scatter(x=x, y=y, name=name, mode="lines", line={"color": _colour(i), "width": 2, "dash": dash, "shape": shape})


def band(x: np.ndarray, low: np.ndarray, high: np.ndarray, name: str, i: int = 0) -> Any:
    """A pale band between two lines."""
    edge = {"x": np.concatenate([x, x[::-1]]), "y": np.concatenate([low, high[::-1]]), "hoverinfo": "skip"}
    return go.Scatter(**edge, name=name, mode="lines", line={"width": 0}, fill="toself", fillcolor=_colour(i), opacity=0.25)


def _colour(i: int) -> str:
    return STYLES[i % len(STYLES)][0]
