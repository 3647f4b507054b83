"""Multi-armed bandits that return (arm, probability); NumPy only."""
