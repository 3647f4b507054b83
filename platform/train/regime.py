"""Where a regime begins: after the rows whose labels the newest ones contradict."""

from __future__ import annotations

import numpy as np

from undrift.records import FloatArray, IntArray, TargetArray
from undrift.train.validity import validity

_SEGMENTS, _FEWEST = 8, 32  # in time, and rows of each
_NEWEST = 4  # part of the rows, the newest of which are believed
_TRUE = 0.5  # validity below which a segment is of another regime


def begin(x: FloatArray, y: TargetArray, row: IntArray, start: int, *, seed: int) -> int:
    """Return the row with which the regime of the newest rows begins, ``start`` or later.

    A change point is an estimate: one that is too early leaves rows of the old regime among the
    new ones, where their labels are believed. So the rows since are cut into eight segments of
    time, and the newest quarter judges each by like rows (`validity`). The regime begins after the
    segments that it contradicts, by the largest sum of what they lack; one among good ones moves
    nothing.

    Args:
        x: (n, *input_shape) inputs of labelled rows.
        y: (n,) class index, or (n,) or (n, c) targets of a regression.
        row: (n,) row numbers, none twice.
        start: First row of the regime, as estimated.
        seed: Seed of every subsampling.

    Reference:
        Page: Continuous inspection schemes. Biometrika 41, 1954, for the largest sum.
    """
    of = np.flatnonzero(row >= max(start, 0))
    of = of[np.argsort(row[of], kind="stable")]
    count = min(_SEGMENTS, len(of) // _FEWEST)
    if count < _NEWEST:
        return start
    segment = np.arange(len(of)) * count // len(of)
    judges = segment >= count - max(1, count // _NEWEST)
    found = validity(x[of], y[of], segment, judges, doubt=False, seed=seed)
    lack = np.cumsum(_TRUE - found[: segment[judges].min()])
    worst = int(lack.argmax())
    return int(row[of[segment > worst][0]]) if lack[worst] > 0.0 else start
