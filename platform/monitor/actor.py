"""The monitor as a Ray actor: commits rows to the store, then folds them into the signals.

Rows and labels are committed in numbered commits. A label is acknowledged when its commit is
durable. A re-arming is recorded, with the number of the commit that it comes after, before it takes
effect. The signals are a fold over commits and re-armings, so after a kill the actor loads its last
checkpoint, folds what was recorded since, and decides as if nothing had happened; a replay of the
whole record decides the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from undrift.errors import StoreError
from undrift.events import Codec, Compare, Rearm
from undrift.model.mixture import Mixture
from undrift.model.receipt import Receipt
from undrift.monitor.history import LEFT_OUT, Moment, moments, take
from undrift.monitor.late import LateLabels
from undrift.monitor.mailbox import Mailbox
from undrift.monitor.monitor import Monitor
from undrift.monitor.report import MonitorReport
from undrift.monitor.retention import Retention, begin
from undrift.monitor.settings import MonitorSettings
from undrift.records import Labels, Predictions
from undrift.store.blobs import Blobs
from undrift.store.journal import REARMINGS, Journal
from undrift.store.place import Root
from undrift.store.settings import RetentionSettings
from undrift.store.store import Store

logger = logging.getLogger(__name__)

CHECKPOINT = "monitor"
CHECKPOINT_COMMITS, CHECKPOINT_ITEMS = 100, 40_000
"""Commits, or rows and labels in them, after which the state is kept: a start folds no more."""


class MonitorActor:
    """Shell round `Monitor`: durability, batching and a mailbox.

    Args:
        state: The model's folder of the state.
        settings: The monitor's section of the configuration.
        live_version: Version to calibrate on when there is no checkpoint yet.
        class_names: Names of the classes in order, for reports.
        limits: How much of what was recorded is kept.
        pool_rows: Rows that a retraining reads, counted from the newest labelled one.
    """

    def __init__(
        self,
        state: Root,
        settings: MonitorSettings,
        live_version: int,
        class_names: tuple[str, ...] = (),
        limits: RetentionSettings = RetentionSettings(),  # noqa: B008, it is frozen
        pool_rows: int = 0,
    ) -> None:
        self._settings = settings
        self._store = Store(state)
        self._blobs = Blobs(state)
        reach = settings.join_window_rows, pool_rows
        self._rearmings = Journal(state, REARMINGS)
        self._retention = Retention(self._store, self._blobs, limits, *reach, self._rearmings)
        self._live_version = live_version
        self._class_names = class_names
        self._lost_rows = self._unkept = 0
        self._mixes = False
        self._mixture: Mixture | None = None
        self._failure = self._left_out = self._unpublished = ""
        self._late = LateLabels(self._store, self._blobs)
        self._restore()
        self._publish()
        self._mailbox = Mailbox(settings.max_waiting_bytes, settings.commit_rows)
        self._door = asyncio.Lock()
        loop = asyncio.get_running_loop()
        self._loop = loop.create_task(self._commit_forever())
        self._looking = loop.create_task(self._late.follow(lambda: self._row - 1))

    def _restore(self) -> None:
        begun = begin(
            self._store,
            self._blobs,
            self._settings,
            self._class_names,
            checkpoint=CHECKPOINT,
            version=self._live_version,
        )
        monitor, commit, row = begun.monitor, begun.commit, begun.row
        self._lost_rows = max(self._lost_rows, begun.lost_rows)
        records = [record for _, record in self._rearmings.events(after=begun.rearmings - 1)]
        for moment in moments(self._store.commits(commit), records):
            try:
                take(monitor, moment, self._store.reference)
            except (StoreError, OSError, MemoryError):
                raise
            except Exception as error:
                if moment.rearm is not None:
                    raise
                self._left_out = _leave_out(self._rearmings, moment.commit, error)
                self._failure = ""
                self._restore()  # anew, as this one may be half way; what is left out stays so
                return
            commit = moment.commit
            if moment.predictions is not None:
                row = int(moment.predictions.row[-1]) + 1
        monitor.left.clear()  # they were looked up before
        self._monitor, self._commits, self._row = monitor, commit, row
        self._rearmed = begun.rearmings + len(records)

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

        Raises:
            StoreError: Too many rows wait to be stored.
        """
        self._mailbox.put(rows, message)
        newer = None
        if mixing is not None:
            self._mixes, newest = True, self._mixture
            newer = newest if newest is not None and newest.name != mixing else None
        probation = self._report.probation
        against = probation.against if probation.status == "running" else None
        return Receipt(self._report.evidence.version, against, newer)

    async def feedback(self, labels: Labels) -> None:
        """Take labels; returns when they are durable.

        Raises:
            StoreError: They could not be made durable; send them again.
        """
        await self._mailbox.label(labels)

    async def rearm(self, rearm: dict[str, Any]) -> None:
        """Calibrate on another version, or compare a candidate; durable, and repeats do no harm."""
        order = Codec.decode(rearm)
        assert isinstance(order, Rearm | Compare)
        async with self._door:
            if _heeded(self._monitor, order):
                return
            try:
                await asyncio.to_thread(self._rearm, order)
            except StoreError as error:  # recorded or not: the record says
                await self._restore_at_last(error)
                raise

    def _rearm(self, order: Rearm | Compare) -> None:
        if isinstance(order, Rearm):
            reference = self._store.reference(order.version)
            Monitor(self._settings, reference, order.version)  # raises, before it is recorded
        self._rearmings.append({**Codec.encode(order), "commit": self._commits}, at=time.time())
        self._rearmed += 1
        take(self._monitor, Moment(self._commits, rearm=order), self._store.reference)
        self._publish_or_tell()
        self._checkpoint()

    def _publish(self) -> None:
        """Keep what is known after a whole step: the fold goes on in a thread of its own."""
        self._report = MonitorReport(
            evidence=self._monitor.evidence(),
            run_id=self._monitor.run_id,
            probation=self._monitor.probation,
            comparison=self._monitor.comparison.report(),
            summary=self._monitor.summary(),
            commit=self._commits,
        )
        self._mixture = self._monitor.mixture() if self._mixes else None
        self._unpublished = ""

    def _publish_or_tell(self) -> None:
        """Publish; what cannot be told of a state that is sound leaves what was told before."""
        try:
            self._publish()
        except Exception as error:
            self._unpublished = f"the evidence stands still: {type(error).__name__}: {error}"
            logger.exception("%s", self._unpublished)

    def report(self) -> MonitorReport:
        """Return evidence, probation and summary after the newest step."""
        stored = (
            self._store.trouble,
            self._rearmings.trouble,
            self._retention.trouble,
            self._late.trouble,
        )
        told = (self._failure, self._unpublished, *stored, self._left_out)
        summary = self._late.told(self._report.summary)
        failure = next(filter(None, told), "")
        return replace(self._report, summary=summary, lost_rows=self._lost_rows, failure=failure)

    async def drain(self) -> None:
        """Return when everything taken so far is durable and folded."""
        while self._mailbox or self._door.locked():
            self._mailbox.full.set()
            await asyncio.sleep(0.01)

    async def _commit_forever(self) -> None:
        while True:
            await self._mailbox.due(self._settings.commit_ms / 1000)
            async with self._door:
                began = time.monotonic()
                await self._commit()
                self._mailbox.took(time.monotonic() - began)

    async def _commit(self) -> None:
        predictions, labels = self._mailbox.empty()
        try:
            moment = await asyncio.to_thread(
                self._stored, predictions, [part for part, _ in labels]
            )
        except Exception as error:  # the labels are refused, the rows counted, the state read anew
            self._lost_rows += sum(len(part) for part in predictions)
            _answer(labels, error)
            await self._restore_at_last(error)
            return
        try:
            await asyncio.to_thread(self._folded, moment)
            self._failure = ""
        except Exception as error:  # all is durable, and reading it anew goes past what broke
            await self._restore_at_last(error)
        _answer(labels)

    async def _restore_at_last(self, error: Exception) -> None:
        """Read the state anew, as often as it takes: the disk may be full or away for a while."""
        self._failure = f"{type(error).__name__}: {error}"
        while True:
            try:
                await asyncio.to_thread(self._restore)
                break
            except Exception as again:
                self._failure = f"{type(again).__name__}: {again}"
                self._mailbox.refused = f"labels cannot be stored now: {self._failure}"
                await asyncio.sleep(1.0)
        self._mailbox.refused = ""
        self._publish_or_tell()

    def _stored(self, parts: list[Predictions], label_parts: list[Labels]) -> Moment:
        """Make rows and labels durable as the next commit."""
        rows = Predictions.concat(parts).numbered(self._row) if parts else None
        labels = Labels.concat(label_parts) if label_parts else None
        seq = self._commits + 1
        if rows is not None:
            self._store.append_predictions(seq, rows, ours=True)
            self._row += len(rows)
        if labels is not None:
            self._store.append_labels(seq, labels, ours=True)
        self._commits = seq
        return Moment(seq, rows, labels)

    def _folded(self, moment: Moment) -> None:
        take(self._monitor, moment, self._store.reference)
        self._late.take(self._monitor.left)
        self._publish_or_tell()
        self._unkept += moment.items
        if moment.commit % CHECKPOINT_COMMITS == 0 or self._unkept >= CHECKPOINT_ITEMS:
            self._checkpoint()

    def _checkpoint(self) -> None:
        arrays, meta = self._monitor.state()
        whole = {
            "monitor": meta,
            "version": self._monitor.version,
            "commit": self._commits,
            "row": self._row,
            "rearmings": self._rearmed,
            "lost_rows": self._lost_rows,
            "settings": self._settings.model_dump_json(),
        }
        self._blobs.save(CHECKPOINT, arrays, whole)
        self._unkept = 0
        self._retention.hold(arrays, whole, time.time())


def _heeded(monitor: Monitor, order: Rearm | Compare) -> bool:
    """Tell whether the monitor has taken an order already."""
    if isinstance(order, Compare):
        found = monitor.comparison.report()
        return (found.run_id, found.step) == (order.run_id, order.step)
    return monitor.version == order.version and order.run_id == monitor.run_id


def _leave_out(rearmings: Journal, commit: int, error: Exception) -> str:
    """Record that a commit cannot be folded, so that whoever folds the record goes past it."""
    reason = f"{type(error).__name__}: {error}"
    told = f"commit {commit} is stored, but left out of the statistics, which it broke: {reason}"
    logger.exception("%s", told)
    rearmings.append({"type": LEFT_OUT, "commit": commit, "reason": reason}, at=time.time())
    return told


def _answer(
    labels: Sequence[tuple[Labels, asyncio.Future[None]]], error: Exception | None = None
) -> None:
    """Tell those who wait for labels that they are stored, or why they are not."""
    for _, done in labels:
        if done.cancelled():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
