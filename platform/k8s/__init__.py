"""Kubernetes: manifests from the one YAML, and what is done with them in a cluster."""
