"""Labelled streams, and a first model for one; no part of a running platform needs them."""
