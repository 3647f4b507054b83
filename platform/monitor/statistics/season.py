"""Which part of a day, a week or another season a row belongs to."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from undrift.errors import ConfigError
from undrift.records import FloatArray, Predictions


class Season:
    """Divides a season into phases, 24 to a season of rows and one to each hour of one of time.

    A season of time is counted from the Unix epoch in UTC, by the time of the prediction.

    Args:
        text: Its length, as ``24 h``, ``7 d`` or ``5000 rows``; None: there is none.

    Raises:
        ConfigError: It has less than four phases, or more than ten days.

    Example:
        >>> Season("24 h").phases, Season("5000 rows").phases, Season(None).phases
        (24, 24, 0)
    """

    MOST: ClassVar[int] = 240
    OF_ROWS: ClassVar[int] = 24
    _HOURS: ClassVar[dict[str, float]] = {"h": 1.0, "d": 24.0}

    def __init__(self, text: str | None) -> None:
        self.phases, self._length, self._by_rows = 0, 1.0, False
        if text is None:
            return
        unit = text.lstrip("0123456789. ")
        number = float(text.removesuffix(unit))
        self._by_rows = unit == "rows"
        hours = number * self._HOURS.get(unit, 1.0)
        self.phases = self.OF_ROWS if self._by_rows else round(hours)
        self._length = number if self._by_rows else 3600.0 * hours
        if not 4 <= self.phases <= self.MOST or (self._by_rows and number < self.OF_ROWS):
            raise ConfigError(
                f"monitor.season: {text} has no phases that could be told apart; a season may last "
                f"{self.OF_ROWS} rows or more, or 4 to {self.MOST} hours"
            )

    def note(self, rows: Predictions) -> FloatArray:
        """Return (n, 1) phases of rows; (n, 0) if there is no season."""
        if not self.phases:
            return np.zeros((len(rows), 0), dtype=np.float32)
        place = np.asarray(rows.row if self._by_rows else rows.at, dtype=np.float64)
        phase = np.floor(place % self._length / self._length * self.phases)
        return np.minimum(phase, self.phases - 1)[:, None].astype(np.float32)
