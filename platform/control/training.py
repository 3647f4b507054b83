"""The trainer as the controller knows it: orders, how far they are, and their outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from undrift.control.parts import Parts, Work
from undrift.control.state import Run
from undrift.errors import UndriftError
from undrift.events import Cancel, Codec, Event, Stage, Train, Trained, TrainFailed

PROGRESS_S = 0.2
STOP_S = 10.0


class Training:
    """Has the trainer carry out orders; one given again is carried out once.

    Args:
        trainer: The trainer.
        parts: The controller's work.
        deliver: Takes the outcome of an order as an event.
    """

    def __init__(self, trainer: ActorHandle, parts: Parts, deliver: Callable[[Event], Work]):
        self._trainer, self._parts, self._deliver = trainer, parts, deliver
        self._progress: dict[str, dict[str, Any] | None] = {}

    def order(self, order: Stage | Train | Cancel) -> None:
        """Give an order, and see to its outcome."""
        run_id = order.run_id
        if isinstance(order, Train):
            self._parts.begin("training", lambda: self._train(order), of=run_id)
        elif isinstance(order, Cancel):
            self._parts.begin("cancel", lambda: quietly(self._trainer.cancel, run_id), of=run_id)
        else:
            self._parts.begin("staging", lambda: quietly(self._trainer.stage))

    def progress(self, run: Run | None) -> dict[str, Any] | None:
        """Return how far the training of a run is; None if nothing was told yet."""
        return None if run is None else self._progress.get(run.run_id)

    async def _train(self, order: Train) -> None:
        run_id = order.run_id
        self._progress = {run_id: self._progress.get(run_id)}
        try:
            outcome = asyncio.wrap_future(self._trainer.train.remote(Codec.encode(order)).future())
            while not (await asyncio.wait([outcome], timeout=PROGRESS_S))[0]:
                with contextlib.suppress(RayActorError):  # then the outcome says so, too
                    told = await self._trainer.progress.remote(run_id)
                    self._progress[run_id] = told or self._progress.get(run_id)
            done = outcome.result()
        except RayActorError:
            return  # the trainer restarts; the next round asks again
        except (RayTaskError, UndriftError) as error:
            cause = getattr(error, "cause", error)
            await self._deliver(TrainFailed(at=time.time(), run_id=run_id, reason=str(cause)))
            return
        await self._deliver(Trained(at=time.time(), run_id=run_id, **done))


async def quietly(call: Any, *args: Any) -> None:
    """Call an actor; when it is gone, the controller's next round mends what is lost."""
    with contextlib.suppress(RayActorError):
        await call.remote(*args)


async def end_writers(trainer: ActorHandle, monitor: ActorHandle) -> None:
    """End whoever writes to the state, for good, and the workers of a training with them.

    A job in another cluster goes on, for whoever has the state now.
    """
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(quietly(trainer.stop, True), STOP_S)
    for actor in (trainer, monitor):
        ray.kill(actor)
