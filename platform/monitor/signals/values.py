"""The output signal of a regression: the distribution of what is predicted; needs no labels."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from undrift.monitor.base import Calibration
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.input import InputSignal
from undrift.records import FloatArray, Predictions, Reference


class ValueSignal(InputSignal):
    """Tests whether predicted numbers are distributed as on the reference, each output by itself.

    It stands where a classifier has the mix and the uncertainty of its classes. A number says
    nothing of how sure the model is of it, so there is no label-free estimate of its quality.

    Args:
        settings: Budget of false alarms; seed.
    """

    NAME: ClassVar[str] = "output"

    def __init__(self, settings: MonitorSettings) -> None:
        plain = settings.model_copy(update={"input_statistic": "marginal", "features": ()})
        super().__init__(plain)

    def fit(self, reference: Reference) -> Calibration:
        """Calibrate on the answers to the recent reference rows."""
        found = super().fit(reference)
        return replace(found, notes=(*found.notes, _INSTEAD))

    def estimate(self) -> None:
        """Return nothing: quality is not estimated without labels."""

    def _source(self, rows: Predictions | Reference) -> FloatArray:
        return rows.output

    def _what(self) -> tuple[str, str]:
        return "output", "output"


_INSTEAD = (
    "a regression has no classes: predicted numbers are watched in place of class mix and "
    "confidence, and nothing is estimated of R2 without labels"
)
