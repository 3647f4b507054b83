from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from tests.helpers.manifests import problems
from undrift.app import BuildArgs
from undrift.cli.verbs import app
from undrift.errors import ConfigError
from undrift.k8s.manifests import one, overlays
from undrift.k8s.render import render, to_yaml

CONFIG = """\
model:
  name: m
  factory: nets.small:build
  weights: data/weights.safetensors
  input_shape: [2]
  classes: [a, b]
reference: reference.npz
lifecycle: {mode: off}
serve: {replicas: 3}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("nets/small.py", "nets/__init__.py", "data/weights.safetensors", "reference.npz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    for hidden in (".venv/x.py", "env/lib/y.py", "state/z.py", "notes.txt"):
        (folder / hidden).parent.mkdir(parents=True, exist_ok=True)
        (folder / hidden).touch()
    (folder / "env" / "pyvenv.cfg").touch()
    path = folder / "undrift.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def rayservice(objects: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = one(objects, "RayService", "undrift")["spec"]
    return spec


def build_args(objects: list[dict[str, Any]]) -> dict[str, Any]:
    serve = yaml.safe_load(rayservice(objects)["serveConfigV2"])
    args: dict[str, Any] = serve["applications"][0]["args"]
    return args


def mounted(objects: list[dict[str, Any]], folder: Path) -> None:
    """Lay the project's volume out as a pod sees it."""
    content = one(objects, "ConfigMap", "undrift-project")["binaryData"]
    pod = rayservice(objects)["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    volume = next(v["configMap"] for v in pod["volumes"] if v["name"] == "project")
    for item in volume["items"]:
        (folder / item["path"]).parent.mkdir(parents=True, exist_ok=True)
        (folder / item["path"]).write_bytes(base64.b64decode(content[item["key"]]))


@pytest.mark.thorough
@pytest.mark.parametrize("overlay", overlays())
def test_every_overlay_renders_to_valid_manifests(path: Path, overlay: str) -> None:
    objects = render(path, overlay, ("kubernetes.namespace=ml", "kubernetes.storage_class=nfs"))
    assert [bad for o in objects if (bad := problems(o))] == []
    assert {o["metadata"].get("namespace") for o in objects if o["kind"] != "PriorityClass"} == {
        "ml"
    }
    assert list(yaml.safe_load_all(to_yaml(objects))) == objects


def test_pods_read_the_same_configuration_and_files(path: Path, tmp_path: Path) -> None:
    objects = render(path, "gpu", ("monitor.rows_per_false_drift=5000",))
    pod = tmp_path / "pod"
    mounted(objects, pod)
    assert sorted(p.relative_to(pod).as_posix() for p in pod.rglob("*") if p.is_file()) == [
        "data/weights.safetensors",
        "nets/__init__.py",
        "nets/small.py",
        "reference.npz",
    ]
    config = BuildArgs.model_validate({**build_args(objects), "folder": pod}).load()
    assert config.model.weights.read_bytes() == b"data/weights.safetensors"
    assert (config.folder, config.state) == (pod, Path("/state"))
    assert (config.serve.host, config.serve.port, config.serve.replicas) == ("0.0.0.0", 8000, 3)
    assert (config.lifecycle.mode, config.train.use_gpu) == ("off", True)
    assert config.monitor.rows_per_false_drift == 5000


def test_paths_outside_the_folder_are_refused(path: Path) -> None:
    outside = path.parent.parent / "outside.npz"
    outside.touch()
    with pytest.raises(ConfigError, match=r"outside\.npz must lie in .*project: only"):
        render(path, changes=(f"reference={outside}",))


def test_absolute_path_inside_the_folder_becomes_relative(path: Path) -> None:
    objects = render(path, changes=(f"reference={path.parent / 'reference.npz'}",))
    assert build_args(objects)["config"]["reference"] == "reference.npz"


def test_large_project_must_be_in_the_image(path: Path) -> None:
    (path.parent / "reference.npz").write_bytes(np.random.default_rng(0).bytes(1_000_001))
    with pytest.raises(ConfigError, match=r"reference\.npz most of them; .*kubernetes\.project=im"):
        render(path)
    objects = render(path, changes=("kubernetes.project=image", "kubernetes.image=registry/m:2"))
    assert "ConfigMap" not in {o["kind"] for o in objects}
    cluster = rayservice(objects)["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    containers = [group["template"]["spec"]["containers"][0] for group in groups]
    assert {c["image"] for c in containers} == {"registry/m:2"}
    assert {m["mountPath"] for c in containers for m in c["volumeMounts"]} == {"/state"}


def test_number_of_pods_follows_replicas_and_workers(path: Path) -> None:
    objects = render(path, changes=("serve.replicas=12", "train.workers=4"))
    serving, training = rayservice(objects)["rayClusterConfig"]["workerGroupSpecs"]
    assert (serving["replicas"], serving["minReplicas"], serving["maxReplicas"]) == (12, 12, 12)
    assert (training["minReplicas"], training["maxReplicas"]) == (0, 4)
    budget = one(objects, "PodDisruptionBudget", "undrift-serving")["spec"]
    assert budget["minAvailable"] == 11


def test_pod_settings_do_not_reach_the_application(path: Path) -> None:
    """A new image must not make Serve build the application again."""
    changed = render(path, changes=("kubernetes.image=other:1",))
    assert build_args(changed) == build_args(render(path))


def test_most_replicas_and_their_patience_reach_the_pods(path: Path) -> None:
    cluster = rayservice(
        render(path, changes=("serve.max_replicas=20", "serve.request_timeout_s=90"))
    )["rayClusterConfig"]
    serving = cluster["workerGroupSpecs"][0]
    assert [serving[key] for key in ("replicas", "minReplicas", "maxReplicas")] == [3, 3, 20]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        told = {
            e["name"]: e.get("value") for e in group["template"]["spec"]["containers"][0]["env"]
        }
        assert told["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"] == "92"


def test_operator_may_be_pinned_to_its_namespace(path: Path) -> None:
    anywhere, pinned = (
        one(render(path, changes=changes), "NetworkPolicy", "undrift")["spec"]["ingress"][1]["from"]
        for changes in ((), ("kubernetes.operator_namespace=kuberay",))
    )
    pod = {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}
    assert anywhere == [{"namespaceSelector": {}, "podSelector": pod}]
    space = {"matchLabels": {"kubernetes.io/metadata.name": "kuberay"}}
    assert pinned == [{"namespaceSelector": space, "podSelector": pod}]


def test_cluster_to_train_in_reaches_the_pods_and_its_page_has_a_valid_one(path: Path) -> None:
    there = ("train.address=http://training-head-svc:8265", "train.token_file=/t/auth_token")
    objects = render(path, "cpu", there)
    args = build_args(objects)
    config = BuildArgs.model_validate({**args, "folder": path.parent}).load()
    assert config.train.address == "http://training-head-svc:8265"
    assert config.train.token_file == Path("/t/auth_token")
    page = (Path(__file__).parents[3] / "docs" / "away.md").read_text(encoding="utf-8")
    (told,) = yaml.safe_load_all(page.partition("```yaml\n")[2].partition("```")[0])
    assert (told["apiVersion"], told["kind"]) == ("ray.io/v1", "RayCluster")
    service, cluster = one(objects, "RayService", "undrift"), told["spec"]
    service["spec"]["rayClusterConfig"] = cluster  # whose schema it is, but for a port of Serve
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    head["ports"] = [{"name": "serve", "containerPort": 8000}]
    assert problems(service) == []
    cluster["workerGroupSpecs"][0]["gpus"] = 1
    assert problems(service)


def test_no_secret_is_rendered(path: Path) -> None:
    assert "Secret" not in {o["kind"] for o in render(path)}


def test_monitoring_is_rendered_if_wished(path: Path) -> None:
    plain = render(path)
    more = render(path, changes=("kubernetes.monitoring=true", "kubernetes.namespace=ml"))[
        len(plain) :
    ]
    assert [(o["kind"], o["metadata"]["namespace"]) for o in more] == [
        ("PodMonitor", "ml"),
        ("PodMonitor", "ml"),
        ("PrometheusRule", "ml"),
        ("ConfigMap", "ml"),
    ]


def test_render_verb_prints_the_manifests(path: Path) -> None:
    done = CliRunner().invoke(app, ["k8s", "render", "-c", str(path), "--overlay", "dev"])
    assert done.exit_code == 0, done.output
    assert list(yaml.safe_load_all(done.stdout)) == render(path, "dev")


def test_state_in_a_bucket_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"state: got s3://bucket/x, .* takes no bucket yet"):
        render(path, changes=("state=s3://bucket/x",))
