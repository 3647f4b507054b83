"""Cheap models that learn from labels as they come, and whether one of them would be better."""
