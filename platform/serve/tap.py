"""The bounded buffer between answering requests and monitoring them."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undrift.records import FloatArray, Predictions, TargetArray
from undrift.serve.settings import TapSettings
from undrift.serve.slots import Answer


@dataclass(frozen=True, slots=True)
class Answered:
    """Rows that one forward pass answered, as they were at hand; many make Predictions at once.

    Attributes:
        ids: Inference ids of each request.
        at: Time of the answer, Unix seconds.
        x: (n, *input_shape) rows of all requests.
        answer: What was said.
        answered: What was answered, where the model's own output does not tell.
    """

    ids: Sequence[tuple[str, ...]]
    at: float
    x: FloatArray
    answer: Answer
    answered: TargetArray | None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes, as that of Predictions."""
        return self.x.nbytes + self.answer.nbytes + 24 * len(self.x)

    def predictions(self) -> Predictions:
        """Return them as they travel."""
        return self.joined([self])

    @staticmethod
    def joined(parts: Sequence[Answered]) -> Predictions:
        """Return the rows of all parts, at least one, in order."""
        counts = [len(part) for part in parts]
        told = [part.answered for part in parts]
        if any(answered is not None for answered in told):
            told = [
                part.answer.alone.argmax(axis=1) if part.answered is None else part.answered
                for part in parts
            ]
        return Predictions(
            ids=tuple(i for part in parts for ids in part.ids for i in ids),
            row=np.zeros(sum(counts), np.int64),
            at=np.repeat([part.at for part in parts], counts),
            version=np.repeat([part.answer.version for part in parts], counts),
            x=_joined([part.x for part in parts]),
            embedding=_joined([part.answer.embedding for part in parts]),
            output=_joined([part.answer.alone for part in parts]),
            answered=None if told[0] is None else _joined([t for t in told if t is not None]),
        )


class Tap:
    """Holds answered rows until somebody takes them; drops the newest when full.

    ``offer`` never waits for the taker to deliver: the lock is held for counting, and at most for
    cutting one part in two. With nobody taking, memory stays within the two limits.

    Args:
        settings: Limits in rows and bytes.

    Attributes:
        rows_offered: Rows offered so far.
        rows_dropped: Rows that did not fit, or were taken and then lost.
    """

    def __init__(self, settings: TapSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._parts: deque[Predictions | Answered] = deque()
        self._rows = 0
        self._bytes = 0
        self.rows_offered = 0
        self.rows_dropped = 0

    def __len__(self) -> int:
        """Rows waiting."""
        return self._rows

    @property
    def nbytes(self) -> int:
        """Bytes waiting."""
        return self._bytes

    def offer(self, part: Predictions | Answered) -> None:
        """Add rows, or drop them all if they do not fit.

        Args:
            part: At least one row.
        """
        rows, size = len(part), part.nbytes
        with self._lock:
            self.rows_offered += rows
            if (
                self._rows + rows > self._settings.max_rows
                or self._bytes + size > self._settings.max_bytes
            ):
                self.rows_dropped += rows
                return
            self._parts.append(part)
            self._rows += rows
            self._bytes += size

    def take(self, max_rows: int) -> Predictions | None:
        """Remove and return up to ``max_rows`` rows in order of arrival; None if none wait."""
        parts: list[Predictions | Answered] = []
        wanted = max_rows
        with self._lock:
            while self._parts and wanted > 0:
                part = self._parts.popleft()
                self._bytes -= part.nbytes
                if len(part) > wanted:
                    part = _predictions([part])
                    rest = part.take(slice(wanted, None))
                    part = part.take(slice(wanted))
                    self._parts.appendleft(rest)
                    self._bytes += rest.nbytes
                parts.append(part)
                wanted -= len(part)
                self._rows -= len(part)
        return _predictions(parts) if parts else None

    def mark_lost(self, rows: int) -> None:
        """Count rows that were taken but could not be delivered."""
        with self._lock:
            self.rows_dropped += rows

    def drop(self) -> None:
        """Count all that wait as lost; nobody will take them any more."""
        with self._lock:
            self.rows_dropped += self._rows
            self._parts.clear()
            self._rows = self._bytes = 0


def _predictions(parts: Sequence[Predictions | Answered]) -> Predictions:
    """Return the rows of all parts, at least one, in order."""
    whole: list[Predictions] = []
    for raw, run in itertools.groupby(parts, lambda part: isinstance(part, Answered)):
        if raw:
            whole.append(Answered.joined([part for part in run if isinstance(part, Answered)]))
        else:
            whole += [part for part in run if isinstance(part, Predictions)]
    return Predictions.concat(whole)


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return all parts as one; one alone is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
