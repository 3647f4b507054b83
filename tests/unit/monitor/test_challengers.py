"""Challengers: what they learn, when they win, and that nothing depends on how rows are cut."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.rows import joined
from undrift.evidence import Level
from undrift.model.heads import RidgeHeads
from undrift.model.mixture import Scaling
from undrift.monitor.challengers.challengers import Challengers
from undrift.monitor.challengers.contest import Contest
from undrift.monitor.challengers.inputs import Standard
from undrift.monitor.join import Joined
from undrift.monitor.settings import MonitorSettings
from undrift.records import Predictions, Reference

SETTINGS = MonitorSettings(rows_per_false_drift=4000)
FEATURES, CLASSES = 3, 2


class World:
    """Rows in the plane of two features, and a live model that says the sign of the first."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def x(self, n: int) -> np.ndarray:
        return self.rng.normal(size=(n, FEATURES)).astype(np.float32)

    @staticmethod
    def live(x: np.ndarray) -> np.ndarray:
        p = 1.0 / (1.0 + np.exp(-4.0 * x[:, 0]))
        return np.column_stack([1.0 - p, p]).astype(np.float32)

    def predictions(self, x: np.ndarray, first: int) -> Predictions:
        n = len(x)
        return Predictions(
            ids=tuple(str(first + i) for i in range(n)),
            row=np.arange(first, first + n),
            at=np.arange(first, first + n, dtype=np.float64),
            version=np.ones(n, dtype=np.int64),
            x=x,
            embedding=x[:, :2].copy(),
            output=self.live(x),
        )

    def reference(self, n: int = 200) -> Reference:
        x = self.x(n)
        y = (x[:, 0] > 0).astype(np.int64)
        return Reference(x, y, x[:, :2].copy(), self.live(x), np.ones(n, dtype=np.bool_))


def labelled(signal: Challengers, rows: Predictions, label: np.ndarray) -> Joined:
    first, wrong = int(rows.row[0]), rows.answers != label
    return joined(wrong, first=first, label=label, notes=signal.note(rows))


def play(
    signal: Challengers, world: World, truth: int, blocks: int, lag: int = 0, first: int = 0
) -> int:
    """Play blocks of 50 rows whose label is the sign of feature ``truth``; return the next row."""
    waiting: list[Joined] = []
    for k in range(blocks):
        x = world.x(50)
        rows = world.predictions(x, first + 50 * k)
        waiting.append(labelled(signal, rows, (x[:, truth] > 0).astype(np.int64)))
        if len(waiting) > lag:
            signal.update(waiting.pop(0))
    return first + 50 * blocks


@pytest.fixture
def signal() -> Challengers:
    signal = Challengers(SETTINGS)
    signal.fit(World().reference())
    return signal


def test_a_live_model_that_is_right_is_not_beaten(signal: Challengers) -> None:
    play(signal, World(1), truth=0, blocks=100)
    assert signal.report().level is Level.NONE
    assert signal.better(worse=True) is None
    assert max(c.lead for c in signal.standings()) <= 0.0


@pytest.mark.parametrize("lag", [0, 6])
def test_a_new_concept_is_learnt_and_the_lead_is_told(signal: Challengers, lag: int) -> None:
    after = play(signal, World(1), truth=0, blocks=20)
    play(signal, World(2), truth=1, blocks=40, lag=lag, first=after)
    better = signal.better(worse=False)
    assert better is not None
    assert better.memory in (64, 250)  # older labels are no longer true
    assert 0.3 < better.low < better.lead < 0.6
    change = signal.report().change_row
    assert change is not None
    assert after - 64 <= change <= after + 50 * (lag + 12)


def test_labels_of_neighbours_are_enough_only_where_the_model_is_worse_and_much_is_won(
    signal: Challengers,
) -> None:
    after = play(signal, World(1), truth=0, blocks=20)
    seen = []
    for k in range(40):
        after = play(signal, World(3 + k), truth=1, blocks=1, first=after)
        seen.append([signal.better(worse=worse) is not None for worse in (False, True)])
    first = [column.index(True) for column in zip(*seen, strict=True)]
    assert first[1] <= first[0]


