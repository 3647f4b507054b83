"""Drift detection on streams with known drift: the product's monitor beside its rivals."""
