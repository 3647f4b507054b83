"""The probability that each of several normal variables is the largest, by quadrature."""

from __future__ import annotations

import numpy as np

from undrift.bandits.base import Floats, Probabilities

_REACH = 5.0  # beyond this many deviations a variable is taken as certain
_STEP = 0.5  # length of an interval of quadrature, in the smallest deviation at that place
_GAUSS = 0.5 / np.sqrt(3.0)  # two points of Gauss and Legendre in an interval of length one
_ROWS = 64  # taken at once, which bounds the memory


def probability_best(mean: Floats, std: Floats) -> Probabilities:
    """Return, row by row, the probability that each variable is the largest of its row.

    It is the integral over x of the density of one variable times the distribution functions of
    the others. The knots are as dense as the sharpest variable near each x needs, so the error
    does not depend on how different the deviations are: below 1e-5 in every probability.

    Args:
        mean: Means (n, K).
        std: Standard deviations (n, K), positive, and not lost in the rounding of the means.

    Returns:
        Probabilities (n, K); every row sums to 1.

    Example:
        >>> probability_best(np.array([[0.0, 0.0, 9.0]]), np.ones((1, 3))).round(3).tolist()
        [[0.0, 0.0, 1.0]]
    """
    best = np.empty_like(mean)
    for start in range(0, len(mean), _ROWS):
        part = slice(start, start + _ROWS)
        best[part] = _integrate(*_intervals(mean[part], std[part]), mean[part], std[part])
    return best


def _intervals(mean: Floats, std: Floats) -> tuple[Floats, Floats]:
    """Return the middle and the length (n, m) of the intervals of quadrature.

    A piece of the axis lies between two ends of the variables' ranges; within it the density of
    knots is constant. Below the highest lower end some variable is sure to be larger.
    """
    low, high = mean - _REACH * std, mean + _REACH * std
    ends = np.sort(np.concatenate([low, high], axis=1), axis=1)
    ends = np.maximum(ends, low.max(axis=1, keepdims=True))
    length = np.diff(ends, axis=1)
    middle = 0.5 * (ends[:, 1:] + ends[:, :-1])[:, :, None]
    covers = (low[:, None] <= middle) & (middle <= high[:, None])
    density = np.where(covers, 1.0 / std[:, None], 0.0).max(axis=2)
    knots = np.concatenate([np.zeros((len(mean), 1)), np.cumsum(density * length, axis=1)], axis=1)
    count = 1 + int(np.ceil(knots[:, -1].max() / _STEP))
    wanted = np.linspace(0.0, knots[:, -1], count, axis=1)
    x = np.stack([np.interp(w, k, e) for w, k, e in zip(wanted, knots, ends, strict=True)])
    return 0.5 * (x[:, 1:] + x[:, :-1]), np.diff(x, axis=1)


def _integrate(middle: Floats, length: Floats, mean: Floats, std: Floats) -> Probabilities:
    offset = _GAUSS * length
    x = np.concatenate([middle - offset, middle + offset], axis=1)
    weight = np.concatenate([length, length], axis=1)
    z = (x[:, None, :] - mean[:, :, None]) / std[:, :, None]
    density = np.exp(-0.5 * z * z)
    log_below = np.log(np.maximum(_normal_cdf(z, density), 1e-300))
    others = np.exp(log_below.sum(axis=1, keepdims=True) - log_below)
    best: Probabilities = (density * others * weight[:, None, :]).sum(axis=2) / std
    best /= best.sum(axis=1, keepdims=True)
    return best


def _normal_cdf(z: Floats, bell: Floats) -> Floats:
    """Normal distribution function, absolute error below 1e-7 (Abramowitz & Stegun 26.2.17).

    ``bell`` is exp(-z^2 / 2), which the caller has.
    """
    t = 1.0 / (1.0 + 0.2316419 * np.abs(z))
    poly = np.full_like(t, 1.330274429)
    for coefficient in (-1.821255978, 1.781477937, -0.356563782, 0.319381530):
        poly *= t
        poly += coefficient
    tail = bell * poly * t / np.sqrt(2.0 * np.pi)
    cdf: Floats = np.where(z >= 0.0, 1.0 - tail, tail)
    return cdf
