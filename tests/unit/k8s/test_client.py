from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers.kube_api import ApiServer
from undrift.cli.verbs import app
from undrift.errors import PlatformError
from undrift.k8s.client import Deployment
from undrift.k8s.manifests import compose, monitoring, one

pytestmark = pytest.mark.thorough

CORE = "/api/v1/namespaces/ml"
SERVICE = "/apis/ray.io/v1/namespaces/ml/rayservices/undrift"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "undrift-serving-1",
        "labels": {"app.kubernetes.io/name": "undrift", "app.kubernetes.io/component": "serving"},
    },
    "status": {
        "phase": "Running",
        "containerStatuses": [
            {"name": "c", "image": "i", "imageID": "", "ready": True, "restartCount": 2}
        ],
    },
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    running = ApiServer()
    monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig(tmp_path / "kubeconfig")))
    yield running
    running.close()


def test_apply_sends_every_object_and_makes_the_secrets(server: ApiServer) -> None:
    objects = compose("cpu")
    with Deployment() as deployment:
        done = deployment.apply(objects)
    titles = {f"{o['kind']}/{o['metadata']['name']}" for o in objects}
    assert set(done) == titles | {"Secret/undrift-token", "Secret/undrift-redis"}
    assert done[-1] == "RayService/undrift"  # it needs all others
    assert server.objects[SERVICE]["spec"] == one(objects, "RayService", "undrift")["spec"]
    assert set(server.managers.values()) == {"undrift"}
    assert len(server.objects[f"{CORE}/secrets/undrift-token"]["stringData"]["token"]) >= 32


def test_monitoring_is_applied_and_deleted(server: ApiServer) -> None:
    rules = "/apis/monitoring.coreos.com/v1/namespaces/ml/prometheusrules/undrift"
    with Deployment() as deployment:
        assert "PodMonitor/undrift-ray" in deployment.apply(monitoring())
        assert server.objects[rules]["spec"]["groups"][0]["name"] == "undrift"
        assert "PrometheusRule/undrift" in deployment.delete(monitoring())
    assert rules not in server.objects


def test_apply_again_changes_no_secret(server: ApiServer) -> None:
    with Deployment() as deployment:
        deployment.apply(compose("cpu"))
        before = dict(server.objects)
        assert "Secret/undrift-token" not in deployment.apply(compose("cpu"))
    assert server.objects == before


def test_without_redis_there_is_no_secret_for_it(server: ApiServer) -> None:
    with Deployment() as deployment:
        deployment.apply(compose("dev"))
    assert f"{CORE}/secrets/undrift-redis" not in server.objects


def test_fields_of_another_manager_are_taken_by_force_only(server: ApiServer) -> None:
    server.managers[SERVICE] = "kubectl"
    with Deployment() as deployment:
        with pytest.raises(PlatformError, match='conflict with "kubectl"; --force'):
            deployment.apply(compose("cpu"))
        deployment.apply(compose("cpu"), force=True)
    assert server.managers[SERVICE] == "undrift"


def test_what_the_server_finds_wrong_is_told(server: ApiServer) -> None:
    objects = compose("cpu")
    one(objects, "RayService", "undrift")["spec"]["unheard"] = 1
    with Deployment() as deployment, pytest.raises(PlatformError, match=r"refuses: .*unheard"):
        deployment.apply(objects)


def test_cluster_without_kuberay_is_told(server: ApiServer) -> None:
    server.kuberay = False
    with Deployment() as deployment, pytest.raises(PlatformError, match="is its operator there"):
        deployment.apply(compose("cpu"))


def test_no_kubeconfig_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(PlatformError, match=r"no cluster to talk to: .* see KUBECONFIG"):
        Deployment()


def test_silent_cluster_is_told(server: ApiServer) -> None:
    server.close()
    with Deployment() as deployment, pytest.raises(PlatformError, match="does not answer"):
        deployment.status()


def test_status_tells_what_operator_and_pods_say(server: ApiServer) -> None:
    with Deployment() as deployment:
        deployment.apply(compose("cpu"))
        server.objects[SERVICE]["status"] = {
            "numServeEndpoints": 1,
            "conditions": [{"type": "Ready", "status": "True", "message": "fine"}],
            "activeServiceStatus": {"applicationStatuses": {"undrift": {"status": "RUNNING"}}},
        }
        server.objects[f"{CORE}/pods/undrift-serving-1"] = POD
        assert deployment.status() == {
            "namespace": "ml",
            "endpoints": 1,
            "conditions": {"Ready": ["True", "fine"]},
            "applications": {"undrift": ["RUNNING", ""]},
            "pods": [
                {
                    "name": "undrift-serving-1",
                    "component": "serving",
                    "phase": "Running",
                    "ready": True,
                    "restarts": 2,
                }
            ],
        }


def test_delete_leaves_the_state_unless_asked(server: ApiServer) -> None:
    claim = f"{CORE}/persistentvolumeclaims/undrift-state"
    with Deployment() as deployment:
        deployment.apply(compose("cpu"))
        gone = deployment.delete(compose("cpu"))
        assert gone[0] == "RayService/undrift"
        assert claim in server.objects
        left = {path.split("/")[-2] for path in server.objects}
        assert left == {"persistentvolumeclaims", "secrets", "priorityclasses"}
        assert deployment.delete(compose("cpu")) == []
        assert "PersistentVolumeClaim/undrift-state" in deployment.delete([], state=True)
    assert {path.split("/")[-2] for path in server.objects} == {"priorityclasses"}


def invoke(*arguments: str) -> Any:
    done = CliRunner().invoke(app, ["k8s", *arguments])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_verbs_apply_show_and_delete(server: ApiServer, starter_config: Path) -> None:
    config = ("-c", str(starter_config), "--json")
    assert "ConfigMap/undrift-project" in invoke("apply", *config)["applied"]
    assert invoke("status", *config)["namespace"] == "ml"
    assert "RayService/undrift" in invoke("delete", *config)["deleted"]
    done = CliRunner().invoke(app, ["k8s", "status", "-c", str(starter_config)])
    assert done.exit_code == 1
    assert "not found" in done.output


@pytest.fixture
def starter_config(tmp_path: Path) -> Path:
    starter = Path(__file__).parents[3] / "platform" / "starter"
    for name in ("model.py", "undrift.yaml"):
        (tmp_path / name).write_bytes((starter / name).read_bytes())
    for name in ("weights.safetensors", "reference.npz"):
        (tmp_path / name).touch()
    return tmp_path / "undrift.yaml"
