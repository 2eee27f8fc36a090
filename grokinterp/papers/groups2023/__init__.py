"""A Toy Model of Universality (arXiv 2302.03025): configurations, claims, trainings and what is read off them."""

from grokinterp.papers.groups2023.paper import SOURCES, reproduce

__all__ = ["SOURCES", "reproduce"]
