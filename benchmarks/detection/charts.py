"""Rivals that compare a sliding window with a reference: KSWIN, KS per feature, MMD, classifier.

Their statistic is computed once per stream; a threshold then gives the alarms, and after an alarm a
chart waits until its window holds new rows only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import kolmogorov
from scipy.stats import rankdata

from benchmarks.detection.rivals import Rival
from benchmarks.detection.rows import Stream
from undrift.records import FloatArray, IntArray

WINDOW = 200
STEP = 50
CLASSIFIER_STEP = 100
CLASSIFIER_REFERENCE = 400
PERMUTATIONS = 200
NEWTON_STEPS = 6
LEVEL = 0.05
KSWIN_WINDOW, KSWIN_RECENT = 100, 30
KSWIN_ERRORS = 14  # of 30: the least difference whose two-sample KS test has p <= 0.005
MAX_LOG_P = 300.0


@dataclass(frozen=True, slots=True)
class Chart:
    """A statistic over time.

    Attributes:
        rows: (k,) newest row of each window.
        values: (k,) statistic.
        pause: Rows after an alarm before the next is possible.
    """

    rows: IntArray
    values: NDArray[np.float64]
    pause: int


def alarms(chart: Chart, threshold: float) -> list[int]:
    """Return the rows at which the statistic reaches the threshold."""
    found: list[int] = []
    for row in chart.rows[chart.values >= threshold].tolist():
        if not found or row >= found[-1] + chart.pause:
            found.append(row)
    return found


def window_ends(n: int, step: int) -> IntArray:
    """Return the newest row of each window of a stream of n rows."""
    return np.arange(WINDOW - 1, n, step)


def kswin(stream: Stream) -> Chart:
    """Return River's KSWIN on errors: for zeros and ones its statistic is a difference of means.

    Of a window of 100 rows the last 30 are compared with 30 of the others, drawn without
    replacement. The number of errors in that draw is hypergeometric, so no row is drawn.
    """
    bits = np.concatenate([stream.reference.wrong, stream.rows.wrong]).astype(np.int64)
    total = np.concatenate([[0], np.cumsum(bits)])
    end = np.arange(len(stream.reference), len(bits)) + 1
    recent = total[end] - total[end - KSWIN_RECENT]
    old = total[end - KSWIN_RECENT] - total[end - KSWIN_WINDOW]
    others = KSWIN_WINDOW - KSWIN_RECENT
    drawn = np.random.default_rng(0).hypergeometric(old, others - old, KSWIN_RECENT)
    values = np.abs(recent - drawn) / KSWIN_RECENT
    return Chart(np.arange(len(stream.rows)), values, others)


def ks_per_feature(stream: Stream) -> Chart:
    """Return -log10 of the smallest p-value of two-sample KS tests, after Bonferroni."""
    ordered = np.sort(stream.reference.watched, axis=0)
    new = stream.rows.watched
    m, d = ordered.shape
    left, right = (
        np.stack([np.searchsorted(ordered[:, j], new[:, j], side) for j in range(d)], axis=1) / m
        for side in ("left", "right")
    )
    ends = window_ends(len(new), STEP)
    distance = np.array(
        [_ks(left[e + 1 - WINDOW : e + 1], right[e + 1 - WINDOW : e + 1]) for e in ends]
    )
    p = kolmogorov(distance * np.sqrt(m * WINDOW / (m + WINDOW))) * d
    return Chart(ends, -np.log10(np.maximum(p, 10.0**-MAX_LOG_P)), WINDOW)


def mmd(stream: Stream) -> Chart:
    """Return the squared MMD over its 95 % quantile when reference rows are permuted."""
    reference, new = _scaled(stream)
    m = len(reference)
    squared = _squared_distance(reference, reference)
    width = np.median(squared[np.triu_indices(m, 1)]) or 1.0
    within = np.exp(-squared / width)
    null = _permuted_mmd(within)
    mean_reference = (within.sum() - m) / (m * (m - 1))
    to_reference = np.exp(-_squared_distance(new, reference) / width).mean(axis=1)
    ends = window_ends(len(new), STEP)
    values = np.empty(len(ends))
    for i, end in enumerate(ends):
        window = new[end + 1 - WINDOW : end + 1]
        own = np.exp(-_squared_distance(window, window) / width)
        mean_own = (own.sum() - WINDOW) / (WINDOW * (WINDOW - 1))
        cross = to_reference[end + 1 - WINDOW : end + 1].mean()
        values[i] = mean_reference + mean_own - 2 * cross
    return Chart(ends, values / np.quantile(null, 1 - LEVEL), WINDOW)


def classifier(stream: Stream) -> Chart:
    """Return the cross-validated AUC of a classifier that tells window from reference."""
    reference, new = _scaled(stream)
    rng = np.random.default_rng(0)
    some = reference[rng.choice(len(reference), CLASSIFIER_REFERENCE, replace=False)]
    origin = np.concatenate([np.zeros(len(some)), np.ones(WINDOW)])
    fold = rng.permutation(len(origin)) % 2
    ends = window_ends(len(new), CLASSIFIER_STEP)
    values = np.array([_classify(some, new[e + 1 - WINDOW : e + 1], origin, fold) for e in ends])
    return Chart(ends, values, WINDOW)


def logistic_regression(x: FloatArray, y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (d + 1,) weights, intercept last: ridge penalty 1, classes weighted to be equal.

    It minimises what scikit-learn's ``LogisticRegression(class_weight="balanced")`` does, by
    Newton's method, which takes a tenth of the time on a few hundred rows.
    """
    design = np.hstack([x, np.ones((len(x), 1))]).astype(np.float64)
    share = np.where(y > 0, y.mean(), 1.0 - y.mean())
    weight = 0.5 / share
    ridge = np.append(np.ones(x.shape[1]), 1e-9)
    beta = np.zeros(len(ridge))
    for _ in range(NEWTON_STEPS):
        p = 1.0 / (1.0 + np.exp(-(design @ beta)))
        gradient = design.T @ (weight * (p - y)) + ridge * beta
        curvature = (design * (weight * p * (1.0 - p))[:, None]).T @ design + np.diag(ridge)
        beta -= np.linalg.solve(curvature, gradient)
    return beta


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return the chance that a positive row scores higher than a negative one."""
    n, m = int(positive.sum()), int((~positive).sum())
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def _classify(
    reference: FloatArray, window: FloatArray, origin: NDArray[np.float64], fold: IntArray
) -> float:
    """Return the mean AUC over two folds, each scored by a classifier fitted on the other."""
    x = np.concatenate([reference, window])
    found = []
    for held in (0, 1):
        inside = fold == held
        beta = logistic_regression(x[~inside], origin[~inside])
        found.append(auc(x[inside] @ beta[:-1], origin[inside] > 0))
    return float(np.mean(found))


def _ks(left: FloatArray, right: FloatArray) -> float:
    """Return the largest KS distance over features, from empirical CDFs of the reference."""
    n = len(left)
    upper, lower = np.arange(1, n + 1)[:, None] / n, np.arange(n)[:, None] / n
    above = (upper - np.sort(right, axis=0)).max()
    below = (np.sort(left, axis=0) - lower).max()
    return float(max(above, below))


def _scaled(stream: Stream) -> tuple[FloatArray, FloatArray]:
    reference, new = stream.reference.watched, stream.rows.watched
    centre, scale = reference.mean(axis=0), reference.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    return (reference - centre) / scale, (new - centre) / scale


def _squared_distance(a: FloatArray, b: FloatArray) -> FloatArray:
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    distance: FloatArray = np.maximum(squared, 0.0)
    return distance


def _permuted_mmd(kernel: FloatArray) -> NDArray[np.float64]:
    """Return (200,) squared MMD of a random window of reference rows against the other rows."""
    m = len(kernel)
    rng = np.random.default_rng(0)
    inside = np.zeros((m, PERMUTATIONS), dtype=kernel.dtype)
    for column in inside.T:
        column[rng.choice(m, WINDOW, replace=False)] = 1.0
    rest = m - WINDOW
    to_inside = kernel @ inside
    both = (inside * to_inside).sum(axis=0)
    cross = to_inside.sum(axis=0) - both
    outside = kernel.sum() - both - 2 * cross
    diagonal = np.diag(kernel).mean()
    within = (both - WINDOW * diagonal) / (WINDOW * (WINDOW - 1))
    without = (outside - rest * diagonal) / (rest * (rest - 1))
    null: NDArray[np.float64] = within + without - 2 * cross / (WINDOW * rest)
    return null


STEPS = 16  # thresholds of a chart cost next to nothing

CHARTS: tuple[Rival, ...] = (
    Rival("KSWIN", True, KSWIN_ERRORS / KSWIN_RECENT, (0.0, 1.01), kswin, alarms, STEPS),
    Rival("KS, Bonferroni", False, -np.log10(LEVEL), (0.0, 100.0), ks_per_feature, alarms, STEPS),
    Rival("MMD, permutation", False, 1.0, (0.0, 100.0), mmd, alarms, STEPS),
    Rival("domain classifier", False, 0.65, (0.5, 1.01), classifier, alarms, STEPS),
)
