"""The HTTP side of a replica: what is asked, by whom it is answered, and what is refused.

`Starlette` routes everything but the request that matters, an inference by the live version:
its path is compared as a whole, and nothing is built for it but its answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from undrift.errors import RequestError
from undrift.ids import KEY_HEADER
from undrift.records import Labels
from undrift.serve.body import (
    FEEDBACK_BYTES,
    WEIGHTS,
    check_key,
    check_keys,
    parse_json,
    show,
)
from undrift.serve.callers import allowed_page, foreign_page, shared
from undrift.serve.feedback import PARTS, acknowledgement, parse_feedback
from undrift.serve.hangup import watched
from undrift.serve.intake import Headers, Intake
from undrift.serve.metrics import CONTENT_TYPE, ReplicaMetrics
from undrift.serve.openapi import document
from undrift.serve.protocol import (
    BINARY,
    JSON,
    LENGTH_HEADER,
    InferRequest,
    ModelSpec,
    encoding,
    model_metadata,
    parse_infer,
    server_metadata,
)
from undrift.serve.refusals import fail, no_route, refuse
from undrift.serve.settings import ServeSettings
from undrift.serve.slots import Answer
from undrift.serve.tokens import Tokens, TokenScope
from undrift.serve.upload import Backend as Takes
from undrift.serve.upload import Upload
from undrift.views import MAX_EVENTS, VERBS, VIEWS

_LENGTH = LENGTH_HEADER.lower().encode()
_BYTES = "send tensors as bytes, or parts"
_ORDER_BYTES = 2**16  # an operator's verb has a few words


class Backend(Takes, Protocol):
    """What stands behind the HTTP side."""

    @property
    def live(self) -> int | None:
        """Version that answers; None before the first."""

    async def infer(self, request: InferRequest, deadline: float) -> Answer:
        """Answer with the live version before ``deadline``, in the event loop's time."""

    async def stored(self) -> list[int]:
        """Return the numbers of all stored versions."""

    async def store_labels(self, labels: Labels) -> None:
        """Return when the labels are durable."""

    async def view(self, name: str) -> Any:
        """Return one of ``VIEWS``."""

    async def events(self, after: int, limit: int) -> Any:
        """Return a page of events."""

    async def audit(self, version: str) -> Any:
        """Return how a stored version was made."""

    async def metrics(self) -> bytes:
        """Return the Prometheus page."""


