"""The labelled rows known at one moment, and which of them a retraining uses for what."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undrift.errors import TrainingError
from undrift.events import DriftKind
from undrift.records import FloatArray, IntArray, Labels, Predictions, Reference, TimeArray
from undrift.train.density import density_ratio
from undrift.train.settings import TrainSettings
from undrift.train.strata import stratify

Index = NDArray[np.intp]

REFERENCE_ROW = -1
_NEWEST = 1000  # newest inputs, labelled or not, that show where the inputs are now
_JUDGED = 1000  # most rows of a held-out set
_BLOCK, _EVERY = 10, 5  # every fifth block of ten rows is held out, for ever
_MIN_JUDGED = 20
_FAINT = 0.1  # least resemblance to the new inputs that an older row is credited with


@dataclass(frozen=True, slots=True)
class Pool:
    """Everything labelled, reference rows first, then rows in order.

    Attributes:
        x: (n, *input_shape) inputs.
        y: (n,) class index.
        row: (n,) row number; -1 for rows of the base version's reference.
        at: (n,) time of the answer, Unix seconds; 0 for reference rows.
        newest: (m, *input_shape) the newest inputs, labelled or not.
        newest_row: (m,) their row numbers.
    """

    x: FloatArray
    y: IntArray
    row: IntArray
    at: TimeArray
    newest: FloatArray
    newest_row: IntArray

    def __len__(self) -> int:
        return len(self.y)

    def newest_since(self, rows: int) -> int:
        """Return the row from which on there are ``rows`` labelled rows, or the first row."""
        live = self.row[self.row != REFERENCE_ROW]
        return int(live[-rows:][0]) if len(live) else 0

    @staticmethod
    def build(
        predictions: Predictions, labels: Labels, reference: Reference, max_rows: int
    ) -> Pool:
        """Join labels to predictions and add the reference.

        Args:
            predictions: Stored rows in order of row number.
            labels: Labels in order of arrival; the first for an id wins, unknown ids are skipped.
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
        """
        first: dict[str, int] = {}
        for name, label in zip(labels.ids, labels.label.tolist(), strict=True):
            first.setdefault(name, label)
        found = [i for i, name in enumerate(predictions.ids) if name in first][-max_rows:]
        index = np.array(found, dtype=np.intp)
        y = np.array([first[predictions.ids[i]] for i in found], dtype=np.int64)
        n_reference = len(reference)
        return Pool(
            x=np.concatenate([reference.x, predictions.x[index]]),
            y=np.concatenate([reference.y, y]),
            row=np.concatenate(
                [np.full(n_reference, REFERENCE_ROW, dtype=np.int64), predictions.row[index]]
            ),
            at=np.concatenate([np.zeros(n_reference), predictions.at[index]]),
            newest=predictions.x[-_NEWEST:],
            newest_row=predictions.row[-_NEWEST:],
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which rows of a pool a retraining uses, and for what.

    Attributes:
        index: (k,) candidates for training.
        weight: (k,) trust in each candidate; 0 for rows that are only offered to the bandit.
        stratum: (k,) stratum of each candidate.
        strata: Name of each stratum.
        new: (k,) True for candidates of the regime that is trained for.
        validation: Held-out rows of that regime; the gate judges on them.
        retention: Held-out rows of older regimes.
    """

    index: Index
    weight: NDArray[np.float64]
    stratum: Index
    strata: tuple[str, ...]
    new: NDArray[np.bool_]
    validation: Index
    retention: Index


