"""The monitor's core: folds commits of predictions and labels into evidence; knows no Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undrift.errors import StoreError
from undrift.evidence import (
    Change,
    Evidence,
    Level,
    ProbationReport,
    SignalReport,
)
from undrift.model.mixture import Mixture
from undrift.monitor.base import Calibration, State, collect, restore
from undrift.monitor.challengers.answers import answers_of
from undrift.monitor.challengers.challengers import Challengers
from undrift.monitor.comparison import Comparison
from undrift.monitor.ensemble import decide
from undrift.monitor.join import Joined, LabelCounts, LabelJoin
from undrift.monitor.label_record import LabelRecord
from undrift.monitor.probation import Probation
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.class_recall import ClassRecall
from undrift.monitor.signals.input import InputSignal
from undrift.monitor.signals.output import OutputSignal
from undrift.monitor.signals.performance import performance_signal_for
from undrift.monitor.signals.segments import SegmentReport, Segments
from undrift.monitor.signals.values import ValueSignal
from undrift.monitor.statistics.detector import EDetector
from undrift.monitor.statistics.squared_errors import SquaredErrors, scale_of
from undrift.records import Labels, Predictions, Reference
from undrift.views import AccuracyView, CalibrationView, SegmentView, SummaryView

FORMAT = 11
"""Of a saved state."""

_SAVED = ("_version", "_armed_row", "_previous", "_regime_start", "_rows", "_newest_row")
_PARTS = (
    "_join", "_labels", "_input", "_output", "_performance", "_challengers", "_former", "_segments",
    "_recall", "_probation", "comparison",
)  # fmt: skip

_FROM_FIRST = ", since the first rows of this version: its reference may not be like this traffic"


class Monitor:
    """Watches one model version: joins late labels, runs the signals, holds probations.

    It has no clock and no randomness of its own, so the same commits give the same evidence, with
    or without a save and load between any two of them.

    Args:
        settings: Budget, windows and tolerances.
        reference: Reference of ``version``.
        version: Model version to watch; rows of other versions only join.
        regime_start: First row of the regime that the version was trained for.
        class_names: Names of the classes in order, for reports; numbers without it.

    Raises:
        ConfigError: The reference cannot calibrate the signals.
    """

    _challengers: Challengers

    def __init__(
        self,
        settings: MonitorSettings,
        reference: Reference,
        version: int,
        regime_start: int = 0,
        class_names: tuple[str, ...] = (),
    ) -> None:
        self._settings, self._class_names = settings, class_names
        self._join = LabelJoin(settings.join_window_rows, SquaredErrors.of(reference))
        self.left = self._join.left  # labels that came too late
        self._probation, self.comparison = Probation(settings), Comparison(settings)
        self._run_id, self._rows, self._newest_row, self._previous = "", 0, -1, -1
        self._labels = LabelRecord(settings.accuracy_window)
        self._former = Challengers(settings, answers_of(reference))
        self._watch(version, reference, regime_start)

    @property
    def version(self) -> int:
        """Model version that the signals watch."""
        return self._version

    @property
    def run_id(self) -> str:
        """Run that the latest re-arming belongs to; empty before the first."""
        return self._run_id

    @property
    def probation(self) -> ProbationReport:
        """How the last promoted version is doing."""
        return self._probation.report()

    def fold(self, predictions: Predictions | None, labels: Labels | None) -> LabelCounts:
        """Take in one commit: first its predictions, then its labels.

        Args:
            predictions: Rows in order of their numbers, each larger than all before.
            labels: Labels in order of arrival.

        Returns:
            What became of labels in this commit.
        """
        counts = LabelCounts()
        if predictions is not None and len(predictions):
            if self._rows == 0:
                self._labels.begin(int(predictions.row[0]))
            noting = (self._performance, self._challengers, self._segments)
            notes = [signal.note(predictions) for signal in noting]
            joined, counts = self._join.add(predictions, np.hstack(notes))
            self._rows += len(predictions)
            self._newest_row = int(predictions.row[-1])
            self.comparison.count(predictions, self._join.errors)
            watched = predictions.version == self._version
            if watched.any():
                rows = predictions if watched.all() else predictions.take(watched)
                self._input.update(rows)
                self._output.update(rows)
                self._segments.count(notes[-1][watched])
            self._take_joined(joined)
        if labels is not None and len(labels):
            joined, more = self._join.label(labels)
            counts += more
            self._take_joined(joined)
        self._labels.count(counts)
        return counts

    def evidence(self) -> Evidence:
        """Return what the monitor knows now, and what the ensemble makes of it.

        ``regime_rows`` counts since the change point in drift, else since the last regime start.
        """
        reports, missing = self._reports(), self._labels_missing()
        estimate = self._output.estimate()
        challengers = self._challengers.standings()
        verdict = decide(
            reports,
            self._settings,
            labelled=self._labels.outcomes()["joined"],
            labels_missing=missing,
            estimated=None if estimate is None else (estimate.loss, estimate.error),
            numbers=self._join.errors is not None,
            segments=[s.name for s in self._segments.report() if s.level > Level.NONE],
            leader=challengers[0],
        )
        evidence = Evidence(
            level=verdict.level,
            kind=verdict.kind,
            signals=reports,
            version=self._version,
            rows=self._rows,
            labelled=self._labels.outcomes()["joined"],
            labels_missing=missing,
            reason=verdict.reason + _details(reports, self._armed_row, self._newest_row),
            challengers=challengers,
            better=self._challengers.better(worse=reports[2].level is Level.DRIFT),
        )
        drifted = verdict.level is Level.DRIFT and evidence.change_row is not None
        start = evidence.change_row if drifted else self._regime_start
        return replace(evidence, regime_rows=self._join.labelled_since(start or 0))

    def mixture(self) -> Mixture | None:
        """Return the watched version's answer mixed with the challengers'; None before a label."""
        worse = self._performance.report().level is Level.DRIFT
        return self._challengers.mixture(self._version, worse=worse)

    def rearm(
        self,
        version: int,
        reference: Reference,
        regime_start: int,
        *,
        against: bool = False,
        run_id: str = "",
    ) -> None:
        """Watch another version from here on; labels of older rows still join.

        Args:
            version: Version that serves now.
            reference: Its reference.
            regime_start: First row of the regime that it was trained for.
            against: Hold a probation against the error of the version watched until now.
            run_id: Run that asked for it; kept in the state, so that a repeat is known as one.

        Raises:
            ConfigError: The reference cannot calibrate the signals; nothing has changed.
        """
        left, learnt = self.version, self._challengers
        self._watch(version, reference, regime_start)
        if version == self._previous:  # what was learnt beside it is true as ever
            self._former.begin_contests()
            self._challengers = self._former
        self._former, self._previous = learnt, left
        self._run_id = run_id
        self._probation.start(left) if against else self._probation.stop()
        self.comparison = Comparison(self._settings)

    def summary(self) -> SummaryView:
        """Return what is known beside the evidence: labels, accuracy, segments, calibration."""
        return SummaryView(
            regime_start=self._regime_start,
            labels=self._labels.view(
                self._join, self._newest_row, lag=self._settings.label_lag_rows
            ),
            accuracy=_accuracy(self._labels, self._output),
            segments=tuple(map(_segment, self._segments.report())),
            calibration=_calibrations(
                self._calibration,
                self._labels.doubts(self._join, self._newest_row, self._version, self._class_names),
            ),
        )

    def state(self) -> tuple[State, dict[str, Any]]:
        """Return everything that later decisions depend on: arrays by name, and what they are."""
        meta = {
            "format": FORMAT,
            "version": self._version,
            "run_id": self._run_id,
            "labelled_row": self._labels.newest_row,
            "calibration": {name: asdict(c) for name, c in self._calibration.items()},
        }
        return collect(self, _SAVED, _PARTS), meta

    def load(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Take over a saved state, calibration included; only the settings stay one's own.

        Args:
            arrays: Arrays that :meth:`state` returned.
            meta: The dict that came with them.

        Raises:
            StoreError: The state is from another release.
        """
        if meta.get("format") != FORMAT:
            raise StoreError(
                f"the saved monitor has format {meta.get('format')!r}, this release reads "
                f"{FORMAT}; delete the checkpoint, and the monitor folds the stored rows again"
            )
        restore(self, arrays, _SAVED, _PARTS)
        self._run_id = str(meta["run_id"])
        saved = meta["calibration"].items()
        self._calibration = {n: Calibration(**c | {"notes": tuple(c["notes"])}) for n, c in saved}

    def _watch(self, version: int, reference: Reference, regime_start: int) -> None:
        errors = SquaredErrors.of(reference)
        inputs = InputSignal(self._settings)
        outputs = (OutputSignal if errors is None else ValueSignal)(self._settings)
        performance = performance_signal_for(self._settings, numbers=errors is not None)
        challengers, segments = Challengers(self._settings), Segments(self._settings)
        self._calibration = {
            "input": inputs.fit(reference),
            "output": outputs.fit(reference),
            "performance": performance.fit(reference),
            "challenger": challengers.fit(reference),
            "segments": segments.fit(reference),
        }
        self._input, self._output, self._performance = inputs, outputs, performance
        self._challengers, self._segments = challengers, segments
        self._recall = ClassRecall(self._settings.accuracy_window)
        self._recall.fit(reference)
        self._version, self._regime_start, self._armed_row = version, regime_start, self._newest_row
        self._labels.watch(reference, scale_of(self._join.errors, errors))
        self._join.errors = errors

    def _take_joined(self, joined: Joined) -> None:
        if not len(joined):
            return
        live = (joined.version == self._version) & (joined.row > self._armed_row)
        before = (joined.version == self._previous) & ~live
        self._labels.take(joined, live, before)
        self.comparison.update(joined)
        if live.any():
            rows = joined.take(live)
            self._performance.update(rows)
            self._challengers.update(self._challengers.own(rows, self._segments.width))
            self._segments.update(rows)
            self._recall.update(rows)
            self._probation.update(rows, self._labels.baseline())

    def _labels_missing(self) -> bool:
        return self._labels.missing(self._newest_row, lag=self._settings.label_lag_rows)

    def _reports(self) -> tuple[SignalReport, ...]:
        performance = self._performance.report()
        changes = (*performance.changes, *self._segments.changes())
        if performance.change_row is not None:
            changes += self._recall.changes(performance.change_row)
        named = replace(performance, changes=changes)
        reports = (self._input.report(), self._output.report(), named, self._challengers.report())
        return tuple(_with_names(report, self._class_names) for report in reports)


