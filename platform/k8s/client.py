"""A deployment in a cluster: applied, looked at and deleted through the API server."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from lightkube import ApiError, Client, KubeConfig
from lightkube.codecs import from_dict
from lightkube.core.exceptions import ConfigError as KubeConfigError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import PersistentVolumeClaim, Pod, Secret

from undrift.errors import PlatformError
from undrift.k8s.manifests import Manifest
from undrift.k8s.render import SECRETS, SERVICE

FIELD_MANAGER = "undrift"
TIMEOUT_S = 60.0
LABEL = "app.kubernetes.io/name"
STATE_CLAIMS = ("undrift-state", "data-undrift-redis-0")
KEPT = ("PriorityClass", "PersistentVolumeClaim")

RayService = create_namespaced_resource("ray.io", "v1", "RayService", "rayservices")
for _kind, _plural in (("PodMonitor", "podmonitors"), ("PrometheusRule", "prometheusrules")):
    create_namespaced_resource("monitoring.coreos.com", "v1", _kind, _plural)


class Deployment:
    """One platform in one namespace; a context manager.

    Args:
        namespace: Where it is; without it, that of the present context of kubectl.

    Raises:
        PlatformError: From every method: there is no cluster to talk to, or it refuses.
    """

    def __init__(self, namespace: str | None = None) -> None:
        with _explained():
            found = KubeConfig.from_env().get()
            timeout = httpx2.Timeout(TIMEOUT_S)
            self._client = Client(found, namespace, timeout, field_manager=FIELD_MANAGER)
        self.namespace: str = self._client.namespace

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def apply(self, objects: Iterable[Manifest], *, force: bool = False) -> list[str]:
        """Apply objects on the server's side, and make the secrets that they need and lack.

        Args:
            objects: What `render` returns.
            force: Take over fields that something else, such as kubectl, has set.

        Returns:
            What was applied, as ``kind/name``.
        """
        wanted = sorted(objects, key=lambda o: o["kind"] == "RayService")  # it needs the others
        names = {o["metadata"]["name"] for o in wanted} | {"undrift-token"}
        with _explained():
            made = [self._make_secret(name) for name in SECRETS if name in names]
            for thing in wanted:
                self._client.apply(from_dict(thing), force=force)
        return [name for name in made if name] + [_title(o) for o in wanted]

    def status(self) -> dict[str, Any]:
        """Return what the operator and the pods say.

        Returns:
            ``conditions`` and ``applications`` of the RayService, and ``pods``.
        """
        with _explained():
            service = self._client.get(RayService, SERVICE)
            pods = list(self._client.list(Pod, labels={LABEL: ["undrift", "undrift-redis"]}))
        status: Any = service.status or {}
        active = status.get("activeServiceStatus") or {}
        pending = status.get("pendingServiceStatus") or {}
        running = active.get("applicationStatuses") or pending.get("applicationStatuses") or {}
        conditions = status.get("conditions") or []
        return {
            "namespace": self.namespace,
            "endpoints": status.get("numServeEndpoints", 0),
            "conditions": {c["type"]: [c["status"], c.get("message", "")] for c in conditions},
            "applications": {
                name: [app.get("status", ""), app.get("message", "")]
                for name, app in running.items()
            },
            "pods": [_pod(pod) for pod in pods],
        }

    def delete(self, objects: Iterable[Manifest], *, state: bool = False) -> list[str]:
        """Delete objects.

        Args:
            objects: What `render` returns. Priority classes are left: other namespaces share them.
            state: Delete the volumes and the secrets too, and with them all that was learnt.

        Returns:
            What was deleted, as ``kind/name``.
        """
        gone = []
        for thing in sorted(objects, key=lambda o: o["kind"] != "RayService"):
            if thing["kind"] not in KEPT:
                kind, name = type(from_dict(thing)), thing["metadata"]["name"]
                gone += [_title(thing)] if self._delete(kind, name) else []
        if state:
            for claim in STATE_CLAIMS:
                if self._delete(PersistentVolumeClaim, claim):
                    gone.append(f"PersistentVolumeClaim/{claim}")
            gone += [f"Secret/{name}" for name in SECRETS if self._delete(Secret, name)]
        return gone

    def _delete(self, kind: Any, name: str) -> bool:
        try:
            with _explained():
                self._client.delete(kind, name)
        except _MissingError:
            return False
        return True

    def _make_secret(self, name: str) -> str:
        """Make a secret with a random value unless there is one; returns its title if made."""
        value = {SECRETS[name]: secrets.token_urlsafe(24)}
        metadata = ObjectMeta(name=name, labels={LABEL: "undrift"})
        try:
            self._client.create(Secret(metadata=metadata, stringData=value))
        except ApiError as error:
            if error.status.reason == "AlreadyExists":
                return ""
            raise
        return f"Secret/{name}"


class _MissingError(PlatformError):
    """What was asked for is not there."""


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what can go wrong between here and the API server into a `PlatformError`."""
    try:
        yield
    except ApiError as error:
        text = error.status.message or error.status.reason
        if error.status.reason == "Conflict":
            text = f"{text}; --force takes these fields over"
        kind = _MissingError if error.status.code == 404 else PlatformError
        raise kind(f"the cluster refuses: {text}") from None
    except httpx2.HTTPStatusError as error:  # a path that the API server does not have
        path = error.request.url.path
        raise PlatformError(
            f"the cluster answers {error.response.status_code} at {path}; is its operator there?"
        ) from None
    except KubeConfigError as error:
        raise PlatformError(f"no cluster to talk to: {error}; see KUBECONFIG") from None
    except httpx2.TransportError as error:
        raise PlatformError(f"the cluster does not answer: {error}") from None


def _pod(pod: Pod) -> dict[str, Any]:
    assert pod.metadata is not None
    labels = pod.metadata.labels or {}
    containers = (pod.status.containerStatuses if pod.status else None) or []
    waiting = [c.state.waiting.reason for c in containers if c.state and c.state.waiting]
    return {
        "name": pod.metadata.name,
        "component": labels.get("app.kubernetes.io/component", "redis"),
        "phase": (waiting[0] if waiting else "") or (pod.status.phase if pod.status else ""),
        "ready": bool(containers) and all(c.ready for c in containers),
        "restarts": sum(c.restartCount for c in containers),
    }


def _title(thing: Manifest) -> str:
    return f"{thing['kind']}/{thing['metadata']['name']}"
