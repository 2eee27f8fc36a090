"""Which measure sees grokking coming first: configurations, claims, trainings and what is read off them."""
