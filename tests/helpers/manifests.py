"""What the API server and KubeRay's operator would say of a manifest, without either.

RayService, PodMonitor and PrometheusRule are checked against their CustomResourceDefinitions,
turned into strict JSON schemas; everything else against the schemas that kubernetes-validate
carries. Both refuse unknown fields, as an API server does under strict validation. Then come rules
that only KubeRay's operator knows.
"""

from __future__ import annotations

import copy
import gzip
import json
import re
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from pydantic import ValidationError

CRDS = Path(__file__).parents[1] / "data" / "crds"
CUSTOM = {
    "RayService": "ray.io_rayservices",
    "PodMonitor": "monitoring.coreos.com_podmonitors",
    "PrometheusRule": "monitoring.coreos.com_prometheusrules",
}
LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
STRATEGIES = (None, "NewCluster", "NewClusterWithIncrementalUpgrade", "None")
NAME = re.compile(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?")


def problems(manifest: dict[str, Any]) -> list[str]:
    """Return what is wrong with a manifest; nothing if it is good."""
    return list(_problems(json.dumps(manifest, sort_keys=True)))


@cache  # the tests look at the same objects again and again, and a look takes a tenth of a second
def _problems(text: str) -> list[str]:
    manifest = json.loads(text)
    kind = manifest["kind"]
    if kind not in CUSTOM:
        try:
            kubernetes_validate.validate(manifest, "1.37", strict=True)
        except kubernetes_validate.ValidationError as error:
            return [error.message]
        return []
    schema = _crd(kind)
    full = copy.deepcopy(manifest)
    _fill_defaults(schema, full)
    found = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        for error in _validator(kind).iter_errors(full)
    ]
    found = found or list(_repeated(schema, full))
    return found or list(_operator(full) if kind == "RayService" else ())


@cache
def _crd(kind: str) -> dict[str, Any]:
    with gzip.open(CRDS / f"{CUSTOM[kind]}.yaml.gz") as file:
        crd = yaml.load(file, Loader=LOADER)
    version = next(v for v in crd["spec"]["versions"] if v["name"] == "v1")
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": 1}
    return schema


@cache
def _validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(_strict(_crd(kind)))


def _strict(schema: Any) -> Any:
    """Return the JSON schema that refuses what the CRD's schema does not name."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    out = {k: _strict(v) for k, v in schema.items() if not k.startswith("x-") and k != "default"}
    if isinstance(properties := schema.get("properties"), dict):
        out["properties"] = {name: _strict(part) for name, part in properties.items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            out.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
        out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return out


def _fill_defaults(schema: dict[str, Any], value: Any) -> None:
    """Put the defaults in place first, as the API server does: a required field may have one."""
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if "default" in part:
                value.setdefault(name, copy.deepcopy(part["default"]))
            if name in value:
                _fill_defaults(part, value[name])
    elif isinstance(value, list):
        for item in value:
            _fill_defaults(schema.get("items", {}), item)


def _repeated(schema: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """Yield the items of lists with keys that come twice."""
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name in value:
                yield from _repeated(part, value[name], f"{path}.{name}")
    elif isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys", ())
        seen = set()
        for item in value:
            key = tuple(repr(item.get(name)) for name in keys)
            if keys and key in seen:
                yield f"{path}: {key} comes twice"
            seen.add(key)
            yield from _repeated(schema.get("items", {}), item, path)


def _operator(service: dict[str, Any]) -> Iterator[str]:
    """Yield what KubeRay v1.7.0 refuses only when it reconciles (its utils/validation.go)."""
    spec = service["spec"]
    cluster = spec["rayClusterConfig"]
    if not NAME.fullmatch(service["metadata"]["name"]):
        yield "the name is no DNS-1035 label of at most 47 characters"
    if spec.get("upgradeStrategy", {}).get("type") not in STRATEGIES:
        yield f"upgradeStrategy.type: one of {STRATEGIES}"
    ports = [
        port.get("name", "")
        for port in cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    ]
    if "serve" not in ports:
        yield "no port of the head is named serve, so no Service is made for it"
    version = tuple(map(int, cluster["rayVersion"].split(".")))
    if cluster.get("authOptions", {}).get("mode") == "token" and version < (2, 52, 0):
        yield "token authentication needs Ray 2.52"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        environment = {entry["name"] for entry in pod["containers"][0].get("env", ())}
        if pod.get("restartPolicy", "Never") != "Never":
            yield "autoscaler v2 wants restartPolicy Never, or none"
        if "gcsFaultToleranceOptions" in cluster and environment & {
            "REDIS_PASSWORD",
            "RAY_REDIS_ADDRESS",
        }:
            yield "the environment clashes with gcsFaultToleranceOptions"
        if int(group.get("minReplicas", 0)) > int(group.get("maxReplicas", 1)):
            yield "minReplicas is greater than maxReplicas"
    yield from _serve(spec["serveConfigV2"])


def _serve(text: str) -> Iterator[str]:
    """Yield what is wrong with the Serve configuration; Serve itself lets unknown keys pass."""
    with warnings.catch_warnings(action="ignore"):  # of pydantic's, about Ray
        from ray.serve.schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema

    config = yaml.safe_load(text)
    parts = [(ServeDeploySchema, config)]
    for application in config["applications"]:
        parts.append((ServeApplicationSchema, application))
        parts += [(DeploymentSchema, part) for part in application.get("deployments", ())]
    for schema, part in parts:
        yield from (f"serveConfigV2: unknown {key}" for key in set(part) - set(schema.model_fields))
    try:
        ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        yield f"serveConfigV2: {error}"
