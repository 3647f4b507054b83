"""The alert rules and the dashboard as shipped, and Prometheus to run them."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from undrift.k8s.manifests import folder, monitoring, one


def tool(name: str) -> str:
    """Return the path of one of Prometheus's programs; skip the test where there is none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}; Debian's package prometheus has it")
    return found


def rules() -> list[dict[str, Any]]:
    spec = one(monitoring(), "PrometheusRule", "undrift")["spec"]
    return [rule for group in spec["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    path = folder() / "monitoring" / "dashboard.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard()["panels"]
    return found


def query(expression: str, interval: str = "5m") -> str:
    """Return a panel's expression as Grafana would send it, with all variables set to all."""
    for name, value in (
        ("$__rate_interval", interval),
        ("$namespace", ".*"),
        ("$model", ".*"),
    ):
        expression = expression.replace(name, value)
    return expression
