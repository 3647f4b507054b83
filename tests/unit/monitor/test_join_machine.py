"""Predictions and labels in any order, however batched and saved, join as in a list of rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.helpers import rows as by_hand
from tests.helpers.machines import lengths, run
from undrift.ids import join, uuid7_time
from undrift.monitor.join import Joined, LabelCounts, LabelJoin
from undrift.records import Labels, Predictions

WHOLE = 5_000  # a window that no run fills


def uuid7(seconds: int) -> str:
    stamp = f"{seconds * 1000:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7abc-8def-0123456789ab"


NAMES = ["a", "b", "später\ud800", "", *map(uuid7, (3, 20))]


@dataclass
class Row:
    row: int
    name: str
    at: float
    version: int
    answer: int
    former: int
    notes: list[float]
    label: int | None = None


@dataclass
class Early:
    """A label that came before its prediction."""

    name: str
    label: int
    at: float
    newest: int


@dataclass
class Record:
    """What `LabelJoin` does, one row or label at a time, on a list of the newest rows."""

    window: int
    rows: list[Row] = field(default_factory=list)
    early: list[Early] = field(default_factory=list)
    newest: int = -1
    dropped: bool = False

    def resize(self, window: int) -> None:
        self.window = window
        self.dropped |= len(self.rows) > window
        self.rows = self.rows[-window:]

    def predict(self, row: Row) -> tuple[list[tuple[Row, float]], LabelCounts]:
        self.rows.append(row)
        self.resize(self.window)
        self.newest = row.row
        found = [(row, early.at) for early in self.early if early.name == row.name]
        for early in [e for e in self.early if e.name == row.name]:
            row.label = early.label
            self.early.remove(early)
        again = sum(other.name == row.name for other in self.rows[:-1]) > 0
        return found, LabelCounts(len(found), expired=self.expire(), reused=int(again))

    def label(self, name: str, label: int, at: float) -> tuple[list[tuple[Row, float]], str, int]:
        row = next((r for r in reversed(self.rows) if r.name == name), None)
        if row is None:
            outcome = self.keep(name, label, at)
        elif row.label is None:
            row.label = label
            return [(row, at)], "joined", self.expire()
        else:
            outcome = "duplicate" if row.label == label else "conflict"
        return [], outcome, self.expire()

    def keep(self, name: str, label: int, at: float) -> str:
        for early in self.early:
            if early.name == name:
                return "duplicate" if early.label == label else "conflict"
        if self.dropped and uuid7_time(name) < self.rows[0].at:
            return "late"
        self.early.append(Early(name, label, at, self.newest))
        return "unknown"

    def expire(self) -> int:
        gone = [e for e in self.early if self.newest - e.newest > self.window]
        gone += [e for e in self.early if e not in gone][: -self.window]
        self.early = [e for e in self.early if e not in gone]
        return len(gone)


def agree(joined: Joined, expected: list[tuple[Row, float]]) -> None:
    rows = [row for row, _ in expected]
    assert joined.row.tolist() == [r.row for r in rows]
    assert joined.version.tolist() == [r.version for r in rows]
    assert joined.label.tolist() == [r.label for r in rows]
    assert joined.wrong.tolist() == [r.label != r.answer for r in rows]
    assert joined.former.tolist() == [r.former for r in rows]
    assert joined.notes.tolist() == [r.notes for r in rows]
    assert joined.lag_seconds.tolist() == [max(at - r.at, 0.0) for r, at in expected]


class Joining(RuleBasedStateMachine):
    """One join takes batches as they come, one takes them item by item, one forgets nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.at, self.rows, self.width = 0.0, 0, 1
        self.told: list[tuple[str, int, float]] = []
        self.joins: list[LabelJoin] = []
        self.records: list[Record] = []

    @initialize(window=st.integers(1, 6))
    def begin(self, window: int) -> None:
        self.joins = [LabelJoin(window), LabelJoin(window), LabelJoin(WHOLE)]
        self.records = [Record(window), Record(window), Record(WHOLE)]

    @rule(
        ids=st.lists(st.sampled_from(NAMES), max_size=7),
        wait=st.floats(0.1, 3.0),
        version=st.integers(1, 3),
        classes=st.integers(0, 80),
        width=st.sampled_from([1, 1, 1, 2]),
    )
    def predict(self, ids: list[str], wait: float, version: int, classes: int, width: int) -> None:
        n, self.at = len(ids), self.at + wait
        answered, former = (np.full(n, c) + np.arange(n) & 1 for c in divmod(classes, 9))
        rows = by_hand.predictions(
            np.zeros((n, 2)), first=self.rows, ids=ids, at=self.at, version=version
        )
        rows = replace(rows, answered=answered, former=former)
        notes = np.stack([rows.row] * width, axis=1).astype(np.float32)
        self.rows += n
        for join_, record, single in zip(
            self.joins, self.records, (False, True, False), strict=True
        ):
            if width != self.width:
                for row in record.rows:
                    row.notes = [0.0] * width
            made = [
                Row(int(rows.row[i]), ids[i], self.at, version, int(answered[i]), int(former[i]),
                    notes[i].tolist())
                for i in range(n)
            ]  # fmt: skip
            counts = LabelCounts(expired=record.expire())
            steps = [record.predict(row) for row in made]
            if single and n:
                parts = [self._take(rows, notes, i) for i in range(n)]
                answers = [join_.add(*part) for part in parts]
            else:
                answers = [join_.add(rows, notes)]
            assert sum((c for _, c in answers), LabelCounts()) == sum((c for _, c in steps), counts)
            self._agree([j for j, _ in answers], [f for found, _ in steps for f in found])
            assert all(0 <= lag < n for j, _ in answers for lag in j.lag_rows.tolist())
        self.width = width

    @staticmethod
    def _take(rows: Predictions, notes: np.ndarray, i: int) -> tuple[Predictions, np.ndarray]:
        return rows.take(np.array([i])), notes[i : i + 1]

    @rule(
        told=st.lists(
            st.tuples(st.sampled_from(NAMES), st.integers(-1, 1)), min_size=1, max_size=5
        ),
        wait=st.floats(0.1, 3.0),
    )
    def label(self, told: list[tuple[str, int]], wait: float) -> None:
        self.at += wait
        self.told += [(name, label, self.at) for name, label in told]
        batch = Labels(
            tuple(name for name, _ in told),
            np.array([label for _, label in told], dtype=np.int64),
            np.full(len(told), self.at),
        )
        for join_, record, single in zip(
            self.joins, self.records, (False, True, False), strict=True
        ):
            expected: list[tuple[Row, float]] = []
            counts = LabelCounts(expired=record.expire())
            for name, label in told:
                found, outcome, expired = record.label(name, label, self.at)
                expected += found
                counts += LabelCounts(**{outcome: 1}, expired=expired)
            parts = [slice(i, i + 1) for i in range(len(told))] if single else [slice(None)]
            answers = [
                join_.label(Labels(batch.ids[p], batch.label[p], batch.at[p])) for p in parts
            ]
            assert sum((c for _, c in answers), LabelCounts()) == counts
            self._agree([j for j, _ in answers], expected)
            lags = [lag for j, _ in answers for lag in j.lag_rows.tolist()]
            assert lags == [record.newest - row.row for row, _ in expected]

    @staticmethod
    def _agree(parts: list[Joined], expected: list[tuple[Row, float]]) -> None:
        for part in parts:
            agree(part, expected[: len(part)])
            expected = expected[len(part) :]
        assert not expected

    @rule(window=st.integers(1, 12))
    def restart(self, window: int) -> None:
        for i, record in enumerate(self.records):
            state = self.joins[i].state()
            size = WHOLE if record.window == WHOLE else window
            self.joins[i] = LabelJoin(size)
            self.joins[i].load(state)
            record.resize(size)

    @invariant()
    def same_as_the_list(self) -> None:
        for join_, record in zip(self.joins, self.records, strict=True):
            assert join_.waiting == len(record.early)
            for row in (0, self.rows - 2, self.rows):
                since = [r for r in record.rows if r.row >= row and r.label is not None]
                assert join_.labelled_since(row) == len(since)
                due = [r.label is not None for r in record.rows if r.row < row]
                assert join_.coverage(row) == (np.mean(due) if due else None)

    @invariant()
    def same_memory_however_batched(self) -> None:
        one, other = (join_.state() for join_ in self.joins[:2])
        assert one.keys() == other.keys()
        for name, values in one.items():
            assert values.tolist() == other[name].tolist(), name

    @invariant()
    def same_rule_for_a_whole_record(self) -> None:
        rows = self.records[-1].rows
        index, of = join(
            [r.name for r in rows],
            [r.at for r in rows],
            [name for name, _, _ in self.told],
            [at for _, _, at in self.told],
        )
        known = {r.row: r.label for r in rows if r.label is not None}
        assert {i: self.told[k][1] for i, k in zip(index, of, strict=True)} == known


@lengths
def test_any_run_joins_as_a_list_of_rows_does(length: settings) -> None:
    run(Joining, length)
