"""Rewards of unknown scale, brought into [0, 1]."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_MEMORY = 256  # raw rewards whose quantiles define the scale
_WARM_UP = 8


class RunningScale:
    """Maps rewards into [0, 1] by the quantiles of the recent ones.

    Reference:
        Graves et al.: Automated curriculum learning for neural networks. ICML 2017, section 3.
    """

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_MEMORY)

    def __call__(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take in raw rewards (k,); return them scaled: 0 at their 20 % quantile, 1 at 80 %."""
        self._seen.extend(raw.tolist())
        if len(self._seen) < _WARM_UP:
            return np.full(len(raw), 0.5)
        low, high = np.quantile(np.array(self._seen), (0.2, 0.8))
        if high - low < 1e-12:
            return np.full(len(raw), 0.5)
        scaled: NDArray[np.float64] = np.clip((raw - low) / (high - low), 0.0, 1.0)
        return scaled

    def one(self, raw: float) -> float:
        """Take in one raw reward; return it scaled."""
        return float(self(np.array([raw]))[0])

    def state(self) -> list[float]:
        """Return what `load` needs to go on identically."""
        return list(self._seen)

    def load(self, seen: Iterable[float]) -> None:
        """Go on from `state`."""
        self._seen = deque(seen, maxlen=_MEMORY)
