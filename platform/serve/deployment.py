"""The replica as a Ray Serve deployment: HTTP in, batches through the model, answers out.

HTTP requests reach the replica straight from the load balancer. Everything about an answer is
decided here: nothing on the way to it waits for the monitor or the controller.

Ray Serve copies the routes into the replica by value, with what they refer to and no more. So
annotations are evaluated here, not postponed, and helpers are defined before the routes.
"""

import asyncio
import hmac
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import ray.serve._private.replica as serve_replica
from fastapi import FastAPI, Request, Response
from ray import serve
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError
from starlette.exceptions import HTTPException

from undrift.config import Config
from undrift.errors import RequestError, StoreError
from undrift.model import load_factory
from undrift.records import FloatArray, Labels, Predictions
from undrift.serve.body import parse_json
from undrift.serve.feedback import parse_feedback
from undrift.serve.follower import Follower, deliver
from undrift.serve.metrics import CONTENT_TYPE, ReplicaMetrics, Snapshot, exposition
from undrift.serve.protocol import (
    InferRequest,
    ModelSpec,
    encode_error,
    encode_infer,
    model_metadata,
    parse_infer,
    server_metadata,
)
from undrift.serve.slots import Answer, DoubleBuffer
from undrift.serve.tap import Tap
from undrift.store import Store

JSON = "application/json"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MONITOR_TIMEOUT_S = 15.0
OPERATOR_VERBS = ("retrain", "promote", "rollback", "pause", "resume")
VIEWS = ("status", "drift", "versions", "events")

api = FastAPI(title="undrift", docs_url=None, redoc_url=None)


@api.exception_handler(RequestError)
async def _refuse(_: Request, error: RequestError) -> Response:
    headers = {"Retry-After": "1"} if error.status == 503 else {}
    return Response(encode_error(str(error)), error.status, headers, JSON)


@api.exception_handler(HTTPException)
async def _no_route(request: Request, error: HTTPException) -> Response:
    text = f"{request.method} {request.url.path}: {error.detail}; see GET /v2"
    return Response(encode_error(text), error.status_code, media_type=JSON)


async def _read(request: Request, limit: int) -> bytes:
    """Return the body; RequestError 413 as soon as it is known to be too large."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise RequestError(f"the body has {announced} bytes; at most {limit} are accepted", 413)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise RequestError(f"the body has more than {limit} bytes", 413)
        chunks.append(chunk)
    return b"".join(chunks)


def _pin_internal_port() -> None:
    """Bind the replica's gRPC port, for which Ray has no setting, to loopback."""
    original = serve_replica.add_port_to_grpc_server
    if getattr(original, "loopback", False):
        return

    def pinned(server: Any, address: str) -> Any:
        return original(server, address.replace("[::]", "127.0.0.1"))

    pinned.loopback = True  # type: ignore[attr-defined]
    serve_replica.add_port_to_grpc_server = pinned


@dataclass(frozen=True)
class ReplicaConfig:
    """What a replica needs to know besides the handles."""

    config: Config
    search_path: Path
    token: str
    loopback_only: bool


