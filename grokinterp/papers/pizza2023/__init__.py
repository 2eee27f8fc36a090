"""The Clock and the Pizza (arXiv 2306.17844): configurations, claims, trainings and what is read off them."""
