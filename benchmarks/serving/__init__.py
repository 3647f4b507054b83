"""Serving beside other servers of models; ``python -m benchmarks.serving --help``."""
