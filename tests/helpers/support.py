"""What several test modules need."""

from __future__ import annotations

import inspect
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, TypeVar

import numpy as np

from undrift.serve.feedback import acknowledgement, parse_feedback
from undrift.serve.protocol import ModelSpec, encode_infer, parse_infer
from undrift.serve.settings import ServeSettings

T = TypeVar("T")


def eventually(
    look: Callable[[], T], timeout_s: float = 180.0, *, until: Callable[[T], Any] = bool
) -> T:
    """Return the first value of ``look`` that ``until`` finds true; else fail and tell the last.

    It looks the less often the longer it waits, so as not to keep busy those that it waits for.
    """
    begun = time.monotonic()
    while not until(value := look()):
        if (waited := time.monotonic() - begun) > timeout_s:
            wanted = "true" if until is bool else f"as `{_source(until)}` wants it"
            raise AssertionError(
                f"`{_source(look)}` is {value!r} after {waited:.0f} s, not {wanted}"
            )
        time.sleep(min(max(waited / 50, 0.02), 0.2))
    return value


def _source(function: Callable[..., Any]) -> str:
    """Return the line of a test that asks, for a message."""
    try:
        lines = inspect.getsource(function).splitlines()
    except (OSError, TypeError):
        return repr(function)
    return lines[0].strip()


class ModelServer:
    """Speaks the real protocol over a real socket, for a model that always answers the same.

    Attributes:
        seen: Method, path, body and Authorization header of each request.
        headers: All headers of each request.
        replies: Status and body to answer with instead, by last part of the path.
        sequences: The same, one after the other; the last one stays.
        retry_after: The header of that name with every 503.
    """

    SPEC = ModelSpec("m", (2,), n_classes=3, classes=("a", "b", "c"))

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Any, str]] = []
        self.headers: list[dict[str, str]] = []
        self.replies: dict[str, tuple[int, bytes]] = {}
        self.sequences: dict[str, list[tuple[int, bytes]]] = {}
        self.retry_after = "0"
        owner = self

        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                token = self.headers.get("Authorization", "")
                kind = self.headers.get("Content-Type", "")
                content: Any = body or None
                if body and kind == "application/json":
                    content = json.loads(body)
                owner.headers.append(dict(self.headers))
                owner.seen.append((self.command, self.path, content, token))
                status, answer = owner.answer(self.path.rpartition("/")[2], body, kind)
                self.send_response(status)
                if status == 503:
                    self.send_header("Retry-After", owner.retry_after)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *args: Any) -> None:
                pass

        self._http = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ModelServer:
        serve = self._http.serve_forever
        self._thread = threading.Thread(target=serve, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def answer(self, verb: str, body: bytes, kind: str) -> tuple[int, bytes]:
        if found := self.sequences.get(verb):
            return found.pop(0) if len(found) > 1 else found[0]
        if verb in self.replies:
            return self.replies[verb]
        if verb == "infer":
            request = parse_infer(body, kind, self.SPEC, ServeSettings())
            output = np.tile(np.float32([0.1, 0.7, 0.2]), (len(request.x), 1))
            return 200, encode_infer(request, output, self.SPEC, 4, "abc")[0]
        if verb == "feedback":
            labels, rejected = parse_feedback(body, kind, self.SPEC, ServeSettings(), now=1.0)
            told, status = acknowledgement(len(labels), rejected)
            return status, json.dumps(told).encode()
        return 200, json.dumps({"verb": verb}).encode()