def held_out(pool: Pool) -> NDArray[np.bool_]:
    """Return the rows (n,) that no retraining ever trains on.

    Live rows are held out in short blocks, every fifth block of ten: neighbours in an
    autocorrelated stream would give an answer away. Of the reference, half is held out, by a
    hash of the content. So a row held out once is held out for ever, in every later version.
    """
    blocks: NDArray[np.bool_] = (pool.row // _BLOCK) % _EVERY == _EVERY - 1
    reference = pool.row == REFERENCE_ROW
    hashes = [zlib.crc32(np.ascontiguousarray(x).tobytes()) & 1 for x in pool.x[reference]]
    blocks[reference] = np.array(hashes, dtype=bool)
    return blocks


def choose(
    pool: Pool, *, kind: DriftKind, regime_start: int, settings: TrainSettings, seed: int
) -> Chosen:
    """Decide which rows to train on, from what has drifted.

    ========== ==============================================================================
    concept    rows from the change point on; older rows offered to the bandit, untrusted
    covariate  all labelled rows, weighted to look like the newest inputs
    both       rows from the change point on; older rows get the retention share of the trust,
               those that resemble the newest inputs most of it
    none       all labelled rows: an operator asked
    ========== ==============================================================================

    Args:
        pool: The labelled rows.
        kind: What has drifted.
        regime_start: First row of the regime to train for.
        settings: Batch size and retention share.
        seed: Seed of every subsampling.

    Raises:
        TrainingError: Too few rows, or only one class, to train on; or none to judge with.
    """
    rng = np.random.default_rng(seed)
    kept_out = held_out(pool)
    live = pool.row != REFERENCE_ROW
    recent = live & (pool.row >= regime_start)
    weight = _trust(pool, kind, recent, pool.newest[pool.newest_row >= regime_start], seed)
    index = np.flatnonzero(~kept_out)
    if kind is DriftKind.BOTH:
        # A resemblance of inputs says nothing about labels, which moved as well: a fixed share.
        share = settings.retention_share
        old = index[~recent[index]]
        mass = share / (1.0 - share) * recent[index].sum()
        weight[old] *= mass / max(weight[old].sum(), 1e-9)
    _check(pool, kind, index, weight, recent, settings.batch_size)
    recent_out = np.flatnonzero(recent & kept_out)
    if len(recent_out) < _MIN_JUDGED:
        recent_out = np.flatnonzero(live & kept_out)[-_MIN_JUDGED:]
    validation = recent_out[-_JUDGED:]
    if not len(validation):
        raise TrainingError(
            f"no labelled row is left to judge a candidate on: only {int(live.sum())} rows are "
            "labelled; wait for more labels"
        )
    retention = np.setdiff1d(np.flatnonzero(~recent & kept_out), validation)
    if len(retention) > _JUDGED:
        retention = np.sort(rng.choice(retention, _JUDGED, replace=False))
    stratum, names = stratify(pool.row[index], pool.y[index], recent[index])
    return Chosen(
        index=index,
        weight=weight[index],
        stratum=stratum,
        strata=names,
        new=recent[index],
        validation=validation,
        retention=retention,
    )


def _trust(
    pool: Pool, kind: DriftKind, recent: NDArray[np.bool_], newest: FloatArray, seed: int
) -> NDArray[np.float64]:
    """Return the trust (n,) in each row of the pool as an example of what holds now."""
    if kind is DriftKind.NONE:
        return np.ones(len(pool))
    if kind is DriftKind.CONCEPT:
        return recent.astype(np.float64)
    if not len(newest):
        newest = pool.newest
    if kind is DriftKind.COVARIATE:
        bounded = np.clip(density_ratio(pool.x, newest, seed=seed), 0.1, 10.0)
        weights: NDArray[np.float64] = bounded / bounded.mean()
        return weights
    trust = recent.astype(np.float64)
    if not recent.all():
        ratio = density_ratio(pool.x[~recent], newest, seed=seed)
        trust[~recent] = np.clip(ratio, _FAINT, 1.0)
    return trust


def _check(
    pool: Pool,
    kind: DriftKind,
    index: Index,
    weight: NDArray[np.float64],
    recent: NDArray[np.bool_],
    batch_size: int,
) -> None:
    by_regime = kind in (DriftKind.CONCEPT, DriftKind.BOTH)
    trusted = index[weight[index] > 0.0]
    counted = index[recent[index]] if by_regime else trusted
    what = "of the new regime " if by_regime else ""
    if len(counted) < batch_size:
        raise TrainingError(
            f"only {len(counted)} labelled rows {what}are there to train on, fewer than one batch "
            f"of {batch_size}; wait for more labels or lower train.batch_size"
        )
    classes = np.unique(pool.y[trusted])
    if len(classes) < 2:
        raise TrainingError(
            f"all {len(trusted)} labelled rows {what}are of class {classes[0]}; a classifier "
            "cannot be trained on one class"
        )
