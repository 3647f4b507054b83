"""The monitor as a Ray actor: commits rows to the store, then folds them into the signals.

Rows and labels are committed in numbered commits. A label is acknowledged when its commit is
durable. A re-arming is recorded, with the number of the commit that it comes after, before it takes
effect. The signals are a fold over commits and re-armings, so after a kill the actor loads its last
checkpoint, folds what was recorded since, and decides as if nothing had happened; a replay of the
whole record decides the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from undrift.errors import StoreError
from undrift.events import Codec, Rearm
from undrift.model.mixture import Mixture
from undrift.model.receipt import Receipt
from undrift.monitor.history import Moment, moments, take
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.records import Labels, Predictions
from undrift.store.blobs import Blobs
from undrift.store.journal import REARMINGS, Journal
from undrift.store.store import Store
from undrift.views import MonitorReport

CHECKPOINT = "monitor"
CHECKPOINT_COMMITS = 100
MESSAGES_KNOWN = 1024  # a replica sends one again within seconds


class MonitorActor:
    """Shell round `Monitor`: durability, batching and a mailbox.

    Args:
        state: The model's folder of the state.
        settings: The monitor's section of the configuration.
        live_version: Version to calibrate on when there is no checkpoint yet.
        class_names: Names of the classes in order, for reports.
    """

    def __init__(
        self,
        state: Path,
        settings: MonitorSettings,
        live_version: int,
        class_names: tuple[str, ...] = (),
    ) -> None:
        self._settings = settings
        self._store = Store(state)
        self._blobs = Blobs(state)
        self._rearmings = Journal(state, REARMINGS)
        self._live_version = live_version
        self._class_names = class_names
        self._lost_rows = 0
        self._mixes = False
        self._mixture: Mixture | None = None
        self._restore()
        self._predictions: list[Predictions] = []
        self._labels: list[tuple[Labels, asyncio.Future[None]]] = []
        self._heard: dict[str, None] = {}  # in order of arrival
        self._waiting_rows = 0
        self._full = asyncio.Event()
        self._door = asyncio.Lock()
        self._failure = ""
        self._loop = asyncio.get_running_loop().create_task(self._commit_forever())

    def _restore(self) -> None:
        saved = self._blobs.load(CHECKPOINT)
        version = int(saved[1]["version"]) if saved else self._live_version
        monitor = self._calibrated(version)
        commit, row, rearmed = 0, 0, 0
        if saved:
            arrays, meta = saved
            monitor.load(arrays, meta["monitor"])
            commit, row, rearmed = (
                int(meta["commit"]),
                int(meta["row"]),
                int(meta.get("rearmings", 0)),
            )
        rearmings = [(int(o["commit"]), Codec.decode(o)) for o in self._rearmings.read()]
        for moment in moments(self._store.commits(commit), rearmings[rearmed:]):
            take(monitor, moment, self._store.reference)
            commit = moment.commit
            if moment.predictions is not None:
                row = int(moment.predictions.row[-1]) + 1
        self._monitor, self._commits, self._row, self._rearmed = (
            monitor,
            commit,
            row,
            len(rearmings),
        )
        self._publish()

    def _calibrated(self, version: int) -> Monitor:
        reference = self._store.reference(version)
        return Monitor(self._settings, reference, version, class_names=self._class_names)

    def ingest(
        self,
        rows: Predictions,
        message: str = "",
        mixing: tuple[int, int] | None = None,
    ) -> Receipt:
        """Take rows from a replica's tap; they are durable after the next commit.

        Args:
            rows: What was predicted.
            message: Tells a message sent again, which is ignored, from another.
            mixing: Name of the mixture that the replica answers with; None if it shall not.

        Returns:
            The version before, if it shall be asked too, and a newer mixture, if it wants one.
        """
        self._take(rows, message)
        newer = None
        if mixing is not None:
            self._mixes, newest = True, self._mixture
            newer = newest if newest is not None and newest.name != mixing else None
        probation = self._report.probation
        against = probation.against if probation.status == "running" else None
        return Receipt(self._report.evidence.version, against, newer)

    def _take(self, rows: Predictions, message: str) -> None:
        if message:
            if message in self._heard:
                return
            self._heard[message] = None
            if len(self._heard) > MESSAGES_KNOWN:
                del self._heard[next(iter(self._heard))]
        self._predictions.append(rows)
        self._waiting_rows += len(rows)
        if self._waiting_rows >= self._settings.commit_rows:
            self._full.set()

    async def feedback(self, labels: Labels) -> None:
        """Take labels; returns when they are durable.

        Raises:
            StoreError: They could not be made durable; send them again.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._labels.append((labels, done))
        await done

    async def rearm(self, rearm: dict[str, Any]) -> None:
        """Calibrate on another version; durable when it returns. Repeats are harmless."""
        order = Codec.decode(rearm)
        assert isinstance(order, Rearm)
        async with self._door:
            if self._monitor.version == order.version and order.run_id == self._monitor.run_id:
                return
            try:
                await asyncio.to_thread(self._rearm, order)
            except StoreError:  # recorded or not: the record says
                await self._restore_at_last()
                raise

    def _rearm(self, order: Rearm) -> None:
        self._calibrated(order.version)  # raises, before anything is recorded
        record = {**Codec.encode(order), "commit": self._commits}
        self._rearmings.append(record, at=time.time())
        self._rearmed += 1
        take(self._monitor, Moment(self._commits, rearm=order), self._store.reference)
        self._publish()
        self._checkpoint()

    def _publish(self) -> None:
        """Keep what is known after a whole step: the fold goes on in a thread of its own."""
        self._report = MonitorReport(
            evidence=self._monitor.evidence(),
            run_id=self._monitor.run_id,
            probation=self._monitor.probation,
            summary=self._monitor.summary(),
            commit=self._commits,
        )
        self._mixture = self._monitor.mixture() if self._mixes else None

    def report(self) -> MonitorReport:
        """Return evidence, probation and summary after the newest step."""
        failure = self._failure or self._store.trouble or self._rearmings.trouble
        return replace(self._report, lost_rows=self._lost_rows, failure=failure)

    async def drain(self) -> None:
        """Return when everything taken so far is durable and folded."""
        while self._predictions or self._labels or self._door.locked():
            self._full.set()
            await asyncio.sleep(0.01)

    async def _commit_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self._settings.commit_ms / 1000)
            self._full.clear()
            if self._predictions or self._labels:
                async with self._door:
                    await self._commit()

    async def _commit(self) -> None:
        predictions, self._predictions = self._predictions, []
        labels, self._labels = self._labels, []
        self._waiting_rows = 0
        try:
            await asyncio.to_thread(self._one_commit, predictions, [part for part, _ in labels])
            self._failure = ""
        except Exception as error:  # the labels are refused, the rows counted, the state read anew
            self._failure = f"{type(error).__name__}: {error}"
            self._lost_rows += sum(len(part) for part in predictions)
            for _, done in labels:
                done.set_exception(error)
            await self._restore_at_last()
            return
        for _, done in labels:
            if not done.cancelled():
                done.set_result(None)

    async def _restore_at_last(self) -> None:
        """Read the state anew, as often as it takes: the disk may be full or away for a while."""
        while True:
            try:
                await asyncio.to_thread(self._restore)
                return
            except Exception as error:
                self._failure = f"{type(error).__name__}: {error}"
                await asyncio.sleep(1.0)

    def _one_commit(self, parts: list[Predictions], label_parts: list[Labels]) -> None:
        rows = Predictions.concat(parts).numbered(self._row) if parts else None
        labels = Labels.concat(label_parts) if label_parts else None
        seq = self._commits + 1
        if rows is not None:
            self._store.append_predictions(seq, rows)
            self._row += len(rows)
        if labels is not None:
            self._store.append_labels(seq, labels)
        self._commits = seq
        take(self._monitor, Moment(seq, rows, labels), self._store.reference)
        self._publish()
        if seq % CHECKPOINT_COMMITS == 0:
            self._checkpoint()

    def _checkpoint(self) -> None:
        arrays, meta = self._monitor.state()
        self._blobs.save(
            CHECKPOINT,
            arrays,
            {
                "monitor": meta,
                "version": self._monitor.version,
                "commit": self._commits,
                "row": self._row,
                "rearmings": self._rearmed,
            },
        )
