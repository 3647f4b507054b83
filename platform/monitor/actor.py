"""The monitor as a Ray actor: commits rows to the store, then folds them into the signals.

Rows and labels are committed in numbered ticks. A label is acknowledged when its tick is durable.
The signals are a fold over the ticks, so after a kill the actor loads its last checkpoint, folds
the ticks committed since, and decides as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from undrift.events import Codec, Rearm
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.records import Labels, Predictions
from undrift.store import Store

CHECKPOINT = "monitor"
CHECKPOINT_TICKS = 100


class MonitorActor:
    """Shell round `Monitor`: durability, batching and a mailbox.

    Args:
        state: State directory.
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
        self._live_version = live_version
        self._class_names = class_names
        self._lost_rows = 0
        self._monitor, self._tick, self._row = self._restore()
        self._predictions: list[Predictions] = []
        self._labels: list[tuple[Labels, asyncio.Future[None]]] = []
        self._waiting_rows = 0
        self._full = asyncio.Event()
        self._door = asyncio.Lock()
        self._failure = ""
        self._loop = asyncio.get_running_loop().create_task(self._commit_forever())

    def _restore(self) -> tuple[Monitor, int, int]:
        saved = self._store.load_blob(CHECKPOINT)
        version = int(saved[1]["version"]) if saved else self._live_version
        reference = self._store.reference(version)
        monitor = Monitor(self._settings, reference, version, class_names=self._class_names)
        folded, row = 0, 0
        if saved:
            arrays, meta = saved
            monitor.load(arrays, meta["monitor"])
            folded, row = int(meta["tick"]), int(meta["row"])
        for seq, predictions, labels in self._store.ticks(folded):
            monitor.fold(predictions, labels)
            folded = seq
            if predictions is not None:
                row = int(predictions.row[-1]) + 1
        return monitor, folded, row

    def ingest(self, rows: Predictions) -> None:
        """Take rows from a replica's tap; they are durable after the next tick."""
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
            await asyncio.to_thread(self._rearm, order)

    def _rearm(self, order: Rearm) -> None:
        self._monitor.rearm(
            order.version,
            self._store.reference(order.version),
            regime_start=order.regime_start,
            against=order.against is not None,
            run_id=order.run_id,
        )
        self._checkpoint()

    def report(self) -> dict[str, Any]:
        """Return evidence, probation and summary as plain data."""
        return {
            "evidence": Codec.encode(self._monitor.evidence()),
            "run_id": self._monitor.run_id,
            "probation": asdict(self._monitor.probation),
            "summary": self._monitor.summary(),
            "tick": self._tick,
            "lost_rows": self._lost_rows,
            "failure": self._failure,
        }

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
            await asyncio.to_thread(self._one_tick, predictions, [part for part, _ in labels])
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
                self._monitor, self._tick, self._row = await asyncio.to_thread(self._restore)
                return
            except Exception as error:
                self._failure = f"{type(error).__name__}: {error}"
                await asyncio.sleep(1.0)

    def _one_tick(self, parts: list[Predictions], label_parts: list[Labels]) -> None:
        rows = Predictions.concat(parts).numbered(self._row) if parts else None
        labels = Labels.concat(label_parts) if label_parts else None
        seq = self._tick + 1
        if rows is not None:
            self._store.append_predictions(seq, rows)
            self._row += len(rows)
        if labels is not None:
            self._store.append_labels(seq, labels)
        self._tick = seq
        self._monitor.fold(rows, labels)
        if seq % CHECKPOINT_TICKS == 0:
            self._checkpoint()

    def _checkpoint(self) -> None:
        arrays, meta = self._monitor.state()
        self._store.save_blob(
            CHECKPOINT,
            arrays,
            {
                "monitor": meta,
                "version": self._monitor.version,
                "tick": self._tick,
                "row": self._row,
            },
        )
