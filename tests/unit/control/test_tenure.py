"""A controller whose state another platform has taken over: it says so, and nobody writes."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
import ray

from tests.helpers.controlling import Absent, Here, holding, until
from tests.helpers.recording import two_versions
from undrift.control import actor as module
from undrift.control.actor import ControllerActor
from undrift.control.settings import LifecycleSettings
from undrift.errors import RequestError, StoreError
from undrift.serve.settings import ServeSettings
from undrift.store import lease as leases
from undrift.store.bucket import Bucket
from undrift.store.journal import Journal
from undrift.store.lease import Lease, holder_of

SHORT_S = 0.5


class Trainer:
    """A trainer that stops when it is told."""

    stops = 0

    def stop(self, leave: bool) -> None:
        assert leave, "whoever has the state now follows a job that is elsewhere"
        self.stops += 1


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Handles of the actors that were ended; those of this test are none of Ray's."""
    found: list[Any] = []
    monkeypatch.setattr(ray, "kill", found.append)
    monkeypatch.setattr(module, "ROUND_S", 0.02)
    monkeypatch.setattr(leases, "RENEW_S", 0.1)
    return found


def begun(lease: Lease, trainer: Any, monitor: Any) -> ControllerActor:
    return ControllerActor(
        lease.state / "models" / "m",
        "m",
        LifecycleSettings(),
        ServeSettings(replicas=1),
        monitor,
        trainer,
        keeps_lease=True,
    )


def taken_over(bucket: Bucket, actor: ControllerActor) -> Lease:
    """Take a lease whose holder is asleep meanwhile."""
    keeper = actor._tenure._keeper
    assert keeper is not None
    awake, renew = threading.Event(), keeper.lease.renew
    keeper.lease.renew = lambda *_: (awake.wait(), renew())[1]  # type: ignore[method-assign]
    file = bucket / leases.LEASE_FILE
    while True:  # a renewal may be on its way
        content, tag = leases._read(file)  # type: ignore[misc]
        if taken := leases._put(bucket, "another", content["epoch"], tag):
            awake.set()
            return taken


def test_lost_lease_ends_all_writing_for_good_and_is_told_once(
    bucket: Bucket, ended: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    lease = Lease.take(bucket, "first", SHORT_S)
    two_versions(lease.state / "models" / "m")
    told = Trainer()
    trainer, monitor = Here(told), Absent()

    async def run() -> None:
        actor = begun(lease, trainer, monitor)
        replica = asyncio.create_task(holding(actor))
        await actor.request("promote", {"version": 2})
        await until(actor, lambda s: s.live_version == 2)
        new = taken_over(bucket, actor)
        status = await until(actor, lambda s: s.failures["controller"] != "")
        said = f"another has taken {bucket} over, so nothing more is written to it"
        assert status.failures["controller"] == said
        await asyncio.wait_for(actor._loop, 30)  # it does not go on
        assert (told.stops, ended) == (1, [trainer, monitor])
        with pytest.raises(RequestError, match="another has taken") as refused:
            await actor.request("rollback", {})
        assert refused.value.status == 503
        assert actor.status().live_version == 2
        replica.cancel()

        events = Journal(new.state / "models" / "m").last()
        again = begun(lease, trainer, monitor)  # Ray starts it anew, once it is killed
        await asyncio.wait_for(again._loop, 30)
        assert again.status().failures["controller"] == said
        assert again.status().live_version == 2
        assert ended == [trainer, monitor] * 2
        assert Journal(new.state / "models" / "m").last() == events
        assert holder_of(bucket) == "another"

    with caplog.at_level(logging.WARNING, "undrift"):
        asyncio.run(run())
    errors = [r for r in caplog.records if r.name == "undrift" and r.levelname == "ERROR"]
    assert len(errors) == 2  # one of each life


def test_store_that_does_not_answer_at_a_restart_is_not_taken_for_a_lost_lease(
    bucket: Bucket, ended: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease.take(bucket, "first", SHORT_S)

    def away(_: Bucket) -> tuple[bytes, str]:
        raise OSError("connection refused")

    monkeypatch.setattr(Bucket, "read_tagged", away)
    with pytest.raises(StoreError, match="connection refused"):
        begun(lease, Absent(), Absent())
    assert not ended
