"""Actors are killed under load: serving goes on, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from tests.helpers.support import eventually
from tests.ray.asking import INFER, counters, infer_body
from tests.ray.faults import CONTROLLER, MONITOR, REPLICA, anonymous
from tests.ray.running import MODEL, Running, look, settled
from tests.ray.traffic import Labeller, Traffic

pytestmark = pytest.mark.ray


@pytest.fixture
def load(platform: Running, request: pytest.FixtureRequest) -> Iterator[tuple[Traffic, Labeller]]:
    with (
        Traffic(platform.url, request.node.name, clients=2) as traffic,
        Labeller(platform.url, traffic) as labeller,
    ):
        eventually(lambda: len(labeller.acknowledged), until=lambda seen: seen >= 200)
        yield traffic, labeller


def joined(platform: Running) -> int:
    count: int = platform.client.drift().summary.labels.outcomes["joined"]
    return count


def kill(platform: Running, title: str) -> None:
    """Kill the one process of an actor, and wait until another has taken its place."""
    (victim,) = platform.processes(title)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: set(platform.processes(title)) - {victim}, 60)


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_monitor_loses_no_acknowledged_label(
    platform: Running, load: tuple[Traffic, Labeller], times: int
) -> None:
    traffic, labeller = load
    before = len(platform.store.predictions())
    for _ in range(times):
        kill(platform, MONITOR)
    again = len(labeller.acknowledged)
    eventually(lambda: len(labeller.acknowledged), until=lambda seen: seen >= again + 400)
    count = joined(platform)
    eventually(lambda: joined(platform), until=lambda seen: seen >= count + 200)
    labeller.__exit__()
    traffic.__exit__(None, None, None)

    assert traffic.failures == []
    assert traffic.reconnects == 0
    assert labeller.wrong == []
    stored = Counter(platform.store.labels().ids)
    assert [i for i in labeller.acknowledged if not stored[i]] == []
    rows = platform.store.predictions()
    assert rows.row.tolist() == list(range(len(rows)))
    assert len(rows) > before
    eventually(
        lambda: platform.client.drift().rows,
        until=lambda seen: seen == len(platform.store.predictions()),
    )


def test_monitor_that_stands_still_costs_no_request_and_what_a_replica_keeps_for_it_is_bounded(
    platform: Running, http: httpx.Client, same_replicas: None
) -> None:
    """Each replica may keep 16,384 rows, and four messages of 512 are under way from it."""
    name, rows = "undrift_tap_dropped_rows_total", 4_000
    usual = np.load(platform.config.reference)["x"].astype(float).round(3)
    body = infer_body(np.resize(usual, (rows, 2)))
    replicas, dropped = platform.processes(REPLICA), counters(http, name)[()]
    watched = platform.client.drift().rows
    used = []

    def lost() -> float:
        """Return how many rows the monitor never got, as far as the replicas have told."""
        return counters(http, name)[()] - dropped

    (victim,) = platform.processes(MONITOR)
    os.kill(victim, signal.SIGSTOP)
    try:
        for _ in range(3):
            for _ in range(16):
                assert http.post(INFER, json=body).status_code == 200
            used.append([anonymous(pid) for pid in replicas])
        kept = 2 * (16_384 + 4 * 512)
        eventually(lost, 20, until=lambda n: n >= 48 * rows - kept)
    finally:
        os.kill(victim, signal.SIGCONT)
    for full, later in zip(used[1], used[2], strict=True):
        assert later < full + 2**24, used
    # a replica's counts come with its next poll, so neither is told before the other
    eventually(
        lambda: platform.client.drift().rows + lost(), until=lambda n: n >= watched + 48 * rows
    )


def test_killed_controller_comes_back_where_it_was(
    platform: Running, load: tuple[Traffic, Labeller]
) -> None:
    traffic, labeller = load
    platform.client.pause()
    before = platform.client.status()
    kill(platform, CONTROLLER)
    killed = time.monotonic()

    def back() -> bool:
        response = look(f"{platform.url}/v2/models/{MODEL}/status")
        assert response.status_code in (200, 503), response.text
        return response.status_code == 200 and len(response.json()["replicas"]) == 2

    eventually(back, 60)
    after = platform.client.status()
    same = ("live_version", "previous_version", "phase", "run", "attempts", "counts", "events")
    assert {key: getattr(after, key) for key in same} == {key: getattr(before, key) for key in same}
    assert set(after.replicas) == set(before.replicas)
    eventually(lambda: len(traffic.since(killed)), until=lambda seen: seen >= 40)
    platform.client.resume()
    labeller.__exit__()
    traffic.__exit__(None, None, None)

    assert traffic.failures == []
    assert traffic.reconnects == 0
    assert {a.version for a in traffic.answers} == {before.live_version}
    assert labeller.wrong == labeller.refused == []


def test_killed_controller_finishes_the_swap_that_it_had_begun(platform: Running) -> None:
    state, reference = platform.store.state_dict(1), platform.store.reference(1)
    version = platform.store.add_version(
        state, parent=1, reference=reference, metrics={}, plan=None
    ).version
    with Traffic(platform.url, "resumed") as traffic:
        eventually(lambda: len(traffic.answers), until=lambda seen: seen >= 40)
        platform.client.promote(version)
        kill(platform, CONTROLLER)
        eventually(settled(platform, version), 60)
        acknowledged = time.monotonic()
        eventually(lambda: len(traffic.since(acknowledged)), until=lambda seen: seen >= 40)
    assert traffic.failures == []
    assert traffic.reconnects == 0
    assert {a.version for a in traffic.since(acknowledged)} == {version}
    platform.client.rollback(1)
    eventually(settled(platform, 1))
