"""Weight decay regimes (arXiv 2605.20441): configurations, claims, trainings and what is read off them."""

from grokinterp.papers.weightdecay2026.paper import SOURCES, reproduce

__all__ = ["SOURCES", "reproduce"]
