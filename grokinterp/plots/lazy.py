"""Plotly, imported when the first figure is drawn: measures carry their figures, and a machine that only trains need not have it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go
else:

    class _Objects:
        """``plotly.graph_objects`` at first use."""

        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module("plotly.graph_objects"), name)

    go = _Objects()

__all__ = ["go"]