class HttpApi:
    """The ASGI application of one replica.

    Args:
        spec: The model.
        settings: Limits, and where it listens.
        backend: What answers.
        metrics: Where requests are counted.
        tokens: What callers may do.
        version: Version of undrift.
    """

    def __init__(
        self,
        spec: ModelSpec,
        settings: ServeSettings,
        backend: Backend,
        metrics: ReplicaMetrics,
        tokens: Tokens,
        version: str,
    ) -> None:
        self._spec, self._settings, self._backend = spec, settings, backend
        self._metrics, self._tokens, self._version = metrics, tokens, version
        self._intake = Intake(settings)
        upload = Upload(settings, backend, tokens, self._check_model)
        self._shared = shared(self._answer, settings)
        roots = "", f"/v2/models/{spec.name}"
        self._infer_path = f"{roots[1]}/infer"
        self._openapi = to_json(document(spec, settings, version))
        model, numbered = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
        handlers: dict[Any, Any] = {RequestError: refuse, HTTPException: no_route, Exception: fail}
        self.other = Starlette(
            routes=[
                Route("/v2", self._server),
                Route("/v2/health/live", self._alive),
                Route("/healthz", self._alive),
                Route("/v2/health/ready", self._ready),
                Route("/readyz", self._ready),
                *(Route(f"{root}/metrics", self._page) for root in roots),
                *(Route(f"{root}/openapi.json", self._describe) for root in roots),
                Route(f"{model}/infer", self._infer_unlikely, methods=["POST"]),
                Route(f"{numbered}/infer", self._infer_unlikely, methods=["POST"]),
                Route(f"{model}/feedback", self._feedback, methods=["POST"]),
                Route(model, self._model),
                Route(numbered, self._model),
                Route(f"{model}/ready", self._model_ready),
                Route(f"{numbered}/ready", self._model_ready),
                Route(f"{numbered}/audit", self._audit),
                Route(f"{model}/events", self._events),
                Route(f"{model}/{WEIGHTS}", upload.answer, methods=["POST"]),
                *(Route(f"{model}/{view}", self._view) for view in VIEWS),
                *(Route(f"{model}/{verb}", self._operate, methods=["POST"]) for verb in VERBS),
            ],
            exception_handlers=handlers,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI wants it."""
        sent: Headers = dict(scope.get("headers", ()))
        page = allowed_page(sent, scope.get("path", ""), self._settings)
        foreign = foreign_page(sent, self._settings, allowed=page)
        if foreign is not None:
            await (await refuse(None, foreign))(scope, receive, send)
            return
        if page:
            await self._shared(scope, receive, send)
        else:
            await self._answer(scope, receive, send, sent)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, sent: Headers | None = None
    ) -> None:
        sent = dict(scope.get("headers", ())) if sent is None else sent
        if scope.get("path") != self._infer_path or scope.get("method") != "POST":
            await self.other(_from_the_root(scope), receive, send)
            return
        try:
            headers, content = await self._infer(None, sent, receive)
        except RequestError as error:
            await (await refuse(None, error))(scope, receive, send)
            return
        except Exception as error:
            await (await fail(None, error))(scope, receive, send)
            raise
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    # ------------------------------------------------------------------ inference

    async def _infer_unlikely(self, request: Request) -> Response:
        """Answer an inference that names a version, or another model."""
        params = request.path_params
        version = params.get("version")
        await self._check_model(params["name"], version)
        headers, content = await self._infer(
            version, dict(request.scope["headers"]), request.receive
        )
        response = Response(content)
        response.raw_headers = headers
        return response

    async def _infer(
        self, version: str | None, headers: Headers, receive: Receive
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Return headers and body of the answer by the live version, which must be ``version``."""
        started, arrived = time.perf_counter(), asyncio.get_running_loop().time()
        code, answered = 200, self._backend.live
        try:
            self._check_reader(headers)
            length = headers.get(_LENGTH)
            limit = self._settings.max_json_bytes if length is None else None
            async with self._intake.admitted(headers, receive, limit, _BYTES) as body:
                asked = await self._intake.parse(
                    parse_infer,
                    body,
                    headers.get(b"content-type", b"").decode("latin-1"),
                    self._spec,
                    self._settings,
                    None if length is None else length.decode("latin-1"),
                )
                patience = self._settings.request_timeout_s
                deadline = arrived + min(asked.timeout_s or patience, patience)
                if version is not None:
                    asked = replace(asked, pinned=True)
                with watched(headers, receive):
                    answer = await self._backend.infer(asked, deadline)
            answered = answer.version
            if version is not None and version != str(answered):
                raise RequestError(f"version {version} was replaced by {answered} meanwhile", 409)
            content, json_length = await _encoded(asked, answer, self._spec)
        except RequestError as error:
            code = error.status
            raise
        except asyncio.CancelledError:  # the caller has hung up
            code = 499
            raise
        except BaseException:
            code = 500
            raise
        finally:
            self._metrics.request(answered, code, time.perf_counter() - started)
        size = (b"content-length", b"%d" % len(content))
        if json_length == len(content):
            return [(b"content-type", JSON.encode()), size], content
        kind = (b"content-type", BINARY.encode())
        return [kind, (_LENGTH, b"%d" % json_length), size], content

    # ------------------------------------------------------------------ labels and operators

    async def _feedback(self, request: Request) -> Response:
        await self._check_model(request.path_params["name"])
        if not self._settings.is_loopback:
            self._tokens.check(request.headers.get("authorization", ""), TokenScope.FEEDBACK)
        headers = dict(request.scope["headers"])
        admitted = self._intake.admitted(headers, request.receive, FEEDBACK_BYTES, PARTS)
        async with admitted as body:
            content_type = request.headers.get("content-type", "")
            labels, rejected = await self._intake.parse(
                parse_feedback, body, content_type, self._spec, self._settings, time.time()
            )
            if len(labels):
                await self._backend.store_labels(labels)
        self._metrics.labels("accepted", len(labels))
        self._metrics.labels("rejected", len(rejected))
        return _json(*acknowledgement(len(labels), rejected))

    async def _view(self, request: Request) -> Response:
        self._check_reader(dict(request.scope["headers"]))
        await self._check_model(request.path_params["name"])
        return _json(await self._backend.view(_last_part(request)))

    async def _events(self, request: Request) -> Response:
        self._check_reader(dict(request.scope["headers"]))
        await self._check_model(request.path_params["name"])
        asked = dict(request.query_params)
        check_keys(asked, {"after", "limit"}, "the query")
        after = _number(asked, "after", 0, 0, 2**53)
        limit = _number(asked, "limit", MAX_EVENTS, 1, MAX_EVENTS)
        return _json(await self._backend.events(after, limit))

    async def _audit(self, request: Request) -> Response:
        self._check_reader(dict(request.scope["headers"]))
        await self._check_model(request.path_params["name"])
        return _json(await self._backend.audit(request.path_params["version"]))

    async def _operate(self, request: Request) -> Response:
        await self._check_model(request.path_params["name"])
        self._tokens.check(request.headers.get("authorization", ""), TokenScope.OPERATE)
        sent: Headers = dict(request.scope["headers"])
        raw = await self._intake.read(sent, request.receive, limit=_ORDER_BYTES)
        content_type = request.headers.get("content-type", "")
        body = parse_json(raw, content_type, self._settings) if raw else {}
        if not isinstance(body, dict):
            raise RequestError("the body must be a JSON object")
        key = check_key(request.headers.get(KEY_HEADER, ""))
        return _json(await self._backend.request(_last_part(request), body, key))

    # ------------------------------------------------------------------ health and metadata

    async def _server(self, _: Request) -> Response:
        return _json(server_metadata(self._version))

    async def _alive(self, _: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, _: Request) -> Response:
        self._check_loaded()
        return _json({"ready": True})

    async def _model(self, request: Request) -> Response:
        await self._check_model(**request.path_params)
        live = self._backend.live
        return _json(model_metadata(self._spec, [] if live is None else [live]))

    async def _model_ready(self, request: Request) -> Response:
        await self._check_model(**request.path_params)
        self._check_loaded()
        return _json({"name": self._spec.name, "ready": True})

    async def _page(self, _: Request) -> Response:
        return Response(await self._backend.metrics(), media_type=CONTENT_TYPE)

    async def _describe(self, _: Request) -> Response:
        return Response(self._openapi, media_type=JSON)

    def _check_reader(self, headers: Headers) -> None:
        if self._settings.token_to_read:
            given = headers.get(b"authorization", b"").decode("latin-1")
            self._tokens.check(given, TokenScope.READ)

    def _check_loaded(self) -> None:
        if self._backend.live is None:
            raise RequestError("no version is loaded yet", 503)

    async def _check_model(self, name: str, version: str | None = None) -> None:
        if name != self._spec.name:
            raise RequestError(f"no model {name!r}; there is {self._spec.name!r}", 404)
        live = self._backend.live
        if version is None or version == str(live):
            return
        stored = await self._backend.stored()
        if version in map(str, stored):
            raise RequestError(
                f"version {version} is stored but not loaded; version {live} is. "
                "Leave the version out, or promote it first",
                409,
            )
        raise RequestError(f"no version {version!r}; stored are {stored}, and {live} is live", 404)


def routes(api: HttpApi) -> list[tuple[str, str]]:
    """Return method and path of everything that is answered."""
    found = [route for route in api.other.routes if isinstance(route, Route)]
    return [(method, route.path) for route in found for method in sorted(route.methods or ())]


async def _encoded(asked: InferRequest, answer: Answer, spec: ModelSpec) -> tuple[bytes, int]:
    """Return the body of an answer, and how many bytes of it are JSON; others have their turns."""
    json, blobs = list[bytes](), list[bytes]()
    told = answer.version, answer.hash, answer.labels
    for _ in encoding(asked, answer.output, spec, *told, json, blobs):
        await asyncio.sleep(0)
    return b"".join(json + blobs), sum(map(len, json))


def _from_the_root(scope: Scope) -> Scope:
    """Return what is asked for with its whole path, whatever route leads to this model.

    /v2 where it is /v2/, as the protocol's own document has it.
    """
    path = scope.get("path", "")
    return {**scope, "root_path": "", "path": path.rstrip("/") or "/"}


def _last_part(request: Request) -> str:
    return str(request.scope["path"]).rpartition("/")[2]


def _number(asked: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = asked.get(name, str(default))
    if not (text.isascii() and text.isdigit() and low <= int(text[:20]) <= high):
        raise RequestError(f"{name}: got {show(text)}, expected a number from {low} to {high}")
    return int(text)


def _json(value: Any, status: int = 200) -> Response:
    return Response(to_json(value), status, media_type=JSON)
