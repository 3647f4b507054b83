"""What a demo plays: rows in order, the truth of each, and when that truth arrives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undrift.records import FloatArray, IntArray, TargetArray

NEVER = int(np.iinfo(np.int64).max)
"""``label_at`` of a row whose label never arrives."""

UNKNOWN = -1
"""``y`` of a row whose label is not known to anybody."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled rows.

    Attributes:
        x: (n, *input_shape) inputs.
        y: (n,) class index, or ``UNKNOWN``; or (n,) or (n, c) numbers, or NaN.
    """

    x: FloatArray
    y: TargetArray

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Rows:
        """Return the rows at ``index``."""
        return Rows(self.x[index], self.y[index])


@dataclass(frozen=True, slots=True)
class Stream:
    """A labelled stream: rows for the first model, then the live rows in order.

    Attributes:
        name: Short name, a word; also the name of the served model.
        title: Title for a person.
        task: One or two sentences: what is predicted from what, and what changes.
        input_shape: Shape of one row.
        class_names: Name of each class; none where labels are numbers.
        train: What the first model learns from.
        reference: Held out from ``train``; what the signals are calibrated on.
        live: The stream itself; rows of unknown label carry ``UNKNOWN``.
        label_at: (n,) number of live rows sent when the label of row i arrives.
        notes: What was done to the data, one sentence each.
        drift_row: Live row at which the world starts to change, where that is known.
        rows_before: Rows of the same file before the live ones; "last three fifths" counts them.
        reference_row: (n,) where the reference rows stood, ascending; None: in no order.
        features: Names of the columns of a table; empty for images.
    """

    name: str
    title: str
    task: str
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    train: Rows
    reference: Rows
    live: Rows
    label_at: IntArray
    notes: tuple[str, ...] = ()
    drift_row: int | None = None
    rows_before: int = 0
    reference_row: IntArray | None = None
    features: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.live)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def due(self) -> tuple[NDArray[np.intp], IntArray]:
        """Return the rows whose label arrives at all, by arrival, and the arrivals.

        Returns:
            (k,) live rows and (k,) the number of rows sent when each label arrives, ascending.
        """
        there = np.flatnonzero((self.label_at < NEVER) & known(self.live.y))
        order = there[np.argsort(self.label_at[there], kind="stable")]
        return order, self.label_at[order]


def known(values: TargetArray) -> NDArray[np.bool_]:
    """Return which of (n,) or (n, c) labels or answers there are: no class below 0, and no NaN."""
    if np.issubdtype(values.dtype, np.integer):
        found: NDArray[np.bool_] = values > UNKNOWN
        return found
    return np.asarray(~np.isnan(values).any(axis=tuple(range(1, values.ndim))), np.bool_)


def fixed_lag(y: TargetArray, lag: int) -> IntArray:
    """Return the arrival of each label, ``lag`` rows after its own row.

    Args:
        y: (n,) class index, or ``UNKNOWN``, or numbers, or NaN: such labels never arrive.
        lag: Rows between a prediction and its label, at least 0.

    Returns:
        (n,) number of rows sent when the label arrives; ``NEVER`` for unknown labels.

    Example:
        >>> import numpy as np
        >>> fixed_lag(np.array([1, 0]), 5).tolist()
        [6, 7]
    """
    arrival = np.arange(1, len(y) + 1, dtype=np.int64) + lag
    return np.where(known(y), arrival, NEVER)
