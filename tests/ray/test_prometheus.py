"""Prometheus scrapes a running platform: an alert fires and resolves, every panel can be asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.helpers.prometheus import ask, firing, panels, query, scraping
from tests.helpers.support import eventually
from tests.ray.asking import FEEDBACK, INFER, infer_body
from tests.ray.running import Running

pytestmark = pytest.mark.ray

ROWS = 100  # of one request


@pytest.fixture
def prometheus(platform: Running, tmp_path: Path) -> Iterator[httpx.Client]:
    with scraping(platform.url, tmp_path) as client:
        yield client


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
