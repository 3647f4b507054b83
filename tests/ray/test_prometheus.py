"""Prometheus scrapes a running platform: an alert fires and resolves, every panel can be asked."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from tests.helpers.prometheus import panels, query, rules, tool
from tests.helpers.support import eventually
from tests.ray.asking import FEEDBACK, INFER, infer_body
from tests.ray.running import Running, free_port

pytestmark = pytest.mark.ray

ROWS = 100  # of one request


@pytest.fixture
def prometheus(platform: Running, tmp_path: Path) -> Iterator[httpx.Client]:
    """A Prometheus on loopback with the shipped rules, which wait for a second at most."""
    quick = [{**rule, **({"for": "1s"} if "for" in rule else {})} for rule in rules()]
    groups = [{"name": "quick", "interval": "1s", "rules": quick}]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    target = platform.url.removeprefix("http://")
    config = {
        "global": {"scrape_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "undrift", "static_configs": [{"targets": [target]}]}],
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    with (tmp_path / "log").open("w", encoding="utf-8") as log:
        child = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={tmp_path / 'prometheus.yaml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            with httpx.Client(base_url=f"http://{address}/api/v1", trust_env=False) as client:
                eventually(lambda: is_up(client))
                yield client
        finally:
            child.terminate()
            child.wait(30)


def is_up(client: httpx.Client) -> bool:
    try:
        return bool(ask(client, "up == 1"))
    except httpx.TransportError:
        return False


def ask(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    answer = client.get("/query", params={"query": expression})
    if answer.status_code == 503:  # it is starting
        return []
    found = answer.json()
    assert found["status"] == "success", found
    result: list[dict[str, Any]] = found["data"]["result"]
    return result


def firing(client: httpx.Client) -> set[str]:
    alerts = client.get("/alerts").json()["data"]["alerts"]
    return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}


def test_alert_fires_while_labels_are_missing_and_resolves_when_they_come(
    platform: Running, http: httpx.Client, prometheus: httpx.Client
) -> None:
    with np.load(platform.config.reference) as reference:
        known = reference["x"]
    rng = np.random.default_rng(0)
    answered: dict[str, Any] = {}
    limit = platform.config.monitor.label_lag_rows
    for n in range(limit // ROWS + 2):
        x = known[rng.integers(len(known), size=ROWS)]
        answer = http.post(INFER, json=infer_body(x, id=f"prometheus-{n}")).json()
        answered[answer["id"]] = next(t["data"] for t in answer["outputs"] if t["name"] == "label")
    eventually(lambda: firing(prometheus), 60, until=lambda seen: "UndriftLabelsMissing" in seen)
    assert "UndriftSilent" not in firing(prometheus)
    labels = [{"id": name, "label": label} for name, label in answered.items()]
    assert http.post(FEEDBACK, json={"labels": labels}).status_code == 200
    eventually(
        lambda: firing(prometheus), 60, until=lambda seen: "UndriftLabelsMissing" not in seen
    )
    answers = {
        panel["title"]: [bool(ask(prometheus, query(t["expr"], "1m"))) for t in panel["targets"]]
        for panel in panels()
    }
    empty = {title for title, found in answers.items() if not all(found)}
    assert {title for title in empty if not title.startswith(("Retraining", "Swap"))} == set()
