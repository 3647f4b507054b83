"""The replica as a Ray Serve deployment: what `serve/http.py` asks for is done here.

HTTP requests reach the replica straight from the load balancer. Nothing on the way to an answer
waits for the monitor or the controller.
"""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass, replace
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, cast

import torch
from ray import serve
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from undrift.errors import RequestError, StoreError
from undrift.model.layout import blank, layout_of, row_shape
from undrift.model.network import (
    Factory,
    check_brought,
    factory_of,
    load_safetensors,
    width,
)
from undrift.model.preprocess import load_preprocess
from undrift.model.settings import ModelSettings
from undrift.records import Labels
from undrift.serve.answering import Answering
from undrift.serve.candidate import Candidate
from undrift.serve.delivery import deliver
from undrift.serve.follower import Follower, check_running
from undrift.serve.footprint import check_footprint
from undrift.serve.http import HttpApi
from undrift.serve.loopback import pin_internal_port
from undrift.serve.metrics import ReplicaMetrics, Snapshot, exposition
from undrift.serve.prepare import Preparing
from undrift.serve.protocol import InferRequest, ModelSpec
from undrift.serve.settings import ServeSettings
from undrift.serve.slots import Answer, DoubleBuffer
from undrift.serve.tap import Tap
from undrift.serve.tokens import Tokens
from undrift.store.incoming import Incoming
from undrift.store.place import Root
from undrift.store.store import Store

MONITOR_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class ReplicaConfig:
    """What a replica needs to know besides the handles."""

    model: ModelSettings
    serve: ServeSettings
    state: Root  # of the model
    search_path: Path
    operator: str  # digest of the operator's token
    tokens: Path  # file of named tokens
    loopback_only: bool


