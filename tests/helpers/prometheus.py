"""The alert rules and the dashboard as shipped, and Prometheus to run them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.helpers.support import eventually
from tests.ray.running import free_port
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


@contextmanager
def scraping(url: str, folder: Path) -> Iterator[httpx.Client]:
    """Run Prometheus on loopback with the shipped rules, which wait for a second at most.

    Args:
        url: The platform, which is scraped every second.
        folder: Where it keeps what it reads and writes.
    """
    quick = [{**rule, **({"for": "1s"} if "for" in rule else {})} for rule in rules()]
    groups = [{"name": "quick", "interval": "1s", "rules": quick}]
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    target = url.removeprefix("http://")
    config = {
        "global": {"scrape_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "undrift", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("w", encoding="utf-8") as log:
        child = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            with httpx.Client(base_url=f"http://{address}/api/v1", trust_env=False) as client:
                eventually(lambda: _is_up(client))
                yield client
        finally:
            child.terminate()
            child.wait(30)


def _is_up(client: httpx.Client) -> bool:
    try:
        return bool(ask(client, "up == 1"))
    except httpx.TransportError:
        return False


def ask(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    """Return what an expression finds now."""
    answer = client.get("/query", params={"query": expression})
    if answer.status_code == 503:  # it is starting
        return []
    found = answer.json()
    assert found["status"] == "success", found
    result: list[dict[str, Any]] = found["data"]["result"]
    return result


def over(
    client: httpx.Client, expression: str, start: float, end: float, step: float = 1.0
) -> list[dict[str, Any]]:
    """Return what an expression finds from one moment to another, Unix seconds, every ``step``."""
    given = {"query": expression, "start": start, "end": end, "step": step}
    found = client.get("/query_range", params=given).json()
    assert found["status"] == "success", found
    result: list[dict[str, Any]] = found["data"]["result"]
    return result


def firing(client: httpx.Client) -> set[str]:
    """Return the alerts that fire now."""
    alerts = client.get("/alerts").json()["data"]["alerts"]
    return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}
