"""Frequency synchronisation (arXiv 2606.12966): configurations, claims, trainings and what is read off them."""
