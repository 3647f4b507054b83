"""Which rows a retraining uses, and for what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.retraining import labels, network, predictions, reference_of, rows
from undrift.errors import TrainingError
from undrift.evidence import DriftKind
from undrift.records import Labels
from undrift.train.density import density_ratio
from undrift.train.pool import Pool, Split, held_out, split_pool
from undrift.train.settings import TrainSettings
from undrift.train.strata import by_target, stratify

X, Y = rows(600, turned=False, seed=1)
REFERENCE = reference_of(network(), *rows(100, turned=False, seed=2))
POOL = Pool.build(predictions(X), labels(Y), REFERENCE, 10_000)


def pick(
    pool: Pool,
    kind: DriftKind,
    regime_start: int = 300,
    batch_size: int = 32,
    share: float = 0.0,
) -> Split:
    settings = TrainSettings(batch_size=batch_size, retention_share=share)
    return split_pool(pool, kind=kind, regime_start=regime_start, settings=settings, seed=0)


def test_first_label_of_an_id_wins_and_unknown_ids_are_skipped() -> None:
    late = Labels(("id3", "id3", "nobody"), np.array([1, 0, 1]), np.zeros(3))
    pool = Pool.build(predictions(X), late, REFERENCE, 100)
    assert pool.row.tolist() == [-1] * 100 + [3]
    assert pool.y[-1] == 1
    assert np.array_equal(pool.x[-1], X[3])


def test_newest_labelled_rows_are_kept_when_there_are_too_many() -> None:
    pool = Pool.build(predictions(X), labels(Y), REFERENCE, 50)
    assert pool.row[pool.row >= 0].tolist() == list(range(550, 600))


@pytest.mark.parametrize(("count", "first"), [(50, 510), (5000, 0)])
def test_newest_labelled_rows_begin_where_there_are_enough(count: int, first: int) -> None:
    """The last 40 rows wait for their labels."""
    pool = Pool.build(predictions(X), labels(Y[:560]), REFERENCE, 10_000)
    assert pool.newest_since(count) == first


def test_newest_inputs_are_known_without_labels() -> None:
    pool = Pool.build(predictions(X), labels(Y[:10]), REFERENCE, 100)
    assert np.array_equal(pool.newest, X)


def test_older_rows_that_the_new_ones_contradict_are_not_trusted() -> None:
    """Labels turn at row 300: nothing older is true, to be trained on or to be judged by."""
    turned = labels(np.where(np.arange(600) < 300, Y, 1 - Y))
    pool = Pool.build(predictions(X), turned, REFERENCE, 999)
    for kind in DriftKind:
        chosen = pick(pool, kind, share=0.3)
        older = ~chosen.new
        assert older.any()
        assert chosen.weight[older].sum() < 0.05 * chosen.weight.sum()
        assert chosen.older_validity < 0.1
        assert not len(chosen.retention)


def test_older_rows_that_agree_are_trusted_whatever_is_said_to_have_drifted() -> None:
    """A wrong "concept" would have the model forget what it knows."""
    for kind in DriftKind:
        chosen = pick(POOL, kind, share=0.3)
        assert chosen.older_validity > 0.9
        assert chosen.weight[~chosen.new].sum() > 0.25 * chosen.weight.sum()
        assert len(chosen.retention) > 50


def test_every_candidate_has_an_arm_though_some_strata_are_all_held_out() -> None:
    chosen = pick(POOL, DriftKind.BOTH)
    assert set(chosen.stratum.tolist()) == set(range(len(chosen.strata)))
    assert len(chosen.validity) == len(chosen.index)


def test_covariate_shift_weights_all_labelled_rows_towards_the_newest_inputs() -> None:
    moved = X.copy()
    moved[300:] += 1.5
    pool = Pool.build(predictions(moved), labels(np.r_[Y[:450], []].astype(int)), REFERENCE, 9999)
    chosen = pick(pool, DriftKind.COVARIATE)
    assert (chosen.weight[chosen.new] > 0).all()
    x = pool.x[chosen.index].sum(axis=1)
    assert np.average(x, weights=chosen.weight) > x.mean() + 0.5


@pytest.mark.parametrize("shift", [0.0, 50.0])
def test_both_drifts_give_older_rows_their_share_however_alike(shift: float) -> None:
    moved = X.copy()
    moved[300:] += shift
    pool = Pool.build(predictions(moved), labels(Y), REFERENCE, 10_000)
    chosen = pick(pool, DriftKind.BOTH, share=0.2)
    assert chosen.weight[~chosen.new].sum() / chosen.weight.sum() == pytest.approx(0.2)
    assert (chosen.weight[chosen.new] == 1.0).all()


def test_operator_request_uses_everything_labelled() -> None:
    chosen = pick(POOL, DriftKind.NONE, regime_start=0)
    assert len(chosen.index) == (~held_out(POOL)).sum()


def test_a_held_out_row_stays_held_out_in_every_later_pool() -> None:
    later = Pool.build(predictions(X, first_row=0), labels(Y), REFERENCE, 300)
    out = dict(zip(_keys(POOL), held_out(POOL), strict=True))
    assert all(out[k] == h for k, h in zip(_keys(later), held_out(later), strict=True))


def _keys(pool: Pool) -> list[tuple[int, bytes]]:
    return [(int(r), x.tobytes()) for r, x in zip(pool.row, pool.x, strict=True)]


def test_a_fifth_of_the_new_regime_is_held_out_in_blocks() -> None:
    chosen = pick(POOL, DriftKind.CONCEPT)
    row = POOL.row[chosen.validation]
    assert len(row) == 60
    assert row.min() >= 300
    assert set(np.diff(row)) == {1, 41}
    assert (POOL.row[chosen.retention] < 300).all()


def test_without_labels_of_the_new_regime_the_newest_held_out_rows_judge() -> None:
    chosen = pick(POOL, DriftKind.COVARIATE, regime_start=600)
    assert POOL.row[chosen.validation].min() >= 540


@pytest.mark.parametrize(
    ("kind", "start", "batch", "text"),
    [
        (DriftKind.CONCEPT, 590, 32, "only 0 labelled rows of the new regime"),
        (DriftKind.CONCEPT, 560, 64, "fewer than one batch of 64"),
        (DriftKind.NONE, 0, 5000, "fewer than one batch of 5000"),
    ],
)
def test_too_few_rows_are_refused(kind: DriftKind, start: int, batch: int, text: str) -> None:
    with pytest.raises(TrainingError, match=text):
        pick(POOL, kind, regime_start=start, batch_size=batch)


def test_one_class_is_refused() -> None:
    y = Y.copy()
    y[300:] = 1
    pool = Pool.build(predictions(X), labels(y), REFERENCE, 10_000)
    with pytest.raises(TrainingError, match="are of class 1"):
        pick(pool, DriftKind.CONCEPT)


def test_a_pool_without_live_labels_is_refused() -> None:
    pool = Pool.build(predictions(X), labels(Y[:0]), REFERENCE, 100)
    with pytest.raises(TrainingError, match="wait for more labels"):
        pick(pool, DriftKind.NONE, regime_start=0)


def test_density_ratio_finds_a_change_of_spread_that_leaves_the_mean() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 5)).astype(np.float32)
    target = (0.3 * rng.normal(size=(500, 5))).astype(np.float32)
    ratio = density_ratio(x, target, seed=0)
    radius = np.linalg.norm(x, axis=1)
    assert ratio[radius < 1.0].mean() > 5 * ratio[radius > 2.0].mean()


def test_density_ratio_of_equal_samples_is_near_one() -> None:
    rng = np.random.default_rng(1)
    x, target = rng.normal(size=(2, 1500, 4)).astype(np.float32)
    assert np.median(density_ratio(x, target, seed=0)) == pytest.approx(1.0, abs=0.1)


def test_density_ratio_takes_images_and_constant_pixels() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((300, 1, 16, 16), dtype=np.float32)
    x[:, :, 0] = 0.0
    ratio = density_ratio(x, x[:100] + 0.5, seed=0)
    assert ratio.shape == (300,)
    assert np.isfinite(ratio).all()


def test_strata_are_bounded_and_never_mix_reference_old_and_new() -> None:
    rng = np.random.default_rng(3)
    row = np.concatenate([np.full(500, -1), np.arange(5000)])
    recent = row >= 3000
    stratum = stratify(row, by_target(rng.integers(0, 40, len(row))), recent)
    count = int(stratum.max()) + 1
    assert count <= 64
    assert set(stratum) == set(range(count))
    part = np.where(row < 0, 0, 1 + recent)
    assert all(len(set(part[stratum == s])) == 1 for s in range(count))


def test_rare_classes_share_a_stratum() -> None:
    y = np.array([0] * 40 + [1] * 5 + [2] * 6)
    stratum = stratify(np.arange(51), by_target(y), np.ones(51, dtype=bool))
    assert stratum.max() == 1
    assert len(set(stratum[y > 0])) == 1


def test_labels_in_doubt_come_of_what_is_stored_of_the_rows() -> None:
    """Three labels of ten since row 300 are wrong; later rows are known as well as the first."""
    wrong = (np.arange(600) >= 300) & (np.random.default_rng(5).random(600) < 0.3)
    y = np.where(wrong, 1 - Y, Y)
    seen = replace(predictions(X), embedding=X, output=np.eye(2, dtype=np.float32)[Y])
    reference = replace(REFERENCE, embedding=REFERENCE.x)
    whole = Pool.build(seen, labels(y), reference, 999)
    early = Pool.build(seen.take(np.arange(450)), labels(y[:450]), reference, 999)
    for pool in (whole, early.and_later(whole)[0]):
        chosen = pick(pool, DriftKind.NONE, regime_start=300)
        (place,) = (i for i, s in enumerate(chosen.strata) if s.name == "new, doubted")
        doubted = chosen.stratum == place
        assert wrong[chosen.row[doubted]].mean() > 0.75
        assert doubted.sum() > 40
        assert wrong[pool.row[chosen.strata[place].twins]].mean() > 0.75
