"""Who may write to a state in a bucket: an object with a holder and the number of his term.

The holder replaces the object every few seconds, by its tag, so nobody else can have replaced it
meanwhile. Who waits compares no clocks: he takes over what stayed the same for as long as a lease
lasts by his own clock. Before he reads anything, he writes the number of his term, the epoch, into
every table; an append of a writer that slept then conflicts, and the next one finds the epoch.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from undrift.errors import PlatformError, StoreError
from undrift.store.bucket import Bucket, ChangedError, Held, taken_over
from undrift.store.files import explained
from undrift.store.root import MODELS_FOLDER
from undrift.store.tables import Table

LEASE_FILE = "lease.json"
LEASE_S = 10.0
RENEW_S = 2.0
_FREE = ""

logger = logging.getLogger("undrift")


class Lease:
    """The lease of one state while it is ours; `take` and `resume` return it.

    Args:
        state: The state.
        holder: Who holds it, for people.
        epoch: Number of the term.
        tag: That of the object as we wrote it.
    """

    def __init__(self, state: Bucket, holder: str, epoch: int, tag: str) -> None:
        self._file = (state / LEASE_FILE).quick()
        self._holder, self._tag = holder, tag
        self._epoch = epoch
        self.state = Bucket(str(state), state.local, Held(str(self._file), epoch))

    @staticmethod
    def take(state: Bucket, holder: str, lease_s: float = LEASE_S) -> Lease:
        """Return the lease; one that nobody renews is waited for, and its tables are fenced.

        Args:
            state: The state.
            holder: Who asks, for people; what he holds already goes on.
            lease_s: How long a lease lasts that nobody renews, seconds.

        Raises:
            PlatformError: Somebody else renews it.
            StoreError: The store refuses.
        """
        file = (state / LEASE_FILE).quick()
        seen, since = "", 0.0
        while True:
            found = _read(file)
            if found is None:
                if taken := _put(state, holder, 0, None):
                    return taken
                continue
            content, tag = found
            if content["holder"] == holder != _FREE:
                return Lease(state, holder, content["epoch"], tag)
            lasted = time.monotonic() - since if tag == seen else 0.0
            if content["holder"] == _FREE or lasted > lease_s:
                if taken := _put(state, holder, content["epoch"], tag):
                    return taken
                continue
            if tag != seen:
                if seen:
                    raise PlatformError(
                        f"{content['holder']} already runs on {state}; stop it, or give this one "
                        "another state"
                    )
                seen, since = tag, time.monotonic()
            time.sleep(min(0.5, lease_s / 10))

    @staticmethod
    def resume(held: Held, local: Path) -> Lease:
        """Return the lease of a term that has begun already.

        Args:
            held: The term.
            local: Folder of this machine for what is cached.

        Raises:
            StoreError: It is somebody else's by now, or the store refuses.
        """
        state = Bucket(held.state, local)
        found = _read((state / LEASE_FILE).quick())
        if found is None or found[0]["epoch"] != held.epoch:
            raise StoreError(taken_over(held.state, found[0]["holder"] if found else ""))
        return Lease(state, found[0]["holder"], held.epoch, found[1])

    def renew(self, holder: str | None = None) -> None:
        """Say that we are still there.

        Args:
            holder: Who holds it from now on; None: who did.

        Raises:
            StoreError: It is somebody else's by now, or the store refuses.
        """
        holder = self._holder if holder is None else holder
        epoch = self._epoch
        with explained("renew the lease", self._file):
            try:
                self._tag = self._file.replace(_content(holder, epoch), self._tag)
                return
            except ChangedError:
                pass
            found = _read(self._file)
            if found is None or found[0]["epoch"] != epoch:
                raise StoreError(taken_over(str(self.state), found[0]["holder"] if found else ""))
            self._tag = found[1]  # the answer to our own was lost, or another of us renewed it

    def release(self) -> None:
        """Let others take it at once; what is somebody else's by now is left alone."""
        for _ in range(2):
            tag = self._tag
            try:
                self.renew(_FREE)
            except StoreError:
                return
            if self._tag != tag:
                return


class Keeper:
    """Renews a lease from a thread of its own, until it is told to stop.

    Args:
        lease: The lease.

    Attributes:
        lost: What to say as it is somebody else's by now; empty while it is ours.
    """

    def __init__(self, lease: Lease) -> None:
        self.lease, self.lost = lease, ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._over.wait(RENEW_S):
            try:
                self.lease.renew()
            except StoreError as error:
                if error.__cause__ is None:  # not the store, but somebody else
                    self.lost = str(error)
                    return
            except Exception:  # the store may be back before anybody else asks
                logger.exception("the lease was not renewed")

    def check(self) -> None:
        """Check that the lease is still ours.

        Raises:
            PlatformError: It is not.
        """
        if self.lost:
            raise PlatformError(self.lost)

    def stop(self) -> None:
        """Renew it no more."""
        self._over.set()
        self._thread.join()


def holder_of(state: Bucket) -> str:
    """Return who holds the lease of a state, whether he lives or not; empty if nobody does.

    Raises:
        StoreError: The store does not say.
    """
    found = _read((state / LEASE_FILE).quick())
    return str(found[0]["holder"]) if found else ""


def _content(holder: str, epoch: int) -> bytes:
    beat = secrets.token_hex(8)  # else the tag, a hash of the content, would stay the same
    return json.dumps({"holder": holder, "epoch": epoch, "beat": beat}).encode()


def _read(file: Bucket) -> tuple[dict[str, Any], str] | None:
    try:
        data, tag = file.read_tagged()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {file}: {error}") from error
    try:
        found = json.loads(data)
        return {"holder": str(found["holder"]), "epoch": int(found["epoch"])}, tag
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            f"{file} is damaged; with nothing running on it, remove the object"
        ) from None


def _put(state: Bucket, holder: str, last: int, tag: str | None) -> Lease | None:
    """Return the lease of a new term, its tables fenced; None if somebody else was first.

    Args:
        state: The state.
        holder: Who takes it.
        last: Epoch of the term before; a table may know of a later one, if the lease was lost.
        tag: That of the lease to replace; None if there is none.
    """
    epoch = max(last, _newest_epoch(state)) + 1
    file, content = (state / LEASE_FILE).quick(), _content(holder, epoch)
    with explained("take the lease", file):
        try:
            new = file.create(content) if tag is None else file.replace(content, tag)
        except (FileExistsError, ChangedError):  # or the answer to our own was lost
            data, new = file.read_tagged()
            if data != content:
                return None
    lease = Lease(state, holder, epoch, new)
    keeper = Keeper(lease)
    try:
        _each_table(lease.state, Table.fence)
    except StoreError:
        keeper.stop()
        lease.release()
        raise
    keeper.stop()
    keeper.check()
    return lease


def _newest_epoch(state: Bucket) -> int:
    """Return the newest epoch that a table knows, 0 if none does."""
    found = [0]
    _each_table(state, lambda table: found.append(table.recorded_epoch()))
    return max(found)


def _each_table(state: Bucket, do: Callable[[Table], object]) -> None:
    models = state / MODELS_FOLDER
    with explained("list the tables of", state):
        tables = [
            tables / name
            for model in models.names()
            for tables in [models / model / "tables"]
            for name in tables.names()
        ]
    for table in tables:
        do(Table(table))
