from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import dirichlet_multinomial

from undrift.monitor.statistics.class_mix import ClassMix
from undrift.monitor.statistics.online_ranks import OnlineRanks

NO_ROWS = np.zeros(0, dtype=np.int64)


def clone(mix: ClassMix) -> ClassMix:
    other = ClassMix(np.ones(2, dtype=np.int64), NO_ROWS)
    other.load(mix.state())
    return other


def betted(
    mix: ClassMix, classes: np.ndarray, cuts: list[int], *, learn: bool = True
) -> np.ndarray:
    """E-values of rows that come in pieces, cut also where blocks end."""
    ends = sorted({*cuts, *range(ClassMix.BLOCK, len(classes), ClassMix.BLOCK), len(classes)})
    starts = [0, *ends[:-1]]
    parts = [
        mix.bet(classes[a:b], a % ClassMix.BLOCK, learn=learn)
        for a, b in zip(starts, ends, strict=True)
    ]
    return np.concatenate(parts)


def test_class_bet_is_fair_given_all_rows_so_far() -> None:
    rng = np.random.default_rng(0)
    counts = np.array([70, 20, 9, 0, 1])
    history = rng.choice(5, 300, p=[0.2, 0.5, 0.1, 0.1, 0.1])
    mix = ClassMix(counts, NO_ROWS)
    betted(mix, history, [])
    chance = predictive(counts + np.bincount(history, minlength=5))
    pays = [clone(mix).bet(np.array([c]), 300 - ClassMix.BLOCK, learn=True)[0] for c in range(5)]
    np.testing.assert_allclose(chance @ np.array(pays), np.ones(ClassMix.BETS), rtol=1e-8)
    assert np.ptp(pays) > 0.5


def predictive(counts: np.ndarray) -> np.ndarray:
    """Chance of each class after (c,) rows of it, over priors of equal chance."""
    priors = [np.full(len(counts), a) for a in np.geomspace(1 / len(counts), 100, 6)]
    told = np.array([dirichlet_multinomial(a, counts.sum()).logpmf(counts) for a in priors])
    weights = np.exp(told - told.max())
    each = [(counts + a) / (counts + a).sum() for a in priors]
    return np.average(each, axis=0, weights=weights)


@pytest.mark.parametrize("slope", [0.0, 1.0, 1.5, 4.0])
@pytest.mark.parametrize(("classes", "rows"), [(10, 50), (100, 50), (100, 100), (1000, 100)])
def test_class_bets_win_nothing_from_a_short_reference_of_many_classes(
    slope: float, classes: int, rows: int
) -> None:
    share = np.arange(1, classes + 1) ** -slope
    rng = np.random.default_rng(3)
    won = np.zeros((40, ClassMix.BETS))
    for run in won:
        first = rng.choice(classes, rows, p=share / share.sum())
        mix = ClassMix(np.bincount(first, minlength=classes), first[-4:])
        stream = rng.choice(classes, 200, p=share / share.sum())
        run[:] = np.log(betted(mix, stream, [])).sum(axis=0)
    assert (np.median(won, axis=0) < 0.5).all()


def test_class_bet_pays_for_the_class_that_has_become_frequent() -> None:
    mix = ClassMix(np.array([50, 50]), NO_ROWS)
    values = betted(mix, np.ones(40, dtype=np.int64), [])
    assert (values[0] == 1.0).all()
    assert (np.diff(values[:20, 0]) > 0).all()
    assert (mix.bet(np.array([0]), 40, learn=True)[0, :2] < 1.0).all()  # short memory


def test_class_bets_do_not_depend_on_how_rows_are_cut() -> None:
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 7, 900)
    for lag in (0, 5):
        late = rng.integers(0, 7, lag)
        whole = betted(ClassMix(np.full(7, 30), late), classes, [])
        cuts = rng.choice(900, 60, replace=False).tolist()
        np.testing.assert_array_equal(betted(ClassMix(np.full(7, 30), late), classes, cuts), whole)
        single = betted(ClassMix(np.full(7, 30), late), classes, list(range(900)))
        np.testing.assert_array_equal(single, whole)


