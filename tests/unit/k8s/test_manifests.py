from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.manifests import problems
from undrift.errors import ConfigError
from undrift.host.haproxy import SocketFolder
from undrift.k8s.manifests import compose, folder, one, overlays
from undrift.serve.settings import ServeSettings
from undrift.train.environment import train_environment

OVERLAYS = overlays()
# Of an embedded run alone: where its sockets are, and how soon its replicas end.
EMBEDDED = {
    "RAY_SERVE_HAPROXY_BINARY_PATH",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S",
    "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT",  # a pod has all its ports to itself
    "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT",
    "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT",
    "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
    "UNDRIFT_HAPROXY_REAL",
    "UNDRIFT_HAPROXY_PATIENCE_S",
    "UNDRIFT_HAPROXY_KEY",  # of the wrapper, which a pod does without
    "UNDRIFT_HAPROXY_UNWATCHED",
    "UNDRIFT_HAPROXY_ONCE",
    "UNDRIFT_HAPROXY_TLS",
}


def service(overlay: str = "cpu") -> dict[str, Any]:
    return one(compose(overlay), "RayService", "undrift")


def pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = manifest["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"] for group in groups]


def by_name(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(o["kind"], o["metadata"]["name"]): o for o in objects}


def test_there_are_four_overlays() -> None:
    assert OVERLAYS == ["cpu", "dev", "gpu", "gpu-spot"]


@pytest.mark.thorough
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_passes_the_strict_schemas(overlay: str) -> None:
    assert {
        title: bad for title, o in by_name(compose(overlay)).items() if (bad := problems(o))
    } == {}


@pytest.mark.thorough
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubectl_composes_the_same(overlay: str) -> None:
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or "kubectl"
    done = subprocess.run(
        [kubectl, "kustomize", folder() / "overlays" / overlay],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert by_name(list(yaml.safe_load_all(done.stdout))) == by_name(compose(overlay))


def set_at(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return change


HEAD = ("spec", "rayClusterConfig", "headGroupSpec")
CONTAINER = (*HEAD, "template", "spec", "containers", 0)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (set_at("spec", "serveConfigV3", value=""), "serveConfigV3"),
        (set_at(*CONTAINER, "imagee", value="x"), "imagee"),
        (set_at(*CONTAINER, "image", value=7), "is not of type 'string'"),
        (set_at(*CONTAINER, "resources", "requests", "cpu", value="lots"), "does not match"),
        (set_at(*CONTAINER, "ports", 0, "containerPort", value=8265), "comes twice"),
        (set_at(*CONTAINER, "ports", 2, "name", value="http"), "named serve"),
        (set_at(*HEAD, "template", "spec", "restartPolicy", value="Always"), "restartPolicy"),
        (set_at("spec", "upgradeStrategy", "type", value="Rolling"), "upgradeStrategy"),
        (set_at("metadata", "name", value="u" * 48), "47 characters"),
        (set_at("spec", "rayClusterConfig", "rayVersion", value="2.51.0"), "2.52"),
        (set_at("spec", "serveConfigV2", value="applications: [{import_paht: a:b}]"), "paht"),
    ],
)
def test_broken_service_fails(change: Callable[[dict[str, Any]], None], told: str) -> None:
    broken = copy.deepcopy(service())
    change(broken)
    assert told in " ".join(problems(broken))


def test_broken_core_object_fails() -> None:
    budget = one(compose("cpu"), "PodDisruptionBudget", "undrift-serving")
    budget["spec"]["minAvailabel"] = 1
    assert "minAvailabel" in " ".join(problems(budget))


def test_unknown_overlay_is_refused() -> None:
    with pytest.raises(ConfigError, match="there are cpu, dev, gpu, gpu-spot"):
        compose("tpu")


def test_pods_have_the_data_plane_of_an_embedded_run(tmp_path: Path) -> None:
    run = SocketFolder(tmp_path)
    run.create()
    embedded = run.environment("/bin/haproxy", ServeSettings().silence_s)
    wanted = {
        name: value
        for name, value in {**embedded, **train_environment()}.items()
        if name not in EMBEDDED and str(tmp_path) not in value
    }
    for pod in pods(service()):
        told = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
        assert {name: told.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_training_pods_offer_cpus_so_only_they_train(overlay: str) -> None:
    cluster = service(overlay)["spec"]["rayClusterConfig"]
    cpus = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: group["resources"]["CPU"]
        for group, pod in zip(
            [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]],
            pods(service(overlay)),
            strict=True,
        )
    }
    assert (cpus["head"], cpus["serving"]) == ("0", "0")
    assert int(cpus["training"]) > 0


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_confined(overlay: str) -> None:
    for pod in pods(service(overlay)):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_head_alone_has_the_operators_token(overlay: str) -> None:
    named = [
        {e["name"] for e in pod["spec"]["containers"][0]["env"] if "valueFrom" in e}
        for pod in pods(service(overlay))
    ]
    assert named == [{"UNDRIFT_TOKEN"}, set(), set()]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secret_is_in_no_command_line(overlay: str) -> None:
    for thing in compose(overlay):
        if thing["kind"] == "StatefulSet":
            (container,) = thing["spec"]["template"]["spec"]["containers"]
            command, *_ = " ".join([*container["command"], *container["args"]]).partition("<<END")
            assert "PASSWORD" not in command
            assert "$(" not in str(container["args"])  # what Kubernetes itself would put in


def test_gpu_overlay_differs_from_cpu_in_training_alone() -> None:
    cpu, gpu = service("cpu")["spec"], service("gpu")["spec"]
    serve = [yaml.safe_load(spec.pop("serveConfigV2")) for spec in (cpu, gpu)]
    assert serve[1]["applications"][0]["args"]["set"].pop() == "train.use_gpu=true"
    assert serve[0] == serve[1]
    groups = [spec["rayClusterConfig"]["workerGroupSpecs"] for spec in (cpu, gpu)]
    training = groups[1].pop()
    groups[0].pop()
    assert cpu == gpu
    container = training["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == training["resources"]["GPU"] == "1"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_upgrade_makes_a_second_cluster_that_would_write_to_the_state(overlay: str) -> None:
    spec = service(overlay)["spec"]
    assert spec["upgradeStrategy"] == {"type": "None"}
    assert not any(key in spec for key in ("clusterUpgradeOptions", "managedBy"))


def test_only_training_pods_go_to_spot_nodes() -> None:
    head, serving, training = (pod["spec"] for pod in pods(service("gpu-spot")))
    assert "affinity" in training
    assert not any(key in pod for pod in (head, serving) for key in ("affinity", "tolerations"))
