"""What answers at ``/`` where a platform has several models; each of them has a route of its own.

A model is known here by the controller that is named after it, so nobody has to tell which there
are. One that does not answer is left out, and holds up no answer for longer than `PATIENCE_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.metadata import version as package_version
from typing import Any

import ray
from pydantic_core import to_json
from ray import serve
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from undrift.errors import RequestError
from undrift.serve.callers import foreign_page
from undrift.serve.loopback import pin_internal_port
from undrift.serve.metrics import CONTENT_TYPE, Snapshot, exposition
from undrift.serve.protocol import JSON, server_metadata
from undrift.serve.refusals import fail, refuse
from undrift.serve.settings import ListenSettings

NAME = "undrift"  # of the Serve application; those of models are `undrift-NAME`
PATIENCE_S = 3.0
_ROLE = ":controller"


class FrontApi:
    """The ASGI application: what there is, whether it is ready, and the metrics of all.

    Args:
        settings: Where it listens.
        namespace: Ray's, of the controllers.
    """

    def __init__(self, settings: ListenSettings, namespace: str) -> None:
        self._settings, self._namespace = settings, namespace
        handlers: dict[Any, Any] = {
            RequestError: refuse,
            HTTPException: self._no_route,
            Exception: fail,
        }
        self._app = Starlette(
            routes=[
                Route("/v2", self._server),
                Route("/v2/health/live", self._alive),
                Route("/healthz", self._alive),
                Route("/v2/health/ready", self._ready),
                Route("/readyz", self._ready),
                Route("/v2/models", self._models),
                Route("/metrics", self._metrics),
            ],
            exception_handlers=handlers,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI wants it."""
        foreign = foreign_page(dict(scope.get("headers", ())), self._settings)
        if foreign is not None:
            await (await refuse(None, foreign))(scope, receive, send)
            return
        await self._app({**scope, "root_path": ""}, receive, send)

    async def _server(self, _: Request) -> Response:
        return _json(server_metadata(package_version("undrift")))

    async def _alive(self, _: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, _: Request) -> Response:
        found = await self._ask("status")
        if not any(status.replicas for status in found):
            raise RequestError("no model is ready", 503)
        return _json({"ready": True})

    async def _models(self, _: Request) -> Response:
        return _json({"models": await self._names()})

    async def _metrics(self, _: Request) -> Response:
        pages: list[Sequence[Snapshot]] = await self._ask("snapshots")
        page = exposition([snapshot for page in pages for snapshot in page])
        return Response(page, media_type=CONTENT_TYPE)

    async def _no_route(self, request: Request, error: HTTPException) -> Response:
        names = ", ".join(await self._names()) or "none"
        text = f"{request.method} {request.url.path}: {error.detail}; the models are: {names}"
        return await refuse(request, RequestError(text, error.status_code))

    async def _names(self) -> list[str]:
        """Return the names of the models, ascending."""
        found = await asyncio.to_thread(ray.util.list_named_actors, all_namespaces=True)
        return sorted(
            actor["name"].removesuffix(_ROLE)
            for actor in found
            if actor["namespace"] == self._namespace and actor["name"].endswith(_ROLE)
        )

    async def _ask(self, what: str) -> list[Any]:
        """Return what the controllers answer that do."""

        async def answer(name: str) -> Any:
            actor = await asyncio.to_thread(ray.get_actor, name + _ROLE, self._namespace)
            return await asyncio.wait_for(getattr(actor, what).remote(), PATIENCE_S)

        calls = [answer(name) for name in await self._names()]
        found = await asyncio.gather(*calls, return_exceptions=True)
        return [one for one in found if not isinstance(one, BaseException)]


@serve.deployment(name="front")
@serve.ingress()
class Front:
    """The one process that serves it."""

    def __init__(self, settings: ListenSettings, namespace: str) -> None:
        pin_internal_port()
        self._api = FrontApi(settings, namespace)

    async def __serve_build_asgi_app__(self) -> FrontApi:
        """Return what Ray Serve shall serve."""
        return self._api


def _json(value: Any) -> Response:
    return Response(to_json(value), media_type=JSON)
