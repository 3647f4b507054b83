"""How many of the answered rows are watched, and which."""

from __future__ import annotations

import random

import numpy as np
import pytest

from undrift.serve.sampling import HORIZON_S, Allowance, Sampling
from undrift.serve.settings import TapSettings


def kept(sampling: Sampling, sizes: np.ndarray, row_bytes: int, rate: float) -> np.ndarray:
    """Tell of parts of so many rows, of evenly spaced times, which are kept."""
    at = np.cumsum(sizes) / rate
    given = zip(sizes.tolist(), at.tolist(), strict=True)
    return np.array([sampling.keeps(n, n * row_bytes, now) for n, now in given])


def made(rows_per_s: int | None, bytes_per_s: int | None, seed: int = 0) -> Sampling:
    settings = TapSettings(rows_per_s=rows_per_s, bytes_per_s=bytes_per_s)
    return Sampling(settings, 0.0, random.Random(seed))


@pytest.mark.parametrize(
    ("limits", "row_bytes", "expected"),
    [
        ((2_000, None), 8, 2_000),  # rows a second
        ((None, 2**20), 1_024, 1_024),
        ((2_000, 2**20), 1_024, 1_024),
        ((1_000, 2**20), 8, 1_000),
    ],
)
def test_a_lasting_rate_has_the_lesser_bound(
    limits: tuple[int | None, int | None], row_bytes: int, expected: int
) -> None:
    rate, seconds = 20_000.0, 120
    sizes = np.full(int(rate * seconds) // 64, 64)
    lasting = slice(len(sizes) // 2, None)
    share = kept(made(*limits), sizes, row_bytes, rate)[lasting].mean()
    assert share * rate == pytest.approx(expected, rel=0.1)


def test_what_stays_below_the_bounds_is_kept_and_a_short_burst_too() -> None:
    slow = made(2_000, 2**20)
    assert kept(slow, np.full(50_000, 1), 100, 1_900.0).all()
    burst = made(2_000, None)
    assert kept(burst, np.full(150, 64), 8, 1e6).all()  # 9,600 rows at once
    assert not kept(made(2_000, None), np.full(1_000, 64), 8, 1e6).all()


def test_with_no_bounds_all_is_kept() -> None:
    assert kept(made(None, None), np.full(10_000, 64), 10_000, 1e6).all()


@pytest.mark.parametrize("rate", [2_200.0, 20_000.0])
def test_rows_of_small_and_large_requests_are_drawn_alike(rate: float) -> None:
    rng = np.random.default_rng(0)
    sizes = rng.permutation(np.repeat([1, 4_096], 20_000))
    at = np.cumsum(rng.exponential(sizes.mean() / rate, len(sizes)))
    sampling = made(2_000, None)
    given = zip(sizes.tolist(), at.tolist(), strict=True)
    drawn = np.array([sampling.keeps(n, 8 * n, now) for n, now in given])
    small, large = drawn[sizes == 1].mean(), drawn[sizes == 4_096].mean()
    assert small < 0.9
    assert small == pytest.approx(large, rel=0.05)


def test_a_flood_is_forgotten() -> None:
    sampling = made(2_000, None)
    kept(sampling, np.full(10_000, 64), 8, 1e5)
    later = 10_000 * 64 / 1e5 + 6 * HORIZON_S
    assert all(sampling.keeps(1, 8, later + i / 100) for i in range(100))


@pytest.mark.parametrize("cost", [0.001, 0.05, 2.0])
def test_what_is_allowed_takes_its_share_of_the_time(cost: float) -> None:
    allowance, now, spent = Allowance(0.2, 0.5, 0.0), 0.0, 0.0
    while now < 1_000.0:
        if allowance.allows(now):
            allowance.spend(cost)
            spent += cost
            now += cost
        else:
            now += 0.01
    assert spent == pytest.approx(0.2 * now, rel=0.02)


def test_what_takes_less_than_its_share_is_always_allowed_and_saves_up_no_more_than_its_most() -> (
    None
):
    allowance = Allowance(0.2, 0.5, 0.0)
    for i in range(1_000):
        assert allowance.allows(i * 1.0)
        allowance.spend(0.19)
    assert allowance.allows(10_000.0)
    allowance.spend(0.51)
    assert not allowance.allows(10_000.0)
