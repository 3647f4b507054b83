"""The labelled rows known at one moment, and which of them a retraining uses for what."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from undrift.errors import TrainingError
from undrift.evidence import DriftKind
from undrift.records import (
    FloatArray,
    IntArray,
    Labels,
    Predictions,
    Reference,
    TargetArray,
    TimeArray,
)
from undrift.train.density import density_ratio
from undrift.train.doubt import UNDOUBTED, Answered, Stratum, doubts, strata_of
from undrift.train.reach import NEWEST, joined, labelled
from undrift.train.settings import TrainSettings
from undrift.train.strata import by_target, stratify
from undrift.train.validity import validity

Index = NDArray[np.intp]

REFERENCE_ROW = -1
JUDGED = 1000  # most rows of a held-out set
_BLOCK, _EVERY = 10, 5  # every fifth block of ten rows is held out, for ever
_MIN_JUDGED = 20
_TRUE = 0.5  # validity from which on older rows show what is forgotten


@dataclass(frozen=True, slots=True)
class Pool:
    """Everything labelled, reference rows first, then rows in order.

    Attributes:
        x: (n, *input_shape) inputs.
        y: (n,) class index, or (n,) or (n, c) targets of a regression.
        row: (n,) row number; -1 for rows of the base version's reference.
        at: (n,) time of the answer, Unix seconds; 0 for reference rows.
        newest: (m, *input_shape) the newest inputs, labelled or not.
        newest_row: (m,) their row numbers.
        answered: What the versions that answered the rows made of them; None where nobody knows.
    """

    x: FloatArray
    y: TargetArray
    row: IntArray
    at: TimeArray
    newest: FloatArray
    newest_row: IntArray
    answered: Answered | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def misnamed(self) -> NDArray[np.bool_]:
        """Which rows (n,) the version that answered them misnamed; none where nobody knows."""
        if self.answered is None or not np.issubdtype(self.y.dtype, np.integer):
            return np.zeros(len(self), dtype=np.bool_)
        wrong: NDArray[np.bool_] = self.answered.named != self.y
        return wrong

    def newest_since(self, rows: int) -> int:
        """Return the row from which on there are ``rows`` labelled rows, or the first row."""
        live = self.row[self.row != REFERENCE_ROW]
        return int(live[-rows:][0]) if len(live) else 0

    def and_later(self, later: Pool) -> tuple[Pool, Index]:
        """Return this pool with the rows of a later one that it lacks, last, and their index."""
        new = np.flatnonzero((later.row != REFERENCE_ROW) & ~np.isin(later.row, self.row))
        told = None
        if self.answered is not None and later.answered is not None:
            told = self.answered.and_(later.answered.take(new))
        whole = replace(
            self,
            x=np.concatenate([self.x, later.x[new]]),
            y=np.concatenate([self.y, later.y[new]]),
            row=np.concatenate([self.row, later.row[new]]),
            at=np.concatenate([self.at, later.at[new]]),
            answered=told,
        )
        return whole, np.arange(len(self), len(whole))

    @staticmethod
    def of(reference: Reference) -> Pool:
        """Return the pool of a reference alone."""
        n, x = len(reference), reference.x
        row = np.full(n, REFERENCE_ROW, dtype=np.int64)
        return Pool(x, reference.y, row, np.zeros(n), x[:0], row[:0])

    @staticmethod
    def build(
        predictions: Predictions, labels: Labels, reference: Reference, max_rows: int
    ) -> Pool:
        """Join labels to predictions and add the reference.

        Args:
            predictions: Stored rows in order of row number.
            labels: Labels in order of arrival; `ids.join` has the rule.
            reference: Reference of the base version.
            max_rows: Labelled rows to keep, the newest; the reference comes on top.

        Example:
            >>> p = Predictions(("a", "b"), np.array([0, 1]), np.zeros(2), np.ones(2, np.int64),
            ...     np.zeros((2, 3), np.float32), np.zeros((2, 1), np.float32), np.ones((2, 2)))
            >>> r = Reference(np.ones((1, 3), np.float32), np.array([1]), np.zeros((1, 1)),
            ...     np.ones((1, 2)), np.array([True]))
            >>> pool = Pool.build(p, Labels(("b", "b"), np.array([1, 0]), np.zeros(2)), r, 100)
            >>> pool.row.tolist(), pool.y.tolist()
            ([-1, 1], [1, 1])

        Raises:
            TrainingError: Labels and reference have targets of different kinds.
        """
        index, told = labelled(predictions.ids, predictions.at, labels, max_rows)
        newest = predictions.x[-NEWEST:], predictions.row[-NEWEST:]
        return Pool.of_rows(reference, predictions.take(index), labels.label[told], *newest)

    @staticmethod
    def of_rows(
        reference: Reference,
        rows: Predictions,
        y: TargetArray,
        newest: FloatArray,
        newest_row: IntArray,
    ) -> Pool:
        """Return the pool of a reference and labelled rows.

        Args:
            reference: Reference of the base version.
            rows: The n labelled rows, ascending.
            y: Their labels.
            newest: (m, *input_shape) the newest inputs, labelled or not.
            newest_row: (m,) their row numbers.

        Raises:
            TrainingError: Labels and reference have targets of different kinds.
        """
        n = len(reference)
        return Pool(
            x=np.concatenate([reference.x, rows.x]),
            y=joined(reference.y, y),
            row=np.concatenate([np.full(n, REFERENCE_ROW, dtype=np.int64), rows.row]),
            at=np.concatenate([np.zeros(n), rows.at]),
            newest=newest,
            newest_row=newest_row,
            answered=Answered.of(reference, rows),
        )


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows of a pool a retraining uses, and for what.

    Attributes:
        index: (k,) candidates for training.
        row: (k,) row number of each; -1 for rows of the base version's reference.
        weight: (k,) trust in each candidate; 0 for rows that are only offered to the bandit.
        stratum: (k,) stratum of each candidate.
        strata: The strata, by side of the drift and by whether labels are in doubt.
        new: (k,) True for candidates of the regime that is trained for.
        validation: Held-out rows of that regime; the gate judges on them.
        retention: Held-out rows of older regimes whose labels are still true.
        validity: (k,) how far the labels of a candidate's stratum are still true, from 0 to 1.
        missed: (k,) True for candidates of the new regime that whichever version answered them
            misnamed, though their labels are not in doubt.
    """

    index: Index
    row: IntArray
    weight: NDArray[np.float64]
    stratum: Index
    strata: tuple[Stratum, ...]
    new: NDArray[np.bool_]
    validation: Index
    retention: Index
    validity: NDArray[np.float64]
    missed: NDArray[np.bool_]

    @property
    def older_validity(self) -> float:
        """How far the labels of older candidates are still true on average, 0 without any."""
        older = self.validity[~self.new]
        return float(older.mean()) if len(older) else 0.0


