"""Figures as the page holds them: plain JSON, panels for runs, frames for steps, large maps in few bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grokinterp.plots.lazy import go
from grokinterp.plots.parts import spread

FRAMES = 6_000_000
"""Bytes that the frames of a page may take together; where they would take more, each figure keeps fewer of them (chosen here)."""

_LEFT_TO_THE_PAGE = {"title", "height", "template", "meta", "sliders", "updatemenus"}

Panels = Mapping[str, "go.Figure"]


def encode(figures: Mapping[str, go.Figure | Panels]) -> str:
    """Figures as JSON that no browser can take for the end of the script that it stands in.

    Args:
        figures: by name; one that shows a run at a time is itself a mapping, by run.
    """
    from plotly.utils import PlotlyJSONEncoder

    specs = {name: _spec(figure) for name, figure in figures.items()}
    _fit(specs)
    text = json.dumps(specs, cls=PlotlyJSONEncoder, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _spec(figure: go.Figure | Panels) -> dict[str, Any]:
    """A figure as plain JSON; title, height, slider and menus are left to the page, which fits them to the screen."""
    single = not isinstance(figure, Mapping)
    panels = {"": figure} if not isinstance(figure, Mapping) else {run: own for run, own in figure.items() if own.data}
    layouts = [_layout(own) for own in panels.values()]
    encoded = [_panel(run, own, exact=single) for run, own in panels.items()]
    if not single:  # titles of maps, names of axes and key frequencies are a run's own
        encoded = [panel | {"layout": layout} for panel, layout in zip(encoded, layouts, strict=True)]
    return {"layout": layouts[0], "panels": encoded}


def _layout(figure: go.Figure) -> dict[str, Any]:
    return {key: value for key, value in figure.layout.to_plotly_json().items() if key not in _LEFT_TO_THE_PAGE}


def _panel(run: str, figure: go.Figure, exact: bool) -> dict[str, Any]:
    # Traces one by one: a whole figure would pack its arrays as base64, which the page's CSV could not read.
    data = [trace.to_plotly_json() for trace in figure.data]
    for trace in data:
        if (trace.get("meta") or {}).get("entry"):
            trace["showlegend"] = False  # the page's switches name the runs
    frames = [{"name": frame.name, "data": [_changed(own, base) for own, base in zip(frame.data, data)]} for frame in figure.frames]
    if not exact:
        data = [{**trace, "z": packed(trace["z"], np.uint16)} if trace["type"] == "heatmap" else trace for trace in data]
    return {"run": run, "data": data, "frames": frames}


def _changed(trace: Any, base: dict[str, Any]) -> dict[str, Any]:
    """What a frame changes of a trace, numbers rounded to what a screen shows."""
    own = trace.to_plotly_json()
    changed: dict[str, Any] = {}
    for key in ("x", "y", "z", "text"):
        if key not in own or (key in base and np.array_equal(np.asarray(own[key]), np.asarray(base[key]))):
            continue
        changed[key] = packed(own[key], np.uint8) if key == "z" else _rounded(own[key])
    return changed


def _rounded(values: Any) -> list[Any]:
    return [float(f"{value:.5g}") if isinstance(value, float) else value for value in np.asarray(values).tolist()]


def packed(values: Any, kind: type[np.unsignedinteger[Any]]) -> dict[str, Any]:
    """A map as whole numbers between its smallest and its largest value, in base64; the largest number stands for NaN.

    Args:
        values: [row, column].
        kind: NumPy's type of the numbers: uint8 for 254 steps of grey, uint16 for 65,534.
    """
    array = np.asarray(values, dtype=float)
    known = np.isfinite(array)
    low, high = (float(array[known].min()), float(array[known].max())) if known.any() else (0.0, 0.0)
    most = np.iinfo(kind).max - 1
    scaled = np.where(known, (np.where(known, array, low) - low) / ((high - low) or 1.0) * most, most + 1)
    text = base64.b64encode(np.rint(scaled).astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()
    return {"q": text, "bits": 8 * np.dtype(kind).itemsize, "low": low, "high": high, "shape": list(array.shape)}


def _fit(specs: Mapping[str, dict[str, Any]]) -> None:
    """Leave out frames, evenly and never the first or the last, until those of all figures fit."""
    panels = [panel for spec in specs.values() for panel in spec["panels"] if panel["frames"]]
    sizes = [[len(json.dumps(frame["data"])) for frame in panel["frames"]] for panel in panels]
    limit = max((len(own) for own in sizes), default=0)
    while limit > 2 and sum(_kept(own, limit) for own in sizes) > FRAMES:
        limit -= 1
    for panel, own in zip(panels, sizes, strict=True):
        panel["frames"] = [panel["frames"][i] for i in spread(len(own), limit)]


def _kept(sizes: Sequence[int], limit: int) -> int:
    """Bytes of the frames that stay."""
    return sum(sizes[i] for i in spread(len(sizes), limit))
