"""The performance signal of a regression: squared errors of late labels."""

from __future__ import annotations

import numpy as np

from undrift.monitor.base import Calibration, Measures
from undrift.monitor.calibration import recent_rows
from undrift.monitor.join import Joined
from undrift.monitor.signals.loss import LossSignal
from undrift.monitor.statistics.bets import row_uniform
from undrift.monitor.statistics.squared_errors import wrong_of
from undrift.records import FloatArray, Predictions, Reference


class SquaredErrorSignal(LossSignal):
    """Tests whether the answers are further from the truth than they were on the reference.

    The squared error of a row, in units of the variance of its target, is ranked among those of the
    reference and of all labels before it, and the detector bets that ranks rise, as `LossSignal`
    does with losses. So no error, however large, tells more than its rank, and heavy tails are no
    false alarms. Several outputs are judged by their mean error.

    Args:
        settings: Budget of false alarms; seed.
    """

    def fit(self, reference: Reference) -> Calibration:
        """Take the errors on the recent reference rows as those that are fine."""
        recent = recent_rows(reference, self._settings)
        self._start(1)
        errors = wrong_of(recent).astype(np.float64)
        self._time.fit(errors, recent.rows)
        self._ranks.fit(errors, row_uniform(recent.rows, self._settings.seed + 2))
        notes: tuple[str, ...] = () if np.ptp(errors) else (_ALIKE,)
        if errors.mean() >= 1.0:
            notes += (_KNOWS_NOTHING.format(1.0 - errors.mean()),)
        return Calibration(len(recent), self._time.value, notes)

    def note(self, rows: Predictions) -> FloatArray:
        """Return (n, 0): the join tells how large the error of a row is."""
        return np.zeros((len(rows), 0), dtype=np.float32)

    def measure(self, batch: Joined) -> Measures:
        """Return (n, 1) errors."""
        return Measures(batch.row, batch.wrong.astype(np.float64)[:, None])


_ALIKE = "the error is the same on every reference row, so any larger one looks like a change"
_KNOWS_NOTHING = (
    "R2 is {:.2f} on the reference: the model is no better than the mean of the targets there"
)