@serve.deployment(name="model")
@serve.ingress(api)
class ModelReplica:
    """One process that holds the model: parses, batches, answers, taps and swaps."""

    def __init__(self, given: ReplicaConfig, controller: ActorHandle, monitor: ActorHandle) -> None:
        if given.loopback_only:
            _pin_internal_port()
        config = given.config
        self._settings, self._token = config.serve, given.token
        self._controller, self._monitor = controller, monitor
        names = config.model.classes
        self._spec = ModelSpec(
            name=config.model.name,
            input_shape=config.model.input_shape,
            n_classes=config.model.class_count,
            classes=() if isinstance(names, int) else names,
        )
        factory = load_factory(config.model.factory, given.search_path)
        self._models = DoubleBuffer(factory, config.model.embedding)
        self._compute = ThreadPoolExecutor(1, "forward")
        self._metrics = ReplicaMetrics(config.model.name)
        self._tap = Tap(config.serve.tap)
        self._counted = (0, 0)
        self._forward.set_max_batch_size(config.serve.max_batch_size)
        self._forward.set_batch_wait_timeout_s(config.serve.batch_wait_ms / 1000)
        self._follower = Follower(
            replica_id=serve.get_replica_context().replica_id.unique_id,
            controller=controller,
            models=self._models,
            store=Store(config.state),
            probe=np.zeros((2, *self._spec.input_shape), np.float32),
        )
        loop = asyncio.get_running_loop()
        self._background = (
            loop.create_task(self._follower.run(self._report)),
            loop.create_task(deliver(self._tap, config.serve.tap, monitor)),
        )

    async def check_health(self) -> None:
        """Fail, so that Serve starts another, when this replica cannot load the live version."""
        if self._follower.failures >= 3:
            raise StoreError(f"replica cannot load the live version: {self._follower.error}")

    def _report(self) -> Snapshot:
        """Return the metrics so far, the tap's counts among them."""
        offered, dropped = self._tap.rows_offered, self._tap.rows_dropped
        self._metrics.tap(offered - self._counted[0], dropped - self._counted[1])
        self._counted = (offered, dropped)
        return self._metrics.snapshot()

    # ------------------------------------------------------------------ inference

    @api.post("/v2/models/{name}/infer")
    async def infer(self, name: str, request: Request) -> Response:
        """Answer with the live version."""
        return await self._infer(name, request, None)

    @api.post("/v2/models/{name}/versions/{version}/infer")
    async def infer_version(self, name: str, version: str, request: Request) -> Response:
        """Answer if the named version is the live one."""
        return await self._infer(name, request, version)

    async def _infer(self, name: str, request: Request, version: str | None) -> Response:
        started = time.perf_counter()
        code, answered = 200, self._models.version
        try:
            self._check_model(name, version)
            body = await _read(request, self._settings.max_body_bytes)
            content_type = request.headers.get("content-type", "")
            asked = parse_infer(body, content_type, self._spec, self._settings)
            answer = await asyncio.wait_for(self._answer(asked), self._settings.request_timeout_s)
            answered = answer.version
            content = encode_infer(asked, answer.output, self._spec, answer.version, answer.hash)
            return Response(content, media_type=JSON)
        except RequestError as error:
            code = error.status
            raise
        except TimeoutError:
            code = 503
            limit = self._settings.request_timeout_s
            raise RequestError(f"no answer within {limit:g} s; try again", code) from None
        finally:
            self._metrics.request(answered, code, time.perf_counter() - started)

    async def _answer(self, request: InferRequest) -> Answer:
        """Answer a request, in a batch with others unless it fills one."""
        if len(request.x) >= self._settings.max_batch_size:
            return (await self._compute_batch([request]))[0]
        return await self._forward(request)  # type: ignore[no-any-return]

    @serve.batch(batch_size_fn=lambda items: sum(len(item.x) for item in items))  # type: ignore[untyped-decorator]
    async def _forward(self, requests: list[InferRequest]) -> list[Answer]:
        return await self._compute_batch(requests)

    async def _compute_batch(self, requests: list[InferRequest]) -> list[Answer]:
        """Run one forward pass; all its rows come from one version."""
        one = len(requests) == 1
        x = requests[0].x if one else np.concatenate([r.x for r in requests])
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._compute, self._models.predict, x)
        self._metrics.batch(len(x))
        self._offer(requests, x, answer)
        if one:
            return [answer]
        ends = np.cumsum([len(r.x) for r in requests])[:-1]
        outputs = np.split(answer.output, ends)
        return [Answer(o, answer.embedding[:0], answer.version, answer.hash) for o in outputs]

    def _offer(self, requests: list[InferRequest], x: FloatArray, answer: Answer) -> None:
        """Put the rows that were answered on the tap; rows without a finite answer were not."""
        rows = Predictions(
            ids=tuple(i for r in requests for i in r.row_ids),
            row=np.zeros(len(x), np.int64),
            at=np.full(len(x), time.time()),
            version=np.full(len(x), answer.version, np.int64),
            x=x,
            embedding=answer.embedding,
            output=answer.output,
        )
        finite = np.flatnonzero(np.isfinite(answer.output).all(axis=1))
        if len(finite):
            self._tap.offer(rows if len(finite) == len(x) else rows.take(finite))

    # ------------------------------------------------------------------ feedback

    @api.post("/v2/models/{name}/feedback")
    async def feedback(self, name: str, request: Request) -> dict[str, Any]:
        """Take late labels; answers when the accepted ones are durable."""
        self._check_model(name, None)
        if self._settings.host not in LOOPBACK:
            self._authorise(request)
        body = await _read(request, self._settings.max_body_bytes)
        content_type = request.headers.get("content-type", "")
        labels, rejected = parse_feedback(
            body, content_type, self._spec, self._settings, time.time()
        )
        if len(labels):
            await self._store_labels(labels)
        self._metrics.labels("accepted", len(labels))
        self._metrics.labels("rejected", len(rejected))
        return {"accepted": len(labels), "rejected": rejected}

    async def _store_labels(self, labels: Labels) -> None:
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

    # ------------------------------------------------------------------ health and metadata

    @api.get("/v2")
    async def server(self) -> dict[str, Any]:
        """Return the server's metadata."""
        return server_metadata(package_version("undrift"))

    @api.get("/v2/health/live")
    @api.get("/healthz")
    async def live(self) -> dict[str, Any]:
        """Tell that the process answers."""
        return {"live": True}

    @api.get("/v2/health/ready")
    @api.get("/readyz")
    async def ready(self) -> dict[str, Any]:
        """Tell whether a version is loaded; 503 until then."""
        if self._models.version is None:
            raise RequestError("no version is loaded yet", 503)
        return {"ready": True}

    @api.get("/v2/models/{name}")
    @api.get("/v2/models/{name}/versions/{version}")
    async def metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Return the model's inputs and outputs."""
        self._check_model(name, version)
        live = self._models.version
        return model_metadata(self._spec, [] if live is None else [live])

    @api.get("/v2/models/{name}/ready")
    @api.get("/v2/models/{name}/versions/{version}/ready")
    async def model_ready(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Tell whether the model, or that version of it, answers."""
        self._check_model(name, version)
        await self.ready()
        return {"name": name, "ready": True}

    @api.get("/metrics")
    async def metrics(self) -> Response:
        """Return the Prometheus page of all replicas and the control plane."""
        page = self._controller.metrics.remote()
        try:
            text = await asyncio.wait_for(page, 5)
        except (RayActorError, TimeoutError):  # better the counts of one replica than none
            text = exposition([self._metrics.snapshot()])
        return Response(text, media_type=CONTENT_TYPE)

    # ------------------------------------------------------------------ views and operators

    @api.get("/v2/models/{name}/{view}")
    async def view(self, name: str, view: str) -> Any:
        """Return the status, drift, versions or events."""
        self._check_model(name, None)
        if view not in VIEWS:
            raise RequestError(f"no view {view!r}; there are {', '.join(VIEWS)}", 404)
        method = getattr(self._controller, view)
        return await self._ask(method.remote(), "the controller does not answer")

    @api.get("/v2/models/{name}/versions/{version}/audit")
    async def audit(self, name: str, version: str) -> Any:
        """Return how a stored version was made."""
        self._check_model(name, None)
        call = self._controller.audit.remote(version)
        return await self._ask(call, "the controller does not answer")

    @api.post("/v2/models/{name}/{verb}")
    async def operate(self, name: str, verb: str, request: Request) -> Any:
        """Carry out an operator's verb; needs the bearer token."""
        self._check_model(name, None)
        if verb not in OPERATOR_VERBS:
            raise RequestError(f"no verb {verb!r}; there are {', '.join(OPERATOR_VERBS)}", 404)
        self._authorise(request)
        raw = await _read(request, self._settings.max_body_bytes)
        body = parse_json(raw, "", self._settings) if raw else {}
        if not isinstance(body, dict):
            raise RequestError("the body must be a JSON object")
        call = self._controller.request.remote(verb, body)
        return await self._ask(call, "the controller does not answer")

    def _authorise(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise RequestError("this needs 'Authorization: Bearer TOKEN'; see state/token", 401)

    def _check_model(self, name: str, version: str | None) -> None:
        if name != self._spec.name:
            raise RequestError(f"no model {name!r}; there is {self._spec.name!r}", 404)
        if version is not None and version != str(self._models.version):
            live = self._models.version
            raise RequestError(f"version {version!r} is not live; version {live} is", 404)

    @staticmethod
    async def _ask(call: Any, otherwise: str) -> Any:
        """Await an actor's answer; its refusals pass through, its absence is a 503."""
        try:
            return await asyncio.wait_for(call, MONITOR_TIMEOUT_S)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, RequestError):
                raise cause from None
            raise RequestError(f"{otherwise}: {cause}", 503) from error
        except (RayActorError, TimeoutError) as error:
            raise RequestError(f"{otherwise}; try again", 503) from error
