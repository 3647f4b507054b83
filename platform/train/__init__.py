"""Retraining: pool, selection, importance, methods, gate."""
