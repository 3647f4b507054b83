"""How a retraining chooses samples and weights: one way to a file, and the registry of all."""
