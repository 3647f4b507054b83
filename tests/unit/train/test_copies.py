"""Rows that repeat are found, and dense ones are not taken for them."""

from __future__ import annotations

import numpy as np
import pytest

from undrift.train.copies import copies as counted


def copies(x: np.ndarray, sides: np.ndarray, seed: int) -> np.ndarray:
    """Count among all rows."""
    return counted(x, np.arange(len(x)), sides, seed)


def scenes(rng: np.random.Generator, count: int, times: int, width: int) -> np.ndarray:
    """``count`` rows, each of them ``times`` times with a little noise."""
    x = np.repeat(rng.normal(size=(count, width)), times, axis=0)
    return (x + 0.01 * rng.normal(size=x.shape)).astype(np.float32)


@pytest.mark.parametrize("width", [2, 20, 784])
def test_rows_of_a_scene_are_counted_and_others_are_not(width: int) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([scenes(rng, 10, 40, width), rng.normal(size=(200, width))])
    found = copies(x.astype(np.float32), np.ones(600, dtype=bool), 0)
    assert (np.abs(found[:400] - 40) <= 2).mean() > 0.9
    assert (found[400:] == 1).mean() > 0.95


@pytest.mark.parametrize("width", [1, 2, 6])
def test_rows_that_lie_dense_are_no_copies(width: int) -> None:
    x = np.random.default_rng(1).normal(size=(4_000, width)).astype(np.float32)
    assert (copies(x, np.ones(4_000, dtype=bool), 0) == 1).mean() > 0.98


def test_rows_of_the_other_side_do_not_count() -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([scenes(rng, 10, 6, 8), rng.normal(size=(200, 8)).astype(np.float32)])
    halves = np.arange(len(x)) % 2 == 0
    assert (copies(x, np.ones(len(x), dtype=bool), 0)[:60] == 6).all()
    assert (copies(x, halves, 0) == 1).all()


def test_rows_without_numbers_or_all_alike_or_not_finite_are_no_trouble() -> None:
    everyone = np.ones(50, dtype=bool)
    assert (copies(np.zeros((50, 0), np.float32), everyone, 0) == 1).all()
    assert (copies(np.full((50, 3), np.nan, np.float32), everyone, 0) == 50).all()
    assert copies(np.zeros((0, 3), np.float32), everyone[:0], 0).shape == (0,)


def test_only_rows_that_are_asked_about_count() -> None:
    x = scenes(np.random.default_rng(3), 40, 12, 8)
    index = np.arange(0, len(x), 2)
    assert (counted(x, index, np.ones(len(index), dtype=bool), 0) == 6).all()
