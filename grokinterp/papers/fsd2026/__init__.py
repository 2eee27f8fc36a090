"""Frequency synchronisation (arXiv 2606.12966): configurations, claims, trainings and what is read off them."""

from grokinterp.papers.fsd2026.paper import SOURCES, reproduce

__all__ = ["SOURCES", "reproduce"]
