"""Progress measures for grokking (arXiv 2301.05217): configurations, claims, trainings and what is read off them."""

from grokinterp.papers.nanda2023.paper import SOURCES, reproduce

__all__ = ["SOURCES", "reproduce"]
