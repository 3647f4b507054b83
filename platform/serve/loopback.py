"""The one port of a replica for which Ray has no setting."""

from __future__ import annotations

from typing import Any

import ray.serve._private.replica as serve_replica


def pin_internal_port() -> None:
    """Bind the gRPC port of this process's replica to loopback."""
    original = serve_replica.add_port_to_grpc_server
    if getattr(original, "loopback", False):
        return

    def pinned(server: Any, address: str) -> Any:
        return original(server, address.replace("[::]", "127.0.0.1"))

    pinned.loopback = True  # type: ignore[attr-defined]
    serve_replica.add_port_to_grpc_server = pinned
