"""Processes are killed in the middle of a rollout: it goes on, or is called off and says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import pytest

from tests.helpers.support import eventually
from tests.ray.faults import CONTROLLER, MONITOR, REPLICA, replaced, whole
from tests.ray.running import Running, settled
from tests.ray.test_rollout_ray import Callers, store
from undrift.errors import PlatformError
from undrift.serve.candidate import drawn

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

T = TypeVar("T")


class Patient(Callers):
    """Callers that send a request again where a process was killed under it."""

    def sure(self, act: Callable[[], T]) -> T:
        return patiently(act)


def patiently(act: Callable[[], T]) -> T:
    """Do what an operator does whose request was lost with a process."""
    done: list[T] = []

    def acted() -> bool:
        with suppress(PlatformError):
            done.append(act())
        return bool(done)

    eventually(acted, 60)
    return done[0]


@pytest.fixture
def on_first(platform: Running) -> Iterator[Running]:
    """The platform with version 1 live before and after."""
    yield platform
    if platform.client.status().live_version != 1:
        platform.client.promote(1)
    eventually(settled(platform, 1), 120)


@contextmanager
def kept(platform: Running, stage: str) -> Iterator[None]:
    """Check that a rollout is at the same stage afterwards, with the labels that had told."""
    before = platform.client.status().rollout
    assert before is not None
    assert before.stage == stage
    yield
    eventually(lambda: whole(platform) == 1)
    now = eventually(
        lambda: platform.client.status().rollout,
        60,
        until=lambda seen: seen is not None and seen.rows >= before.rows,
    )
    same = ("version", "stage", "share", "step", "steps", "since")
    assert {k: getattr(now, k) for k in same} == {k: getattr(before, k) for k in same}


@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_rollout_whose_processes_are_killed_goes_on_to_the_promotion(
    on_first: Running, stage: str
) -> None:
    client, good = on_first.client, store(on_first, bias=1e-3)
    callers = Patient(on_first, f"killed-{good}")
    client.promote(good, stage)
    callers.ask(1)
    for title in (REPLICA, MONITOR, CONTROLLER):
        with kept(on_first, stage):
            replaced(on_first, title, on_first.processes(title)[0])
            callers.ask(1)

    def promoted() -> bool:
        callers.ask()
        status = client.status()
        if (rollout := status.rollout) is not None:
            share = rollout.share if rollout.stage == "canary" else 0.0
            assert all(drawn(name, good) < share for name in callers.by(good))
        return status.live_version == good

    eventually(promoted, 240)
    eventually(settled(on_first, good), 120)
    assert set(callers.answered.values()) <= {1, good}


@pytest.mark.parametrize("stage", ["shadow", "canary"])
@pytest.mark.parametrize("title", [REPLICA, MONITOR, CONTROLLER])
def test_bad_candidate_beside_a_kill_is_called_off_and_answers_nobody_beyond_its_share(
    on_first: Running, stage: str, title: str
) -> None:
    client, bad = on_first.client, store(on_first, bias=30.0)
    callers = Patient(on_first, f"killed-{bad}")
    client.promote(bad, stage)
    callers.ask(1)
    replaced(on_first, title, on_first.processes(title)[0])

    def called_off() -> bool:
        callers.ask()
        return patiently(client.status).rollout is None

    eventually(called_off, 120)
    eventually(settled(on_first, 1), 120)
    text = next(e.text for e in reversed(client.status().events) if e.kind == "failed")
    assert f"version {bad} called off: worse on late labels" in text
    answered = callers.by(bad)
    assert all(drawn(name, bad) < 0.05 for name in answered)
    assert stage == "canary" or answered == []
    callers.ask(20)
    assert len(callers.by(bad)) == len(answered), "not one more"


@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_candidate_whose_file_is_cut_short_is_called_off_by_the_replica_that_comes_anew(
    on_first: Running, stage: str
) -> None:
    client, bad = on_first.client, store(on_first, bias=1e-3)
    client.promote(bad, stage)
    callers = Patient(on_first, f"cut-{bad}")
    callers.ask(1)
    path = on_first.store.weights_path(bad)
    path.write_bytes(path.read_bytes()[:-100])
    replaced(on_first, REPLICA, on_first.processes(REPLICA)[0])
    eventually(lambda: patiently(client.status).rollout is None, 120)
    text = next(e.text for e in reversed(client.status().events) if e.kind == "failed")
    assert f"version {bad} called off" in text
    assert "damaged" in text
    eventually(settled(on_first, 1), 120)
    callers.ask(20)
    assert all(drawn(name, bad) < 0.05 for name in callers.by(bad))
