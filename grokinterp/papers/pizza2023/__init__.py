"""The Clock and the Pizza (arXiv 2306.17844): configurations, claims, trainings and what is read off them."""

from grokinterp.papers.pizza2023.paper import SOURCES, reproduce

__all__ = ["SOURCES", "reproduce"]
