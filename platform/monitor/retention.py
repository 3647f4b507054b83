"""Which recorded rows are kept, and the states of a monitor that stand for those that are gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undrift.errors import StoreError
from undrift.monitor.history import rearms
from undrift.monitor.monitor import FORMAT, Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.store.blobs import Blobs
from undrift.store.journal import Journal
from undrift.store.record import Record
from undrift.store.settings import RetentionSettings
from undrift.store.starts import Start, kept
from undrift.store.store import Store

_DAY = 86_400.0
_STEPS = 4  # starts within each limit


def due(last: Start, now: Start, limits: RetentionSettings, size: int) -> bool:
    """Tell whether another start is wanted.

    Args:
        last: The newest one.
        now: The present.
        limits: What may be kept.
        size: Bytes recorded since.
    """
    return (
        (limits.rows is not None and _STEPS * (now.row - last.row) >= limits.rows)
        or (limits.days is not None and _STEPS * (now.at - last.at) >= limits.days * _DAY)
        or (limits.max_bytes is not None and _STEPS * size >= limits.max_bytes)
    )


def dropped(
    starts: Sequence[Start],
    now: Start,
    first_needed: int,
    limits: RetentionSettings,
    size: Callable[[Start], int],
) -> Start | None:
    """Return the start before which everything goes, None if all is within the limits.

    Args:
        starts: Those that there are, oldest first.
        now: The present.
        first_needed: First row that has to stay.
        limits: What may be kept.
        size: Returns the bytes recorded since a start.
    """
    for start in reversed(starts):
        if start.row <= first_needed and (
            (limits.rows is not None and now.row - start.row >= limits.rows)
            or (limits.days is not None and now.at - start.at >= limits.days * _DAY)
            or (limits.max_bytes is not None and size(start) >= limits.max_bytes)
        ):
            return start
    return None


class Retention:
    """Keeps the record of one model within its limits; for its writer only.

    Args:
        record: Predictions and labels.
        blobs: Where states are kept.
        limits: What may be kept.
        window: Rows after which a label joins no more.
        pool: Rows that a retraining reads, counted from the newest labelled one.
        rearmings: Re-armings of the monitor, which go with the rows; None if there are none.

    Attributes:
        trouble: Why the limits could not be held last time; empty if all is well.
    """

    def __init__(
        self,
        record: Record,
        blobs: Blobs,
        limits: RetentionSettings,
        window: int,
        pool: int,
        rearmings: Journal | None = None,
    ) -> None:
        self._record, self._blobs, self._limits = record, blobs, limits
        self._window, self._pool, self._rearmings = window, pool, rearmings
        self.trouble = ""

    def hold(self, arrays: Mapping[str, NDArray[Any]], meta: dict[str, Any], at: float) -> None:
        """Keep a state as a start if one is due, and drop what is beyond the limits.

        Args:
            arrays: State of the monitor, just after a commit.
            meta: What belongs to it, as `begin` reads it.
            at: The time, Unix seconds.
        """
        now = Start(meta["commit"], meta["row"], int(at))
        labelled = int(meta["monitor"]["labelled_row"])
        first_needed = needed_from(now.row, labelled, self._window, self._pool)
        try:
            starts = kept(self._blobs)
            last = starts[-1] if starts else Start(0, 0, self._record.begun() or now.at)
            if due(last, now, self._limits, self._record.size(last.commit)):
                self._blobs.save(now.name, arrays, meta)
                starts.append(now)
            self._drop(starts, now, first_needed)
        except StoreError as error:
            self.trouble = f"old rows are not dropped: {error}"

    def _drop(self, starts: list[Start], now: Start, first_needed: int) -> None:
        limits, record = self._limits, self._record
        first = dropped(starts, now, first_needed, limits, lambda s: record.size(s.commit))
        if first is not None:
            older = starts[: starts.index(first)]
            if older and self._rearmings is not None:
                self._forget_rearmings(self._rearmings, first)
            for start in older:
                self._blobs.remove(start.name)
            record.drop_before(first.commit + 1)
        whole = record.size()
        self.trouble = ""
        if limits.max_bytes is not None and whole > 2 * limits.max_bytes:
            self.trouble = (
                f"the record takes {whole / 2**30:.1f} GiB, more than twice retention.max_bytes: "
                "the rows that a retraining reads need as much (train.max_pool_rows), or labels "
                "come later than it allows for"
            )

    def _forget_rearmings(self, rearmings: Journal, start: Start) -> None:
        """Drop those that a start includes, but for the last: which version was watched by then."""
        found = self._blobs.load(start.name)
        included = found[1]["rearmings"] if found is not None else 0
        known = [n for n, record in rearmings.events(until=included - 1) if rearms(record)]
        if known:
            rearmings.drop_before(known[-1])


@dataclass(frozen=True, slots=True)
class Begun:
    """A monitor at the beginning of what it folds.

    Attributes:
        monitor: The monitor.
        commit: Last commit that it includes.
        row: Row after the newest one that it includes.
        rearmings: Records of re-armings that it includes.
        lost_rows: Rows that had been lost by then.
    """

    monitor: Monitor
    commit: int = 0
    row: int = 0
    rearmings: int = 0
    lost_rows: int = 0


def begin(
    store: Store,
    blobs: Blobs,
    settings: MonitorSettings,
    class_names: tuple[str, ...] = (),
    *,
    checkpoint: str = "",
    version: int = 1,
) -> Begun:
    """Return a monitor at the checkpoint, else where the record begins.

    Args:
        store: The record, and the references of versions.
        blobs: Where states are kept.
        settings: The drift policy.
        class_names: Names of the classes in order, for reports.
        checkpoint: Name of the checkpoint; one of another release is passed over.
        version: Version that is watched where a whole record begins.

    Raises:
        StoreError: The record has lost its first rows, and no state stands for them.
        ConfigError: A reference cannot calibrate the signals under these settings.
    """
    saved = blobs.load(checkpoint) if checkpoint else None
    if saved is None or saved[1]["monitor"]["format"] != FORMAT:
        saved = first(store, blobs)
    if saved is None:
        monitor = Monitor(settings, store.reference(version), version, class_names=class_names)
        return Begun(monitor)
    arrays, meta = saved
    version = int(meta["version"])
    monitor = Monitor(settings, store.reference(version), version, class_names=class_names)
    same = meta.get("settings") == settings.model_dump_json()
    if meta["monitor"]["format"] == FORMAT and (checkpoint or same):
        monitor.load(arrays, meta["monitor"])
    counts = (int(meta.get(name, 0)) for name in ("commit", "row", "rearmings", "lost_rows"))
    return Begun(monitor, *counts)


def first(record: Record, blobs: Blobs) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """Return the state that stands for the rows that were dropped; None if none were.

    Raises:
        StoreError: It is missing.
    """
    row = record.first_row()
    if not row:
        return None
    starts = kept(blobs)
    saved = blobs.load(starts[0].name) if starts else None
    if saved is None:
        raise StoreError(
            f"the record begins with row {row:,}, and the state of the monitor before it is "
            "missing; restore blobs/start-*.npz from a backup"
        )
    return saved


def needed_from(newest: int, labelled: int, window: int, pool: int) -> int:
    """Return the first row that a retraining may read.

    Args:
        newest: Newest row.
        labelled: Newest row that has a label.
        window: Rows after which a label joins no more.
        pool: Rows that a retraining reads, counted from the newest labelled one.

    Example:
        >>> needed_from(100_000, 90_000, window=50_000, pool=20_000)
        70000
        >>> needed_from(100_000, 0, window=50_000, pool=20_000)  # labels are missing for long
        30000
    """
    return int(np.clip(max(labelled, newest - window) - pool, 0, None))
