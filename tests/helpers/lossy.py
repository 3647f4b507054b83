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
        trouble: What befalls the next PUT into a log of Delta Lake: ``lost`` before it is done,
            ``cut`` or ``500`` after it was done; empty for nothing.
        befell: How often it did.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = httpx.Client(base_url=upstream)
        self.trouble, self.befell = "", 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Lossy

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        trouble = self.server.trouble if self._writes_log() else ""
        if trouble:
            self.server.trouble, self.server.befell = "", self.server.befell + 1
        if trouble == "lost":
            self.close_connection = True
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
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

    def _writes_log(self) -> bool:
        return self.command == "PUT" and "/_delta_log/" in self.path

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
