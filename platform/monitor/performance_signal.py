"""The performance signal: errors of late labels against the stored predictions."""

from __future__ import annotations

import numpy as np

from undrift.events import SignalReport
from undrift.monitor.base import Calibration, Measures, Signal
from undrift.monitor.bets import error_alternatives, likelihood_ratio, upper_rate
from undrift.monitor.calibration import limits, recent_rows
from undrift.monitor.detector import EDetector
from undrift.monitor.join import Joined
from undrift.monitor.settings import MonitorSettings
from undrift.records import Reference


class PerformanceSignal(Signal[Joined]):
    """Tests whether the model errs more often than it did on its reference.

    The e-value of one label is the likelihood ratio of its error under a higher error rate,
    mixed over six rates, to that under the upper confidence limit of the reference's rate. Its
    row numbers are those of the predictions, so a change point is where the world changed, not
    where the news of it arrived.

    Args:
        settings: Budget of false alarms.
    """

    SAVED = ("_rate", "_alternatives")
    PARTS = ("_detector",)

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._rate = 0.5
        self._alternatives = error_alternatives(self._rate)
        self._detector = EDetector(np.ones(len(self._alternatives)), *limits(settings))

    def fit(self, reference: Reference) -> Calibration:
        """Take the error rate of the recent reference rows as the one that is fine."""
        recent = recent_rows(reference, self._settings)
        wrong = int(np.sum(recent.output.argmax(axis=1) != recent.y))
        self._rate = min(upper_rate(wrong, len(recent)), 0.999)
        self._alternatives = error_alternatives(self._rate)
        self._detector = EDetector(np.ones(len(self._alternatives)), *limits(self._settings))
        return Calibration(len(recent))

    def measure(self, batch: Joined) -> Measures:
        """Return (n, 1) ones where the prediction was wrong."""
        return Measures(batch.row, batch.wrong[:, None].astype(np.float64))

    def advance(self, measures: Measures) -> None:
        """Take in labels that met their predictions."""
        wrong = measures.values[:, 0] > 0
        values = likelihood_ratio(wrong, self._rate, self._alternatives)
        self._detector.update(values, measures.row)

    def report(self) -> SignalReport:
        """Return the present level, statistic and change point."""
        return self._detector.report("performance")
