"""The Serve application of the RayService, deployed with `serve deploy` on a Ray of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.helpers.support import eventually
from tests.ray.nodes import RayHead, pod_head, serve_config
from tests.ray.running import PATIENCE_S, free_port, project, watched
from undrift.client import Client
from undrift.errors import PlatformError

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with pod_head(cpus=4) as started:
        yield started


def test_serve_deploy_starts_the_whole_platform(
    starter: Path, tmp_path: Path, head: RayHead
) -> None:
    path = project(starter, tmp_path / "spirals", lifecycle={"mode": "off"})
    port = free_port()
    config = serve_config(path, port)
    head.deploy(config, tmp_path / "serve.yaml")
    eventually(
        lambda: head.application()["status"], PATIENCE_S, until=lambda seen: seen == "RUNNING"
    )
    url = f"http://127.0.0.1:{port}"
    with Client(url, "spirals", "operator") as client, watched(client):
        eventually(lambda: loaded(client, 1))
        answer = client.infer([[0.3, -1.2]], "order-17")
        assert answer.version == 1
        assert client.feedback(["order-17"], ["green"])["accepted"] == 1
        assert httpx.get(f"{url}/-/healthz", trust_env=False).status_code == 200

        deployed = head.application()
        first = head.actors()
        assert len(first) == 3
        give_labelled_rows(client, 2000)
        eventually(lambda: client.drift().labelled, until=lambda seen: seen == 2001)
        client.retrain(method="finetune", steps=50)
        eventually(lambda: trained(client))
        client.promote(2)  # a swap is none of Serve's business
        eventually(lambda: loaded(client, 2))
        assert client.infer([[0.3, -1.2]]).version == 2
        assert changed(head.application()) == changed(deployed)
        assert head.actors() == first

        head.deploy(config, tmp_path / "serve.yaml")  # the same again changes nothing
        eventually(
            lambda: head.application()["status"],
            PATIENCE_S,
            until=lambda seen: seen == "RUNNING",
        )
        assert head.actors() == first

        config["applications"][0]["args"]["config"]["lifecycle"]["mode"] = "suggest"
        head.deploy(config, tmp_path / "serve.yaml")  # another policy: other actors, same state
        eventually(lambda: not set(first.values()) & set(head.actors().values()))
        eventually(lambda: loaded(client, 2))
        eventually(
            lambda: head.application()["status"],
            PATIENCE_S,
            until=lambda seen: seen == "RUNNING",
        )
        assert client.infer([[0.3, -1.2]]).version == 2
        assert client.status().mode == "suggest"
        assert [v.version for v in client.versions()] == [1, 2]


def give_labelled_rows(client: Client, rows: int) -> None:
    x = np.random.default_rng(0).normal(size=(rows, 2))
    client.feedback(client.infer(x).ids, ["red" if a > b else "blue" for a, b in x])


def trained(client: Client) -> bool:
    """The candidate is there, and so is its verdict; one that forgets is rejected."""
    return len(client.versions()) == 2 and client.status().phase != "retraining"


def loaded(client: Client, version: int) -> bool:
    with suppress(PlatformError):
        replicas = client.status().replicas.values()
        return bool(replicas) and set(replicas) == {version}
    return False


def changed(application: dict[str, Any]) -> tuple[Any, ...]:
    """What would be another if Serve had touched the application."""
    replicas = application["deployments"]["model"]["replicas"]
    return application["last_deployed_time_s"], [r["replica_id"] for r in replicas]
