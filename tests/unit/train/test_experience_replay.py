"""The reservoir, and batches that are half memory."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.setups import NEW, OLD, setup
from undrift.errors import TrainingError
from undrift.train.methods.experience_replay import ReplaySampler, remembered, reservoir


def test_every_row_of_a_stream_is_kept_equally_often() -> None:
    rows, kept = np.arange(40), np.zeros(40)
    for seed in range(2000):
        kept[reservoir(rows, 10, np.random.default_rng(seed))] += 1
    # 2000 draws of chance 1/4: a standard deviation of 19, and no row five of them away
    assert np.abs(kept - 500).max() < 97


def test_a_row_is_kept_once_at_most() -> None:
    kept = reservoir(np.arange(5000), 500, np.random.default_rng(0))
    assert len(np.unique(kept)) == 500


def test_a_short_stream_is_kept_whole() -> None:
    assert reservoir(np.arange(7), 7, np.random.default_rng(0)).tolist() == list(range(7))


def test_only_older_candidates_are_remembered() -> None:
    assert sorted(remembered(setup()).tolist()) == list(range(OLD))


def test_memory_is_bounded() -> None:
    kept = remembered(setup(old=2000, weight=np.ones(2000 + NEW)))
    assert len(kept) == 500
    assert kept.max() > 1900


def test_half_of_a_batch_is_new() -> None:
    batch = ReplaySampler(setup()).draw(33)
    assert (batch.index >= OLD).sum() == 17
    assert (batch.index < OLD).sum() == 16


def test_without_older_rows_all_of_a_batch_is_new() -> None:
    batch = ReplaySampler(setup(old=0)).draw(32)
    assert len(batch.index) == 32


def test_without_new_rows_replay_is_refused() -> None:
    with pytest.raises(TrainingError, match="no labelled row of the new regime"):
        ReplaySampler(setup(new=0))
