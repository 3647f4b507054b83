"""Kubernetes manifests, as data: a Kustomize base and its overlays; see docs/kubernetes.md."""
