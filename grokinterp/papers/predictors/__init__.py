"""Which measure sees grokking coming first: configurations, claims, trainings and what is read off them."""

from grokinterp.papers.predictors.paper import SOURCES, reproduce

__all__ = ["SOURCES", "reproduce"]
