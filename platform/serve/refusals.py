"""Answers that are refusals: all in one shape."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from undrift.errors import RequestError
from undrift.serve.protocol import JSON, encode_error

_HEADERS = {
    503: {"Retry-After": "1"},
    408: {"Connection": "close"},
    413: {"Connection": "close"},
}


async def refuse(_: Request | None, error: RequestError) -> Response:
    """Return the answer to a request that is refused."""
    return Response(encode_error(str(error)), error.status, _HEADERS.get(error.status, {}), JSON)


async def no_route(request: Request, error: HTTPException) -> Response:
    """Return the answer to a request for what there is not."""
    text = f"{request.method} {request.url.path}: {error.detail}; see GET /openapi.json"
    return Response(encode_error(text), error.status_code, error.headers, JSON)


async def fail(_: Request | None, error: Exception) -> Response:
    """Return the answer to a request over which we failed."""
    return Response(encode_error(f"undrift failed: {error!r}"), 500, media_type=JSON)
