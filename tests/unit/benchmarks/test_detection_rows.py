from __future__ import annotations

import numpy as np
import pytest

from benchmarks.detection.rows import (
    Rows,
    Stream,
    abrupt,
    autoregressive,
    day_blocks,
    gradual,
    tilted_mix,
)


def rows(n: int, first: int = 0, seed: int = 0) -> Rows:
    """Rows whose label tells their number."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    output = np.tile(np.array([0.9, 0.1], dtype=np.float32), (n, 1))
    return Rows(x, np.arange(first, first + n), x, output, np.zeros(n, dtype=np.int64))


def test_abrupt_stream_turns_at_its_onset() -> None:
    stream = abrupt(rows(10), rows(30, first=100), rows(20, first=200))
    assert stream.onset == 30
    np.testing.assert_array_equal(stream.rows.y >= 200, np.arange(50) >= 30)


def test_gradual_stream_has_no_new_row_before_its_onset_and_no_old_one_after_its_width() -> None:
    stream = gradual(rows(10), rows(600, first=0), rows(300, first=1_000), width=100, seed=1)
    new = stream.rows.y >= 1_000
    assert stream.onset == 300
    assert not new[:300].any()
    assert new[400:].all()
    assert 30 <= new[300:400].sum() <= 70
    assert new[350:400].sum() > new[300:350].sum()


def test_gradual_stream_repeats_no_row() -> None:
    stream = gradual(rows(10), rows(600, first=0), rows(300, first=1_000), width=100, seed=1)
    assert len(np.unique(stream.rows.y)) == 600


@pytest.mark.parametrize("coefficient", [0.0, 0.5])
def test_autoregressive_columns_have_unit_variance_and_the_stated_correlation(
    coefficient: float,
) -> None:
    x = autoregressive(20_000, 3, coefficient, np.random.default_rng(0))
    np.testing.assert_allclose(x.std(axis=0), 1.0, atol=0.03)
    found = [np.corrcoef(x[:-1, j], x[1:, j])[0, 1] for j in range(3)]
    np.testing.assert_allclose(found, coefficient, atol=0.03)


def test_day_blocks_keep_days_whole_and_shuffle_within() -> None:
    index = day_blocks(np.array([2, 5, 7]), n=96, per_day=24, rng=np.random.default_rng(3))
    days = index.reshape(-1, 24) // 24
    assert (days == days[:, :1]).all()
    assert set(days[:, 0]) <= {2, 5, 7}
    for day in index.reshape(-1, 24):
        assert len(set(day)) == 24
        assert (np.diff(day) != 1).any()


def test_tilted_mix_has_the_share_and_no_row_twice() -> None:
    y = np.arange(1_000) % 10
    index = tilted_mix(y, (0, 1), 0.5, 300, np.random.default_rng(0))
    assert len(np.unique(index)) == 300
    assert np.isin(y[index], (0, 1)).sum() == 150


def test_large_inputs_are_watched_through_the_embedding() -> None:
    few = rows(4)
    image = np.zeros((4, 1, 28, 28), dtype=np.float32)
    many = Rows(image, few.y, few.embedding, few.output, few.student)
    assert many.watched is many.embedding
    np.testing.assert_array_equal(few.watched, few.x)


def test_errors_and_disagreements_of_a_student() -> None:
    output = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], dtype=np.float32)
    x = np.zeros((3, 1), dtype=np.float32)
    some = Rows(x, np.array([0, 0, 0]), x, output, np.array([0, 1, 1]))
    assert some.wrong.tolist() == [False, True, False]
    assert some.disagrees.tolist() == [False, False, True]
    assert Stream(some, some).onset is None
