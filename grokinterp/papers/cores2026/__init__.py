"""Algorithmic cores (arXiv 2602.22600): configurations, claims, trainings and what is read off them."""
