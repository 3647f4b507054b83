"""The command line: one verb to a function, views that a person reads, and JSON for machines."""

from undrift.cli.verbs import main

__all__ = ["main"]
