"""Two platforms on one machine share no port, for the kernel would mix up their requests."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from undrift.errors import PlatformError
from undrift.host import haproxy
from undrift.host.haproxy import SocketFolder

PREFIX = "RAY_SERVE_DIRECT_INGRESS"


def ports(folder: Path) -> range:
    folder.mkdir()
    run = SocketFolder(folder)
    run.create()
    told = run.environment("/bin/haproxy", 5.0)
    first, last = (int(told[f"{PREFIX}_{end}_HTTP_PORT"]) for end in ("MIN", "MAX"))
    others = (int(told[f"RAY_SERVE_FALLBACK_PROXY_{kind}_PORT"]) for kind in ("HTTP", "GRPC"))
    assert all(last < port < first + haproxy.PORTS for port in others)
    return range(first, first + haproxy.PORTS)


def test_block_with_a_port_that_a_replica_holds_is_not_given_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = ports(tmp_path / "one")
    monkeypatch.setattr(
        haproxy.random, "shuffle", lambda blocks: blocks.sort(key=held.start.__ne__)
    )
    with socket.socket() as replica:
        replica.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as Ray Serve binds it
        replica.bind(("127.0.0.1", held.start + 7))
        replica.listen()
        assert ports(tmp_path / "two").start != held.start
    assert ports(tmp_path / "three").start == held.start


def test_machine_without_free_ports_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(haproxy, "_is_free", lambda port: False)
    with pytest.raises(PlatformError, match="no 100 free ports in a row"):
        ports(tmp_path / "one")
