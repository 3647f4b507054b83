"""What only the operator may do, and what even the operator may not."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.helpers.support import eventually
from tests.ray.asking import refused
from tests.ray.running import MODEL, Running, settled

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("same_replicas")]

VERBS = ["retrain", "promote", "rollback", "pause", "resume"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "Basic Zm9vOmJhcg=="])
def test_operator_without_the_token_is_refused(
    http: httpx.Client, verb: str, header: str | None
) -> None:
    headers = {"Authorization": header} if header else {}
    answer = http.post(f"/v2/models/{MODEL}/{verb}", json={"version": 1}, headers=headers)
    refused(answer, 401, "this needs 'Authorization: Bearer TOKEN'")


@pytest.fixture
def operator(platform: Running, http: httpx.Client) -> httpx.Client:
    http.headers["Authorization"] = f"Bearer {(platform.config.state / 'token').read_text()[:-1]}"
    return http


@pytest.mark.parametrize(
    ("verb", "body", "status", "text"),
    [
        ("promote", {"version": 99}, 404, "version: no version 99; stored versions are [1"),
        ("promote", {"version": "2"}, 404, "version: no version '2'; stored versions are [1"),
        ("promote", {}, 404, "version: no version None; stored versions are [1"),
        ("rollback", {"version": -1}, 404, "version: no version -1; stored versions are [1"),
        ("promote", [1], 400, "the body must be a JSON object"),
        ("promote", {"version": True}, 404, "version: no version True; stored versions are [1"),
        ("rollback", {"versoin": 1}, 400, "an unknown key 'versoin'; known are version"),
        ("pause", {"version": 1}, 400, "an unknown key 'version'; known are none"),
        ("retrain", {"method": "magic"}, 400, "method: got 'magic'; there are bandit, full"),
        ("retrain", {"method": ["full"]}, 400, "method: got ['full']; there are bandit, full"),
        ("retrain", {"steps": "many"}, 400, "steps: got 'many', expected a number greater than 0"),
        ("retrain", {"steps": -1}, 400, "steps: got -1, expected a number greater than 0"),
    ],
)
def test_ill_formed_order_is_refused(
    operator: httpx.Client, verb: str, body: Any, status: int, text: str
) -> None:
    refused(operator.post(f"/v2/models/{MODEL}/{verb}", json=body), status, text)


def test_rollback_without_a_previous_version_is_refused(
    operator: httpx.Client, platform: Running
) -> None:
    status = platform.client.status()
    if status.previous_version is not None:  # another test was here before
        platform.client.rollback()
        eventually(settled(platform, status.previous_version))
    answer = operator.post(f"/v2/models/{MODEL}/rollback")
    refused(answer, 409, "there is no previous version to go back to")


def test_promotion_of_the_live_version_is_refused(
    operator: httpx.Client, platform: Running
) -> None:
    live = platform.client.status().live_version
    answer = operator.post(f"/v2/models/{MODEL}/promote", json={"version": live})
    refused(answer, 409, f"version {live} is already live")


def test_pause_and_resume_show_in_the_status(operator: httpx.Client) -> None:
    assert operator.post(f"/v2/models/{MODEL}/pause").json()["phase"] == "paused"
    answer = operator.post(f"/v2/models/{MODEL}/retrain")
    refused(answer, 409, "paused: resume first")
    assert operator.post(f"/v2/models/{MODEL}/resume").json()["phase"] == "healthy"