@pytest.mark.parametrize(("lag", "known"), [(0, True), (3, True), (4, False)])
def test_lagging_class_bet_does_not_know_the_latest_rows(lag: int, known: bool) -> None:
    pays = []
    for newest in (0, 2):
        mix = ClassMix(np.array([50, 50, 50]), np.zeros(lag, dtype=np.int64))
        classes = np.array([0, 1, 2, 0, newest, newest, newest, newest, 2])
        pays.append(betted(mix, classes, [], learn=False)[-1])
    assert np.array_equal(*pays) is not known


def test_class_mix_that_does_not_learn_keeps_its_null() -> None:
    counts = np.array([50, 50])
    learning, fixed = ClassMix(counts, NO_ROWS), ClassMix(counts, NO_ROWS)
    ones = np.ones(250, dtype=np.int64)
    late_learning = betted(learning, ones, [])[-1]
    late_fixed = betted(fixed, ones, [], learn=False)[-1]
    assert (late_fixed > 1.1 * late_learning).all()
    assert late_fixed.max() == pytest.approx(1 + 0.8, abs=0.01)


def ranks_of(
    reference: np.ndarray, stream: np.ndarray, rng: np.random.Generator, cuts: int = 1
) -> np.ndarray:
    ranks = OnlineRanks()
    ranks.fit(reference, rng.random(len(reference)))
    uniform, tie = rng.random(len(stream)), rng.random(len(stream))
    parts = np.array_split(np.arange(len(stream)), cuts)
    return np.concatenate([ranks.rank(stream[i], uniform[i], tie[i], learn=True) for i in parts])


@pytest.mark.parametrize("kind", ["continuous", "discrete", "constant"])
def test_ranks_are_uniform_and_independent_however_short_the_reference(kind: str) -> None:
    rng = np.random.default_rng(2)
    draw = {
        "continuous": rng.normal,
        "discrete": lambda size: rng.integers(0, 3, size).astype(float),
        "constant": lambda size: np.zeros(size),
    }[kind]
    ranks = np.stack([ranks_of(draw(size=6), draw(size=8), rng) for _ in range(400)])
    counts = np.bincount((ranks * 10).astype(int).ravel(), minlength=10)
    assert ((counts - 320) ** 2 / 320).sum() < 23.6  # chi-square of 9 degrees, 0.5 %
    correlation = np.corrcoef(ranks.T)[np.triu_indices(8, 1)]
    assert abs(correlation.mean()) < 0.03


def test_ranks_do_not_depend_on_how_rows_are_cut() -> None:
    for cuts in (2, 50, 400):
        whole, pieces = (
            ranks_of(rng.normal(size=60), rng.normal(size=400).round(1), rng, cuts=k)
            for k, rng in ((1, np.random.default_rng(3)), (cuts, np.random.default_rng(3)))
        )
        np.testing.assert_array_equal(whole, pieces)


def test_value_beyond_all_others_has_the_extreme_rank_of_a_long_reference() -> None:
    rng = np.random.default_rng(4)
    ranks = OnlineRanks()
    ranks.fit(rng.normal(size=50_000), rng.random(50_000))
    high, low = ranks.rank(np.array([9.0, -9.0]), np.full(2, 0.5), np.full(2, 0.5), learn=True)
    assert (high, low) == (1 - 0.5 / 50_001, 0.5 / 50_002)
    assert all(value.size <= 1_101 for value in ranks.state().values())


def test_ranks_that_do_not_learn_stay_those_of_the_reference() -> None:
    rng = np.random.default_rng(5)
    ranks = OnlineRanks()
    ranks.fit(rng.normal(size=100), rng.random(100))
    before = ranks.state()
    ranks.rank(np.full(300, 5.0), rng.random(300), rng.random(300), learn=False)
    for name, value in ranks.state().items():
        np.testing.assert_array_equal(value, before[name])
