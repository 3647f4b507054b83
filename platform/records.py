"""Records that travel between serving, monitoring, storage and training; rows in columns.

Columns are plain NumPy so that they cross Ray's object store without a copy. Rows are numbered by
the monitor in the order in which it made them durable; that number, not the clock, is the time
axis of every signal, change point and training pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
TimeArray = NDArray[np.float64]
TargetArray = NDArray[Any]  # int64 class indices, or float32 numbers to be met

PASSED_OVER = -1  # in `Predictions.beside`


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which versions a model's replicas hold, and which of them answers.

    One value from the decision to the replica, so that a second version in service is another
    field and not another message.

    Attributes:
        live: Version that answers.
        shadow: Version that is asked too, and whose answers nobody gets.
        canary: Version that answers a part of the requests.
        share: Part of the requests that the canary answers, or the shadow is asked, 0 to 1.

    Raises:
        ValueError: One version has two parts, or the share does not fit.

    Example:
        >>> Assignment(3, canary=4, share=0.1).versions
        (3, 4)
        >>> Assignment.from_dict(Assignment(3).to_dict())
        Assignment(live=3, shadow=None, canary=None, share=0.0)
    """

    live: int
    shadow: int | None = None
    canary: int | None = None
    share: float = 0.0

    def __post_init__(self) -> None:
        if len(set(self.versions)) < len(self.versions):
            raise ValueError(f"{self}: a version has one part, not two")
        if not 0 <= self.share <= 1:
            raise ValueError(f"{self}: share must be between 0 and 1")
        if self.share > 0 and self.candidate is None:
            raise ValueError(f"{self}: a share needs a shadow or a canary")

    @property
    def candidate(self) -> int | None:
        """Version that is tried beside the live one, as shadow or as canary."""
        return self.shadow if self.canary is None else self.canary

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version that takes part, the live one first."""
        others = (v for v in (self.shadow, self.canary) if v is not None)
        return (self.live, *others)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the assignment that `to_dict` has described.

        Raises:
            ValueError: It is not one.
        """
        try:
            return cls(**data)
        except TypeError:
            raise ValueError(f"{dict(data)} is no assignment of versions") from None


