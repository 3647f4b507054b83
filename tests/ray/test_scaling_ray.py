"""Versions change while the number of replicas follows the load."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.support import eventually
from tests.ray.conftest import MODEL_CODE, SECTIONS
from tests.ray.faults import REPLICA
from tests.ray.running import Running, free_port, project
from tests.ray.test_swap import QUIET, add_version, check
from tests.ray.traffic import Traffic

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

SCALING = {
    "replicas": 1,
    "max_replicas": 3,
    "requests_per_replica": 1,
    "scale_up_after_s": 1,
    "scale_down_after_s": 1,
    "answer": "model",
}


def test_versions_change_while_replicas_come_and_go_and_no_request_fails(
    starter: Path, tmp_path: Path, start: Callable[..., Running]
) -> None:
    serve = {"port": free_port(), **SCALING}
    path = project(starter, tmp_path / "spirals", serve=serve, **SECTIONS)
    (path.parent / "model.py").write_text(MODEL_CODE, encoding="utf-8")
    running = start(path).await_ready()
    versions = itertools.cycle([1, *(add_version(running, seed) for seed in range(2))])
    next(versions)

    def swapped() -> int:
        """Promote the next version; returns how many replicas there were when all had it."""
        wanted = next(versions)
        running.client.promote(wanted)
        status = eventually(
            running.client.status,
            60,
            until=lambda s: (
                s.live_version == wanted
                and s.phase in QUIET
                and set(s.replicas.values()) == {wanted}
            ),
        )
        acknowledged = time.monotonic()
        eventually(lambda: len(few.since(acknowledged)), until=lambda seen: seen >= 10)
        assert {a.version for a in few.since(acknowledged)} == {wanted}
        return len(status.replicas)

    with Traffic(running.url, "few", clients=1, pause_s=0.1) as few:
        with Traffic(running.url, "many", clients=8) as many:
            eventually(swapped, 180, until=lambda replicas: replicas == 3)
        eventually(swapped, 180, until=lambda replicas: replicas == 1)
        eventually(lambda: len(running.processes(REPLICA)), 60, until=lambda left: left == 1)
    assert few.failures == many.failures == []
    assert few.reconnects == many.reconnects == 0
    check(running, few.answers + many.answers)