def test_what_depends_on_the_input_alone_is_learnt_by_those_that_see_it(
    signal: Challengers,
) -> None:
    play(signal, World(2), truth=2, blocks=60)  # not in the embedding
    better = signal.better(worse=False)
    assert better is not None
    assert not better.embedding_only
    assert "and the input" in better.name


def test_mixture_follows_a_new_concept_and_is_not_changed_by_later_labels(
    signal: Challengers,
) -> None:
    assert signal.mixture(1, worse=False) is None
    after = play(signal, World(1), truth=0, blocks=4)
    before = signal.mixture(1, worse=False)
    play(signal, World(2), truth=1, blocks=20, first=after)
    now = signal.mixture(1, worse=False)
    assert before is not None
    assert now is not None
    assert (before.name, now.name) == ((1, 200), (1, 1200))
    x = World(3).x(500)
    rows = World.live(x), x[:, :2], x
    first, second = (x[:, k] > 0 for k in (0, 1))
    assert (before(*rows).argmax(axis=1) == first).mean() > 0.95
    assert (now(*rows).argmax(axis=1) == second).mean() > 0.9
    told = [c.share for c in signal.standings()]
    assert sum(told) == pytest.approx(1.0 - now.shares[0])


def test_after_a_retraining_the_heads_begin_with_the_newest_rows() -> None:
    world, signal = World(1), Challengers(SETTINGS)
    first = world.reference()
    x = world.x(600)
    held_out = np.arange(600) // 10 % 5 == 4
    newest = Reference(
        x, (x[:, 1] > 0).astype(np.int64), x[:, :2].copy(), world.live(x), held_out, np.arange(600)
    )
    signal.fit(replace(first, newest=newest))
    mixture = signal.mixture(2, worse=False)
    assert mixture is not None  # before any label of the new version
    assert mixture.labels == held_out.sum()
    x = World(3).x(500)
    assert (mixture(world.live(x), x[:, :2], x).argmax(axis=1) == (x[:, 1] > 0)).mean() > 0.9
    signal.fit(replace(first, newest=replace(newest, recent=np.zeros(600, dtype=np.bool_))))
    assert signal.mixture(2, worse=False) is None  # what was trained on says nothing of the shares


def test_rows_that_are_in_the_reference_and_among_the_newest_are_learnt_once() -> None:
    signal, both = Challengers(SETTINGS), Challengers(SETTINGS)
    reference = World(1).reference()
    signal.fit(replace(reference, row=np.arange(200)))
    both.fit(replace(reference, row=np.arange(200), newest=reference))
    x = World(3).predictions(World(3).x(50), 0)
    assert (signal.note(x) == both.note(x)).all()


def test_where_the_model_is_worse_what_neighbours_would_have_won_counts(
    signal: Challengers,
) -> None:
    after = play(signal, World(1), truth=0, blocks=20)
    play(signal, World(2), truth=1, blocks=12, lag=6, first=after)
    kept, keen = (signal.mixture(1, worse=worse) for worse in (False, True))
    assert kept is not None
    assert keen is not None
    assert keen.shares[0] < 0.05 < kept.shares[0]


def test_mixture_answers_what_the_challengers_were_noted_to_answer(signal: Challengers) -> None:
    after = play(signal, World(1), truth=1, blocks=10)
    mixed, world = signal.mixture(1, worse=False), World(4)
    assert mixed is not None
    rows = world.predictions(world.x(300), after)
    noted = signal.note(rows)[:, -len(Challengers.KINDS) :]
    for k in range(len(Challengers.KINDS)):
        shares = np.zeros(1 + len(Challengers.KINDS))
        shares[1 + k] = 1.0
        alone = replace(mixed, shares=shares)(rows.output, rows.embedding, rows.x)
        assert (alone.argmax(axis=1) == noted[:, k]).mean() > 0.99  # but for ties in rounding