def _accuracy(labels: LabelRecord, outputs: OutputSignal | ValueSignal) -> AccuracyView:
    """Return what labels say of the watched version, and what is estimated without them."""
    estimate = outputs.estimate()
    return AccuracyView(
        **labels.accuracy(),
        estimated=None if estimate is None else estimate.accuracy,
        estimated_error=None if estimate is None else estimate.error,
    )


def _calibrations(
    found: Mapping[str, Calibration], notes: Sequence[str]
) -> dict[str, CalibrationView]:
    """Return calibrations as they are shown, with further notes on performance."""
    one = found["performance"]
    noted = {**found, "performance": replace(one, notes=(*one.notes, *notes))}
    return {name: CalibrationView(**asdict(c)) for name, c in noted.items()}


def _with_names(report: SignalReport, class_names: tuple[str, ...]) -> SignalReport:
    return replace(report, changes=tuple(_named(c, class_names) for c in report.changes))


def _named(change: Change, class_names: tuple[str, ...]) -> Change:
    """Return ``change`` with the class's name instead of its number."""
    if change.what != "class" or not (class_names and change.name.isdecimal()):
        return change
    return replace(change, name=class_names[int(change.name)])


def _details(reports: Sequence[SignalReport], armed: int, newest: int) -> str:
    """Return the end of a sentence: whether it was so from the first, and what moved most.

    Args:
        reports: The signals' reports, the challengers' last.
        armed: Row from which on the version is watched.
        newest: Newest row.
    """
    first = armed + max(EDetector.BLOCK, (newest - armed) // 10)
    began = [r.change_row for r in reports[:3] if r.change_row is not None]
    return (_FROM_FIRST if began and min(began) <= first else "") + _moved_most(reports)


def _moved_most(reports: Sequence[SignalReport]) -> str:
    """Return the end of a sentence that names the largest change of each signal."""
    most = [r.changes[0] for r in reports if r.changes]
    named = (f"{c.what} {c.name} ({c.before:.3g} to {c.now:.3g})" for c in most)
    return f"; moved most: {', '.join(named)}" if most else ""


def _segment(report: SegmentReport) -> SegmentView:
    return SegmentView(**{**asdict(report), "level": report.level.name.lower()})
