"""Which of the answered rows are watched where there are more than it takes to see a drift.

And of which of them it is asked what another version would have answered.
"""

from __future__ import annotations

import math
import random

from undrift.serve.settings import TapSettings

HORIZON_S = 5.0
"""Seconds over which a rate is averaged: a burst of what a bound lets through in them is whole."""


class Sampling:
    """Draws parts of the rows at random, so that their rate has a bound.

    A part is drawn with the lesser of the bounds over the rates of what came before it, averaged
    with weights that fade over ``HORIZON_S``; with 1 below the bounds. So every row comes with the
    same probability, whatever the size of the request that it came in.

    Args:
        settings: The bounds.
        now: Present time in seconds, of a clock that never goes back.
        draws: Source of numbers from 0 to 1.

    Example:
        >>> sampling = Sampling(TapSettings(rows_per_s=100), now=0.0)
        >>> sampling.keeps(rows=64, nbytes=0, now=0.1)
        True
    """

    def __init__(
        self, settings: TapSettings, now: float, draws: random.Random | None = None
    ) -> None:
        self._limits = tuple(
            math.inf if limit is None else HORIZON_S * limit
            for limit in (settings.rows_per_s, settings.bytes_per_s)
        )
        self._draws = draws or random.Random()
        self._then = now
        self._rows = self._bytes = 0.0  # that came within the horizon, the older the less

    def keeps(self, rows: int, nbytes: int, now: float) -> bool:
        """Tell whether a part that was answered is to be watched.

        Args:
            rows: How many rows it has.
            nbytes: How many bytes they take.
            now: Time of the same clock.
        """
        fade = math.exp((self._then - now) / HORIZON_S)
        self._then = now
        seen_rows, seen_bytes = self._rows * fade, self._bytes * fade
        self._rows, self._bytes = seen_rows + rows, seen_bytes + nbytes
        most_rows, most_bytes = self._limits
        if seen_rows <= most_rows and seen_bytes <= most_bytes:
            return True
        share = min(most_rows / max(seen_rows, 1.0), most_bytes / max(seen_bytes, 1.0))
        return self._draws.random() < share


class Allowance:
    """Processor time that something may take: a share of all time, of which some is saved up.

    What costs more is still done to its end, and paid off by waiting.

    Args:
        share: Seconds of processor time in a second.
        most_s: Seconds that are saved up at most, and that there are to begin with.
        now: Present time in seconds, of a clock that never goes back.

    Example:
        >>> allowance = Allowance(0.2, 0.5, now=0.0)
        >>> allowance.spend(0.7)
        >>> allowance.allows(now=0.9), allowance.allows(now=1.1)
        (False, True)
    """

    def __init__(self, share: float, most_s: float, now: float) -> None:
        self._share, self._most, self._left, self._then = share, most_s, most_s, now

    def allows(self, now: float) -> bool:
        """Tell whether there is any left.

        Args:
            now: Time of the same clock.
        """
        self._left = min(self._most, self._left + self._share * (now - self._then))
        self._then = now
        return self._left > 0

    def spend(self, seconds: float) -> None:
        """Take what was needed off."""
        self._left -= seconds
