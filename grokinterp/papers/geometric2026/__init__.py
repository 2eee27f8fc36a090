"""Spherical and uniform-attention topologies (arXiv 2603.05228): configurations, claims, trainings and what is read off them."""
