"""Probation: a promoted version must not err more on late labels than the one it replaced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import ProbationReport, Status
from undrift.monitor.base import Stateful
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.statistics.bets import error_alternatives, likelihood_ratio

_STATUSES: tuple[Status, ...] = ("none", "running", "passed", "failed")


class Probation(Stateful):
    """A sequential test of "the error is at most the baseline's plus the tolerance".

    The product of likelihood ratios against that bound, mixed over higher rates, is a test
    martingale: it ever reaches 1 / alpha with probability at most alpha while the bound holds, so
    the test may be looked at after every label. It fails there, and passes after a set number of
    labels. The baseline may be refined while it runs, as labels of the old version still arrive.

    Args:
        settings: Labels, alpha and tolerance.

    Reference:
        Ville. "Etude critique de la notion de collectif", 1939.
    """

    SAVED = ("_status", "_wealth", "_labels", "_errors", "_baseline")

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._status = 0
        self._wealth = np.ones(len(error_alternatives(0.5)))
        self._labels = 0
        self._errors = 0
        self._baseline = 0.0

    def start(self) -> None:
        """Begin a probation; an earlier one is forgotten."""
        self.stop()
        self._status = _STATUSES.index("running")

    def stop(self) -> None:
        """End without a verdict."""
        self.load(Probation(self._settings).state())

    @property
    def running(self) -> bool:
        """True between start and verdict."""
        return _STATUSES[self._status] == "running"

    def update(self, wrong: NDArray[np.bool_], baseline: float) -> None:
        """Take in late labels of the promoted version, in order of arrival.

        Args:
            wrong: (n,) True where its prediction was wrong.
            baseline: Error rate of the version that it replaced.
        """
        wrong = wrong[: self._settings.probation_labels - self._labels]
        if not self.running or len(wrong) == 0:
            return
        self._baseline = baseline
        allowed = float(np.clip(baseline + self._settings.probation_tolerance, 1e-3, 0.999))
        values = likelihood_ratio(wrong, allowed, error_alternatives(allowed))
        wealth = np.cumprod(np.vstack([self._wealth, values]), axis=0)[1:]
        failed = np.flatnonzero(wealth.mean(axis=1) >= 1.0 / self._settings.probation_alpha)
        seen = int(failed[0]) + 1 if len(failed) else len(wrong)
        self._wealth = wealth[seen - 1]
        self._labels += seen
        self._errors += int(wrong[:seen].sum())
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
        allowed = min(self._baseline + self._settings.probation_tolerance, 1.0)
        detail = (
            f"{status} after {self._labels} of {self._settings.probation_labels} labels: "
            f"error {error:.3f}, at most {allowed:.3f} allowed"
        )
        return ProbationReport(status, detail, self._labels, error, self._baseline)
