"""Probation: a promoted version must not err more on late labels than the one it replaced."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import ProbationReport, Status
from undrift.monitor.base import Stateful
from undrift.monitor.join import Joined
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.statistics.bets import error_alternatives, likelihood_ratio
from undrift.records import PASSED_OVER

_STATUSES: tuple[Status, ...] = ("none", "running", "passed", "failed")


class Probation(Stateful):
    """A sequential test of "it errs at most by the tolerance more than the version before would".

    Most rows tell both answers: what was served, and what the version before would have served. Of
    those the test bets on the loss L, 1 where only the new answer is wrong and -1 where only the
    old one is: while its mean given the past is at most the tolerance t, 1 + b (L - t) is an
    e-value for every stake b. What makes rows hard is hard for both, so a world that moves on is
    not taken for a worse version.

    Of a regression an error is the squared one in units of the target's variance, at most 1, and L
    the difference of two; on rows without a pair the test bets on the error itself.

    Of the other rows, as those of a replica that has restarted, it tests that the error is at most
    the baseline's plus t, by likelihood ratios mixed over higher rates. The baseline may be
    refined while it runs, as labels of the old version still arrive.

    The product of both is a test martingale: it ever reaches 1 / alpha with probability at most
    alpha while both bounds hold, so the test may be looked at after every label. It fails there,
    and passes after a set number of labels.

    Args:
        settings: Labels, alpha and tolerance.

    Reference:
        Ville. "Etude critique de la notion de collectif", 1939. Waudby-Smith, Ramdas. "Estimating
        means of bounded random variables by betting", JRSS B 2024.
    """

    STAKES: ClassVar[NDArray[np.float64]] = np.array([0.05, 0.1, 0.2, 0.4, 0.7])
    SAVED = (
        "_status", "_wealth", "_won", "_labels", "_errors", "_baseline", "_pairs", "_former_errors",
        "_against",
    )  # fmt: skip

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._status = 0
        self._wealth = np.ones(len(error_alternatives(0.5)))
        self._won = np.ones(len(self.STAKES))
        self._labels = self._pairs = 0
        self._errors = self._former_errors = 0
        self._baseline = 0.0
        self._against = 0

    def start(self, against: int) -> None:
        """Begin a probation against the version ``against``; an earlier one is forgotten."""
        self.stop()
        self._against = against
        self._status = _STATUSES.index("running")

    def stop(self) -> None:
        """End without a verdict."""
        self.load(Probation(self._settings).state())

    @property
    def running(self) -> bool:
        """True between start and verdict."""
        return _STATUSES[self._status] == "running"

    def update(self, rows: Joined, baseline: float) -> None:
        """Take in late labels of the promoted version, in order of arrival.

        Args:
            rows: What it answered, and what the version before would have; those are left out for
                which that version, which was there, had no time.
            baseline: Error rate of the version that it replaced.
        """
        rows = rows.take(rows.beside != PASSED_OVER)
        pair = (rows.former >= 0) & np.isin(rows.beside, (0, self._against))
        classes = rows.wrong.dtype == np.bool_
        self.take(rows.wrong, rows.former != rows.label if classes else rows.former, pair, baseline)

    def take(
        self,
        wrong: NDArray[Any],
        former_wrong: NDArray[Any],
        pair: NDArray[np.bool_],
        baseline: float,
    ) -> None:
        """Take in errors, in order of arrival.

        Args:
            wrong: (n,) True where the new version is wrong, or its squared errors.
            former_wrong: (n,) the same of the version before; of no meaning without a pair.
            pair: (n,) True where it was asked too.
            baseline: Error rate of the version before, for rows without a pair.
        """
        tolerance = self._settings.probation_tolerance
        part = slice(self._settings.probation_labels - self._labels)
        wrong, pair = wrong[part], pair[part]
        if not self.running or len(wrong) == 0:
            return
        if wrong.dtype != np.bool_:
            wrong = np.minimum(wrong, 1.0)
        former_wrong = np.where(pair, np.minimum(former_wrong[part], 1.0), 0.0)
        loss = 1.0 * wrong - former_wrong - tolerance
        bets = np.where(pair[:, None], 1.0 + loss[:, None] * self.STAKES, 1.0)
        self._baseline = baseline
        allowed = float(np.clip(baseline + tolerance, 1e-3, 0.999))
        ratios = _ratios(wrong, allowed)
        ratios[pair] = 1.0
        won, wealth = _products(self._won, bets), _products(self._wealth, ratios)
        evidence = won.mean(axis=1) * wealth.mean(axis=1)
        failed = np.flatnonzero(evidence >= 1.0 / self._settings.probation_alpha)
        seen = int(failed[0]) + 1 if len(failed) else len(wrong)
        self._won, self._wealth = won[seen - 1], wealth[seen - 1]
        self._labels += seen
        self._errors += wrong[:seen].sum().item()
        self._pairs += int(pair[:seen].sum())
        self._former_errors += former_wrong[:seen].sum().item()
        if len(failed):
            self._status = _STATUSES.index("failed")
        elif self._labels == self._settings.probation_labels:
            self._status = _STATUSES.index("passed")

    def report(self) -> ProbationReport:
        """Return status and figures."""
        status = _STATUSES[self._status]
        if status == "none":
            return ProbationReport("none", "no probation")
        error = self._errors / self._labels if self._labels else 0.0
        compared = self._pairs > 0
        baseline = self._former_errors / self._pairs if compared else self._baseline
        allowed = min(baseline + self._settings.probation_tolerance, 1.0)
        asked = f", {self._pairs} of them of rows that version {self._against} was asked too"
        detail = (
            f"{status} after {self._labels} of {self._settings.probation_labels} labels"
            f"{asked if compared else ''}: error {error:.3f}, at most {allowed:.3f} allowed"
        )
        return ProbationReport(status, detail, self._labels, error, baseline, self._against)


def _ratios(wrong: NDArray[Any], allowed: float) -> NDArray[np.float64]:
    """Return (n, k) e-values against a mean error of at most ``allowed``."""
    alternatives = error_alternatives(allowed)
    if wrong.dtype == np.bool_:
        return likelihood_ratio(wrong, allowed, alternatives)
    stakes = np.linspace(0.05, 0.7, len(alternatives))
    bets: NDArray[np.float64] = 1.0 + (wrong[:, None] - allowed) * stakes
    return bets


def _products(start: NDArray[np.float64], factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, k) running products of (n, k) factors, begun with (k,) ``start``."""
    return np.multiply.accumulate(np.vstack([start, factors]), axis=0)[1:]
