"""Algorithmic cores (arXiv 2602.22600): configurations, claims, trainings and what is read off them."""

from grokinterp.papers.cores2026.paper import SOURCES, reproduce

__all__ = ["SOURCES", "reproduce"]