def held_out(pool: Pool) -> NDArray[np.bool_]:
    """Return the rows (n,) that no retraining ever trains on.

    Live rows are held out in short blocks, every fifth block of ten: neighbours in an
    autocorrelated stream would give an answer away. Of the reference, half is held out, by a
    hash of the content. So a row held out once is held out for ever, in every later version; but
    a version is also judged by rows whose labels came while it trained, and later ones may train
    on those.
    """
    blocks: NDArray[np.bool_] = (pool.row // _BLOCK) % _EVERY == _EVERY - 1
    reference = pool.row == REFERENCE_ROW
    hashes = [zlib.crc32(np.ascontiguousarray(x).tobytes()) & 1 for x in pool.x[reference]]
    blocks[reference] = np.array(hashes, dtype=bool)
    return blocks


def split_pool(
    pool: Pool,
    *,
    kind: DriftKind,
    regime_start: int,
    settings: TrainSettings,
    seed: int,
    numbers: IntArray | None = None,
) -> Split:
    """Decide which rows to train on, from what has drifted.

    ========== ==============================================================================
    concept    rows from the change point on, and older ones that agree with them
    covariate  all labelled rows, weighted to look like the newest inputs
    both       rows from the change point on, and older ones that do not contradict them
    none       all labelled rows: an operator asked
    ========== ==============================================================================

    Older rows count as far as the labels of their stratum are still true (`validity`). Where there
    is a regime, they get the retention share of the trust, less what is no longer true.

    Args:
        pool: The labelled rows.
        kind: What has drifted.
        regime_start: First row of the regime to train for.
        settings: Batch size and retention share.
        seed: Seed of every subsampling.
        numbers: Columns of the inputs by which rows resemble each other; None for all.

    Raises:
        TrainingError: Too few rows, or only one target, to train on; or none to judge with.
    """
    rng = np.random.default_rng(seed)
    kept_out = held_out(pool)
    live = pool.row != REFERENCE_ROW
    recent = live & (pool.row >= regime_start)
    index = np.flatnonzero(~kept_out)
    by_regime = kind in (DriftKind.CONCEPT, DriftKind.BOTH)
    _check_count(int(recent[index].sum()) if by_regime else len(index), by_regime, settings)
    x = pool.x if numbers is None else pool.x[:, numbers]
    stratum = stratify(pool.row, by_target(pool.y), recent)
    valid = _valid(x, pool.y, stratum, recent, index, kind, seed)
    validation, retention = _judged(pool, kept_out, recent, rng, valid)
    if not len(validation):
        raise TrainingError("no labelled row is left to judge a candidate on; wait for more labels")
    weight = valid.copy()
    if by_regime:
        share = settings.retention_share
        weight[~recent] *= _older_factor(weight[index], recent[index], share)
    elif kind is DriftKind.COVARIATE:
        here = pool.newest_row >= regime_start
        newest = pool.newest[here] if here.any() else pool.newest
        newest = newest if numbers is None else newest[:, numbers]
        bounded = np.clip(density_ratio(x, newest, seed=seed), 0.1, 10.0)
        weight *= bounded / bounded.mean()
    _check_targets(pool.y[index[weight[index] > 0.0]], by_regime)
    doubt = doubts(pool.y, pool.answered, recent, ~kept_out, seed)
    missed = recent & (doubt == UNDOUBTED) & pool.misnamed
    arm, strata = strata_of(doubt, recent, index, np.concatenate([validation, retention]))
    return Split(
        index=index,
        row=pool.row[index],
        weight=weight[index],
        stratum=arm,
        strata=strata,
        new=recent[index],
        validation=validation,
        retention=retention,
        validity=valid[index],
        missed=missed[index],
    )


def split_to_judge(
    pool: Pool,
    *,
    kind: DriftKind,
    regime_start: int,
    seed: int,
    numbers: IntArray | None = None,
) -> Split:
    """Return the held-out rows that judge a version that was trained elsewhere.

    They are those that would judge a candidate. All other rows are named as well, for heads.

    Args:
        pool: The labelled rows; there may be none beside the reference.
        kind: What has drifted.
        regime_start: First row of the regime that it is for.
        seed: Seed of every subsampling.
        numbers: Columns of the inputs by which rows resemble each other; None for all.
    """
    kept_out = held_out(pool)
    recent = (pool.row != REFERENCE_ROW) & (pool.row >= regime_start)
    index = np.flatnonzero(~kept_out)
    x = pool.x if numbers is None else pool.x[:, numbers]
    stratum = stratify(pool.row, by_target(pool.y), recent)
    valid = _valid(x, pool.y, stratum, recent, index, kind, seed)
    validation, retention = _judged(pool, kept_out, recent, np.random.default_rng(seed), valid)
    return Split(
        index=index,
        row=pool.row[index],
        weight=np.ones(len(index)),
        stratum=np.zeros(len(index), dtype=np.intp),
        strata=(Stratum(new=True, kind=UNDOUBTED, twins=validation),),
        new=recent[index],
        validation=validation,
        retention=retention,
        validity=valid[index],
        missed=np.zeros(len(index), dtype=np.bool_),
    )


def _valid(
    x: FloatArray,
    y: TargetArray,
    stratum: Index,
    recent: NDArray[np.bool_],
    index: Index,
    kind: DriftKind,
    seed: int,
) -> NDArray[np.float64]:
    """Return how far each row (n,) is still true, judged on the candidates ``index`` alone."""
    doubt = kind is DriftKind.CONCEPT
    found = validity(x[index], y[index], stratum[index], recent[index], doubt=doubt, seed=seed)
    of_stratum = np.ones(int(stratum.max(initial=-1)) + 1)
    of_stratum[: len(found)] = found
    valid: NDArray[np.float64] = of_stratum[stratum]
    return valid


def _older_factor(weight: NDArray[np.float64], new: NDArray[np.bool_], share: float) -> float:
    """Return by what to multiply the validity of older rows to leave them a share of the trust.

    Args:
        weight: (k,) validity of each candidate.
        new: (k,) True for candidates of the regime.
        share: Share of older rows, if all are valid; less, as far as they are not.
    """
    older = weight[~new]
    if not older.any():
        return 0.0
    left = share * float(older.mean())
    return left / (1.0 - left) * float(new.sum()) / float(older.sum())


def _check_count(rows: int, by_regime: bool, settings: TrainSettings) -> None:
    if rows < settings.batch_size:
        what = "of the new regime " if by_regime else ""
        raise TrainingError(
            f"only {rows} labelled rows {what}are there to train on, fewer than one batch of "
            f"{settings.batch_size}; wait for more labels or lower train.batch_size"
        )


def _check_targets(y: TargetArray, by_regime: bool) -> None:
    if (y == y[0]).all():
        what = "of the new regime " if by_regime else ""
        one = "class" if np.issubdtype(y.dtype, np.integer) else "target"
        raise TrainingError(
            f"all {len(y)} labelled rows {what}are of {one} {y[0]}; a model cannot be trained on "
            f"one {one}"
        )


def _judged(
    pool: Pool,
    kept_out: NDArray[np.bool_],
    recent: NDArray[np.bool_],
    rng: np.random.Generator,
    valid: NDArray[np.float64],
) -> tuple[Index, Index]:
    """Return the newest held-out live rows, of the regime if it has enough, and true older ones."""
    live = kept_out & (pool.row != REFERENCE_ROW)
    newest = np.flatnonzero(live & recent)
    if len(newest) < _MIN_JUDGED:
        newest = np.flatnonzero(live)[-_MIN_JUDGED:]
    newest = newest[-JUDGED:]
    older = np.setdiff1d(np.flatnonzero(~recent & kept_out & (valid >= _TRUE)), newest)
    if len(older) > JUDGED:
        older = np.sort(rng.choice(older, JUDGED, replace=False))
    return newest, older
