"""Monitoring: three drift signals, their ensemble, the late-label join."""
