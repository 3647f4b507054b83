"""What the load balancer is given, and what it does with that, without Ray."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.helpers.certificates import make
from tests.helpers.support import ModelServer, eventually
from undrift.client import Client
from undrift.errors import PlatformError
from undrift.host import haproxy
from undrift.host import renewal as module
from undrift.host.haproxy import SocketFolder, find_binary
from undrift.host.renewal import Renewal
from undrift.serve.certificate import trusting
from undrift.serve.hangup import UNWATCHED
from undrift.serve.settings import ListenSettings

PREFIX = "RAY_SERVE_DIRECT_INGRESS"


def ports(folder: Path) -> range:
    folder.mkdir()
    run = SocketFolder(folder)
    run.create()
    told = run.environment("/bin/haproxy", 5)
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


def another_users(root: Path, _: Path) -> None:
    root.mkdir(mode=0o700)
    os.chown(root, os.getuid() + 1, -1)


def open_to_all(root: Path, _: Path) -> None:
    root.mkdir()
    root.chmod(0o777)


def linked(root: Path, other: Path) -> None:
    other.mkdir(mode=0o700)
    root.symlink_to(other)


def dangling(root: Path, other: Path) -> None:
    root.symlink_to(other)


def file(root: Path, _: Path) -> None:
    root.touch(mode=0o700)


@pytest.mark.parametrize("made", [another_users, open_to_all, linked, dangling, file])
def test_folder_that_others_may_have_filled_is_neither_used_nor_obeyed(
    tmp_path: Path, made: Callable[[Path, Path], None]
) -> None:
    if made is another_users and os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    root = tmp_path / "run"
    made(root, tmp_path / "other")
    for act in (SocketFolder(root).create, SocketFolder(root).reap):
        with pytest.raises(PlatformError, match=r"run must be a folder of yours .*TMPDIR"):
            act()


def test_folder_of_all_runs_is_private(tmp_path: Path) -> None:
    new, readable = SocketFolder(tmp_path / "a" / "new"), SocketFolder(tmp_path / "readable")
    assert new.reap() == []
    readable.root.mkdir(mode=0o755)
    for run in (new, readable):
        run.create()
        run.create()
        assert [path.stat().st_mode & 0o777 for path in (run.root, run.path)] == [0o700] * 2
        assert run.reap() == []


# As Ray Serve writes it, but for the two listeners that are moved.
CONFIG = """\
global
    maxconn 100
    stats socket {socket} mode 666 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    option redispatch 1
    retry-on conn-failure empty-response response-timeout
    retries 3
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend model
backend model
    server a 127.0.0.1:{replica}
    server b 127.0.0.1:{replica}
"""


ORDERS = (("rollback", ""), ("infer", ""), ("retrain", "Idempotency-Key: k\r\n"))


def _post(port: int, path: str, header: str) -> bytes:
    """Send a request in one piece, for HAProxy repeats only what it has as a whole."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        head = f"POST /v2/models/m/{path} HTTP/1.1\r\nHost: localhost\r\n{header}"
        raw.sendall(f"{head}Content-Length: 2\r\n\r\n{{}}".encode())
        return raw.recv(100)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def dying_replica() -> Iterator[tuple[int, list[bytes]]]:
    """Yield the port of a replica that takes each request and answers none, and what it took."""
    taken: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            got = b""
            while not got.endswith(b"{}"):  # all of it: what is left would reset the connection
                got += self.request.recv(65_536)
            taken.append(got)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield server.server_address[1], taken
        finally:
            server.shutdown()


@contextmanager
def balancer(folder: Path, replica: int, certificate: Path | None = None) -> Iterator[int]:
    """Run HAProxy through the wrapper before a replica, and yield its port."""
    run = SocketFolder(folder / "run")
    run.create()
    binary = find_binary()
    assert binary is not None
    environment = {**os.environ, **run.environment(binary, 5, certificate)}
    config = run.path / "haproxy.cfg"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config.write_text(CONFIG.format(port=port, replica=replica, socket=run.path / "admin.sock"))
    haproxy = subprocess.Popen([run.path / "haproxy", "-db", "-f", config], env=environment)
    try:
        eventually(lambda: _answers(port), 20)
        yield port
    finally:
        haproxy.kill()
        haproxy.wait()


def test_operators_order_without_a_key_is_never_sent_twice(tmp_path: Path) -> None:
    with dying_replica() as (replica, taken), balancer(tmp_path, replica) as port:
        for path, header in ORDERS:
            assert b" 502 " in _post(port, path, header)
    sent = [sum(f"/m/{path} ".encode() in got for got in taken) for path, _ in ORDERS]
    assert sent[0] == 1
    assert min(sent[1:]) > 1


