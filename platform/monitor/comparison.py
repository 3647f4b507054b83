"""Comparison: a candidate against the live version, on rows that both were asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undrift.events import Compare
from undrift.evidence import ComparisonReport
from undrift.monitor.base import Stateful
from undrift.monitor.join import Joined
from undrift.monitor.probation import Probation
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.statistics.squared_errors import SquaredErrors
from undrift.records import Predictions


class Comparison(Stateful):
    """One stage of a rollout: the paired test of a probation, held before the promotion.

    In the shadow the live version answers and the candidate is asked too; as a canary the candidate
    answers and the live version is asked too. Either way each is held against the other by what it
    says alone, without heads that follow the labels, on rows whose label came, and on no others. It
    fails as soon as the candidate is shown to err by more than the tolerance more often, and passes
    after a set number of labels.

    How far the two differ needs no label. Of classes no candidate can err more often than the live
    version by more than that.

    Args:
        settings: Alpha and tolerance of the test.
    """

    SAVED = (
        "_run_id", "_step", "_version", "_against", "_canary", "_rows", "_asked", "_differed",
    )  # fmt: skip
    PARTS = ("_test",)

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._run_id = ""
        self._step = self._version = self._against = self._rows = self._asked = 0
        self._canary = False
        self._differed = 0.0
        self._test = Probation(settings)

    def start(self, order: Compare) -> None:
        """Begin to compare; an earlier comparison is forgotten."""
        self._run_id, self._step, self._canary = order.run_id, order.step, order.canary
        self._version, self._against, self._rows = order.version, order.against, order.rows
        self._asked, self._differed = 0, 0.0
        self._test = self._new_test()
        self._test.start(order.against)

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a state that `state` returned."""
        self._rows = int(state["_rows"])
        self._test = self._new_test()
        super().load(state)

    def count(self, rows: Predictions, far: SquaredErrors | None) -> None:
        """Take in predictions: how far the two differ where both were asked."""
        if not self._test.running:
            return
        rows = rows.take(self._pairs(rows.version, rows.asked))
        if len(rows):
            away = rows.alone != rows.formers if far is None else far(rows.formers, rows.alone)
            self._asked += len(rows)
            self._differed += float(np.minimum(away, 1.0).sum())

    def update(self, rows: Joined) -> None:
        """Take in late labels, in order of arrival; those of other rows are passed over."""
        if not self._test.running:
            return
        rows = rows.take(self._pairs(rows.version, rows.beside))
        asked = rows.former != rows.label if rows.alone.dtype == np.bool_ else rows.former
        own, other = (rows.alone, asked) if self._canary else (asked, rows.alone)
        self._test.take(own, other, np.ones(len(rows), np.bool_), 0.0)

    def report(self) -> ComparisonReport:
        """Return status and figures."""
        found = self._test.report()
        differs = self._differed / self._asked if self._asked else None
        return ComparisonReport(
            status=found.status,
            detail=found.detail,
            run_id=self._run_id,
            step=self._step,
            rows=found.labels,
            error=found.error,
            baseline=found.baseline,
            asked=self._asked,
            differs=differs,
        )

    def _pairs(self, answered: NDArray[Any], beside: NDArray[Any]) -> NDArray[np.bool_]:
        """Return (n,) which rows tell the answers of both."""
        one, other = self._against, self._version
        if self._canary:
            one, other = other, one
        pairs: NDArray[np.bool_] = (answered == one) & (beside == other)
        return pairs

    def _new_test(self) -> Probation:
        wanted = max(self._rows, 1)
        return Probation(self._settings.model_copy(update={"probation_labels": wanted}))
