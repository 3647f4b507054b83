"""Weights that were trained elsewhere, taken from an operator's request into the state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from undrift.errors import ModelError, RequestError, StoreError
from undrift.ids import KEY_HEADER
from undrift.serve.body import MAX_ORIGIN, WEIGHTS, check_key, check_keys, show
from undrift.serve.intake import let_go_by
from undrift.serve.protocol import BINARY, JSON
from undrift.serve.settings import ServeSettings
from undrift.serve.tokens import Tokens, TokenScope
from undrift.store.incoming import Draft, Incoming

_AT_ONCE = 2**22  # bytes that are written together


class Backend(Protocol):
    """What stands behind an upload."""

    @property
    def incoming(self) -> Incoming:
        """Where files wait until they are versions."""

    def check_weights(self, path: Path) -> None:
        """Check that a file is whole and fits the model; raises ModelError."""

    async def request(self, verb: str, body: dict[str, Any], key: str) -> Any:
        """Carry out an operator's order, once for each key, and return the status."""


class Upload:
    """Takes a safetensors file as it comes, checks it against the model, and has it judged.

    Nothing is kept of a file that does not come whole, does not fit, or cannot be judged now.

    Args:
        settings: Limits.
        backend: What checks and judges.
        tokens: What callers may do.
        known: Refuses the name of another model.
    """

    def __init__(
        self,
        settings: ServeSettings,
        backend: Backend,
        tokens: Tokens,
        known: Callable[[str], Awaitable[None]],
    ) -> None:
        self._settings, self._backend, self._tokens = settings, backend, tokens
        self._known = known
        self._one = asyncio.Semaphore()

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        try:
            await self._known(request.path_params["name"])
            origin, key = self._checked(request)
        except RequestError:
            if "expect" not in request.headers:
                await let_go_by(request.receive)
            raise
        async with self._one:
            try:
                digest = await self._taken(request.receive)
            except StoreError as error:
                raise RequestError(f"the weights could not be kept: {error}", 503) from error
            try:
                order = {"weights": digest, "origin": origin}
                answer = await self._backend.request(WEIGHTS, order, key)
            except RequestError as error:
                if error.status < 500:  # else the order may have been taken
                    self._backend.incoming.remove(digest)
                raise
        return Response(to_json(answer), media_type=JSON)

    def _checked(self, request: Request) -> tuple[str, str]:
        """Return what the file was called and the key of the order; the body has not been read."""
        headers = request.headers
        self._tokens.check(headers.get("authorization", ""), TokenScope.OPERATE)
        asked = dict(request.query_params)
        check_keys(asked, {"origin"}, "the query")
        origin, key = asked.get("origin") or "weights", check_key(headers.get(KEY_HEADER, ""))
        if len(origin) > MAX_ORIGIN or not origin.isprintable():
            raise RequestError(f"origin: at most {MAX_ORIGIN} printable characters")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != BINARY or headers.get("content-encoding"):
            raise RequestError(f"send {BINARY} as it is, not {show(kind)}", 415)
        limit, size = self._settings.max_weights_bytes, headers.get("content-length", "")
        if size.isdecimal() and int(size[:20]) > limit:
            raise RequestError(f"the weights have {size} bytes; at most {limit} are accepted", 413)
        if self._one.locked():
            raise RequestError("other weights are on their way; try again", 503)
        return origin, key

    async def _taken(self, receive: Receive) -> str:
        """Return the SHA-256 of a body, which is in the state when this returns."""
        with self._backend.incoming.draft() as draft:
            await self._write(draft, receive)
            try:
                await asyncio.to_thread(self._backend.check_weights, draft.path)
            except ModelError as error:
                raise RequestError(str(error)) from error
            return await asyncio.to_thread(draft.keep)

    async def _write(self, draft: Draft, receive: Receive) -> None:
        limit, patience = self._settings.max_weights_bytes, self._settings.request_timeout_s
        size, more, held = 0, True, bytearray()
        while more:
            try:
                message = await asyncio.wait_for(receive(), patience)
            except TimeoutError:
                raise RequestError(f"nothing more came within {patience:g} s", 408) from None
            if message["type"] == "http.disconnect":
                raise RequestError("the weights ended early")
            more = message.get("more_body", False)
            held += message.get("body", b"")
            size += len(message.get("body", b""))
            if size > limit:
                if more:
                    await let_go_by(receive)
                raise RequestError(f"the weights have more than {limit} bytes", 413)
            if len(held) >= _AT_ONCE or not more:
                await asyncio.to_thread(draft.write, bytes(held))
                held.clear()
        await asyncio.to_thread(draft.flush)
