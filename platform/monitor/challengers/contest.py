"""The paired test: does any of several models answer better than the live one?"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful
from undrift.monitor.statistics.detector import EDetector
from undrift.records import IntArray

Matrix = NDArray[np.float64]


class Contest(Stateful):
    """Bets on the leads of rivals over one model, all of them and with several stakes at once.

    The lead D of a rival in a row is what it scores less what the model scores, each in [0, 1].
    While the mean of D given the past is at most w, the lead that is worth a retraining,
    1 + b (D - w) is an e-value for every stake b in (0, 1). One detector takes the e-values of all
    rivals and stakes, so its budget of false alarms is that of all together. What makes rows hard
    is hard for both, and cancels in D; and a rival that always agrees gathers no evidence.

    Args:
        rivals: Number of rivals.
        limits: Rows between false warnings, and between false drifts.

    Example:
        >>> contest = Contest(1, (100.0, 1000.0))
        >>> contest.update(np.ones((40, 1)), np.arange(40))  # the rival is right where it is wrong
        >>> contest.detector.level.name, contest.lead(0)[0]
        ('DRIFT', 1.0)

    Reference:
        Waudby-Smith, Ramdas. "Estimating means of bounded random variables by betting", JRSS B
        2024. Shin, Ramdas, Rinaldo. "E-detectors", 2022, arXiv 2203.03532. Henzi, Ziegel. "Valid
        sequential inference on probability forecast performance", Biometrika 2022.
    """

    STAKES: ClassVar[NDArray[np.float64]] = np.array([0.05, 0.1, 0.2, 0.4, 0.7])
    WORTH: ClassVar[float] = 0.01
    NEWEST: ClassVar[int] = 1000
    SAVED = ("_rows", "_leads")
    PARTS = ("detector",)

    def __init__(self, rivals: int, limits: tuple[float, float]) -> None:
        self.detector = EDetector(np.ones(rivals * len(self.STAKES)), *limits)
        self._rows = np.full(self.NEWEST, -1, dtype=np.int64)
        self._leads = np.zeros((self.NEWEST, rivals), dtype=np.int8)  # in hundredths

    def update(self, leads: Matrix, rows: IntArray) -> None:
        """Take in (n, rivals) leads in [-1, 1] of rows in stream order."""
        bets = 1.0 + (leads[:, :, None] - self.WORTH) * self.STAKES
        self.detector.update(bets.reshape(len(leads), -1), rows)
        at = (self.detector.count - len(rows) + np.arange(len(rows)))[-self.NEWEST :] % self.NEWEST
        self._rows[at] = rows[-self.NEWEST :]
        self._leads[at] = np.rint(100.0 * leads[-self.NEWEST :])

    def weights(self) -> NDArray[np.float64]:
        """Return (rivals,) shares in the evidence; they sum to one."""
        totals = self.detector.totals.reshape(-1, len(self.STAKES)).sum(axis=1)
        total = float(totals.sum())
        shares: NDArray[np.float64] = totals / total if total > 0 else np.ones_like(totals)
        shares /= shares.sum()
        return shares

    def lead(self, rival: int) -> tuple[float, float, int]:
        """Return the mean lead of a rival, what it is at least, and of how many rows.

        They are those since the change point, if there is one at least a block ago, and at most
        the newest 1,000. The bound is a normal one at 95 %; it is -1 where too little is known.
        """
        known = self._rows >= 0
        change = self.detector.report("").change_row
        since = known & (self._rows >= (change or 0))
        if since.sum() >= EDetector.BLOCK:
            known = since
        leads = self._leads[known, rival] / 100.0
        if len(leads) < 2:
            return 0.0, -1.0, len(leads)
        error = float(leads.std(ddof=1)) / math.sqrt(len(leads))
        mean = float(leads.mean())
        return mean, max(-1.0, mean - 1.645 * error), len(leads)
