"""A proxy before an object store that loses answers to what was done, or does it not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_OWN = ("transfer-encoding", "connection", "content-length", "date", "server")


class Lossy(ThreadingHTTPServer):
    """The proxy.

    Attributes:
        trouble: What befalls the next PUT that matters: ``lost`` before it is done, ``cut`` or
            ``500`` after it was done, ``late`` if it is refused and `land` does it; empty for
            nothing.
        matters: What the path of such a PUT has in it.
        befell: How often it did.
        ignored: Name of a header that does not reach the store; empty if all do.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = httpx.Client(base_url=upstream)
        self.trouble, self.befell = "", 0
        self.matters, self.ignored = "/_delta_log/", ""
        self._late: list[tuple[str, str, bytes, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def keep(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        """Keep a request for later."""
        self._late.append((method, path, body, headers))

    def land(self) -> None:
        """Do what was refused."""
        while self._late:
            method, path, body, headers = self._late.pop()
            self.upstream.request(method, path, content=body, headers=headers).raise_for_status()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Lossy

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        trouble = self.server.trouble if self._matters() else ""
        if trouble:
            self.server.trouble, self.server.befell = "", self.server.befell + 1
        if trouble == "lost":
            self.close_connection = True
            return
        kept_back = ("host", self.server.ignored)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in kept_back}
        if trouble == "late":
            self.server.keep(self.command, self.path, body, headers)
            self.send_error(400)
            return
        answer = self.server.upstream.request(
            self.command, self.path, content=body, headers=headers
        )
        if trouble == "cut":
            self.close_connection = True
            return
        self.send_response(500 if trouble else answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in _OWN:
                self.send_header(name, value)
        size = answer.headers.get("content-length") if self.command == "HEAD" else None
        self.send_header("Content-Length", size or str(len(answer.content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    def _matters(self) -> bool:
        return self.command == "PUT" and self.server.matters in self.path

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on  # noqa: N815, names of http.server


@contextmanager
def lossy(upstream: str) -> Iterator[Lossy]:
    """Run a proxy before an object store."""
    with Lossy(upstream) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
            proxy.upstream.close()


@contextmanager
def answering(code: int, text: str) -> Iterator[str]:
    """Run a server that answers everything alike, and return its URL."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Say nothing."""

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _answer  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
