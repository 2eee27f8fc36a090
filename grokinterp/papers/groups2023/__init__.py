"""A Toy Model of Universality (arXiv 2302.03025): configurations, claims, trainings and what is read off them."""
