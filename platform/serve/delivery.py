"""From a replica's tap to the monitor."""

from __future__ import annotations

import asyncio
import uuid

from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from undrift.records import Predictions
from undrift.serve.settings import TapSettings
from undrift.serve.slots import DoubleBuffer
from undrift.serve.tap import Tap

CALLS_IN_FLIGHT = 4
RESEND_S = 0.2


async def deliver(
    tap: Tap, settings: TapSettings, monitor: ActorHandle, models: DoubleBuffer, *, mixes: bool
) -> None:
    """Hand rows to the monitor for ever, with few calls under way.

    While the monitor restarts or stands still, the calls under way wait for it and the tap fills
    and drops; a message that may have been lost goes out again under the same number.

    Args:
        tap: Where rows wait.
        settings: How many at a time.
        monitor: The monitor actor.
        models: They heed what the monitor says in return.
        mixes: Whether they are to answer with its mixtures.
    """
    waiting: set[asyncio.Task[None]] = set()

    async def hand_over(rows: Predictions) -> None:
        message = uuid.uuid4().hex
        while True:
            try:
                mixing = models.mixing if mixes else None
                receipt = await monitor.ingest.remote(rows, message, mixing)
                break
            except RayActorError:
                await asyncio.sleep(RESEND_S)
            except Exception:  # refused, or the object store is full: the loss is counted
                tap.mark_lost(len(rows))
                return
        models.heed(receipt)

    while True:
        await asyncio.sleep(settings.flush_ms / 1000)
        while len(tap):
            if len(waiting) == CALLS_IN_FLIGHT:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            rows = tap.take(settings.flush_rows)
            if rows is not None:
                task = asyncio.get_running_loop().create_task(hand_over(rows))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
