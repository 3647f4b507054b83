"""Requests to the model of the starter project, and reading of what comes back."""

from __future__ import annotations

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.ray.running import MODEL

INFER, FEEDBACK = f"/v2/models/{MODEL}/infer", f"/v2/models/{MODEL}/feedback"
ROW = [[0.25, -0.5]]


def infer_body(x: Any, **more: Any) -> dict[str, Any]:
    """Return a request body for rows ``x``."""
    rows = [list(map(float, row)) for row in x]
    tensor = {
        "name": "input",
        "shape": [len(rows), len(rows[0])],
        "datatype": "FP32",
        "data": [value for row in rows for value in row],
    }
    return {"inputs": [tensor], **more}


def counters(http: httpx.Client, name: str) -> dict[tuple[str, ...], float]:
    """Return a counter's samples by the values of its labels, the model's name aside."""
    page = http.get("/metrics", headers={"Connection": "close"})  # of any replica
    assert page.status_code == 200
    return {
        tuple(v for k, v in sorted(sample.labels.items()) if k != "model"): sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
        if sample.name == name
    }


def refused(answer: httpx.Response, status: int, text: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert text in answer.json()["error"]
