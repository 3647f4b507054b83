"""Labels that came too late for the signals: whether the store has their predictions still.

They are stored as any label, so a retraining reads those of the rows that it reads; the signals,
which are a fold over what is in the window, never see them. What is told of them is counted beside
that fold: nothing that decides depends on it, and a restart may miss the labels of its moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from undrift.errors import StoreError
from undrift.monitor.join import Left
from undrift.store.blobs import Blobs
from undrift.store.record import Record
from undrift.views import SummaryView

BLOB = "late"
LOOK_UP_S = 1.0
MOST = 1_000_000
"""Labels that wait to be looked up; what comes beyond is counted and not looked up."""

logger = logging.getLogger(__name__)
_NEWEST = 10_000  # of which the lag is told
_COUNTS = ("found", "judged", "wrong", "unknown", "skipped")


class LateLabels:
    """Looks up, off the hot path, the predictions of labels that came too late.

    Args:
        record: Predictions.
        blobs: Where the counts outlive a restart.

    Attributes:
        trouble: Why the store could not be asked last time; empty if all is well.
    """

    def __init__(self, record: Record, blobs: Blobs) -> None:
        self._record, self._blobs = record, blobs
        self._waiting: deque[Left] = deque()
        self._asked = 0  # being looked up
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._lag_rows, self._lag_seconds = np.zeros(0, np.int64), np.zeros(0)
        self.trouble = ""
        self._load()

    def __bool__(self) -> bool:
        """Whether labels wait to be looked up."""
        return bool(self._waiting or self._asked)

    async def follow(self, newest_row: Callable[[], int]) -> None:
        """Look up what waits, now and then, for ever."""
        while True:
            await asyncio.sleep(LOOK_UP_S)
            if self:
                await asyncio.to_thread(self.look_up, newest_row())

    def take(self, left: deque[Left]) -> None:
        """Take labels that the join has given up."""
        while left:
            label = left.popleft()
            if len(self._waiting) < MOST:
                self._waiting.append(label)
            else:
                self._counts["skipped"] += 1

    def look_up(self, newest_row: int) -> None:
        """Look up those that wait; if the store refuses, they wait on. Never raises.

        Args:
            newest_row: Newest row, against which the lag is counted.
        """
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        self._asked = len(waiting)
        try:
            self._find(waiting, newest_row)
            self.trouble = ""
        except StoreError as error:
            self._waiting.extendleft(reversed(waiting))
            self.trouble = f"late labels are not looked up: {error}"
        except Exception as error:  # ours; those that come after are looked up all the same
            logger.exception("late labels cannot be looked up")
            self._counts["skipped"] += len(waiting)
            self.trouble = f"late labels cannot be looked up: {type(error).__name__}: {error}"
        self._asked = 0
        try:
            self._save()
        except StoreError as error:
            self.trouble = self.trouble or f"counts of late labels are not kept: {error}"

    def _find(self, waiting: list[Left], newest_row: int) -> None:
        labels = {name: (label, at) for name, label, at in reversed(waiting)}  # the first stands
        ids = tuple(labels)
        value = np.array([label for label, _ in labels.values()])
        came = np.array([at for _, at in labels.values()], np.float64)
        parts = list(self._record.look_up(ids))
        for part in parts:
            if len(part.answered):
                wrong = int(np.sum(part.answered != value[part.asked]))
                self._count(judged=len(part), wrong=wrong)
            seconds = np.maximum(came[part.asked] - part.at, 0.0)
            self._lag_rows = np.append(self._lag_rows, newest_row - part.row)[-_NEWEST:]
            self._lag_seconds = np.append(self._lag_seconds, seconds)[-_NEWEST:]
        found = sum(map(len, parts))
        self._count(found=found, unknown=len(ids) - found)

    def told(self, summary: SummaryView) -> SummaryView:
        """Return a summary that tells of them."""
        return replace(summary, labels=replace(summary.labels, late=self.view()))

    def view(self) -> dict[str, Any] | None:
        """Return what became of them, None if there were none.

        ``found`` have their prediction in the store, ``unknown`` have none, ``waiting`` are still
        to be looked up, ``skipped`` never will be. ``lag`` is of those found, ``accuracy`` of those
        whose answer was a class.
        """
        counts, waiting = self._counts, len(self._waiting) + self._asked
        if not waiting and not any(counts.values()):
            return None
        judged = counts["judged"]
        return {
            "found": counts["found"],
            "unknown": counts["unknown"],
            "waiting": waiting,
            "skipped": counts["skipped"],
            "accuracy": 1.0 - counts["wrong"] / judged if judged else None,
            "lag_rows": _median(self._lag_rows),
            "lag_seconds": _median(self._lag_seconds),
        }

    def _count(self, **more: int) -> None:
        for name, count in more.items():
            self._counts[name] += count

    def _save(self) -> None:
        arrays = {"lag_rows": self._lag_rows, "lag_seconds": self._lag_seconds}
        self._blobs.save(BLOB, arrays, self._counts)

    def _load(self) -> None:
        try:
            saved = self._blobs.load(BLOB)
        except StoreError as error:
            self.trouble = str(error)
            return
        if saved is not None:
            arrays, counts = saved
            self._count(**{name: int(counts.get(name, 0)) for name in _COUNTS})
            self._lag_rows, self._lag_seconds = arrays["lag_rows"], arrays["lag_seconds"]


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None
