"""Time in a figure: one frame a step, with a slider and a button that plays them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from grokinterp.plots.lazy import go
from grokinterp.plots.parts import MissingVariables

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray as xr

MAX_FRAMES = 40
"""Frames of a figure, the first and the last step among them (chosen here: a page stays small and a film short)."""

Draw = Callable[["xr.Dataset"], Sequence[Any]]


def by_step(figure: go.Figure, dataset: xr.Dataset, draw: Draw) -> go.Figure:
    """A figure of one step with a frame for each of up to `MAX_FRAMES` steps; as it is where the dataset has a single one.

    Axes and colours span all frames, so that nothing jumps.

    Args:
        figure: of the last step.
        dataset: of all steps.
        draw: the figure's traces, in the same order, of a dataset with a single step; a step for which it raises `MissingVariables` is left out.
    """
    if dataset.sizes.get("step", 1) < 2:
        return figure
    frames = []
    for i in spread(dataset.sizes["step"], MAX_FRAMES):
        try:
            frames.append(go.Frame(data=list(draw(dataset.isel(step=[i]))), name=f"{int(dataset['step'][i]):,}"))
        except MissingVariables:
            continue
    if len(frames) < 2:
        return figure
    figure.frames = frames
    _span(figure)
    return figure.update_layout(sliders=[_slider([frame.name for frame in frames])], updatemenus=[_play()])


def spread(n: int, limit: int) -> list[int]:
    """At most `limit` of n positions, evenly apart, the first and the last among them."""
    return [int(i) for i in np.unique(np.linspace(0, n - 1, min(n, limit)).round())]


def _span(figure: go.Figure) -> None:
    """Give the figure axes and colours that hold every frame."""
    traces = [trace for frame in figure.frames for trace in frame.data]
    maps = [trace for trace in traces if trace.type == "heatmap"]
    if maps:
        low = min((float(np.nanmin(trace.z)) if trace.zmin is None else trace.zmin for trace in maps if np.isfinite(trace.z).any()), default=None)
        high = max((float(np.nanmax(trace.z)) if trace.zmax is None else trace.zmax for trace in maps if np.isfinite(trace.z).any()), default=None)
        for trace in [*maps, *(own for own in figure.data if own.type == "heatmap")]:
            trace.update(zmin=low, zmax=high)
        return
    for axis in ("x", "y"):
        if figure.layout[f"{axis}axis"].range is None and figure.layout[f"{axis}axis"].type != "log":
            ends = _ends(traces, axis, stacked=figure.layout.barmode == "stack")
            if ends is not None:
                figure.update_layout({f"{axis}axis": {"range": ends}})


def _ends(traces: Sequence[Any], axis: str, stacked: bool) -> list[float] | None:
    """The smallest range that holds all traces, a little wider; bars stand on zero and reach half a bar beyond their places."""
    values = [np.asarray(trace[axis], dtype=float) for trace in traces if np.asarray(trace[axis]).dtype.kind in "fiub" and len(trace[axis])]
    if not values:
        return None
    held = np.concatenate(values)
    held = held[np.isfinite(held)]
    if not len(held):
        return None
    low, high = float(held.min()), float(held.max())
    if traces[0].type == "bar":
        factor = len({trace.name for trace in traces}) if stacked and axis == "y" else 1
        return [min(low, 0.0), high * (factor if factor > 1 else 1.05)] if axis == "y" else [low - 0.5, high + 0.5]
    pad = 0.05 * (high - low) or 1.0
    return [low - pad, high + pad]


def _slider(names: Sequence[str]) -> dict[str, Any]:
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"method": "animate", "label": name, "args": [[name], at_once]} for name in names]
    return {"active": len(names) - 1, "steps": steps, "currentvalue": {"prefix": "step "}, "pad": {"t": 40}, "x": 0.1, "len": 0.9}


def _play() -> dict[str, Any]:
    each = {"frame": {"duration": 250, "redraw": True}, "fromcurrent": True, "transition": {"duration": 0}}
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}}
    buttons = [{"label": "Play", "method": "animate", "args": [None, each]}, {"label": "Pause", "method": "animate", "args": [[None], now]}]
    return {"type": "buttons", "buttons": buttons, "showactive": False, "x": 0, "xanchor": "left", "y": 0, "yanchor": "top", "pad": {"t": 40}}
