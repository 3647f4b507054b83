"""Serving on Ray Serve: protocol, model slots, tap, swap."""
