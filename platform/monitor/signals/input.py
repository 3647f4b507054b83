"""The input signal: do the inputs still come from where the reference came from?"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from undrift.errors import ConfigError
from undrift.evidence import Level, SignalReport
from undrift.monitor.base import Calibration, Measures, Signal
from undrift.monitor.calibration import limits, recent_rows
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.statistics.detector import EDetector
from undrift.monitor.statistics.feature_changes import FeatureChanges
from undrift.monitor.statistics.input_bets import InputBets, pieces
from undrift.monitor.statistics.kernel_bets import KernelBets
from undrift.monitor.statistics.marginal_bets import MarginalBets
from undrift.records import FloatArray, Predictions, Reference


class InputSignal(Signal[Predictions]):
    """Bets against "the inputs are like the reference"; needs no labels.

    What is bet on is the setting ``input_statistic``: :class:`KernelBets` or
    :class:`MarginalBets`. Raw input is watched where it has at most 256 numbers, none of them
    ids, else the embedding. Once the level is drift, rows no longer count among those that later
    ones are compared with; else a change that lasts would become the new normal.

    Args:
        settings: Budget of false alarms; statistic; names of the columns; seed.
    """

    NAME: ClassVar[str] = "input"
    RAW_LIMIT: ClassVar[int] = 256
    SAVED = ("_raw", "_shape", "_learning")
    PARTS = ("_bets", "_changes", "_detector")

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._raw = True
        self._shape = np.ones(1, dtype=np.int64)
        kinds: dict[str, type[KernelBets | MarginalBets]] = {
            "mmd": KernelBets,
            "marginal": MarginalBets,
        }
        self._bets: InputBets = kinds[settings.input_statistic](settings.seed)
        self._changes = FeatureChanges()
        self._learning = True
        self._detector = self._new_detector()

    def fit(self, reference: Reference) -> Calibration:
        """Calibrate on the recent rows of ``reference`` and forget everything seen before.

        Raises:
            ConfigError: The reference is too short or not finite, or does not have the columns
                that ``monitor.features`` names.
        """
        recent = recent_rows(reference, self._settings)
        narrow = int(np.prod(recent.x.shape[1:])) <= self.RAW_LIMIT
        self._raw = narrow and not self._settings.by_embedding
        self._shape = np.array(self._source(recent).shape[1:], dtype=np.int64)
        names = self._names()
        data = self._columns(recent)
        time = self._bets.fit(data, recent.rows)
        self._changes.fit(data, np.full(data.shape[1], time))
        self._learning = True
        self._detector = self._new_detector()
        constant = [name for name, column in zip(names, data.T, strict=True) if not np.ptp(column)]
        return Calibration(len(recent), time, _notes(len(recent), time, constant, self._settings))

    def measure(self, batch: Predictions) -> Measures:
        """Return the (n, d) numbers that are watched, and what the test describes them by."""
        data = self._columns(batch)
        return Measures(batch.row, np.hstack([data, self._bets.describe(data)], dtype=np.float64))

    def advance(self, measures: Measures) -> None:
        """Take in the inputs of the watched version."""
        width = int(np.prod(self._shape))
        self._changes.add(measures.values[:, :width], measures.row)
        for part in pieces(self._bets.count, len(measures), InputBets.PIECE):
            if self._bets.count % InputBets.PIECE == 0:
                self._learning = self._detector.report(self.NAME).level < Level.DRIFT
            rows = measures.row[part]
            bets = self._bets.take(measures.values[part, width:], rows, learning=self._learning)
            self._detector.update(bets, rows)

    def report(self) -> SignalReport:
        """Return level, statistic and change point, and the columns that moved most."""
        report = self._detector.report(self.NAME)
        if report.change_row is None:
            return report
        what, names = self._what()[0], self._names()
        return replace(report, changes=self._changes.report(report.change_row, what, names))

    def _new_detector(self) -> EDetector:
        bets = self._bets.bet(np.full((1, self._bets.ranked), 0.5)).shape[1]
        return EDetector(np.ones(bets), *limits(self._settings))

    def _source(self, rows: Predictions | Reference) -> FloatArray:
        """Return what is watched of rows."""
        return rows.x if self._raw else rows.embedding

    def _what(self) -> tuple[str, str]:
        """Return what a watched column is called, and the letter of its name."""
        return ("feature", "x") if self._raw else ("embedding", "embedding")

    def _columns(self, rows: Predictions | Reference) -> FloatArray:
        source = self._source(rows)
        width = int(np.prod(source.shape[1:]))
        return source.reshape(len(source), width).astype(np.float32, copy=False)

    def _names(self) -> tuple[str, ...]:
        """Return the name of each watched column."""
        given = self._settings.features
        if self._raw and given:
            if len(given) != np.prod(self._shape):
                raise ConfigError(
                    f"monitor.features names {len(given)} columns, but the model's input has "
                    f"{np.prod(self._shape)}; name all of them in order, or none"
                )
            return given
        letter = self._what()[1]
        places = np.ndindex(*self._shape.tolist())
        return tuple(f"{letter}[{','.join(map(str, place))}]" for place in places)


def _notes(n: int, time: float, constant: list[str], settings: MonitorSettings) -> tuple[str, ...]:
    notes = []
    if constant:
        more = f" and {len(constant) - 5} more" if constant[5:] else ""
        listed = ", ".join(constant[:5]) + more
        notes.append(f"constant on the reference, so any other value counts as new: {listed}")
    worth = n / time
    smallest = float(np.sqrt(2.0 * np.log(limits(settings)[0]) / worth))
    if smallest > WEAK:
        notes.append(
            f"{n} reference rows, worth {worth:.0f} independent ones, show that inputs moved "
            f"when a feature has shifted by some {smallest:.1f} standard deviations, not by less"
        )
    return tuple(notes)


WEAK = 0.3
"""Smallest shift of a feature, in standard deviations, that a good reference can show."""
