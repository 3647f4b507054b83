from __future__ import annotations

import numpy as np
import pytest

from undrift.monitor.statistics.dependence import CorrelationTime, correlation_time, temper


def autoregressive(n: int, coefficient: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=n) * np.sqrt(1 - coefficient**2)
    values = np.empty(n)
    values[0] = rng.normal()
    for i in range(1, n):
        values[i] = coefficient * values[i - 1] + noise[i]
    return values


def in_blocks_of_ten(n: int) -> np.ndarray:
    """Rows of a held-out reference: ten, then a gap of forty."""
    return np.arange(n) // 10 * 50 + np.arange(n) % 10


@pytest.mark.parametrize("rows", [np.arange(500), in_blocks_of_ten(500)], ids=["dense", "gaps"])
def test_independent_rows_are_found_to_be_so(rows: np.ndarray) -> None:
    times = [
        correlation_time(np.random.default_rng(seed).normal(size=500), rows) for seed in range(40)
    ]
    assert times.count(1.0) >= 36


@pytest.mark.parametrize("gaps", [False, True])
def test_autoregressive_scores_have_their_known_time(gaps: bool) -> None:
    rows = in_blocks_of_ten(1_000) if gaps else np.arange(1_000)
    times = [correlation_time(autoregressive(5_000, 0.5, seed)[rows], rows) for seed in range(20)]
    assert 2.6 < np.median(times) < 3.4  # (1 + 0.5) / (1 - 0.5)
    assert min(times) > 2.0
    assert max(times) < 5.0


def test_weak_correlation_of_long_reach_is_found() -> None:
    rng = np.random.default_rng(3)
    rate = np.repeat(rng.beta(3, 9, size=50), 48)
    time = correlation_time(rng.random(len(rate)) < rate, np.arange(len(rate)))
    assert 2.5 < time < 7.0  # 1 + 47 / 13


def test_rows_far_apart_say_nothing_of_correlation() -> None:
    assert correlation_time(autoregressive(200, 0.9, 0), np.arange(200) * 100) == 1.0


@pytest.mark.parametrize(
    "values",
    [np.zeros(100), np.full(100, 1e9), np.tile([0.0, 1.0], 50), np.array([3.0]), np.zeros(0)],
    ids=["constant", "large constant", "alternating", "one row", "no row"],
)
def test_scores_without_positive_correlation_take_one_row(values: np.ndarray) -> None:
    assert correlation_time(values, np.arange(len(values))) == 1.0


def test_shift_and_scale_do_not_matter() -> None:
    values = autoregressive(400, 0.7, 1)
    rows = np.arange(400)
    time = correlation_time(values, rows)
    assert time > 2.0
    assert correlation_time(1e-3 * values + 5.0, rows) == pytest.approx(time)


def test_kept_up_in_blocks_equals_all_at_once() -> None:
    values, times = autoregressive(1_100, 0.5, 2), CorrelationTime()
    times.fit(values[:200], np.arange(200))
    for part in values[200:].reshape(-1, 60):
        times.add(part)
    assert times.value == pytest.approx(correlation_time(values, np.arange(1_100)), abs=0.15)
    assert times.value != correlation_time(values[:200], np.arange(200))


def test_stream_tells_by_itself_what_a_shuffled_reference_hides() -> None:
    values = autoregressive(3_000, 0.7, 3)
    times = CorrelationTime(alone=500)
    times.fit(np.random.default_rng(0).permutation(values[:2_000]), np.arange(2_000))
    assert times.value == 1.0
    for part in values[2_000:2_960].reshape(-1, 60):
        times.add(part)
    assert times.value == pytest.approx(correlation_time(values[2_000:], np.arange(1_000)), rel=0.1)
    assert times.value > 4.0


def test_reference_is_forgotten_when_the_stream_is_longer() -> None:
    times = CorrelationTime()
    times.fit(autoregressive(400, 0.9, 5), np.arange(400))
    stream = np.random.default_rng(5).normal(size=(20, 60))
    for part in stream[:-4]:
        times.add(part)
    assert times.value > 2.0
    for part in stream[-4:]:
        times.add(part)
    alone = correlation_time(stream.reshape(-1), np.arange(1_200))
    assert times.value == pytest.approx(alone, abs=0.01)
    assert alone < 1.2


def test_saved_and_loaded_estimate_goes_on_alike() -> None:
    values, times, other = autoregressive(1_000, 0.5, 3), CorrelationTime(), CorrelationTime()
    times.fit(values[:300], np.arange(300))
    times.add(values[300:500])
    other.load(times.state())
    for estimate in (times, other):
        estimate.add(values[500:])
    assert other.value == times.value > 2.0


def test_slow_change_is_not_taken_for_dependence() -> None:
    rng = np.random.default_rng(4)
    rising = rng.random(2_000) < np.linspace(0.1, 0.4, 2_000)
    assert correlation_time(rising, np.arange(2_000)) < 1.5


def test_tempered_bets_lose_what_neighbours_repeat() -> None:
    values = np.array([[0.5, 4.0]])
    assert temper(values, 1.0) is values
    np.testing.assert_allclose(temper(values, 2.0), values ** (1 / 2.1))
