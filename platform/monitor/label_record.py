"""What late labels have said so far: outcomes, lag, and errors of the newest labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful
from undrift.monitor.join import Joined, LabelCounts, LabelJoin
from undrift.monitor.statistics.dependence import correlation_time
from undrift.monitor.statistics.sampling import unlike
from undrift.monitor.statistics.squared_errors import wrong_of
from undrift.records import Reference
from undrift.views import LabelsView

_OUTCOMES = tuple(f.name for f in fields(LabelCounts))
_FIRST = (250, 1000)  # labels after which the reference is compared with the traffic
_SURE = 2.8  # standard errors; of two looks, one of 200 is false
_COMPARED = 4_000  # newest rows of which those with a label are compared with the others
_FEW = 30  # labels below which the baseline of a probation is the reference's error instead


class LabelRecord(Stateful):
    """Remembers the newest labels of the watched version, and of the version before it.

    Args:
        size: Labels to remember of each.
    """

    SAVED = (
        "newest_row", "_reference_error", "_reference_rows", "_previous_error", "_first", "_wrong",
        "_previous_wrong", "_lag_rows", "_lag_seconds", "_counts",
    )  # fmt: skip

    def __init__(self, size: int) -> None:
        self._size = size
        self.newest_row = -1
        self._reference_error = self._previous_error = 0.0
        self._reference_rows = 0
        self._first: NDArray[Any] = np.zeros(0, dtype=np.bool_)
        self._wrong = self._previous_wrong = self._first
        self._lag_rows = np.zeros(0, dtype=np.int64)
        self._lag_seconds = np.zeros(0)
        self._counts = np.zeros(len(_OUTCOMES), dtype=np.int64)

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a saved state; outcomes that it did not know yet are 0."""
        super().load(state)
        self._counts = np.pad(self._counts, (0, len(_OUTCOMES) - len(self._counts)))

    def begin(self, row: int) -> None:
        """The stream begins with ``row``: labels are missing from there on, not from row 0."""
        self.newest_row = row - 1

    def watch(self, reference: Reference, scale: float = 1.0) -> None:
        """Begin to record a new version; what was recorded becomes the version before it.

        Args:
            reference: Its reference.
            scale: Units of the errors to come in one of those so far.
        """
        wrong = wrong_of(reference)[reference.recent]
        self._previous_error, self._reference_error = self._reference_error, float(wrong.mean())
        self._previous_wrong, self._wrong = self._wrong, np.zeros(0, dtype=np.bool_)
        self._first, self._reference_rows = self._wrong, len(wrong)
        self._reference_variance = float(wrong.var())
        self._measure = "accuracy" if wrong.dtype == np.bool_ else "R2"
        if scale != 1.0:
            self._previous_error *= scale
            self._previous_wrong = self._previous_wrong * scale

    def count(self, counts: LabelCounts) -> None:
        """Add what became of some labels."""
        self._counts = self._counts + [getattr(counts, name) for name in _OUTCOMES]

    def take(self, joined: Joined, live: NDArray[np.bool_], before: NDArray[np.bool_]) -> None:
        """Record labels that met their predictions.

        Args:
            joined: n labels.
            live: (n,) those of the watched version, since it is watched.
            before: (n,) those of the version before it.
        """
        self.newest_row = max(self.newest_row, int(joined.row.max()))
        self._lag_rows = self._push(self._lag_rows, joined.lag_rows)
        self._lag_seconds = self._push(self._lag_seconds, joined.lag_seconds)
        self._previous_wrong = self._push(self._previous_wrong, joined.wrong[before])
        self._wrong = self._push(self._wrong, joined.wrong[live])
        self._first = np.concatenate([self._first, joined.wrong[live]])[: max(_FIRST)]

    def doubts(
        self, join: LabelJoin, newest_row: int, version: int, names: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Return why labels may say less than they seem to, a sentence each.

        Args:
            join: Rows with and without their labels.
            newest_row: Newest row.
            version: The watched version.
            names: Names of the classes.
        """
        return tuple(
            doubt
            for doubt in (self.handover(), self.selection(join, newest_row, version, names))
            if doubt
        )

    def selection(
        self, join: LabelJoin, newest_row: int, version: int, names: tuple[str, ...]
    ) -> str:
        """Return a sentence if labels are no fair sample of the rows; empty if they seem to be.

        Rows are old enough to be compared after twice the 99 % quantile of the lag so far.
        """
        if not len(self._lag_rows):
            return ""
        due = newest_row - 2 * int(np.quantile(self._lag_rows, 0.99))
        how = unlike(*join.due(due, version, _COMPARED), names)
        return how and (
            f"the rows that have labels are no fair sample: {how}; accuracy, drift and retraining "
            "are those of the labelled rows"
        )

    def handover(self) -> str:
        """Return a sentence if the reference is not like the traffic; empty if it is, or too early.

        The first 250 and 1,000 labels of the watched version are compared with its reference. What
        differs from the first row on is no drift, though the signals cannot but call it one.
        """
        before = self._reference_error
        for size in (n for n in _FIRST if n <= len(self._first)):
            first = self._first[:size]
            now, time = float(first.mean()), correlation_time(first, np.arange(size))
            spread = self._reference_variance / self._reference_rows + float(first.var()) / size
            if now - before > _SURE * np.sqrt(time * spread):
                shown = f"{now:.1%} errors, the reference {before:.1%}"
                if first.dtype != np.bool_:
                    shown = f"an R2 of {1.0 - now:.3f}, the reference {1.0 - before:.3f}"
                return (
                    f"the first {size:,} labels show {shown}: "
                    "it is easier than this traffic, so what looks like drift may be the "
                    "reference; make it of labelled rows of this traffic"
                )
        return ""

    def baseline(self) -> float:
        """Return the error of the version before: on its newest labels, or on its reference."""
        if len(self._previous_wrong) < _FEW:
            return self._previous_error
        return float(self._previous_wrong.mean())

    def missing(self, newest_row: int, *, lag: int) -> bool:
        """Return whether the newest labelled row is more than ``lag`` rows before the newest."""
        return newest_row - self.newest_row > lag

    def view(self, join: LabelJoin, newest_row: int, *, lag: int) -> LabelsView:
        """Return what became of labels and how late they are; ``lag`` rows are allowed."""
        return LabelsView(
            outcomes=self.outcomes(),
            waiting=join.waiting,
            missing=self.missing(newest_row, lag=lag),
            coverage=join.coverage(newest_row + 1),
            coverage_beyond_lag=join.coverage(newest_row - lag + 1),
            lag=self.lags(),
        )

    def outcomes(self) -> dict[str, int]:
        """Return how many labels had each outcome."""
        return dict(zip(_OUTCOMES, self._counts.tolist(), strict=True))

    def lags(self) -> dict[str, dict[str, float] | None]:
        """Return quantiles of the lag of the newest labels, in rows and in seconds."""
        return {"rows": _quantiles(self._lag_rows), "seconds": _quantiles(self._lag_seconds)}

    def accuracy(self) -> dict[str, Any]:
        """Return the accuracy on the newest labels, how many they are, and on the reference.

        Of a regression it is R2, one less the mean error in units of the targets' variance.
        """
        return {
            "window_labels": len(self._wrong),
            "window": float(1 - self._wrong.mean()) if len(self._wrong) else None,
            "reference": 1 - self._reference_error,
            "measure": self._measure,
        }

    def _push(self, window: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([window, values])[-self._size :]


def _quantiles(values: NDArray[Any]) -> dict[str, float] | None:
    """Return median, 90 % and 99 % quantiles of the newest labels, or None if there are none."""
    if not len(values):
        return None
    return dict(
        zip(("p50", "p90", "p99"), np.quantile(values, [0.5, 0.9, 0.99]).tolist(), strict=True)
    )
