"""Actors are killed under load: serving goes on, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.helpers.support import eventually
from tests.ray.asking import FEEDBACK
from tests.ray.running import MODEL, Running, settled
from tests.ray.traffic import ROWS, Answered, Traffic

pytestmark = pytest.mark.ray


class Labeller:
    """Sends a label for every row of every answer of a `Traffic`, once, until closed.

    Attributes:
        acknowledged: Ids of the rows whose label was accepted.
        refused: Ids of the rows whose label was answered 503.
        wrong: Anything else that came back.
    """

    def __init__(self, url: str, traffic: Traffic) -> None:
        self._url, self._traffic = url, traffic
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Labeller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        sent = 0
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as http:
            while not self._stop.is_set():
                answers = self._traffic.answers[sent : sent + 20]
                sent += len(answers)
                if answers:
                    self._send(http, answers)
                self._stop.wait(0.02)

    def _send(self, http: httpx.Client, answers: list[Answered]) -> None:
        items = [{"id": a.id, "label": a.output.argmax(axis=1).tolist()} for a in answers]
        ids = [f"{a.id}:{i}" for a in answers for i in range(ROWS)]
        answer = http.post(FEEDBACK, json=items)
        if answer.status_code == 200:
            self.acknowledged += ids
        elif answer.status_code == 503 and "retry-after" in answer.headers:
            self.refused += ids
        else:
            self.wrong.append(f"{answer.status_code} {answer.text}")


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


def test_killed_monitor_loses_no_acknowledged_label(
    platform: Running, load: tuple[Traffic, Labeller]
) -> None:
    traffic, labeller = load
    before = len(platform.store.predictions())
    kill(platform, "ray::MonitorActor")
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


def test_killed_controller_comes_back_where_it_was(
    platform: Running, load: tuple[Traffic, Labeller]
) -> None:
    traffic, labeller = load
    platform.client.pause()
    before = platform.client.status()
    kill(platform, "ray::ControllerActor")
    killed = time.monotonic()

    def back() -> bool:
        response = httpx.get(f"{platform.url}/v2/models/{MODEL}/status", trust_env=False)
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
        kill(platform, "ray::ControllerActor")
        eventually(settled(platform, version), 60)
        acknowledged = time.monotonic()
        eventually(lambda: len(traffic.since(acknowledged)), until=lambda seen: seen >= 40)
    assert traffic.failures == []
    assert traffic.reconnects == 0
    assert {a.version for a in traffic.since(acknowledged)} == {version}
    platform.client.rollback(1)
    eventually(settled(platform, 1))
