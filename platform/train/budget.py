"""How much compute a retraining may spend, and how much it has spent."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass

from undrift.errors import ConfigError

_UNITS = {
    "s": (0.0, 1.0),
    "min": (0.0, 60.0),
    "h": (0.0, 3600.0),
    "FLOP": (1.0, 0.0),
    "GFLOP": (1e9, 0.0),
    "TFLOP": (1e12, 0.0),
    "PFLOP": (1e15, 0.0),
}
_AMOUNT = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]+)\s*")


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that one retraining may spend, set-up included; infinite where nothing is said.

    Attributes:
        flops: Floating-point operations, over all workers.
        seconds: Wall time.
    """

    flops: float = math.inf
    seconds: float = math.inf

    @staticmethod
    def parse(text: str) -> Budget:
        """Read a budget as a person writes it.

        Args:
            text: A number with s, min, h, FLOP, GFLOP, TFLOP or PFLOP; empty for no limit.

        Raises:
            ConfigError: It is none.

        Example:
            >>> Budget.parse("2.5 TFLOP").flops, Budget.parse("5min").seconds
            (2500000000000.0, 300.0)
        """
        if not text.strip():
            return Budget()
        found = _AMOUNT.fullmatch(text)
        unit = {u.lower(): u for u in _UNITS}.get(found[2].lower(), "") if found else ""
        try:
            amount = float(found[1]) if found else 0.0
        except ValueError:
            amount = 0.0
        if not unit or not 0.0 < amount < math.inf:
            raise ConfigError(
                f"budget: got {text!r}, expected a number above 0 with a unit of "
                f"{', '.join(_UNITS)}, as 30s or 2.5TFLOP"
            )
        flops, seconds = _UNITS[unit]
        if flops:
            return Budget(flops=amount * flops)
        return Budget(seconds=amount * seconds)

    @property
    def limited(self) -> bool:
        """Whether anything is limited."""
        return self.flops < math.inf or self.seconds < math.inf


class Meter:
    """What a retraining has spent.

    Attributes:
        flops: Floating-point operations so far, over all workers.

    Args:
        world: Number of workers.
    """

    def __init__(self, world: int = 1) -> None:
        self.flops = 0.0
        self._world = world
        self._earlier, self._started = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time so far, that before an interruption included."""
        return self._earlier + time.monotonic() - self._started

    def add(self, rows: int, flops_per_row: float, *, everywhere: bool = False) -> None:
        """Count a pass over ``rows`` rows; ``everywhere``: every worker makes it alone."""
        self.flops += rows * flops_per_row * (self._world if everywhere else 1)

    def resume(self, flops: float, seconds: float) -> None:
        """Go on from what was spent before an interruption."""
        self.flops, self._earlier, self._started = flops, seconds, time.monotonic()