@dataclass(frozen=True, slots=True)
class Predictions:
    """Answers given by the model, one row each.

    Attributes:
        ids: n inference ids, unique; UUIDv7 unless the caller chose them.
        row: (n,) row numbers; zeros until the monitor numbers them.
        at: (n,) time of the answer, Unix seconds.
        version: (n,) model version that answered.
        x: (n, *input_shape) model input.
        embedding: (n, e) input of the last linear layer.
        output: (n, c) class probabilities by that version, or answers of a regression.
        answered: (n,) class that was answered; None: the likeliest in ``output``. A mixture of the
            model with others may have answered another. (n, c) numbers of a regression, never None.
        former: (n,) class that the version before would have answered, -1 where it was not asked,
            or (n, c) numbers of a regression, NaN where it was not; None: nowhere.
        beside: (n,) version whose answer ``former`` is, where that is not the version before, as in
            a rollout; 0 where it is; ``PASSED_OVER`` where the version before was there and was
            not asked, for it had taken its time. None: nowhere another.
    """

    ids: tuple[str, ...]
    row: IntArray
    at: TimeArray
    version: IntArray
    x: FloatArray
    embedding: FloatArray
    output: FloatArray
    answered: TargetArray | None = None
    former: TargetArray | None = None
    beside: IntArray | None = None

    @property
    def answers(self) -> TargetArray:
        """(n,) class that was answered, or (n, c) numbers."""
        if self.answered is not None:
            return self.answered
        likeliest: IntArray = self.output.argmax(axis=1)
        return likeliest

    @property
    def alone(self) -> TargetArray:
        """(n,) class that the version alone would have answered, or (n, c) numbers."""
        numbers = self.answered is not None and self.answered.dtype.kind == "f"
        likeliest: IntArray = self.output.argmax(axis=1)
        return self.output if numbers else likeliest

    @property
    def formers(self) -> TargetArray:
        """(n,) class that the version before would have answered, -1 where it was not asked.

        Of a regression (n, c) numbers, and NaN there.
        """
        if self.former is not None:
            return self.former
        numbers = self.answered is not None and self.answered.dtype.kind == "f"
        return np.full_like(self.answers, np.nan if numbers else -1)

    @property
    def asked(self) -> IntArray:
        """(n,) version whose answer ``former`` is; 0 where that is the version before."""
        return np.zeros(len(self), np.int64) if self.beside is None else self.beside

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return self.x.nbytes + self.embedding.nbytes + self.output.nbytes + 24 * len(self.ids)

    def numbered(self, first_row: int) -> Predictions:
        """Return the same rows numbered upward from ``first_row``."""
        return replace(self, row=np.arange(first_row, first_row + len(self), dtype=np.int64))

    def take(self, index: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Predictions:
        """Return the rows at ``index``, a slice, or an integer or boolean index.

        A slice copies no numbers: what it returns has views.
        """
        if isinstance(index, slice):
            ids = self.ids[index]
        else:
            ids = tuple(self.ids[i] for i in np.arange(len(self))[index])
        return Predictions(
            ids=ids,
            row=self.row[index],
            at=self.at[index],
            version=self.version[index],
            x=self.x[index],
            embedding=self.embedding[index],
            output=self.output[index],
            answered=None if self.answered is None else self.answered[index],
            former=None if self.former is None else self.former[index],
            beside=None if self.beside is None else self.beside[index],
        )

    @staticmethod
    def concat(parts: Sequence[Predictions]) -> Predictions:
        """Join parts (at least one) in order; one alone is not copied."""
        if len(parts) == 1:
            return parts[0]
        mixed = any(part.answered is not None for part in parts)
        compared = any(part.former is not None for part in parts)
        tried = any(part.beside is not None for part in parts)
        return Predictions(
            ids=tuple(i for part in parts for i in part.ids),
            row=np.concatenate([part.row for part in parts]),
            at=np.concatenate([part.at for part in parts]),
            version=np.concatenate([part.version for part in parts]),
            x=np.concatenate([part.x for part in parts]),
            embedding=np.concatenate([part.embedding for part in parts]),
            output=np.concatenate([part.output for part in parts]),
            answered=np.concatenate([part.answers for part in parts]) if mixed else None,
            former=np.concatenate([part.formers for part in parts]) if compared else None,
            beside=np.concatenate([part.asked for part in parts]) if tried else None,
        )


@dataclass(frozen=True, slots=True)
class Labels:
    """Ground truth by inference id, in order of arrival.

    Attributes:
        ids: n inference ids; repeats and unknown ids are allowed.
        label: (n,) class index, or (n,) or (n, c) targets of a regression.
        at: (n,) time of arrival, Unix seconds.
    """

    ids: tuple[str, ...]
    label: TargetArray
    at: TimeArray

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def concat(parts: Sequence[Labels]) -> Labels:
        """Join parts (at least one) in order."""
        return Labels(
            ids=tuple(i for part in parts for i in part.ids),
            label=np.concatenate([part.label for part in parts]),
            at=np.concatenate([part.at for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Reference:
    """Held-out labelled rows as one version of the model sees them; stored with that version.

    The signals measure departures from it, and the importance regulariser and the retention
    test use it as "what must not be forgotten".

    Attributes:
        x: (n, *input_shape) inputs.
        y: (n,) class index, or (n,) or (n, c) targets of a regression.
        embedding: (n, e) input of the last linear layer.
        output: (n, c) class probabilities, or answers of a regression.
        recent: (n,) True for rows of the regime that the version was trained for; the signals
            are calibrated on those, retention is tested on the others.
        row: (n,) where each row stood in its stream, ascending among recent rows; the gaps tell
            how fast correlation fades. Without it the rows count as consecutive.
        newest: The newest labelled rows in order, trained on or not; heads that follow the labels
            begin with them. None for a version that no retraining made.
    """

    x: FloatArray
    y: TargetArray
    embedding: FloatArray
    output: FloatArray
    recent: NDArray[np.bool_]
    row: IntArray | None = None
    newest: Reference | None = None

    @property
    def rows(self) -> IntArray:
        """(n,) where each row stood in its stream."""
        return np.arange(len(self.y)) if self.row is None else self.row

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: NDArray[np.intp]) -> Reference:
        """Return the rows at ``index`` (k,) alone, each still where it stood in its stream."""
        return Reference(
            x=self.x[index],
            y=self.y[index],
            embedding=self.embedding[index],
            output=self.output[index],
            recent=self.recent[index],
            row=self.rows[index],
        )
