"""The performance signal: errors of late labels against the stored predictions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from undrift.evidence import SignalReport
from undrift.monitor.base import Calibration, Measures
from undrift.monitor.calibration import limits, recent_rows
from undrift.monitor.join import Joined, LabelSignal
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.statistics.error_rate import ErrorTest
from undrift.monitor.statistics.season import Season
from undrift.records import FloatArray, Predictions, Reference


class PerformanceSignal(LabelSignal):
    """Tests whether the model errs more often than it did on its reference and since.

    Its row numbers are those of the predictions, so a change point is where the world changed,
    not where the news of it arrived.

    Where there is a season, a waiting row takes 4 bytes for its phase.

    Args:
        settings: Budget of false alarms; season.
    """

    FEW: ClassVar[int] = 100  # reference rows that hardly show autocorrelation
    COARSE: ClassVar[float] = 0.1  # rise of the error rate that should be seen soon
    PARTS = ("_test",)

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._season = Season(settings.season)
        self._test = ErrorTest(*limits(settings), seasonal=self._season.phases > 0)

    def fit(self, reference: Reference) -> Calibration:
        """Take the error rate of the recent reference rows as the one that is fine."""
        recent = recent_rows(reference, self._settings)
        self._test.fit(recent.output.argmax(axis=1) != recent.y, recent.y, recent.rows)
        time = self._test.correlation_time
        return Calibration(len(recent), time, self._notes(len(recent), time))

    def note(self, rows: Predictions) -> FloatArray:
        """Return (n, 1) phases of the season, or (n, 0)."""
        return self._season.note(rows)

    def measure(self, batch: Joined) -> Measures:
        """Return (n, 3): ones where the prediction was wrong, labels, and phases or zeros."""
        phase = batch.notes[:, 0] if self._season.phases else np.zeros(len(batch))
        values = np.column_stack([batch.wrong, batch.label, phase])
        return Measures(batch.row, values.astype(np.float64))

    def advance(self, measures: Measures) -> None:
        """Take in labels that met their predictions."""
        wrong, labels, phase = measures.values.astype(np.int64).T
        self._test.update(wrong > 0, labels, measures.row, phase)

    def report(self) -> SignalReport:
        """Return the present level, statistic and change point."""
        return self._test.report("performance")

    def _notes(self, n: int, time: float) -> tuple[str, ...]:
        notes = []
        rate, rise = self._test.rate, self._test.rise_seen_within(n)
        if n < self.FEW * time:
            notes.append(
                f"the reference of {n} rows is worth {n / time:.0f} independent ones, too few to "
                "tell how alike neighbouring rows are; until the stream has told, false alarms "
                "may come sooner than the budget allows"
            )
        if rate + self.COARSE >= 1.0:
            notes.append(
                f"the model is wrong on {rate:.0%} of the reference rows, so a rise of errors can "
                "hardly be seen"
            )
        elif rise > self.COARSE:
            notes.append(
                f"the model is wrong on {rate:.1%} of {n} reference rows; as many labels show a "
                f"lasting rise to {rate + rise:.0%}, a smaller one takes more"
            )
        return tuple(notes)
