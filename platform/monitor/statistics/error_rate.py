"""A sequential test of "errors are no more frequent than before", from a short reference on."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import Level, SignalReport
from undrift.monitor.base import Stateful
from undrift.monitor.statistics.bets import error_alternatives, likelihood_ratio
from undrift.monitor.statistics.dependence import CorrelationTime, temper
from undrift.monitor.statistics.detector import EDetector, aligned
from undrift.monitor.statistics.quarantine import Quarantine
from undrift.records import IntArray


class ErrorTest(Stateful):
    """Bets that errors have become more frequent than on the reference and the stream so far.

    The e-value of one label is the likelihood ratio of its error under a higher error rate, mixed
    over six rates, to that under the rate so far: (errors + 1/2) / (rows + 1) over the reference
    and the rows that have left quarantine. As that rate learns, the test keeps its limit with a
    reference of any length, without a margin. Rows that are alike their neighbours are tempered by
    their correlation time, which is learnt in the same way.

    Without new information the statistic grows by one a row, and would alarm in the end; so the
    rates that are bet on are never close to the rate so far.

    Mean time to the first false alarm in multiples of the limit, over references and streams, at
    limits of 1,000 to 100,000: 1.2 to 1.5 on independent errors (10 and 40 %; references of 200
    and 1,000 rows); 0.8 to 2.3 on those of a Gaussian AR(1) of 0.5 above a threshold; on a real
    model's errors on Electricity, days drawn at random and shuffled within (correlation time 9),
    1.5 to 2.6 with 1,000 reference rows and 0.7 to 1.4 with 200. It is the lower the higher the
    rate: 0.8 to 1 at 80 % errors. A single unlucky reference of 200 rows may alarm sooner: on the
    same one over and over it is 0.6, with 1,000 rows 1.1.

    Args:
        warning_at: Mean number of rows between false warnings.
        drift_at: Mean number of rows between false drifts.

    Example:
        >>> test = ErrorTest(warning_at=1_000, drift_at=10_000)
        >>> test.fit(np.arange(200) % 10 == 0, np.arange(200))
        >>> test.update(np.ones(8, dtype=np.bool_), np.arange(200, 208))
        >>> test.report("performance").level.name
        'DRIFT'

    Reference:
        Shin, Ramdas, Rinaldo. "E-detectors", 2022, arXiv 2203.03532; Vovk et al. "Retrain or not
        retrain: conformal test martingales for change-point detection", COPA 2021.
    """

    LOW: ClassVar[float] = 0.005  # a rise is measured from here where errors are rarer still
    HIGH: ClassVar[float] = 0.99  # where nearly all is wrong, nothing is left to bet on
    SAVED = ("_rows", "_errors")
    PARTS = ("_quarantine", "_time", "_detector")

    def __init__(self, warning_at: float, drift_at: float) -> None:
        self._limits = warning_at, drift_at
        self.fit(np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.int64))

    @property
    def rate(self) -> float:
        """Error rate that is usual, between 0 and 1 and neither."""
        return float((self._errors + 0.5) / (self._rows + 1.0))

    @property
    def correlation_time(self) -> float:
        """Rows that carry the information of one independent row."""
        return self._time.value

    @property
    def level(self) -> Level:
        """Level after the last row."""
        return self._detector.level

    def fit(self, wrong: NDArray[np.bool_], rows: IntArray) -> None:
        """Start from a reference and forget the stream.

        Args:
            wrong: (n,) True where the prediction was wrong; n may be 0.
            rows: (n,) row numbers, ascending.
        """
        self._rows, self._errors = len(wrong), int(wrong.sum())
        self._quarantine = Quarantine()
        self._time = CorrelationTime()
        self._time.fit(wrong, rows)
        self._detector = EDetector(np.ones(len(error_alternatives(0.5))), *self._limits)

    def update(self, wrong: NDArray[np.bool_], rows: IntArray) -> None:
        """Take in labels that met their predictions, in order of arrival.

        Args:
            wrong: (n,) True where the prediction was wrong.
            rows: (n,) row number of each.
        """
        for part in aligned(self._detector.count, len(rows)):
            rate = self.rate
            values = likelihood_ratio(wrong[part], rate, error_alternatives(max(rate, self.LOW)))
            if rate > self.HIGH:
                values = np.zeros_like(values)
            self._detector.update(temper(values, self._time.value), rows[part])
            trusted = self._detector.level < Level.DRIFT
            usual = self._quarantine.push(wrong[part], trusted=trusted)
            self._rows += len(usual)
            self._errors += int(usual.sum())
            if len(usual):
                self._time.add(usual)

    def report(self, name: str) -> SignalReport:
        """Return level, statistic and change point as the report of signal ``name``."""
        return self._detector.report(name)

    def rise_seen_within(self, labels: int) -> float:
        """Return the smallest lasting rise of the error rate that ``labels`` labels show.

        Args:
            labels: Labels after the change.

        Returns:
            Rise, as a fraction, whose mean log-likelihood ratio reaches that of the drift limit.
        """
        rate = self.rate
        higher = np.linspace(rate, 1.0, 1_000, endpoint=False)[1:]
        gain = higher * np.log(higher / rate) + (1 - higher) * np.log((1 - higher) / (1 - rate))
        enough = gain * labels / self.correlation_time >= np.log(self._limits[1])
        return float(higher[np.argmax(enough)] - rate) if enough.any() else 1.0 - rate
