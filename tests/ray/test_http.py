"""The protocol over real HTTP: through the load balancer, to two replicas, and back."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from tests.helpers.support import eventually
from tests.ray.asking import FEEDBACK, INFER, ROW, counters, infer_body, refused
from tests.ray.running import MODEL, Running

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("same_replicas")]

JSON = {"Content-Type": "application/json"}
LIMIT = 200_000  # serve.max_body_bytes of the shared platform


def tensor(**change: Any) -> dict[str, Any]:
    body = infer_body(ROW)
    body["inputs"][0] |= change
    return body


# ---------------------------------------------------------------------- answers


def test_single_row_is_answered_with_id_version_and_hash(
    http: httpx.Client, platform: Running
) -> None:
    answer = http.post(INFER, json=infer_body(ROW, id="one")).json()
    live = platform.client.status().live_version
    assert answer["id"] == "one"
    assert answer["model_name"] == MODEL
    assert answer["model_version"] == str(live)
    assert answer["parameters"]["weights_hash"] == platform.store.manifest(live).hash
    assert [(t["name"], t["shape"]) for t in answer["outputs"]] == [
        ("probabilities", [1, 3]),
        ("label", [1]),
        ("class", [1]),
    ]


def test_many_rows_are_answered_in_order_with_class_names(http: httpx.Client) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (40, 2))
    many = {t["name"]: t["data"] for t in http.post(INFER, json=infer_body(x)).json()["outputs"]}
    single = [http.post(INFER, json=infer_body([row])).json()["outputs"] for row in x[:5]]
    p = np.reshape(many["probabilities"], (40, 3))
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(p[:5], [s[0]["data"] for s in single], atol=1e-5)
    assert many["label"] == p.argmax(axis=1).tolist()
    assert many["class"] == [("red", "green", "blue")[i] for i in many["label"]]


def test_request_without_id_gets_one_of_its_own(http: httpx.Client) -> None:
    ids = {http.post(INFER, json=infer_body(ROW)).json()["id"] for _ in range(3)}
    assert len(ids) == 3
    assert "" not in ids


def test_outputs_that_are_asked_for_are_the_only_ones(http: httpx.Client) -> None:
    answer = http.post(INFER, json=infer_body(ROW, outputs=[{"name": "class"}])).json()
    assert [t["name"] for t in answer["outputs"]] == ["class"]


def test_live_version_can_be_asked_by_number(http: httpx.Client, platform: Running) -> None:
    live = platform.client.status().live_version
    answer = http.post(f"/v2/models/{MODEL}/versions/{live}/infer", json=infer_body(ROW))
    assert answer.json()["model_version"] == str(live)


# ---------------------------------------------------------------------- what else can be read


def test_metadata_describes_server_and_model(http: httpx.Client, platform: Running) -> None:
    assert http.get("/v2").json()["name"] == "undrift"
    model = http.get(f"/v2/models/{MODEL}").json()
    live = str(platform.client.status().live_version)
    assert model["versions"] == [live]
    assert model["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 2]}]
    assert http.get(f"/v2/models/{MODEL}/versions/{live}").json() == model


@pytest.mark.parametrize(
    "path",
    ["/v2/health/live", "/v2/health/ready", "/healthz", "/readyz", f"/v2/models/{MODEL}/ready"],
)
def test_health_is_good_while_a_version_is_loaded(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 200


@pytest.mark.parametrize("view", ["status", "drift", "versions", "events"])
def test_views_are_json(http: httpx.Client, view: str) -> None:
    answer = http.get(f"/v2/models/{MODEL}/{view}")
    assert answer.status_code == 200
    assert isinstance(answer.json(), list if view == "versions" else dict)


def test_metrics_of_both_replicas_are_summed_on_every_page(
    http: httpx.Client, platform: Running
) -> None:
    live = str(platform.client.status().live_version)

    def count() -> float:  # of a status that only this test brings about
        return counters(http, "undrift_requests_total").get(("422", live), 0.0)

    before = count()
    for _ in range(24):
        body = infer_body([[3e38, 3e38]])
        answer = http.post(INFER, json=body, headers={"Connection": "close"})
        refused(answer, 422, "the model's answer to row 0 is not finite")
    eventually(count, until=lambda seen: seen == before + 24)
    assert {count() for _ in range(6)} == {before + 24}


def test_metrics_tell_version_phase_and_levels(http: httpx.Client, platform: Running) -> None:
    status = platform.client.status()
    assert counters(http, "undrift_live_version") == {(): status.live_version}
    phases = counters(http, "undrift_lifecycle_phase")
    assert [p for p, v in phases.items() if v == 1] == [(status.phase,)]
    assert ("ensemble",) in counters(http, "undrift_drift_level")


# ---------------------------------------------------------------------- bad input

DEEP = b'{"inputs": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
BIG = json.dumps(infer_body([[0.0, 0.0]] * 100_000)).encode()
NAN = json.dumps(tensor(data=[0.5, float("nan")]))

BAD_BODIES: dict[str, tuple[Any, int, str]] = {
    "wrong shape": (tensor(shape=[1, 3]), 400, "'shape' must be [rows, 2]; got [1, 3]"),
    "no row": (tensor(shape=[0, 2], data=[]), 400, "'shape' must be [rows, 2]"),
    "too few numbers": (tensor(data=[1.0]), 400, "has 1 numbers; shape [1, 2] needs 2"),
    "nested wrongly": (tensor(data=[[1.0]]), 400, "expected a list of 2, got 1 items"),
    "text": (tensor(data=["a", 1.0]), 400, "'data' must hold numbers; number 0 is 'a'"),
    "null": (tensor(data=[0.5, None]), 400, "'data' must hold numbers; number 1 is None"),
    "NaN": (NAN, 400, "'data' must be finite 32-bit numbers; number 1 is nan"),
    "overflow": (tensor(data=[0.5, 1e300]), 400, "'data' must be finite 32-bit numbers"),
    "fraction": (tensor(datatype="INT32"), 400, "number 0 of 'data', 0.25, is not INT32"),
    "unknown datatype": (tensor(datatype="FP31"), 400, "'datatype' must be one of FP16, FP32"),
    "other input": (tensor(name="x"), 400, "the input is named 'input'; got 'x'"),
    "no input": ({"inputs": []}, 400, "'inputs' must be a list of one tensor"),
    "sequence": (infer_body(ROW, parameters={"sequence_id": 4}), 400, "without sequences"),
    "rounded": (
        tensor(datatype="INT64", data=[0, 2**24 + 1]),
        400,
        "number 1 of 'data', 16777217,",
    ),
    "unknown output": (infer_body(ROW, outputs=[{"name": "z"}]), 400, "out of probabilities"),
    "id with a colon": (infer_body(ROW, id="a:1"), 400, "'id' must be a string of 1 to 128"),
    "not an object": ([1, 2], 400, "must be a JSON object with 'inputs', not a list"),
    "malformed": (b'{"inputs": [', 400, "the body is not JSON"),
    "empty": (b"", 400, "the body is not JSON"),
    "not UTF-8": (b'{"inputs": "\xff"}', 400, "the body is not JSON"),
    "deep": (DEEP, 400, "the body is not JSON"),
    "oversized": (BIG, 413, f"at most {LIMIT} are accepted"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_bad_body_is_refused_with_what_was_expected(http: httpx.Client, case: str) -> None:
    body, status, text = BAD_BODIES[case]
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    refused(http.post(INFER, content=content, headers=JSON), status, text)
    assert http.post(INFER, json=infer_body(ROW)).status_code == 200


def test_oversized_body_without_announced_length_is_refused(http: httpx.Client) -> None:
    chunks = (b" " * 10_000 for _ in range(100))
    refused(http.post(INFER, content=chunks, headers=JSON), 413, f"more than {LIMIT} bytes")


@pytest.mark.parametrize("path", [INFER, FEEDBACK])
def test_other_content_type_is_refused(http: httpx.Client, path: str) -> None:
    answer = http.post(path, content=b"id,label\n", headers={"Content-Type": "text/csv"})
    refused(answer, 415, "send application/json, not 'text/csv'")


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("POST", "/v2/models/other/infer", 404, f"no model 'other'; there is '{MODEL}'"),
        ("GET", "/v2/models/other", 404, f"no model 'other'; there is '{MODEL}'"),
        ("GET", "/v2/models/other/status", 404, f"no model 'other'; there is '{MODEL}'"),
        ("POST", "/v2/models/other/feedback", 404, f"no model 'other'; there is '{MODEL}'"),
        ("POST", f"/v2/models/{MODEL}/versions/99/infer", 404, "no version '99'; stored are"),
        ("POST", f"/v2/models/{MODEL}/versions/x/infer", 404, "no version 'x'; stored are [1"),
        ("GET", f"/v2/models/{MODEL}/versions/99", 404, "no version '99'; stored are"),
        ("GET", f"/v2/models/{MODEL}/weather", 404, "weather: Not Found; see GET /openapi.json"),
        ("POST", f"/v2/models/{MODEL}/destroy", 404, "destroy: Not Found; see GET /openapi.json"),
        ("GET", "/nowhere", 404, "GET /nowhere: Not Found; see GET /openapi.json"),
        ("POST", "/metrics", 405, "POST /metrics: Method Not Allowed; see GET /openapi.json"),
        ("DELETE", INFER, 405, "Method Not Allowed; see GET /openapi.json"),
    ],
)
def test_unknown_route_is_refused_with_what_there_is(
    http: httpx.Client, method: str, path: str, status: int, text: str
) -> None:
    refused(http.request(method, path, json=infer_body(ROW)), status, text)
