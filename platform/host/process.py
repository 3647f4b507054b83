"""What the state folder says about the running platform: its process, its URL and its token."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import stat
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from undrift.config import Config
from undrift.errors import PlatformError, StoreError
from undrift.store.bucket import Bucket
from undrift.store.files import explained, write_file
from undrift.store.lease import Keeper, Lease, holder_of
from undrift.store.place import Root
from undrift.store.probe import check_store

TOKEN_VARIABLE = "UNDRIFT_TOKEN"


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """The process that runs the platform.

    Attributes:
        pid: Its number.
        started: When the system says that it started; tells it from a later process of that pid.
        url: Where it listens; empty until it is ready.
        cluster: Address of the Ray cluster on which it was deployed; empty if the process runs it.
    """

    pid: int
    started: str
    url: str
    cluster: str = ""


class ProcessFile:
    """Reads and writes ``run.json`` and ``token``, under a lock of the state.

    The record ``run.json`` lies with the lock ``run.lock`` in a state folder, which machines may
    share. A state in a bucket has a lease instead, and the record lies on this machine.

    Args:
        folder: Folder of this machine.
        state: The state; None: the same folder.

    Attributes:
        state: The state; once it is locked, with the right to write to it.
        keeper: What keeps the lease of a state in a bucket while it is locked.
        session: What tells a Ray cluster from another one of the same address.

    Raises:
        StoreError: From every method: a file or the folder cannot be read or written.
    """

    def __init__(self, folder: Path, state: Root | None = None) -> None:
        self.folder, self.state = folder, folder if state is None else state
        self.path = (folder if isinstance(self.state, Bucket) else self.state) / "run.json"
        self.keeper: Keeper | None = None
        self.session = ""
        self._lock: int | None = None
        self._kept = False

    @staticmethod
    def of(config: Config) -> ProcessFile:
        """Return that of a configuration."""
        return ProcessFile(config.machine, config.root)

    def make_folder(self) -> None:
        """Make the folders, for their owner alone, unless there are some.

        Raises:
            PlatformError: One is ours, and anybody may write to it.
        """
        for folder in {self.path.parent, self.folder}:
            _make_private(folder)

    def lock(self, cluster: str = "") -> None:
        """Keep the state folder from other starts, here or on other machines that share it.

        The lock ends with `release`, `unlock` or this process.

        Args:
            cluster: A cluster that may run on it.

        Raises:
            PlatformError: Another living process or cluster runs on it, or starts to.
        """
        self.check_free(cluster)
        if self._lock is not None or self.keeper is not None:
            return
        self.make_folder()
        if isinstance(self.state, Bucket):
            check_store(self.state)
            self.keeper = Keeper(Lease.take(self.state, self._holder(cluster)))
            self.state, self._kept = self.keeper.lease.state, bool(cluster)
            return
        path = self.path.with_name("run.lock")
        with explained("lock", path):
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.unlock()
        self.check_free(cluster)
        if self._lock is None:
            raise PlatformError(
                f"another process starts, or runs on another machine, on {self.state}; "
                "wait for it, stop it, or give this one another state folder"
            )

    def unlock(self) -> None:
        """Let others start on the state, unless a cluster goes on with the lease."""
        if self.keeper is not None:
            self.keeper.stop()
            if not self._kept:
                self.keeper.lease.release()
            self.keeper = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def claim(self, url: str = "", cluster: str = "") -> None:
        """Lock the state folder, and record this process, or a Ray cluster, as what runs on it.

        Args:
            url: Where it listens, once it is ready.
            cluster: Address of the cluster on which it was deployed.

        Raises:
            PlatformError: Another living process or cluster runs it.
        """
        self.lock(cluster)
        record = ProcessRecord(os.getpid(), process_start(os.getpid()) or "", url, cluster)
        with explained("write", self.path):
            write_file(self.path, json.dumps(asdict(record)).encode())

    def check_free(self, cluster: str = "") -> None:
        """Check that nothing else runs on this state folder.

        Args:
            cluster: A cluster that may run on it.

        Raises:
            PlatformError: Another living process or cluster does.
        """
        other = self.running()
        if other is not None and other.cluster:
            if other.cluster != cluster:
                raise PlatformError(
                    f"the Ray cluster at {other.cluster} already runs on {self.state}; "
                    "remove it with `undrift down`, or give this one another state folder"
                )
        elif other is not None and other.pid != os.getpid():
            raise PlatformError(
                f"process {other.pid} already runs on {self.state}; "
                "stop it with `undrift down`, or give this one another state folder"
            )

    def release(self, cluster: str = "") -> None:
        """Forget this process, or a cluster, and end the lock."""
        record = self._read()
        ours = record is not None and (record.cluster or record.pid) == (cluster or os.getpid())
        if ours:
            self.path.unlink(missing_ok=True)
        self.unlock()
        if cluster and isinstance(self.state, Bucket):
            holder = self._holder(cluster)
            if holder_of(self.state) == holder:
                Lease.take(self.state, holder).release()

    def _holder(self, cluster: str) -> str:
        """Return by what name a lease is held, which nothing else may have."""
        if cluster:
            return f"the Ray cluster at {cluster} ({self.session})"
        return f"process {os.getpid()} on {socket.gethostname()} ({secrets.token_hex(4)})"

    def owner(self) -> str:
        """Return what runs on the state, for people; empty if nothing is known to."""
        record = self.running()
        if record is not None:
            return record.cluster or f"process {record.pid}"
        return holder_of(self.state) if isinstance(self.state, Bucket) else ""

    def running(self) -> ProcessRecord | None:
        """Return what is recorded if it lives; a dead process or cluster counts for nothing."""
        record = self._read()
        if record is not None and record.cluster:
            return record if _answers(record.cluster) else None
        if record is None or process_start(record.pid) != record.started:
            return None
        return record

    def is_ours(self) -> bool:
        """Tell whether nobody but us can have written the record, and so the URL in it."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        private = stat.S_ISREG(found.st_mode) and not found.st_mode & 0o022
        return private and found.st_uid == os.geteuid()

    def stop(self, timeout_s: float = 60.0) -> ProcessRecord | None:
        """End the recorded process and wait until it is gone.

        Args:
            timeout_s: Longest wait, seconds.

        Returns:
            The process that was ended; None if none ran.

        Raises:
            PlatformError: It is another user's, or it still lives after ``timeout_s``.
        """
        record = self.running()
        if record is None:
            self.path.unlink(missing_ok=True)
            return None
        try:
            os.kill(record.pid, signal.SIGTERM)
        except ProcessLookupError:
            return record
        except PermissionError:
            raise PlatformError(f"process {record.pid} belongs to another user") from None
        deadline = time.monotonic() + timeout_s
        while process_start(record.pid) == record.started:
            if time.monotonic() > deadline:
                raise PlatformError(
                    f"process {record.pid} still runs {timeout_s:g} s after it was asked to stop"
                )
            time.sleep(0.05)
        return record

    def token(self, create: bool = False) -> str:
        """Return the operator's token: $UNDRIFT_TOKEN, else the file, else nothing.

        Args:
            create: Make the file, readable by its owner alone, if there is none.

        Raises:
            PlatformError: The file is empty, not ours to read, or anybody's.
        """
        return given_token() or _token_in(self.folder, create=create)

    def _read(self) -> ProcessRecord | None:
        try:
            return ProcessRecord(**json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except PermissionError:
            raise PlatformError(
                f"{self.path} is not yours to read; set UNDRIFT_URL and {TOKEN_VARIABLE} instead"
            ) from None
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {error.strerror}") from error
        except (ValueError, TypeError):
            logging.getLogger("undrift").warning("%s is damaged; it counts as none", self.path)
            return None


def given_token() -> str:
    """Return $UNDRIFT_TOKEN, which is for wherever the user points; empty without it."""
    return os.environ.get(TOKEN_VARIABLE, "").strip()


def _answers(address: str) -> bool:
    """Tell whether something listens at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), 3).close()
    except OSError:
        return False
    return True


def process_start(pid: int) -> str | None:
    """Return when a process started, in the system's own words; None if it is not alive.

    Example:
        >>> import os
        >>> process_start(os.getpid()) == process_start(os.getpid())
        True
    """
    proc = Path("/proc")
    if (proc / "self" / "stat").exists():
        try:
            text = (proc / str(pid) / "stat").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    listed = subprocess.run(  # where there is no /proc, as on macOS
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    status, _, started = listed.stdout.strip().partition(" ")
    return None if not started or status.startswith("Z") else started.strip()


def _token_in(folder: Path, *, create: bool) -> str:
    path = folder / "token"
    try:
        token = path.read_text(encoding="utf-8").strip()
        mode = path.stat().st_mode
    except FileNotFoundError:
        return _make_token(path) if create else ""
    except PermissionError:
        raise PlatformError(f"{path} is not yours to read; set {TOKEN_VARIABLE} instead") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    if not token:
        raise PlatformError(f"{path} is empty; remove it, and `undrift up` makes another")
    if mode & stat.S_IRWXO:
        raise PlatformError(f"anybody may read {path}; run: chmod 600 {path}")
    return token


def _make_token(path: Path) -> str:
    _make_private(path.parent)
    token = secrets.token_urlsafe(24)
    with explained("write", path):
        write_file(path, f"{token}\n".encode())
    return token


def _make_private(folder: Path) -> None:
    with explained("use the state folder", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    if found.st_uid == os.geteuid() and found.st_mode & stat.S_IWOTH:
        raise PlatformError(f"anybody may write to {folder}; run: chmod o-w {folder}")
