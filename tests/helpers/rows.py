"""Predictions made by hand: what a test does not care about is filled in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
