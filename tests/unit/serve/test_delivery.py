"""How rows on the tap reach a monitor that restarts, stands still or refuses them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from ray.actor import ActorHandle
from ray.exceptions import ActorUnavailableError, RayTaskError

from undrift.records import Predictions
from undrift.serve import delivery
from undrift.serve.delivery import CALLS_IN_FLIGHT, deliver
from undrift.serve.settings import TapSettings
from undrift.serve.tap import Tap

SETTINGS = TapSettings(flush_ms=1.0, flush_rows=1)


class Mailbox:
    """Stands where the monitor's handle stands; `answers` says how each call ends, then all do."""

    def __init__(self, *answers: Exception | asyncio.Event) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[int, str]] = []
        self.ingest = self

    async def remote(self, rows: Predictions, message: str) -> None:
        self.calls.append((int(rows.row[0]), message))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            await answer.wait()


def tap_of(rows: int) -> Tap:
    tap = Tap(SETTINGS)
    for i in range(rows):
        tap.offer(
            Predictions(
                ids=(str(i),),
                row=np.array([i]),
                at=np.zeros(1),
                version=np.ones(1, np.int64),
                x=np.zeros((1, 2), np.float32),
                embedding=np.zeros((1, 2), np.float32),
                output=np.full((1, 2), 0.5, np.float32),
            )
        )
    return tap


def deliver_until(done: Callable[[], bool], tap: Tap, mailbox: Mailbox) -> None:
    async def run() -> None:
        task = asyncio.create_task(deliver(tap, SETTINGS, cast("ActorHandle[Any]", mailbox)))
        async with asyncio.timeout(30):
            while not done():
                await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(run())


def unavailable() -> ActorUnavailableError:
    return ActorUnavailableError("restarting", None)


def test_rows_for_a_restarting_monitor_go_out_again_under_the_same_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "RESEND_S", 0.001)
    tap, mailbox = tap_of(1), Mailbox(unavailable(), unavailable())
    deliver_until(lambda: len(mailbox.calls) == 3, tap, mailbox)
    assert len(set(mailbox.calls)) == 1
    assert tap.rows_dropped == 0


def test_rows_that_the_monitor_refuses_are_counted_and_not_sent_again() -> None:
    refusal = RayTaskError("ingest", "traceback", ValueError("broken"))
    tap, mailbox = tap_of(2), Mailbox(refusal)
    deliver_until(lambda: len(mailbox.calls) == 2 and tap.rows_dropped == 1, tap, mailbox)
    assert [row for row, _ in mailbox.calls] == [0, 1]


def test_monitor_that_stands_still_holds_up_a_few_calls_and_no_more() -> None:
    still = asyncio.Event()
    tap, mailbox = tap_of(10), Mailbox(*[still] * CALLS_IN_FLIGHT)
    deliver_until(lambda: len(mailbox.calls) == CALLS_IN_FLIGHT, tap, mailbox)
    assert len(tap) == 10 - CALLS_IN_FLIGHT
    assert tap.rows_dropped == 0
