from __future__ import annotations

import numpy as np

from undrift.monitor.statistics.column_ranks import ColumnRanks
from undrift.monitor.statistics.feature_changes import FeatureChanges
from undrift.monitor.statistics.features import Features
from undrift.monitor.statistics.witness import Witnesses


def test_features_are_the_same_bits_in_whatever_batch() -> None:
    rng = np.random.default_rng(0)
    for width in (1, 5, 33, 200):
        features = Features()
        features.fit(rng.normal(size=(300, width)).astype(np.float32), seed=0)
        data = (rng.standard_cauchy(size=(257, width)) * 3).astype(np.float32)
        whole = features.measure(data)
        cuts = np.split(data, [1, 2, 5, 60, 61, 200])
        for part, joined in enumerate(zip(*map(features.measure, cuts), strict=True)):
            np.testing.assert_array_equal(whole[part], np.vstack(joined))


def test_row_that_is_in_the_reference_is_no_nearer_than_its_neighbours() -> None:
    data = np.random.default_rng(1).normal(size=(200, 3)).astype(np.float32)
    features = Features()
    features.fit(data, seed=0)
    _, scores = features.measure(data)
    assert scores[:, 0].min() > 0


def test_ranks_against_a_short_reference_become_uniform() -> None:
    rng = np.random.default_rng(2)
    ranks = ColumnRanks(64)
    ranks.fit(rng.normal(size=(40, 3)))
    seen = []
    for _ in range(200):
        cells = ranks.cells(rng.normal(size=(32, 3)))
        seen.append(ranks.rank(cells, rng.random((32, 3))))
        ranks.add(cells)
    counts = np.array([np.histogram(c, 10, (0, 1))[0] for c in np.vstack(seen).T])
    assert np.abs(counts / 640 - 1).max() < 0.2


def test_value_outside_the_reference_ranks_at_the_end_and_equal_values_share() -> None:
    ranks = ColumnRanks(8)
    ranks.fit(np.full((99, 1), 5.0))
    cells = ranks.cells(np.array([[4.0], [5.0], [5.5]]))
    low = ranks.rank(cells, np.zeros((3, 1)))
    high = ranks.rank(cells, np.ones((3, 1)))
    np.testing.assert_allclose(low, [[0.0], [0.0], [0.99]])
    np.testing.assert_allclose(high, [[0.01], [1.0], [1.0]])


def test_witness_turns_to_a_shift_and_its_bag_is_bounded() -> None:
    rng = np.random.default_rng(3)
    data = rng.normal(size=(2_000, 4)).astype(np.float32)
    witnesses = Witnesses()
    witnesses.fit(data[:1_000], data[1_000:], np.ones(4))
    before = witnesses.state()["_bag"].shape
    for _ in range(20):
        witnesses.learn(rng.normal(size=(32, 4)) + np.array([0, 1, 0, 0]))
    moved = rng.normal(size=(400, 4)).astype(np.float32) + np.array([0, 1, 0, 0], dtype=np.float32)
    usual = rng.normal(size=(400, 4)).astype(np.float32)
    uniform = rng.random((400, 2))
    assert witnesses.rank(moved, uniform).mean() > 0.68
    assert abs(witnesses.rank(usual, uniform).mean() - 0.5) < 0.06
    assert witnesses.state()["_bag"].shape == before == (512, 4)


def test_no_column_is_named_for_sampling_noise() -> None:
    named = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        changes = FeatureChanges()
        changes.fit(rng.normal(size=(500, 20)).astype(np.float32), np.ones(20))
        changes.add(rng.normal(size=(60, 20)), np.arange(60))
        named += len(changes.report(0, "feature", [str(i) for i in range(20)]))
    assert named <= 2


def test_only_rows_since_the_change_are_compared() -> None:
    rng = np.random.default_rng(4)
    changes = FeatureChanges()
    changes.fit(rng.normal(size=(500, 2)).astype(np.float32), np.ones(2))
    changes.add(rng.normal(size=(400, 2)), np.arange(400))
    changes.add(rng.normal(size=(40, 2)) + np.array([0, 3]), np.arange(400, 440))
    (change,) = changes.report(400, "feature", ["a", "b"])
    assert change.name == "b"
    assert 2.5 < change.now < 3.5
