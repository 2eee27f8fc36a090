"""Weight decay regimes (arXiv 2605.20441): configurations, claims, trainings and what is read off them."""
