"""How rows on the tap reach a monitor that restarts, stands still or refuses them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from ray.actor import ActorHandle
from ray.exceptions import ActorUnavailableError, RayTaskError

from undrift.model.mixture import Mixture, Scaling
from undrift.model.receipt import Receipt
from undrift.records import Predictions
from undrift.serve import delivery
from undrift.serve.delivery import CALLS_IN_FLIGHT, deliver
from undrift.serve.settings import TapSettings
from undrift.serve.slots import DoubleBuffer
from undrift.serve.tap import Tap

SETTINGS = TapSettings(flush_ms=1.0, flush_rows=1)


class Mailbox:
    """Stands where the monitor's handle stands; `answers` says how each call ends, then all do."""

    def __init__(self, *answers: Exception | asyncio.Event | Receipt) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[int, str]] = []
        self.mixing: list[tuple[int, int] | None] = []
        self.ingest = self

    async def remote(
        self, rows: Predictions, message: str, mixing: tuple[int, int] | None = None
    ) -> Receipt:
        self.calls.append((int(rows.row[0]), message))
        self.mixing.append(mixing)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return Receipt(1)
        return answer or Receipt(1)


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


def build() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(2, 2))


def models_at(*versions: int) -> DoubleBuffer:
    models = DoubleBuffer(build)
    for version in versions:
        models.load(version, "", build().state_dict(), np.zeros((1, 2), np.float32))
    return models


def deliver_until(
    done: Callable[[], bool], tap: Tap, mailbox: Mailbox, mixed: DoubleBuffer | None = None
) -> None:
    async def run() -> None:
        monitor, models = cast("ActorHandle[Any]", mailbox), mixed or models_at(1)
        task = asyncio.create_task(deliver(tap, SETTINGS, monitor, models, mixes=mixed is not None))
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


def test_all_that_waits_is_handed_over_at_once() -> None:
    many = 3 * CALLS_IN_FLIGHT
    tap, mailbox = tap_of(many), Mailbox()

    async def run() -> None:
        naps = 0
        sleep = asyncio.sleep

        async def nap(seconds: float) -> None:
            nonlocal naps
            naps += 1
            await sleep(seconds if naps == 1 else 3600)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(delivery.asyncio, "sleep", nap)
            monitor = cast("ActorHandle[Any]", mailbox)
            task = asyncio.create_task(deliver(tap, SETTINGS, monitor, models_at(1), mixes=False))
            async with asyncio.timeout(30):
                while len(mailbox.calls) < many:
                    await sleep(0.001)
            task.cancel()

    asyncio.run(run())
    assert [row for row, _ in mailbox.calls] == list(range(many))


def test_newer_mixture_comes_back_with_the_receipt_for_rows() -> None:
    models = models_at(1)
    plain = Scaling(np.zeros(2), np.ones(2), np.zeros((0, 0)))
    newer = Mixture(1, 7, plain, plain, np.zeros((5, 1, 2)), np.array([0.5, 0.5]))
    tap, mailbox = tap_of(1), Mailbox(Receipt(1, mixture=newer))
    deliver_until(lambda: models.mixing == (1, 7), tap, mailbox, models)
    tap.offer(tap_of(1).take(1) or pytest.fail("no row"))
    deliver_until(lambda: len(mailbox.calls) == 2, tap, mailbox, models)
    assert mailbox.mixing == [(0, 0), (1, 7)]


def test_without_mixtures_none_is_asked_for() -> None:
    mailbox = Mailbox()
    deliver_until(lambda: len(mailbox.calls) == 1, tap_of(1), mailbox)
    assert mailbox.mixing == [None]


def test_version_before_is_asked_until_its_probation_is_over() -> None:
    models = models_at(1, 2)
    assert models.compares
    early, running, over = Receipt(1), Receipt(2, against=1), Receipt(2)
    for receipt, compares in ((early, True), (running, True), (over, False)):
        mailbox = Mailbox(receipt)
        deliver_until(lambda m=mailbox: len(m.calls) == 1, tap_of(1), mailbox, models)
        assert models.compares == compares


def test_rows_whose_receipt_cannot_be_heeded_are_not_lost() -> None:
    tap, mailbox = tap_of(2), Mailbox(Receipt(1, mixture=cast("Mixture", "nonsense")))
    deliver_until(lambda: len(mailbox.calls) == 2, tap, mailbox)
    assert tap.rows_dropped == 0
