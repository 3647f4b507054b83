"""Configuration of a deployment on Kubernetes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from undrift.settings import Section

QUANTITY = r"^[1-9][0-9]*(\.[0-9]+)?(Ki|Mi|Gi|Ti)$"


class KubernetesSettings(Section):
    """What only a deployment on Kubernetes needs to know."""

    image: str = Field(default="undrift:0.1.0", pattern=r"^\S+$")
    """Image of all of Ray's pods, built from `Containerfile`."""

    monitoring: bool = False
    """Render PodMonitors, alert rules and a dashboard too; needs the Prometheus operator."""

    namespace: str | None = Field(default=None, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Namespace to deploy to; if left out, that of the present context of kubectl."""

    operator_namespace: str | None = Field(default=None, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Namespace of KubeRay's operator, from which alone it may then reach the pods; if left out,
    any pod in the cluster that bears its label may."""

    project: Literal["configmap", "image"] = "configmap"
    """How model code, weights and reference reach the pods: in a ConfigMap, which holds 1 MiB, or
    at `/app/project` in the image."""

    storage: str = Field(default="20Gi", pattern=QUANTITY)
    """Size of the state volume."""

    storage_class: str | None = None
    """Storage class of the state volume; the cluster's default if left out."""
