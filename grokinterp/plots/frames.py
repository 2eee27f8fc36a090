"""Time in a figure: one frame a step, with a slider and a button that plays them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from grokinterp.plots.lazy import go
from grokinterp.plots.parts import MissingVariables, spread

if TYPE_CHECKING:
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
        draw: the figure's traces, in the same order, as plotly's or as dicts, of a dataset with a single step; a step for which it raises
            `MissingVariables` is left out.
    """
    if dataset.sizes.get("step", 1) < 2:
        return figure
    frames: dict[str, list[dict[str, Any]]] = {}
    for i in spread(dataset.sizes["step"], MAX_FRAMES):
        try:
            frames[f"{int(dataset['step'][i]):,}"] = [_moving(trace) for trace in draw(dataset.isel(step=[i]))]
        except MissingVariables:
            continue
    if len(frames) < 2:
        return figure
    _span(figure, [trace for traces in frames.values() for trace in traces])
    figure.frames = [go.Frame(data=[_values(trace) for trace in traces], name=name) for name, traces in frames.items()]
    return figure.update_layout(sliders=[_slider(list(frames))], updatemenus=[_play()])


def _moving(trace: Any) -> dict[str, Any]:
    """What may change from step to step in a trace; the rest is the figure's."""
    names = ("type", "name", "x", "y", "z", "text", "zmin", "zmax")
    return {name: trace[name] for name in names if name in trace and trace[name] is not None}


def _values(trace: dict[str, Any]) -> dict[str, Any]:
    """What a frame holds of a trace; axes of a map do not move."""
    names = ("type", "z") if trace["type"] == "heatmap" else ("type", "x", "y", "text")
    return {name: trace[name] for name in names if name in trace}


def _span(figure: go.Figure, traces: Sequence[dict[str, Any]]) -> None:
    """Give the figure axes and colours that hold every frame."""
    maps = [trace for trace in traces if trace["type"] == "heatmap" and np.isfinite(trace["z"]).any()]
    if maps:
        low = min(float(trace["zmin"]) if "zmin" in trace else float(np.nanmin(trace["z"])) for trace in maps)
        high = max(float(trace["zmax"]) if "zmax" in trace else float(np.nanmax(trace["z"])) for trace in maps)
        for trace in figure.data:
            trace.update(zmin=low, zmax=high)
        return
    for axis in ("x", "y"):
        if figure.layout[f"{axis}axis"].range is None and figure.layout[f"{axis}axis"].type != "log":
            ends = _ends(traces, axis, stacked=figure.layout.barmode == "stack")
            if ends is not None:
                figure.update_layout({f"{axis}axis": {"range": ends}})


def _ends(traces: Sequence[dict[str, Any]], axis: str, stacked: bool) -> list[float] | None:
    """The smallest range that holds all traces, a little wider; bars stand on zero and reach half a bar beyond their places."""
    arrays = [np.asarray(trace[axis]) for trace in traces if axis in trace]
    values = [array.astype(float) for array in arrays if array.dtype.kind in "fiub" and len(array)]
    if not values:
        return None
    held = np.concatenate(values)
    held = held[np.isfinite(held)]
    if not len(held):
        return None
    low, high = float(held.min()), float(held.max())
    if traces[0]["type"] == "bar":
        factor = len({trace.get("name") for trace in traces}) if stacked and axis == "y" else 1
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