@serve.deployment(name="model")
@serve.ingress()
class ModelReplica:
    """One process that holds the model: parses, batches, answers, taps and swaps."""

    def __init__(self, given: ReplicaConfig, controller: ActorHandle, monitor: ActorHandle) -> None:
        if given.loopback_only:
            pin_internal_port()
        model, settings = given.model, given.serve
        self._settings, self._tokens = settings, Tokens(given.operator, given.tokens)
        self._controller, self._monitor = controller, monitor
        names = model.classes
        self._factory = factory_of(model, given.search_path)
        self._spec = ModelSpec(
            name=model.name,
            input_shape=row_shape(model),
            n_classes=model.class_count,
            classes=names if isinstance(names, tuple) else (),
            layout=layout_of(model),
            preprocessed=model.preprocess is not None,
            targets=_targets(model, self._factory),
        )
        preprocess = load_preprocess(model, given.search_path)
        self._preparing = None if preprocess is None else Preparing(preprocess)
        self.incoming = Incoming(given.state)
        self._models = DoubleBuffer(
            self._factory, model.embedding, max_slowdown=settings.swap.max_slowdown
        )
        self._metrics = ReplicaMetrics(model.name)
        self._tap = Tap(settings.tap)
        self._counted = (0, 0)
        candidate = Candidate(self._models, settings.swap.candidate_timeout_s)
        self._answering = Answering(
            self._models, candidate, self._tap, self._metrics, settings, numbers=model.is_regression
        )
        self._store = Store(given.state)
        self._follower = Follower(
            replica_id=serve.get_replica_context().replica_id.unique_id,
            controller=controller,
            models=self._models,
            store=self._store,
            probe=blank(model, 2),
            candidate=candidate,
        )
        loop = asyncio.get_running_loop()
        delivery = deliver(self._tap, settings.tap, monitor, self._models, mixes=settings.mixes)
        self._background = (
            loop.create_task(self._follower.run(self._report), name="following the controller"),
            loop.create_task(delivery, name="delivery to the monitor"),
        )

    def __del__(self) -> None:
        """Take leave; Serve calls this when the last request has been answered."""
        for task in self._background:
            task.cancel()
        self._tap.drop()
        self._follower.leave(self._report())

    async def check_health(self) -> None:
        """Fail, so that Serve starts another, if this replica cannot load, or has lost a task.

        Or if it holds more memory than it may.
        """
        check_running(self._background)
        check_footprint(self._settings.max_replica_bytes)
        if self._follower.failures >= 3:
            raise StoreError(f"replica cannot load the live version: {self._follower.error}")

    def _report(self) -> Snapshot:
        """Return the metrics so far, the tap's counts among them."""
        offered, dropped = self._tap.rows_offered, self._tap.rows_dropped
        self._metrics.tap(offered - self._counted[0], dropped - self._counted[1])
        self._counted = (offered, dropped)
        return self._metrics.snapshot()

    async def __serve_build_asgi_app__(self) -> HttpApi:
        """Return what Ray Serve shall serve, once the live version is loaded."""
        while self.live is None:
            await self.check_health()
            await asyncio.sleep(0.02)
        gc.collect()
        gc.freeze()  # or each full collection would hold up requests for 0.2 s
        version = package_version("undrift")
        return HttpApi(self._spec, self._settings, self, self._metrics, self._tokens, version)

    # ------------------------------------------------------------------ inference

    @property
    def live(self) -> int | None:
        """Version that answers; None before the first."""
        return self._models.version

    async def infer(self, request: InferRequest, deadline: float) -> Answer:
        """Answer in a batch with other requests: the live version does, or a canary its share."""
        if self._preparing is not None:
            request = replace(request, x=await self._preparing.rows(request.values, deadline))
        return await self._answering.infer(request, deadline)

    # ------------------------------------------------------------------ the control plane

    async def store_labels(self, labels: Labels) -> None:
        """Hand labels to the monitor; a restarting monitor is waited for, repeats do no harm."""
        deadline = time.monotonic() + MONITOR_TIMEOUT_S
        while True:
            try:
                await asyncio.wait_for(self._monitor.feedback.remote(labels), MONITOR_TIMEOUT_S)
                return
            except RayTaskError as error:
                raise RequestError(f"the labels were not stored: {error.cause}", 503) from error
            except (RayActorError, TimeoutError) as error:
                if time.monotonic() > deadline:
                    raise RequestError("the labels were not stored; try again", 503) from error
                await asyncio.sleep(0.2)

    async def stored(self) -> list[int]:
        """Return the numbers of all stored versions."""
        return await asyncio.to_thread(self._store.version_numbers)

    async def view(self, name: str) -> Any:
        """Return the controller's status, drift or versions."""
        return await self._ask(getattr(self._controller, name).remote())

    async def events(self, after: int, limit: int) -> Any:
        """Return a page of events."""
        return await self._ask(self._controller.events.remote(after, limit))

    async def audit(self, version: str) -> Any:
        """Return how a stored version was made."""
        return await self._ask(self._controller.audit.remote(version))

    def check_weights(self, path: Path) -> None:
        """Check that a file of weights is whole and fits the model."""
        check_brought(self._factory(), load_safetensors(path))

    async def request(self, verb: str, body: dict[str, Any], key: str) -> Any:
        """Have the controller carry out an operator's verb."""
        return await self._ask(self._controller.request.remote(verb, body, key))

    async def metrics(self) -> bytes:
        """Return the Prometheus page of all replicas and the control plane."""
        page = self._controller.metrics.remote()
        try:
            return cast(bytes, await asyncio.wait_for(page, 5))
        except (RayActorError, TimeoutError):  # better the counts of one replica than none
            return exposition([self._metrics.snapshot()])

    @staticmethod
    async def _ask(call: Any) -> Any:
        """Await the controller; its refusals pass through, its absence is a 503."""
        try:
            return await asyncio.wait_for(call, MONITOR_TIMEOUT_S)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, RequestError):
                raise cause from None
            raise RequestError(f"the controller does not answer: {cause}", 503) from error
        except (RayActorError, TimeoutError) as error:
            raise RequestError("the controller does not answer; try again", 503) from error


def _targets(model: ModelSettings, factory: Factory) -> int:
    """Return how many numbers a regression answers to a row; 0 of a classifier."""
    return width(factory(), torch.from_numpy(blank(model, 2))) if model.is_regression else 0
