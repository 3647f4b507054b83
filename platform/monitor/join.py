"""The late-label join: ground truth meets the prediction that was stored when it was made."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undrift.ids import pack, unpack, uuid7_time
from undrift.monitor.base import Signal, State
from undrift.monitor.statistics.squared_errors import SquaredErrors
from undrift.records import FloatArray, IntArray, Labels, Predictions, TargetArray, TimeArray

Left = tuple[str, Any, float]
"""Id, label and time of arrival of a label that no prediction in the window has."""

_NO_LABEL = np.iinfo(np.int64).min
_LEFT = 200_000
_COLUMNS = ("row", "at", "version", "answered", "former", "beside", "alone", "label", "notes")


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """What became of labels; every label is counted where it arrives, and again if it waited.

    Attributes:
        joined: Met their prediction, at once or after waiting.
        duplicate: Said again what an earlier label said.
        conflict: Contradicted an earlier label, which stands.
        unknown: Had no prediction yet when they came, and were kept.
        late: Came for a prediction older than the join window.
        expired: Were kept, and given up when no prediction came.
        reused: No label but a prediction whose id another one in the window bears; a label of that
            id goes to the newer.
    """

    joined: int = 0
    duplicate: int = 0
    conflict: int = 0
    unknown: int = 0
    late: int = 0
    expired: int = 0
    reused: int = 0

    def __add__(self, other: LabelCounts) -> LabelCounts:
        """Return the sums, field by field."""
        return LabelCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Joined:
    """Labels that met their predictions, in the order in which they met.

    Attributes:
        row: (n,) row numbers of the predictions.
        version: (n,) model versions that answered.
        wrong: (n,) True where label and the class that was answered differ; of a regression the
            squared error in units of the targets' variance.
        label: (n,) class index that the label named; the model may know no such class. Of a
            regression (n, c) numbers.
        former: (n,) class that the version before would have answered; -1 where it was not asked.
            Of a regression its squared error, NaN where it was not asked.
        beside: (n,) version that ``former`` is of; 0 where that is the version before, and
            ``PASSED_OVER`` where that was not asked for lack of time.
        alone: (n,) as ``wrong``, of the version's own answer, which a mixture may have overruled.
        notes: (n, k) what was noted of each prediction when it was made.
        lag_rows: (n,) rows between the prediction and the newest row when they met.
        lag_seconds: (n,) time between the answer and the arrival of the label; not negative.
    """

    row: IntArray
    version: IntArray
    wrong: NDArray[np.bool_] | NDArray[np.float64]
    label: TargetArray
    former: TargetArray
    beside: IntArray
    alone: NDArray[np.bool_] | NDArray[np.float64]
    notes: FloatArray
    lag_rows: IntArray
    lag_seconds: TimeArray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: NDArray[np.bool_]) -> Joined:
        """Return the rows where the (n,) boolean ``index`` is True."""
        return Joined(
            row=self.row[index],
            version=self.version[index],
            wrong=self.wrong[index],
            label=self.label[index],
            former=self.former[index],
            beside=self.beside[index],
            alone=self.alone[index],
            notes=self.notes[index],
            lag_rows=self.lag_rows[index],
            lag_seconds=self.lag_seconds[index],
        )

    @staticmethod
    def concat(parts: Sequence[Joined]) -> Joined:
        """Join parts (at least one) in order."""
        names = [f.name for f in fields(Joined)]
        return Joined(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


class LabelSignal(Signal[Joined]):
    """A signal that is fed with labels that met their predictions."""

    def note(self, rows: Predictions) -> FloatArray:
        """Return what must be kept of predictions until their labels come.

        It depends on each row and the calibration alone, however rows are batched.

        Args:
            rows: n numbered predictions.

        Returns:
            (n, k) notes, to be given to :meth:`LabelJoin.add`; k is 0 where right or wrong is all
            that the signal asks.
        """
        return np.zeros((len(rows), 0), dtype=np.float32)


class LabelJoin:
    """Joins labels to predictions by inference id, in memory bounded by a window of rows.

    A remembered prediction takes some 230 bytes, and 4 for each number noted of it.

    The first label of a prediction stands. A label of an unknown id is kept for as many rows as the
    window, for the two can overtake each other; a UUIDv7 from before the window is late instead.

    Args:
        window: Newest predictions to keep, and most labels to keep waiting.
        errors: How far numbers are from the truth; None where answers are classes.

    Attributes:
        left: The newest labels that were late or have expired; nothing here depends on them.

    Example:
        >>> join = LabelJoin(window=1000)
        >>> labels = Labels(ids=("a",), label=np.array([1]), at=np.array([5.0]))
        >>> joined, counts = join.label(labels)
        >>> len(joined), counts.unknown
        (0, 1)
    """

    def __init__(self, window: int, errors: SquaredErrors | None = None) -> None:
        self._window, self.errors = window, errors
        self.left: deque[Left] = deque(maxlen=_LEFT)
        self._forget()

    def _forget(self) -> None:
        window = self._window
        self._added = self._first = 0  # predictions so far, and the first that can be in the window
        self._newest_row = -1
        self._sequence: dict[str, int] = {}
        self._ids: list[str] = [""] * window
        self._row = np.zeros(window, dtype=np.int64)
        self._at = np.zeros(window, dtype=np.float64)
        self._version = np.zeros(window, dtype=np.int64)
        self._label = _unlabelled(window, self.errors)
        self._answered, self._former, self._alone = (np.zeros_like(self._label) for _ in range(3))
        self._beside = np.zeros(window, dtype=np.int64)
        self._notes = np.zeros((window, 0), dtype=np.float32)
        # label, at, newest row then; its first item goes in the same time however many went before
        self._orphans: OrderedDict[str, tuple[Any, float, int]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Labels kept for a prediction that has not come."""
        return len(self._orphans)

    @property
    def _held(self) -> IntArray:
        """Slots of the predictions in the window, oldest first."""
        first = max(self._first, self._added - self._window)
        return np.arange(first, self._added) % self._window

    def labelled_since(self, row: int) -> int:
        """Return how many predictions in the window, from ``row`` on, have their label."""
        held = self._held
        return int(np.sum(_told(self._label[held]) & (self._row[held] >= row)))

    def coverage(self, until_row: int) -> float | None:
        """Return the share of predictions in the window before ``until_row`` that have a label.

        Args:
            until_row: First row that is too young to count.

        Returns:
            A fraction, or None if the window has no such row.
        """
        held = self._held
        due = held[self._row[held] < until_row]
        return float(np.mean(_told(self._label[due]))) if len(due) else None

    def due(
        self, until_row: int, version: int, most: int
    ) -> tuple[NDArray[np.bool_], TargetArray, FloatArray]:
        """Return the newest rows of a version before ``until_row``, at most so many.

        Returns:
            (n,) whether they have a label, (n,) class or (n, c) numbers that were answered, (n, k)
            their notes.
        """
        held = self._held
        held = held[(self._row[held] < until_row) & (self._version[held] == version)][-most:]
        return _told(self._label[held]), self._answered[held], self._notes[held]

    def add(self, rows: Predictions, notes: FloatArray | None = None) -> tuple[Joined, LabelCounts]:
        """Remember predictions, and join those whose label came first.

        Args:
            rows: Numbered predictions.
            notes: (n, k) numbers to keep with them; none if left out. Where k differs from that
                of the rows before, theirs are forgotten.

        Returns:
            What joined, and the counts of joined and expired labels and of ids used again.
        """
        if notes is None:
            notes = np.zeros((len(rows), 0), dtype=np.float32)
        if notes.shape[1] != self._notes.shape[1]:
            self._notes = np.zeros((self._window, notes.shape[1]), dtype=np.float32)
        parts, expired, reused = [self._joined([])], self._expire(), 0
        for begin in range(0, len(rows), self._window):
            part = slice(begin, min(begin + self._window, len(rows)))
            found, gone, again = self._remember(rows, notes[part], part)
            parts.append(self._joined(found))
            expired += gone
            reused += again
        joined = Joined.concat(parts)
        return joined, LabelCounts(joined=len(joined), expired=expired, reused=reused)

    def label(self, labels: Labels) -> tuple[Joined, LabelCounts]:
        """Join labels to remembered predictions.

        Args:
            labels: Labels in order of arrival.

        Returns:
            What joined, and the counts of every outcome.
        """
        found: list[tuple[int, float]] = []
        tally = dict.fromkeys(("joined", "duplicate", "conflict", "unknown", "late"), 0)
        expired = self._expire()
        told = _like(self._label, labels.label).tolist()
        for name, label, at in zip(labels.ids, told, labels.at.tolist(), strict=True):
            sequence = self._sequence.get(name)
            if sequence is None:
                tally[self._orphan(name, label, at)] += 1
                expired += self._expire()
                continue
            slot = sequence % self._window
            if not _told(self._label[slot]):
                self._label[slot] = label
                found.append((slot, at))
                tally["joined"] += 1
            else:
                same = np.array_equal(self._label[slot], label)
                tally["duplicate" if same else "conflict"] += 1
        return self._joined(found), LabelCounts(**tally, expired=expired)

    def state(self) -> State:
        """Return a copy of everything remembered, in order of age."""
        slots = self._held
        orphans = list(self._orphans.values())
        return {
            "added": np.array([self._added, self._newest_row]),
            "ids": pack([self._ids[s] for s in slots]),
            **{name: getattr(self, f"_{name}")[slots] for name in _COLUMNS},
            "orphan_ids": pack(list(self._orphans)),
            "orphan_label": _like(self._label, [o[0] for o in orphans]),
            "orphan_at": np.array([o[1] for o in orphans], dtype=np.float64),
            "orphan_row": np.array([o[2] for o in orphans], dtype=np.int64),
        }

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a state saved with any window; what exceeds this one is dropped."""
        self._forget()
        names = unpack(state["ids"])
        added, self._newest_row = (int(v) for v in state["added"])
        size = min(len(names), self._window)
        self._added, self._first = added, added - size
        slots = self._held
        self._notes = np.zeros((self._window, state["notes"].shape[1]), dtype=np.float32)
        for name in _COLUMNS:
            getattr(self, f"_{name}")[slots] = state[name][len(names) - size :]
        for sequence, name in enumerate(names[len(names) - size :], start=added - size):
            self._ids[sequence % self._window] = name
            self._sequence[name] = sequence
        columns = (state[f"orphan_{c}"].tolist() for c in ("label", "at", "row"))
        rows = zip(*columns, strict=True)
        self._orphans = OrderedDict(zip(unpack(state["orphan_ids"]), rows, strict=True))

    def _remember(
        self, rows: Predictions, notes: FloatArray, part: slice
    ) -> tuple[list[tuple[int, float]], int, int]:
        """Store ``part`` of the rows, at most a window.

        Returns:
            Slots and times of the labels that waited for them, how many labels expired, and how
            many ids were used again.
        """
        slots = np.arange(self._added, self._added + len(notes)) % self._window
        self._row[slots] = rows.row[part]
        self._at[slots] = rows.at[part]
        self._version[slots] = rows.version[part]
        self._answered[slots] = rows.answers[part]
        self._former[slots], self._beside[slots] = rows.formers[part], rows.asked[part]
        self._alone[slots] = rows.alone[part]
        self._label[slots] = _unlabelled(len(slots), self.errors)
        self._notes[slots] = notes
        found: list[tuple[int, float]] = []
        expired = reused = 0
        for slot, name, row in zip(
            slots.tolist(), rows.ids[part], rows.row[part].tolist(), strict=True
        ):
            if self._sequence.get(self._ids[slot]) == self._added - self._window:
                del self._sequence[self._ids[slot]]
            self._ids[slot] = name
            reused += name in self._sequence
            self._sequence[name] = self._added
            self._added += 1
            if name in self._orphans:
                label, at, _ = self._orphans.pop(name)
                self._label[slot] = label
                found.append((slot, at))
            self._newest_row = row
            expired += self._expire()
        return found, expired, reused

    def _orphan(self, name: str, label: Any, at: float) -> str:
        kept = self._orphans.get(name)
        if kept is not None:
            return "duplicate" if kept[0] == label else "conflict"
        oldest = max(self._first, self._added - self._window)
        if oldest > 0 and uuid7_time(name) < self._at[oldest % self._window]:
            self.left.append((name, label, at))
            return "late"
        self._orphans[name] = (label, at, self._newest_row)
        return "unknown"

    def _expire(self) -> int:
        expired = 0
        while self._orphans:
            name, (label, at, row) = next(iter(self._orphans.items()))
            if len(self._orphans) <= self._window and self._newest_row - row <= self._window:
                break
            self._orphans.popitem(last=False)
            self.left.append((name, label, at))
            expired += 1
        return expired

    def _joined(self, found: list[tuple[int, float]]) -> Joined:
        slots = np.array([slot for slot, _ in found], dtype=np.int64)
        arrived = np.array([at for _, at in found], dtype=np.float64)
        label, answered, former = self._label[slots], self._answered[slots], self._former[slots]
        alone, far = self._alone[slots], self.errors
        return Joined(
            row=self._row[slots],
            version=self._version[slots],
            wrong=label != answered if far is None else far(answered, label),
            label=label,
            former=former if far is None else far(former, label),
            beside=self._beside[slots],
            alone=label != alone if far is None else far(alone, label),
            notes=self._notes[slots],
            lag_rows=self._newest_row - self._row[slots],
            lag_seconds=np.maximum(arrived - self._at[slots], 0.0),
        )


def _unlabelled(n: int, errors: SquaredErrors | None) -> TargetArray:
    """Return labels of n predictions that have none yet."""
    if errors is None:
        return np.full(n, _NO_LABEL, dtype=np.int64)
    return np.full((n, errors.width), np.nan, dtype=np.float32)


def _told(label: Any) -> Any:
    """Return which of some labels there are."""
    return label != _NO_LABEL if label.dtype == np.int64 else ~np.isnan(label[..., 0])


def _like(kept: TargetArray, labels: Any) -> TargetArray:
    """Return labels of the kind and shape of those that are kept."""
    return np.asarray(labels, dtype=kept.dtype).reshape(len(labels), *kept.shape[1:])
