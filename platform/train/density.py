"""Density ratio between two samples, by a small classifier between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from undrift.records import FloatArray

_COMPONENTS = 16
_WIDE = 128  # wider inputs are projected at random to this width first
_ROWS = 1500
_RIDGE = 1.0
_NEWTON_STEPS = 8


def density_ratio(x: FloatArray, target: FloatArray, *, seed: int) -> NDArray[np.float64]:
    """Estimate how much likelier each row is under ``target``'s distribution than under ``x``'s.

    A ridge logistic regression tells the two samples apart on their leading principal
    components and the squares of those; its odds are the ratio. At most 1,500 rows of either
    sample are used to fit, so the cost is a few milliseconds for any pool.

    Args:
        x: (n, *shape) rows to weigh; of no numbers, all weigh the same.
        target: (m, *shape) rows to look like.
        seed: Seed of the subsampling.

    Returns:
        (n,) ratios, clipped to [0.01, 100].

    Reference:
        Bickel, Bruckner, Scheffer: Discriminative learning for differing training and test
        distributions. ICML 2007.
    """
    rng = np.random.default_rng(seed)
    if not x[:1].size:  # nothing to tell them apart by
        return np.ones(len(x))
    flat, flat_target = narrow((x, target), rng)
    fit, fit_target = _subsample(flat, rng), _subsample(flat_target, rng)
    both = np.concatenate([fit, fit_target]).astype(np.float64)
    components = Components(both)
    spread = np.maximum(components(both).std(axis=0), 1e-9)

    def features(rows: NDArray[np.floating]) -> NDArray[np.float64]:
        z = np.clip(components(rows) / spread, -6.0, 6.0)
        return np.concatenate([np.ones((len(z), 1)), z, z * z - 1.0], axis=1)

    is_target = np.repeat([0.0, 1.0], [len(fit), len(fit_target)])
    coefficients = _logistic(features(both), is_target)
    odds = np.exp(np.clip(features(flat) @ coefficients, -20.0, 20.0))
    ratio: NDArray[np.float64] = np.clip(odds * len(fit) / len(fit_target), 0.01, 100.0)
    return ratio


def narrow(samples: Sequence[FloatArray], rng: np.random.Generator) -> list[FloatArray]:
    """Return samples (n, *shape) as (n, d) rows, by one random projection if they are wide."""
    flat = [rows.reshape(len(rows), -1) for rows in samples]
    if flat[0].shape[1] <= _WIDE:
        return flat
    projection = rng.standard_normal((flat[0].shape[1], _WIDE), dtype=np.float32)
    return [rows @ projection for rows in flat]


class Components:
    """The leading principal components of standardised rows, at most 16.

    Args:
        rows: (n, d) rows to take them from.
    """

    def __init__(self, rows: NDArray[np.floating]) -> None:
        self._mean, std = rows.mean(axis=0), rows.std(axis=0)
        self._scale = np.where(std > 1e-9, std, np.inf)
        covariance = np.cov(((rows - self._mean) / self._scale).T).reshape(rows.shape[1], -1)
        self._axes = np.linalg.eigh(covariance)[1][:, -_COMPONENTS:]

    def __call__(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the components (n, k) of (n, d) rows."""
        z: NDArray[np.float64] = ((rows - self._mean) / self._scale) @ self._axes
        return z


def _subsample(rows: FloatArray, rng: np.random.Generator) -> FloatArray:
    if len(rows) <= _ROWS:
        return rows
    return rows[rng.choice(len(rows), _ROWS, replace=False)]


def _logistic(a: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit a ridge logistic regression by Newton's method; the intercept is not shrunk."""
    ridge = np.full(a.shape[1], _RIDGE)
    ridge[0] = 1e-6
    w = np.zeros(a.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(a @ w, -30.0, 30.0)))
        gradient = a.T @ (p - y) + ridge * w
        hessian = (a * (p * (1.0 - p))[:, None]).T @ a + np.diag(ridge)
        w -= np.linalg.solve(hessian, gradient)
    return w
