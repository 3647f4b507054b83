from __future__ import annotations

import numpy as np
import pytest

from undrift.evidence import Level
from undrift.monitor.statistics.bets import (
    error_alternatives,
    likelihood_ratio,
    row_uniform,
)
from undrift.monitor.statistics.detector import EDetector, aligned


def direct(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The recursion as it is written in the paper."""
    r = np.zeros(values.shape[1])
    path = []
    for row in values:
        r = (r + 1.0) * row
        path.append(np.log10(1.0 + weights @ r))
    return np.array(path)


def test_statistic_is_the_shiryaev_roberts_recursion() -> None:
    values = np.exp(np.random.default_rng(0).normal(-0.05, 0.3, size=(300, 3)))
    weights = np.array([0.5, 0.3, 0.2])
    detector = EDetector(weights, 1e6, 1e9)
    expected = direct(values, weights)
    for t in range(300):
        detector.update(values[t : t + 1], np.array([t]))
        assert detector.report("x").statistic == pytest.approx(expected[t], rel=1e-9)


def test_change_point_is_the_last_reset_of_the_cusum() -> None:
    down, up = np.full((130, 1), 0.8), np.full((30, 1), 1.5)
    detector = EDetector(np.ones(1), 50, 1_000)
    detector.update(np.vstack([down, up]), np.arange(1_000, 1_160))
    report = detector.report("x")
    assert report.level is Level.DRIFT
    assert report.change_row == 1_130
    path = direct(np.vstack([down, up]), np.ones(1))
    assert report.since_row == 1_000 + int(np.argmax(path >= np.log10(1_001)))


def test_warning_falls_below_a_tenth_of_its_limit_and_the_test_then_starts_afresh() -> None:
    detector = EDetector(np.ones(1), 100, 1_000_000)
    levels = []
    for t, value in enumerate([2.0] * 6 + [0.5] * 6 + [1.0] * 52):
        detector.update(np.array([[value]]), np.array([t]))
        levels.append(detector.report("x").level)
    assert levels[5:9] == [Level.WARNING] * 4  # 2 + 4 + ... + 64 = 126, then halved
    assert levels[11] is Level.NONE
    assert detector.report("x").statistic > 1.6  # 52 rows on top of what was left
    detector.update(np.ones((1, 1)), np.array([64]))
    assert detector.report("x").statistic == pytest.approx(np.log10(2))


@pytest.mark.thorough
@pytest.mark.parametrize("step", [1, 64, 4_000])
def test_drift_is_seen_by_whoever_looks_now_and_then(step: int) -> None:
    values = np.concatenate([np.full(12, 2.0), np.full(8_000, 0.5)])[:, None]
    detector = EDetector(np.ones(1), 100, 1_000)
    seen = []
    for at in range(0, len(values), step):
        part = slice(at, at + step)
        detector.update(values[part], np.arange(len(values))[part])
        seen.append(detector.level)
    assert seen[-1] is Level.NONE
    assert Level.DRIFT in seen
    reached = 8  # 2 + 4 + ... + 512 = 1022
    assert detector.report("x").change_row is None
    if step == 1:
        assert [t for t, level in enumerate(seen) if level is Level.DRIFT] == list(
            range(reached, reached + EDetector.HOLD)
        )


def test_pieces_end_where_blocks_end() -> None:
    cut = [(part.start, part.stop) for part in aligned(100, 200)]
    assert cut == [(0, 28), (28, 92), (92, 156), (156, 200)]
    assert list(aligned(64, 0)) == []


def test_long_change_does_not_make_recovery_long() -> None:
    detector = EDetector(np.ones(1), 100, 1_000)
    detector.update(np.full((6_400, 1), 1.5), np.arange(6_400))
    assert detector.report("x").level is Level.DRIFT
    detector.update(np.full((128, 1), 0.8), np.arange(6_400, 6_528))
    assert detector.report("x").level is Level.NONE


def test_mean_time_between_false_alarms_is_at_least_the_limit() -> None:
    rng = np.random.default_rng(1)
    alternatives = error_alternatives(0.2)
    limit, horizon, alarms = 500, 4_000, []
    for _ in range(60):
        detector = EDetector(np.ones(len(alternatives)), limit, limit)
        values = likelihood_ratio(rng.random(horizon) < 0.2, 0.2, alternatives)
        for block in np.array_split(np.arange(horizon), 40):
            detector.update(values[block], block)
            if detector.report("x").level > Level.NONE:
                break
        alarms.append(detector.report("x").since_row or horizon)
    assert np.mean(alarms) >= limit


def test_likelihood_ratio_expects_one_under_its_rate() -> None:
    alternatives = error_alternatives(0.3)
    both = likelihood_ratio(np.array([True, False]), 0.3, alternatives)
    np.testing.assert_allclose(0.3 * both[0] + 0.7 * both[1], 1.0)
    assert (np.diff(alternatives) > 0).all()
    assert alternatives[0] > 0.3
    assert alternatives[-1] < 1


def test_row_uniform_depends_on_row_and_salt_alone() -> None:
    rows = np.arange(1_000)
    assert (row_uniform(rows, 1)[500:] == row_uniform(rows[500:], 1)).all()
    assert abs(np.corrcoef(row_uniform(rows, 1), row_uniform(rows, 2))[0, 1]) < 0.1
    assert ((row_uniform(rows, 1) >= 0) & (row_uniform(rows, 1) < 1)).all()


def test_change_point_stays_while_drift_stands() -> None:
    detector = EDetector(np.ones(2), warning_at=100, drift_at=1_000)
    calm, burst = np.full((640, 2), [0.99, 0.8]), np.full((64, 2), [1.05, 2.0])
    values = np.vstack([calm, burst, *([calm[:200], burst] * 10)])
    seen = set()
    for row, value in enumerate(values):
        detector.update(value[None], np.array([row]))
        report = detector.report("x")
        if report.level is Level.DRIFT and row % 64 == 63:
            seen.add(report.change_row)
    assert seen == {640}


@pytest.mark.parametrize(("e_value", "level"), [(0.985, Level.NONE), (1.0, Level.WARNING)])
def test_warning_stands_while_it_is_renewed(e_value: float, level: Level) -> None:
    # R tends to 1 / (1 - e): to 66, between a tenth of the limit and the limit, or ever upward.
    detector = EDetector(np.ones(1), warning_at=100, drift_at=10_000)
    rising, after = np.full((7, 1), 2.0), np.full((EDetector.STALE + 200, 1), e_value)
    detector.update(np.vstack([rising, after[:300]]), np.arange(307))
    assert detector.report("x").level is Level.WARNING
    assert detector.report("x").statistic > 1.0
    detector.update(after[300:], np.arange(307, 7 + len(after)))
    assert detector.report("x").level is level
