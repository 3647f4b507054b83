"""A platform run by `undrift up` as a process of its own, and what the system says about it."""

from __future__ import annotations

import ipaddress
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.helpers.support import eventually
from undrift.client import Client
from undrift.config import Config, load_model
from undrift.store.store import Store
from undrift.views import StatusView, read

MODEL = "spirals"
PATIENCE_S = 180.0
UNDRIFT = (sys.executable, "-m", "undrift.cli")
_LISTEN = "0A"
_VIEWS = (f"/v2/models/{MODEL}/drift", f"/v2/models/{MODEL}/status", "/metrics")


_WATCHED: list[Client] = []


@contextmanager
def watched(client: Client) -> Iterator[Client]:
    """Have a test that fails meanwhile print what the platform says of itself."""
    _WATCHED.append(client)
    try:
        yield client
    except AssertionError as error:  # the report is made when it has gone
        error.add_note(account())
        raise
    finally:
        _WATCHED.remove(client)


def account() -> str:
    """Return drift report, status and the counters of tap and monitor, of every platform."""
    return "\n".join(f"{c.base_url} {view}: {_told(c, view)}" for c in _WATCHED for view in _VIEWS)


def _told(client: Client, view: str) -> str:
    try:
        text = httpx.get(f"{client.base_url}{view}", trust_env=False, timeout=5).text
    except httpx.HTTPError as error:
        return repr(error)
    counted = re.findall(r"^undrift_(?:tap|labels|lost)\w*(?:\{.*\})? .*$", text, re.MULTILINE)
    return "\n".join(["", *counted]) if view == "/metrics" else text


def look(url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Ask for a page over http, as often as one likes: certificates would take 50 ms to load."""
    return httpx.get(url, headers=headers, trust_env=False, verify=False, timeout=30)


def free_port() -> int:
    """Return a port that is free, and that nobody gets before it is used: neither Linux nor Ray."""
    while True:
        port = random.randrange(4_000, 6_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def environment() -> dict[str, str]:
    """Return this process's environment without what would point at another platform."""
    outside = ("UNDRIFT_CONFIG", "UNDRIFT_TOKEN", "RAY_ADDRESS", "RAY_AUTH_TOKEN")
    kept = {name: value for name, value in os.environ.items() if name not in outside}
    return {**kept, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def project(starter: Path, folder: Path, **sections: Mapping[str, Any] | str) -> Path:
    """Copy the starter project and change its configuration; returns the YAML file."""
    shutil.copytree(starter, folder)
    path = folder / "undrift.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, values in sections.items():
        data[name] = values if isinstance(values, str) else {**data.get(name, {}), **values}
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def undrift(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one verb to its end."""
    return subprocess.run(
        [*UNDRIFT, *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


class Running:
    """One `undrift up`, in a session of its own, by which its processes are known.

    Args:
        path: The YAML file.
        detach: Whether to start it with `-d`, which returns when it is ready.
        model: Which of several models it is looked at by.
    """

    def __init__(self, path: Path, detach: bool = False, model: str | None = None) -> None:
        self.path = path
        self.config: Config = load_model(path, model)
        self.url = f"http://{self.config.serve.host}:{self.config.serve.port}"
        self._child: subprocess.Popen[str] | None = None
        self._closing = ExitStack()
        if detach:
            done = undrift("up", "-d", "--json", cwd=path.parent)
            assert done.returncode == 0, done.stderr
            self.pid = int(json.loads(done.stdout)["pid"])
            self.log = self.config.machine / "undrift.log"
        else:
            self.log = path.parent / "up.log"
            with self.log.open("w", encoding="utf-8") as log:
                self._child = subprocess.Popen(
                    [*UNDRIFT, "up"],
                    cwd=path.parent,
                    env=environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=_heed_interrupts,
                    text=True,
                )
            self.pid = self._child.pid

    def await_ready(self) -> Running:
        if self._child is not None:
            eventually(self._ready)
        self.client = self._closing.enter_context(watched(Client.of(self.config)))
        self._closing.callback(self.client.close)
        self.store = Store(self.config.model_state)
        return self

    def _ready(self) -> bool:
        assert self._child is not None
        assert self._child.poll() is None, self.said()
        return "ready at" in self.said()

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def processes(self, title: str = "") -> list[int]:
        """Return the living processes of the run whose command line begins with ``title``."""
        return [pid for pid, line in alive(self.pid).items() if line.startswith(title)]

    def end(self, sign: signal.Signals) -> int:
        """Signal a run that is not detached, as a terminal does, and return its exit code."""
        assert self._child is not None
        if self._child.poll() is None:
            os.killpg(self.pid, sign)
        return self.wait()

    def wait(self) -> int:
        """Wait until a run that is not detached has ended, and return its exit code."""
        assert self._child is not None
        return self._child.wait(PATIENCE_S)

    def is_gone(self) -> bool:
        """Tell whether neither a process nor a listening port is left of the run."""
        port = self.config.serve.port
        with socket.socket() as probe:
            return not alive(self.pid) and probe.connect_ex(("127.0.0.1", port)) != 0

    def kill_all(self) -> None:
        """Leave nothing behind, whatever a test did."""
        self._closing.close()
        for pid in alive(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._child is not None:
            self._child.wait()


def _heed_interrupts() -> None:
    """Undo what a shell does to its background jobs, in which these tests may run."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def alive(session: int) -> dict[int, str]:
    """Return the command lines of the living processes of a session, by process id."""
    found = {}
    for proc in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (proc / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found[int(proc.name)] = (
                    (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                )
    return found


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """Return address and port of every TCP socket on which one of the processes listens."""
    inodes = set()
    for pid in pids:
        with suppress(OSError):
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if match := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(fd)):
                        inodes.add(match[1])
    return {(address, port) for inode, address, port in _listeners() if inode in inodes}


def exposed(running: Running) -> set[tuple[str, int]]:
    """Return the sockets of a platform on which others than this machine could reach it."""
    found = listening(running.processes())
    return {(address, port) for address, port in found if not _is_loopback(address)}


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (inner or address).is_loopback


def _listeners() -> Iterator[tuple[str, str, int]]:
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text(encoding="utf-8").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN:
                address, _, port = fields[1].partition(":")
                words = bytes.fromhex(address)  # 32-bit words in the machine's own order
                raw = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
                yield fields[9], socket.inet_ntop(family, raw), int(port, 16)


def settled(running: Running, version: int) -> Callable[[], StatusView | None]:
    """Return a predicate for `eventually`: every replica serves ``version`` and no run goes on."""

    def predicate() -> StatusView | None:
        answer = look(f"{running.url}/v2/models/{MODEL}/status")
        if answer.status_code == 503:  # the controller is restarting
            return None
        status = read(StatusView, answer.json())
        right = status.live_version == version and status.phase != "swapping"
        replicas = status.replicas.values()
        loaded = len(replicas) == running.config.serve.replicas and set(replicas) == {version}
        return status if right and loaded else None

    return predicate


def one_error(text: str, *parts: str) -> None:
    """Check that a program ended with one message, and no traceback."""
    lines = [line for line in text.splitlines() if line.strip()]
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], text
    assert "Traceback" not in text
    for part in parts:
        assert part in lines[-1]