def test_cut_into_other_batches_nothing_changes() -> None:
    world, signals = World(5), [Challengers(SETTINGS) for _ in range(2)]
    reference = world.reference()
    for signal in signals:
        signal.fit(reference)
    x = world.x(1000)
    label = (x[:, 1] > 0).astype(np.int64)
    cuts = [range(0, 1001, 100), [0, 1, 64, 99, 100, 200, 237, 300, 400, 500, 600, 700, 1000]]
    for start in range(0, 1000, 100):
        # the same rows are served before the same labels come, but told in other pieces
        for signal, cut in zip(signals, cuts, strict=True):
            edges = sorted({start, start + 100, *(c for c in cut if start < c < start + 100)})
            rows = [world.predictions(x[a:b], a) for a, b in itertools.pairwise(edges)]
            for part in [labelled(signal, r, label[r.row]) for r in rows]:
                signal.update(part)
    one, two = (signal.state() for signal in signals)
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)


def test_saved_and_loaded_it_goes_on_as_if_nothing_had_happened(signal: Challengers) -> None:
    after = play(signal, World(1), truth=0, blocks=7)
    other = Challengers(SETTINGS)
    other.load(signal.state())
    for each in (signal, other):
        play(each, World(2), truth=1, blocks=20, first=after)
    assert other.report() == signal.report()
    assert other.standings() == signal.standings()


def test_label_of_a_class_that_the_model_does_not_know_is_a_miss_for_all(
    signal: Challengers,
) -> None:
    rows = World(1).predictions(World(1).x(64), 0)
    signal.update(labelled(signal, rows, np.full(64, 7)))
    assert {c.lead for c in signal.standings()} == {0.0}


def test_notes_of_others_beside_its_own_do_not_matter(signal: Challengers) -> None:
    joined = labelled(signal, World(1).predictions(World(1).x(5), 0), np.zeros(5, dtype=np.int64))
    padded = np.hstack([np.full((5, 2), 9.0), joined.notes, np.full((5, 3), 9.0)])
    mine = signal.own(replace(joined, notes=padded.astype(np.float32)), behind=3)
    np.testing.assert_array_equal(mine.notes, joined.notes)


def test_many_columns_are_reduced_and_few_rows_of_them_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(50, 4, 30)).astype(np.float32)
    standard = Standard()
    standard.fit(data)
    assert standard.width <= Scaling.WIDEST
    wild = np.full((3, 4, 30), np.inf, dtype=np.float32)
    assert np.isfinite(standard(wild, np.arange(3))).all()


def test_forgetting_head_is_the_weighted_least_squares_solution() -> None:
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(128, 4)), rng.normal(size=(128, 2))
    heads = RidgeHeads(4, 2, 2, (50, 0))
    heads.add(z[:64], t[:64])
    heads.add(z[64:], t[64:])
    found = heads.weights.reshape(4, 2, 2, 2)
    for k, keep in enumerate((0.98, 1.0)):
        weight = keep ** np.arange(127, -1, -1)[:, None]
        for kind, width in ((0, 4), (1, 2)):
            part = z[:, :width]
            gram = (part * weight).T @ part + RidgeHeads.RIDGE * np.eye(width)
            expected = np.linalg.solve(gram, (part * weight).T @ t)
            np.testing.assert_allclose(found[:width, kind, k], expected, atol=1e-10)
    assert (found[2:, 1] == 0).all()


@pytest.mark.thorough
def test_time_to_a_false_alarm_is_that_of_the_budget_however_hardness_comes_and_goes() -> None:
    # Hardness comes in bursts for both; in hard rows both guess. No rival is better.
    budget, runs, length = 500.0, 60, 3000
    early = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        hard = np.repeat(rng.random(length // 100) < 0.3, 100)
        right = rng.random((length, 5)) < np.where(hard, 0.5, 0.95)[:, None]
        contest = Contest(4, (budget / 10, budget))
        leads = right[:, 1:].astype(np.float64) - right[:, :1]
        contest.update(leads, np.arange(length))
        since = contest.detector.report("").since_row
        early += contest.detector.level is Level.DRIFT and since is not None and since < budget / 5
    assert early <= 0.2 * runs + 3 * np.sqrt(0.16 * runs)  # P(T <= t) <= t / N
