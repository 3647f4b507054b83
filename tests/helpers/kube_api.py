"""A small API server: real HTTP on loopback, the paths and errors of Kubernetes, and the checks of
`tests.helpers.manifests` on what it is given."""

from __future__ import annotations

import copy
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.helpers.manifests import problems

APPLY = "application/apply-patch+yaml"
REASONS = {400: "BadRequest", 404: "NotFound", 409: "Conflict", 422: "Invalid"}


class ApiServer:
    """Keeps objects by their path; the manager of an object is whoever set it last.

    Attributes:
        objects: What is stored, by path.
        managers: Who applied each.
        kuberay: Whether RayService is a known resource.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.managers: dict[str, str] = {}
        self.kuberay = True
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer = owner.answer(self.command, self.path, dict(self.headers), body)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                kind = "text/plain" if isinstance(answer, bytes) else "application/json"
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig for this server; its context names the namespace `ml`."""
        server = f"http://127.0.0.1:{self._http.server_port}"
        config = {
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [
                {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "ml"}}
            ],
            "current-context": "x",
        }
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    def answer(
        self, method: str, url: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, Any] | bytes]:
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        if "/apis/ray.io/" in path and not self.kuberay:
            return 404, b"404 page not found\n"  # as a real one answers, and not a Status
        if method == "PATCH":
            return self._apply(path, query, headers["Content-Type"], json.loads(body))
        if method == "POST":
            thing = json.loads(body)
            path = f"{path}/{thing['metadata']['name']}"
            if path in self.objects:
                return _status(409, f"{path} already exists", "AlreadyExists")
            return self._store(path, thing, 201)
        if method == "GET" and path.endswith("/pods"):
            items = [o for p, o in self.objects.items() if p.startswith(path)]
            return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
        if path not in self.objects:
            return _status(404, f"{path} not found")
        if method == "DELETE":
            del self.objects[path]
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        return 200, self.objects[path]

    def _apply(
        self, path: str, query: dict[str, list[str]], kind: str, thing: dict[str, Any]
    ) -> tuple[int, dict[str, Any] | bytes]:
        if kind != APPLY or "fieldManager" not in query:
            return _status(400, f"{kind} without a field manager")
        manager = query["fieldManager"][0]
        other = self.managers.get(path, manager)
        if other != manager and query.get("force") != ["true"]:
            return _status(409, f'conflict with "{other}"')
        self.managers[path] = manager
        return self._store(path, thing, 200 if path in self.objects else 201)

    def _store(
        self, path: str, thing: dict[str, Any], status: int
    ) -> tuple[int, dict[str, Any] | bytes]:
        checked = copy.deepcopy(thing)
        if found := problems(checked):
            return _status(422, "; ".join(found))
        self.objects[path] = {**self.objects.get(path, {}), **thing}
        return status, self.objects[path]


def _status(code: int, message: str, reason: str = "") -> tuple[int, dict[str, Any]]:
    told = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message}
    return code, {**told, "code": code, "reason": reason or REASONS[code]}
