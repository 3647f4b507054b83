"""A server to which webhooks are sent."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """A server that keeps what it is sent, and answers 200 or the statuses that it is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.silent = threading.Event()  # while it is clear, nothing is answered
        self.silent.set()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                owner.seen.append((self.path, dict(self.headers), body))
                owner.silent.wait(60)
                self.send_response(owner.statuses.pop(0) if owner.statuses else 200)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/told?key=hidden"

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.seen]
