"""A page that grows while runs train: `Watch` serves it to this machine alone, and writes nothing."""

from __future__ import annotations

from grokinterp.reports.live.server import Watch

__all__ = ["Watch"]
