from __future__ import annotations

import numpy as np
import pytest
from scipy.special import kolmogorov
from scipy.stats import ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

river = pytest.importorskip("river")

from river.drift import binary  # noqa: E402

from benchmarks.detection import charts  # noqa: E402
from benchmarks.detection.charts import (  # noqa: E402
    CHARTS,
    KSWIN_ERRORS,
    KSWIN_RECENT,
    WINDOW,
    Chart,
    alarms,
    auc,
    ks_per_feature,
    logistic_regression,
    mmd,
)
from benchmarks.detection.rivals import RECURSIVE, QuickHDDMA, run  # noqa: E402
from benchmarks.detection.rows import Rows, Stream, abrupt  # noqa: E402


def rows(n: int, seed: int, shift: float = 0.0, error: float = 0.1) -> Rows:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, 3)) + shift).astype(np.float32).round(1)
    output = np.tile(np.array([0.9, 0.1], dtype=np.float32), (n, 1))
    wrong = (rng.random(n) < error).astype(np.int64)
    return Rows(x, wrong, x, output, wrong)


@pytest.fixture(scope="module")
def stream() -> Stream:
    return abrupt(rows(500, 1), rows(1_000, 2), rows(1_000, 3, shift=1.5, error=0.7))


@pytest.mark.parametrize("rival", [*RECURSIVE, *CHARTS], ids=lambda rival: rival.name)
def test_gross_drift_is_found_soon(rival: charts.Rival, stream: Stream) -> None:
    assert stream.onset is not None
    found = rival.alarms(rival.prepare(stream), rival.default)
    after = [row for row in found if row >= stream.onset]
    assert after
    assert after[0] < stream.onset + 300


@pytest.mark.parametrize("rival", [*RECURSIVE, *CHARTS], ids=lambda rival: rival.name)
def test_stricter_threshold_makes_fewer_alarms(rival: charts.Rival) -> None:
    still = Stream(rows(500, 4), rows(3_000, 5))
    prepared = rival.prepare(still)
    lax, strict = rival.strictness
    assert len(rival.alarms(prepared, lax + 0.05 * (strict - lax))) >= len(
        rival.alarms(prepared, strict)
    )
    assert not rival.alarms(prepared, strict)


@pytest.mark.parametrize("rate", [0.003, 0.2])
def test_quick_hddm_alarms_where_rivers_own_does(rate: float) -> None:
    rng = np.random.default_rng(0)
    rates = np.where(np.arange(4_000) % 2_000 > 1_500, 3 * rate, rate)
    bits = (rng.random(4_000) < rates).astype(int).tolist()
    for confidence in (0.001, 0.3):
        expected = run(binary.HDDMA(drift_confidence=confidence), ([], bits))
        assert run(QuickHDDMA(drift_confidence=confidence), ([], bits)) == expected


def test_kswin_default_is_the_least_significant_difference() -> None:
    def p(errors: int) -> float:
        few = np.arange(KSWIN_RECENT) < errors
        return float(ks_2samp(np.zeros(KSWIN_RECENT), few.astype(float), method="exact").pvalue)

    assert p(KSWIN_ERRORS) <= 0.005 < p(KSWIN_ERRORS - 1)


def test_chart_waits_after_an_alarm() -> None:
    chart = Chart(np.arange(0, 500, 50), np.ones(10), pause=200)
    assert alarms(chart, 0.5) == [0, 200, 400]
    assert alarms(chart, 1.5) == []


def test_ks_distance_is_that_of_scipy(stream: Stream) -> None:
    chart = ks_per_feature(stream)
    for i in (0, 12, len(chart.rows) - 1):
        window = stream.rows.watched[chart.rows[i] + 1 - WINDOW : chart.rows[i] + 1]
        d = max(ks_2samp(stream.reference.watched[:, j], window[:, j]).statistic for j in range(3))
        expected = kolmogorov(d * np.sqrt(500 * WINDOW / (500 + WINDOW))) * 3
        assert 10.0 ** -chart.values[i] == pytest.approx(expected, rel=1e-6)


def test_mmd_is_the_unbiased_estimate(stream: Stream) -> None:
    chart = mmd(stream)
    scaled, new = charts._scaled(stream)
    m = len(scaled)
    width = np.median(charts._squared_distance(scaled, scaled)[np.triu_indices(m, 1)])

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(axis=2) / width)

    def plain(window: np.ndarray) -> float:
        off_m, off_w = ~np.eye(m, dtype=bool), ~np.eye(WINDOW, dtype=bool)
        own = kernel(scaled, scaled)[off_m].mean() + kernel(window, window)[off_w].mean()
        return float(own - 2 * kernel(scaled, window).mean())

    first, last = (new[e + 1 - WINDOW : e + 1] for e in (chart.rows[0], chart.rows[-1]))
    expected = plain(last) / plain(first)
    assert chart.values[-1] / chart.values[0] == pytest.approx(expected, rel=1e-3)


def test_permuted_mmd_is_centred_on_zero(stream: Stream) -> None:
    scaled, _ = charts._scaled(stream)
    null = charts._permuted_mmd(np.exp(-charts._squared_distance(scaled, scaled) / 6))
    assert abs(null.mean()) < null.std() / 3


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)).astype(np.float32)
    y = (np.arange(300) >= 200).astype(float)
    x[200:] += 0.5
    model = LogisticRegression(class_weight="balanced", tol=1e-8).fit(x, y)
    expected = [*model.coef_[0], model.intercept_[0]]
    np.testing.assert_allclose(logistic_regression(x, y), expected, atol=1e-3)


def test_auc_is_that_of_scikit_learn_ties_included() -> None:
    rng = np.random.default_rng(0)
    scores, y = rng.integers(0, 5, 100).astype(float), rng.random(100) < 0.3
    assert auc(scores, y) == pytest.approx(roc_auc_score(y, scores))
