"""Predictions and labels made by hand: what a test does not care about is filled in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from undrift.monitor.join import Joined
from undrift.records import Predictions


def predictions(
    x: np.ndarray,
    *,
    first: int = 0,
    ids: Sequence[str] | None = None,
    at: np.ndarray | float = 0.0,
    version: int = 1,
    embedding: np.ndarray | None = None,
    output: np.ndarray | None = None,
) -> Predictions:
    """Return a prediction for each row of ``x``, numbered from ``first``.

    Args:
        x: (n, *input_shape) inputs.
        first: Number of the first row.
        ids: Their ids; else ``id-`` and the number.
        at: When they were made, one time or (n,).
        version: Who made them.
        embedding: (n, e); else one zero each.
        output: (n, c); else two classes alike.
    """
    n = len(x)
    row = np.arange(first, first + n)
    return Predictions(
        ids=tuple(f"id-{i}" for i in row) if ids is None else tuple(ids),
        row=row,
        at=np.broadcast_to(np.float64(at), n).copy(),
        version=np.full(n, version),
        x=x.astype(np.float32),
        embedding=np.zeros((n, 1), np.float32) if embedding is None else np.float32(embedding),
        output=np.full((n, 2), 0.5, np.float32) if output is None else np.float32(output),
    )


def joined(
    wrong: np.ndarray,
    *,
    first: int = 0,
    label: np.ndarray | None = None,
    former_wrong: np.ndarray | None = None,
    notes: np.ndarray | None = None,
    beside: int = 0,
) -> Joined:
    """Return a label that met its prediction for each of ``wrong``.

    Args:
        wrong: (n,) True where the answer was wrong.
        first: Number of the first row.
        label: (n,) classes; else the first.
        former_wrong: (n,) where the version before would have been wrong; else it was not asked.
        notes: (n, k); else none.
        beside: Version that is meant instead of the one before.
    """
    n = len(wrong)
    label = np.zeros(n, np.int64) if label is None else label
    return Joined(
        row=np.arange(first, first + n),
        version=np.ones(n, np.int64),
        wrong=wrong,
        label=label,
        former=np.full(n, -1) if former_wrong is None else label + former_wrong,
        beside=np.full(n, beside),
        alone=wrong,
        notes=np.zeros((n, 0), np.float32) if notes is None else notes,
        lag_rows=np.zeros(n, np.int64),
        lag_seconds=np.zeros(n),
    )
