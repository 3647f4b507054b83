"""Speaks what Ray's dashboard does about jobs, over a real socket; no job of it ever runs."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import ray


class DashboardServer:
    """The dashboard of a cluster.

    Attributes:
        token: What it wants as bearer token; empty: none.
        jobs: What was handed in, by name.
        status: What has become of each.
        logs: What a job has said.
        stopped: The jobs whose end was asked for.
        asked: How often it was asked what has become of one that it has.
        refuses: What it answers to who hands a job in; empty: it takes it.
    """

    def __init__(self, token: str = "") -> None:
        self.token = token
        self.jobs: dict[str, dict[str, Any]] = {}
        self.status: dict[str, str] = {}
        self.logs: dict[str, str] = {}
        self.stopped: list[str] = []
        self.refuses, self.asked = "", 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*outer._get(self.path))

            def do_PUT(self) -> None:
                self._body()
                self._answer(200, {})

            def do_POST(self) -> None:
                self._answer(*outer._post(self.path, self._body()))

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _answer(self, status: int, data: Any) -> None:
                given = self.headers.get("Authorization", "")
                if outer.token and given != f"Bearer {outer.token}":
                    status, data = (403 if given else 401), "Unauthorized"
                text = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> DashboardServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _get(self, path: str) -> tuple[int, Any]:
        if path == "/api/version":
            return 200, {"ray_version": ray.__version__, "version": "4"}
        if path.startswith("/api/packages/"):
            return 404, "no such package"
        name, _, rest = path.removeprefix("/api/jobs/").partition("/")
        if name not in self.status:
            return 404, f"Job {name} does not exist"
        if rest == "logs":
            return 200, {"logs": self.logs.get(name, "")}
        self.asked += 1
        return 200, {"status": self.status[name], "message": ""}

    def _post(self, path: str, body: bytes) -> tuple[int, Any]:
        name, _, rest = path.removeprefix("/api/jobs/").partition("/")
        if rest == "stop":
            self.stopped.append(name)
            self.status[name] = "STOPPED"
            return 200, {"stopped": True}
        if self.refuses:
            return 500, self.refuses
        job = json.loads(body)
        if job["submission_id"] in self.jobs:
            return 400, f"Job with submission_id {job['submission_id']} already exists."
        self.jobs[job["submission_id"]] = job
        self.status[job["submission_id"]] = "RUNNING"
        return 200, {"submission_id": job["submission_id"], "job_id": job["submission_id"]}
