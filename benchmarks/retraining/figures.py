"""What a run is judged by. Needs NumPy alone, since Avalanche's runs use it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Figures:
    """Accuracy and cost of one run, collected step by step.

    Args:
        before: Accuracy of the base model on its own regime.
    """

    def __init__(self, before: float) -> None:
        self.accuracy = [[before]]
        self.ahead: list[float] = []
        self._cost: dict[str, float] = {}
        self._peak_mb = 0.0

    def learnt(self, accuracy: list[float], ahead: float) -> None:
        """Add what the model knows after a step: each regime so far, and what comes next."""
        self.accuracy.append(accuracy)
        self.ahead.append(ahead)

    def spent(self, peak_mb: float, **cost: float) -> None:
        """Add what a step cost."""
        for name, value in cost.items():
            self._cost[name] = self._cost.get(name, 0.0) + value
        self._peak_mb = max(self._peak_mb, peak_mb)

    def plain(self) -> dict[str, Any]:
        """Return all figures as plain JSON values."""
        new, old = float(np.mean(self.ahead)), float(np.mean(self.accuracy[-1][:-1]))
        return {
            "new": new,
            "old": old,
            "mean": (new + old) / 2,
            "forgetting": forgetting(self.accuracy),
            "peak_mb": self._peak_mb,
            **self._cost,
            "accuracy": self.accuracy,
            "ahead": self.ahead,
        }


def forgetting(accuracy: Sequence[Sequence[float]]) -> float:
    """Return how much accuracy on a regime falls from when it was learnt to the end, on average.

    It is the backward transfer with its sign reversed.

    Args:
        accuracy: Row t: accuracy after step t on the regimes up to t.

    Reference:
        Lopez-Paz, Ranzato: Gradient episodic memory for continual learning. NeurIPS 2017.

    Example:
        >>> round(forgetting([[0.9], [0.7, 0.8], [0.6, 0.9, 0.8]]), 3)
        0.1
    """
    last = len(accuracy) - 1
    return float(np.mean([accuracy[i][i] - accuracy[last][i] for i in range(last)]))
