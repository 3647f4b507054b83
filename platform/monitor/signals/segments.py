"""Segments: slices of the stream, each watched for a loss of accuracy of its own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.errors import ConfigError
from undrift.evidence import Change, Level
from undrift.model.layout import DIGIT
from undrift.monitor.base import Calibration, Measures, State, Stateful
from undrift.monitor.calibration import limits, recent_rows
from undrift.monitor.join import Joined
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.statistics.error_rate import ErrorTest
from undrift.monitor.statistics.season import Season
from undrift.records import FloatArray, IntArray, Predictions, Reference


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """The state of one segment.

    Attributes:
        name: As ``site=3``, ``age<=30``, ``30<age<=45`` or ``site=other``.
        level: How sure it is that the model errs more often in this segment than before.
        rows: Predictions of the watched version.
        labelled: Those of them whose label has come.
        accuracy_before: On the reference rows of the segment; on all where it has none.
        accuracy_now: Of the newest labels, at most 200, since the change point if there is one;
            None before the first label.
        change_row: Estimated first row of the change while the level is above none.
    """

    name: str
    level: Level
    rows: int
    labelled: int
    accuracy_before: float
    accuracy_now: float | None
    change_row: int | None


class Segments(Stateful):
    """Divides rows by the columns that ``segments`` names, and tests the errors of each part.

    A column of at most twelve values on the reference has a segment for each of them, any other
    one for each quarter of the reference. A value that is new, or missing, falls into the segment
    ``other``, which is compared with the whole reference. A row is in one segment of each column.

    A segment counts time in its own labels, so false alarms of the segments of one column add up
    to those of one detector, and the limits have to grow with the number of columns only: all
    segments together make at most one false drift in as many labels as the budget has rows.

    A segment's level is for a warning: its rows are too few to train on, and the performance
    signal decides for all.

    Args:
        settings: Columns, names and budget.

    Raises:
        ConfigError: A segment is named that is no feature.
    """

    VALUES: ClassVar[int] = 12
    SLOTS: ClassVar[int] = VALUES + 1  # of each column; the last is ``other``
    NEWEST: ClassVar[int] = 200
    LISTED: ClassVar[int] = 5
    FEW: ClassVar[int] = 30  # reference rows below which a segment's accuracy is hardly known
    SAVED = (
        "_cuts", "_by_value", "_before", "_rows", "_labelled", "_newest_row", "_newest_wrong",
    )  # fmt: skip

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._columns, self._season = _columns(settings), Season(settings.season)
        self._cuts = np.full((len(self._columns), self.VALUES), np.nan)
        self._by_value = np.ones(len(self._columns), dtype=np.bool_)
        self._forget()

    @property
    def width(self) -> int:
        """Numbers noted of a row."""
        return len(self._columns) + self._phased

    @property
    def _phased(self) -> int:
        """1 if the phase of the season is noted, too; else 0."""
        return int(self._season.phases > 0 and len(self._columns) > 0)

    @property
    def level(self) -> Level:
        """Highest level of any segment."""
        return max((report.level for report in self.report()), default=Level.NONE)

    def fit(self, reference: Reference) -> Calibration:
        """Take segments and their accuracy from the recent reference rows, and begin anew.

        Raises:
            ConfigError: The reference is too short or not finite, or a segment is no column of
                the input.
        """
        recent = recent_rows(reference, self._settings)
        if not self._columns:
            return Calibration(len(recent))
        digits = sum(map(len, self._settings.digits.values()))
        if recent.x.ndim != 2 or max(self._columns) >= recent.x.shape[1] - digits:
            raise ConfigError(
                f"monitor.segments: column {max(self._columns)} asked for, but an input of the "
                f"model has shape {recent.x.shape[1:]}; segments are columns of a one-dimensional "
                "input, counted from 0"
            )
        for i, column in enumerate(self._columns):
            values = self._values(recent.x, column)
            self._cuts[i], self._by_value[i] = _cuts_of(values, self.VALUES)
        self._forget()
        wrong = recent.output.argmax(axis=1) != recent.y
        slots = self._slots_of(self._assign(recent.x))
        for slot, test in self._tests.items():
            here = (slots == slot).any(axis=1)
            here = here if here.any() else np.ones_like(here)
            test.fit(wrong[here], recent.y[here], recent.rows[here])
            self._before[slot] = 1.0 - wrong[here].mean()
        time = max(test.correlation_time for test in self._tests.values())
        return Calibration(len(recent), time, self._notes(self._count(slots)))

    def note(self, rows: Predictions) -> FloatArray:
        """Return (n, width) numbers of the segments of rows, and phases, for the join to keep."""
        phase = self._season.note(rows)[:, : self._phased]
        return np.hstack([self._assign(rows.x), phase])

    def count(self, notes: FloatArray) -> None:
        """Count rows of the watched version by their (n, width) notes."""
        self._rows += self._count(self._slots_of(notes))

    def measure(self, batch: Joined) -> Measures:
        """Return (n, 2 + width): ones where the prediction was wrong, labels, and the notes.

        The notes of the segments are the last columns of ``batch.notes``.
        """
        notes = batch.notes[:, batch.notes.shape[1] - self.width :]
        values = np.column_stack([batch.wrong, batch.label, notes])
        return Measures(batch.row, values.astype(np.float64))

    def advance(self, measures: Measures) -> None:
        """Take in labels that met their predictions."""
        wrong, labels = measures.values[:, 0] > 0, measures.values[:, 1].astype(np.int64)
        slots = self._slots_of(measures.values[:, 2:])
        phase = measures.values[:, -1].astype(np.int64)  # used where there is a season
        for slot in np.unique(slots).tolist():
            here = (slots == slot).any(axis=1)
            self._tests[slot].update(wrong[here], labels[here], measures.row[here], phase[here])
            self._labelled[slot] += int(here.sum())
            for kept, new in ((self._newest_row, measures.row), (self._newest_wrong, wrong)):
                kept[slot] = np.concatenate([kept[slot], new[here]])[-self.NEWEST :]

    def update(self, batch: Joined) -> None:
        """Take in labels that met their predictions."""
        self.advance(self.measure(batch))

    def report(self) -> tuple[SegmentReport, ...]:
        """Return the state of each segment that there is, column by column."""
        named = [self._names(column) for column in range(len(self._columns))]
        return tuple(self._report(*segment) for segments in named for segment in segments)

    def changes(self) -> tuple[Change, ...]:
        """Return the segments whose level is above none, largest loss of accuracy first."""
        found = [
            Change("segment", r.name, "accuracy", now - r.accuracy_before, r.accuracy_before, now)
            for r in self.report()
            if r.level > Level.NONE and (now := r.accuracy_now) is not None
        ]
        return tuple(sorted(found, key=lambda change: change.effect)[: self.LISTED])

    def state(self) -> State:
        """Return a copy of everything that later decisions depend on."""
        state = super().state()
        for slot, test in self._tests.items():
            state |= {f"{slot}.{name}": value for name, value in test.state().items()}
        return state

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a state of the same columns."""
        super().load(state)
        self._tests = self._new_tests()
        for slot, test in self._tests.items():
            own = f"{slot}."
            test.load({k.removeprefix(own): v for k, v in state.items() if k.startswith(own)})

    def _forget(self) -> None:
        slots = len(self._columns) * self.SLOTS
        self._before = np.ones(slots)
        self._rows = np.zeros(slots, dtype=np.int64)
        self._labelled = np.zeros(slots, dtype=np.int64)
        self._newest_row = np.full((slots, self.NEWEST), -1, dtype=np.int64)
        self._newest_wrong = np.zeros((slots, self.NEWEST), dtype=np.bool_)
        self._tests = self._new_tests()

    def _new_tests(self) -> dict[int, ErrorTest]:
        """Return a test for each segment that the cuts make, and for each ``other``."""
        share = len(self._columns)
        warning, drift = limits(self._settings)
        return {
            slot: ErrorTest(share * warning, share * drift, seasonal=self._phased > 0)
            for column in range(share)
            for slot, _ in self._names(column, unseen=True)
        }

    def _report(self, slot: int, name: str) -> SegmentReport:
        report = self._tests[slot].report(name)
        wrong = self._newest_wrong[slot][self._newest_row[slot] >= (report.change_row or 0)]
        return SegmentReport(
            name=name,
            level=report.level,
            rows=int(self._rows[slot]),
            labelled=int(self._labelled[slot]),
            accuracy_before=float(self._before[slot]),
            accuracy_now=float(1.0 - wrong.mean()) if len(wrong) else None,
            change_row=report.change_row,
        )

    def _assign(self, x: FloatArray) -> FloatArray:
        """Return (n, columns) numbers of the segments, 12 for ``other``."""
        places = np.full((len(x), len(self._columns)), self.VALUES, dtype=np.float32)
        for i, column in enumerate(self._columns):
            values = self._values(x, column).astype(np.float64)
            cuts = self._cuts[i][~np.isnan(self._cuts[i])]
            place = np.searchsorted(cuts, values)
            if self._by_value[i]:
                known = np.append(cuts, np.nan)[place] == values
            else:
                known = ~np.isnan(values)
            places[known, i] = place[known]
        return places

    def _values(self, x: FloatArray, column: int) -> NDArray[np.floating[Any]]:
        """Return (n,) values of a column, those of whole numbers with all of their digits."""
        higher = self._settings.digits.get(column, ())
        if not higher:
            return x[:, column]
        scale = float(DIGIT) ** np.arange(1 + len(higher))
        return x[:, [column, *higher]].astype(np.float64) @ scale

    def _slots_of(self, notes: NDArray[Any]) -> IntArray:
        """Return (n, columns) numbers of the segments counted over all columns."""
        first = np.arange(len(self._columns)) * self.SLOTS
        slots: IntArray = notes[:, : len(first)].astype(np.int64) + first
        return slots

    def _count(self, slots: IntArray) -> IntArray:
        return np.bincount(slots.reshape(-1), minlength=len(self._rows)).astype(np.int64)

    def _names(self, column: int, *, unseen: bool = False) -> list[tuple[int, str]]:
        """Return number and name of each segment of a column; ``other`` if it has rows."""
        number = self._columns[column]
        names = self._settings.features
        title = names[number] if number < len(names) else f"x[{number}]"
        cuts = [
            f"{cut:.0f}" if cut == np.floor(cut) else f"{cut:.6g}"
            for cut in self._cuts[column]
            if not np.isnan(cut)
        ]
        if self._by_value[column]:
            found = [f"{title}={cut}" for cut in cuts]
        else:
            between = [f"{low}<{title}<={high}" for low, high in itertools.pairwise(cuts)]
            found = [f"{title}<={cuts[0]}", *between, f"{title}>{cuts[-1]}"]
        first = column * self.SLOTS
        listed = [(first + place, name) for place, name in enumerate(found)]
        other = first + self.VALUES
        return [*listed, (other, f"{title}=other")] if unseen or self._rows[other] else listed

    def _notes(self, counts: IntArray) -> tuple[str, ...]:
        named = [pair for column in range(len(self._columns)) for pair in self._names(column)]
        few = [f"{name} ({counts[slot]})" for slot, name in named if counts[slot] < self.FEW]
        if not few:
            return ()
        return (
            f"fewer than {self.FEW} reference rows, so that a fall of accuracy is seen late, in "
            + ", ".join(few),
        )


def _columns(settings: MonitorSettings) -> tuple[int, ...]:
    """Return the numbers of the columns that ``segments`` names, each once."""
    columns = []
    for segment in settings.segments:
        if isinstance(segment, int):
            if segment < 0:
                raise ConfigError(f"monitor.segments: column {segment}; columns count from 0")
            columns.append(segment)
        elif segment in settings.features:
            columns.append(settings.features.index(segment))
        else:
            known = ", ".join(settings.features) or "none, monitor.features is empty"
            raise ConfigError(
                f"monitor.segments: {segment!r} is not among the names of monitor.features: {known}"
            )
    return tuple(dict.fromkeys(columns))


def _cuts_of(values: FloatArray, most: int) -> tuple[NDArray[np.float64], bool]:
    """Return (most,) values or upper ends of quarters, padded with NaN, and whether values."""
    distinct = np.unique(values.astype(np.float64))
    by_value = len(distinct) <= most
    quartiles = np.unique(np.quantile(values.astype(np.float64), [0.25, 0.5, 0.75]))
    cuts = distinct if by_value else quartiles[quartiles < distinct[-1]]
    return np.pad(cuts, (0, most - len(cuts)), constant_values=np.nan), by_value