def test_ray_is_told_not_to_watch_who_asks_for_an_inference_and_for_nothing_else(
    tmp_path: Path,
) -> None:
    with dying_replica() as (replica, taken), balancer(tmp_path, replica) as port:
        for path in ("infer", "versions/1/infer", "feedback"):
            _post(port, path, "")
    told = {b"infer": set[bool](), b"feedback": set[bool]()}
    for got in taken:
        path = got.split()[1].rpartition(b"/")[2]
        told[path].add(UNWATCHED + b": ?1\r\n" in got)
    assert told == {b"infer": {True}, b"feedback": {False}}


def test_certificate_makes_it_https_which_a_client_trusts_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "with space.pem", name="127.0.0.1.example")
    other = make(tmp_path / "other.pem")
    with ModelServer() as server, balancer(tmp_path, server.port, path) as port:
        url = f"https://127.0.0.1:{port}"
        with Client(url, "m", trust=trusting(path)) as client:
            assert client.infer([[0, 1]]).version == 4
        for trust in (None, trusting(other)):
            with (
                Client(url, "m", "secret", trust=trust) as client,
                pytest.raises(PlatformError, match=r"is not trusted .*SSL_CERT_FILE"),
            ):
                client.pause()
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with (
            Client(url, "m") as client,
            pytest.raises(PlatformError, match=r"not valid for '127\.0\.0\.1'"),
        ):
            client.status()
        with (
            Client(url.replace("https", "http"), "m") as client,
            pytest.raises(PlatformError, match="broke off"),
        ):
            client.status()
    assert len(server.seen) == 1


def test_renewed_certificate_is_used_and_a_broken_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make(tmp_path / "with space.pem", name="localhost")
    first, renewed = trusting(path), trusting(make(tmp_path / "new.pem", name="localhost"))
    settings = ListenSettings(tls_certificate=path)
    caplog.set_level(logging.INFO, "undrift")

    def serves(port: int, trust: ssl.SSLContext) -> bool:
        url = f"https://localhost:{port}"
        with Client(url, "m", trust=trust) as client, suppress(PlatformError):
            return client.infer([[0, 1]]).version == 4
        return False

    with ModelServer() as server, balancer(tmp_path, server.port, path) as port:
        renewal = Renewal(tmp_path / "run" / str(os.getpid()), settings)
        renewal.look()
        path.write_bytes((tmp_path / "new.pem").read_bytes()[:-100])
        renewal.look()
        assert "not renewed: serve.tls_certificate" in caplog.text
        assert (serves(port, first), serves(port, renewed)) == (True, False)
        path.unlink()
        renewal.look()
        pem = (tmp_path / "new.pem").read_bytes()
        pem = pem.replace(b"-----BEGIN PRIVATE", b"\n\n-----BEGIN PRIVATE")
        path.write_bytes("# für die Büros\n".encode() + pem)
        for _ in range(2):
            renewal.look()
        assert (serves(port, first), serves(port, renewed)) == (False, True)
    assert caplog.text.count("the certificate is renewed") == 1


def test_renewed_certificate_waits_for_a_load_balancer_that_starts_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make(tmp_path / "tls.pem")
    renewal = Renewal(tmp_path, ListenSettings(tls_certificate=path))
    make(path, name="longer.example")
    for _ in range(module._AGAIN + 1):
        renewal.look()
    assert caplog.text.count("not renewed yet") == 2


def test_client_trusts_the_file_that_ssl_cert_file_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "tls.pem", name="localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with (
        ModelServer() as server,
        balancer(tmp_path, server.port, path) as port,
        Client(f"https://localhost:{port}", "m") as client,
    ):
        assert client.infer([[0, 1]]).version == 4


def test_ray_still_has_the_lines_that_the_wrapper_changes() -> None:
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    text = (Path(ray.origin).parent / "serve/_private/haproxy_templates.py").read_text()
    assert "\nfrontend http_frontend\n    bind " in text
    for line in ("defaults", "frontend http_frontend", "frontend prometheus", "listen stats"):
        assert f"\n{line}\n" in text


def test_ray_serve_still_knows_every_setting_that_it_is_given(tmp_path: Path) -> None:
    serve = importlib.util.find_spec("ray")
    assert serve is not None
    assert serve.origin is not None
    private = Path(serve.origin).parent / "serve" / "_private"
    known = "\n".join(path.read_text(encoding="utf-8") for path in private.glob("*.py"))
    run = SocketFolder(tmp_path)
    run.create()
    given = [name for name in run.environment("/bin/haproxy", 5) if name.startswith("RAY_SERVE_")]
    assert len(given) > 10
    assert [name for name in given if f'"{name}"' not in known] == []
