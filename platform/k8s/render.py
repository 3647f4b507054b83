"""From the one YAML to the manifests of a deployment.

The configuration travels in the arguments of the Serve application: a changed one is applied in
place, and a pod can never read an older file. Model code, weights and reference are a ConfigMap, or
part of the image. Secrets are not rendered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from undrift.config import (
    ALONE,
    Config,
    changed,
    find_config,
    parse_config,
    read_config,
    short_form,
)
from undrift.errors import ConfigError
from undrift.k8s import project
from undrift.k8s.manifests import Manifest, compose, monitoring, one
from undrift.serve.certificate import refuse_certificate

SERVICE = "undrift"
PATIENCE = "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"
SECRETS = {"undrift-token": "token", "undrift-redis": "password"}


def render(
    path: Path | None = None, overlay: str = "cpu", changes: tuple[str, ...] = ()
) -> list[Manifest]:
    """Return the objects of a deployment.

    Args:
        path: The YAML file; without it $UNDRIFT_CONFIG, then ./undrift.yaml.
        overlay: Name of the overlay.
        changes: What to set instead, each as ``section.key=value``.

    Raises:
        ConfigError: The configuration has problems, or cannot be carried to the pods.
    """
    path = find_config(path)
    data = changed(read_config(path), changes)
    config = parse_config(data, path, way_out=ALONE)
    refuse_certificate(config.serve, "in a cluster TLS is for the ingress")
    if isinstance(config.state, str):
        raise ConfigError(
            f"state: got {config.state}, but the pods keep it on the volume undrift-state; "
            "leave it out, as `undrift k8s` takes no bucket yet"
        )
    objects = compose(overlay)
    cluster = one(objects, "RayService", SERVICE)["spec"]
    cluster["serveConfigV2"] = _serve_config(cluster["serveConfigV2"], config, short_form(data))
    _fill_pods(cluster["rayClusterConfig"], config)
    claim = one(objects, "PersistentVolumeClaim", "undrift-state")["spec"]
    claim["resources"]["requests"]["storage"] = config.kubernetes.storage
    if config.kubernetes.storage_class is not None:
        claim["storageClassName"] = config.kubernetes.storage_class
    budget = one(objects, "PodDisruptionBudget", "undrift-serving")["spec"]
    budget["minAvailable"] = config.serve.replicas - 1
    if config.kubernetes.operator_namespace is not None:
        policy = one(objects, "NetworkPolicy", "undrift")["spec"]
        operator = policy["ingress"][1]["from"][0]["namespaceSelector"]
        operator["matchLabels"] = {
            "kubernetes.io/metadata.name": config.kubernetes.operator_namespace
        }
    if config.kubernetes.project == "configmap":
        objects.insert(0, project.config_map(config))
    if config.kubernetes.monitoring:
        objects += monitoring()
    if config.kubernetes.namespace is not None:
        for thing in objects:
            if thing["kind"] != "PriorityClass":
                thing["metadata"]["namespace"] = config.kubernetes.namespace
    return objects


def to_yaml(objects: list[Manifest]) -> str:
    """Return the objects as one YAML text."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=100)


def _serve_config(text: str, config: Config, data: dict[str, Any]) -> str:
    """Return the overlay's Serve configuration with the user's in its arguments."""
    serve = yaml.safe_load(text)
    args = serve["applications"][0]["args"]
    told = {key: value for key, value in data.items() if key != "kubernetes"}
    told["model"] = {**told["model"], "weights": project.inside(config.model.weights, config)}
    told["reference"] = project.inside(config.reference, config)
    args |= {"config": told, "folder": project.MOUNT}
    return yaml.dump(serve, Dumper=_Dumper, sort_keys=False, width=100)


def _fill_pods(cluster: Manifest, config: Config) -> None:
    """Set image, volumes and number of the pods."""
    serving, training = cluster["workerGroupSpecs"]
    serving["replicas"] = serving["minReplicas"] = config.serve.replicas
    most = config.serve.max_replicas or config.serve.replicas
    serving["maxReplicas"] = max(serving["maxReplicas"], most)
    training["maxReplicas"] = config.train.workers
    for group in (cluster["headGroupSpec"], serving, training):
        pod = group["template"]["spec"]
        container = pod["containers"][0]
        container["image"] = config.kubernetes.image
        patience = next(e for e in container["env"] if e["name"] == PATIENCE)
        patience["value"] = str(config.serve.silence_s)
        if config.kubernetes.project == "configmap":
            container["volumeMounts"] = [*container["volumeMounts"], project.mount()]
            pod["volumes"] = [*pod["volumes"], project.volume(config)]


class _Dumper(yaml.SafeDumper):
    """YAML without anchors, and with text of several lines as a block."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)
