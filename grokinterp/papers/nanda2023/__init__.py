"""Progress measures for grokking (arXiv 2301.05217): configurations, claims, trainings and what is read off them."""
