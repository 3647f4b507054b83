from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.helpers import rows as by_hand
from undrift.evidence import Level
from undrift.monitor.join import LabelJoin, LabelSignal
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.performance import performance_signal_for
from undrift.monitor.statistics.score_map import ScoreMap
from undrift.records import Labels, Predictions, Reference

CENTRES = np.array([[2.0, 0.0, 0.0], [-1.0, 1.7, 0.0], [-1.0, -1.7, 0.0]])


class Clusters:
    """Three classes round three centres, and the Bayes classifier of equally many of each."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.row = 0

    def take(self, n: int, *, swapped: float = 0.0) -> tuple[Predictions, Labels]:
        """Rows, a part of whose labels 0 and 1 change sides."""
        h = CENTRES[self.rng.integers(3, size=n)] + self.rng.normal(size=(n, 3))
        chances = np.exp(h @ CENTRES.T)
        chances /= chances.sum(axis=1, keepdims=True)
        label = (self.rng.random(n)[:, None] > chances.cumsum(axis=1)).sum(axis=1)
        swap = (self.rng.random(n) < swapped) & (label < 2)
        rows = np.arange(self.row, self.row + n)
        self.row += n
        first, ids = int(rows[0]), tuple(map(str, rows))
        predictions = by_hand.predictions(
            np.zeros((n, 1)), first=first, ids=ids, at=rows / 10.0, embedding=h, output=chances
        )
        return predictions, Labels(predictions.ids, np.where(swap, 1 - label, label), rows / 10.0)

    def reference(self, n: int = 600) -> Reference:
        rows, labels = Clusters(int(self.rng.integers(2**31))).take(n)
        recent = np.ones(n, dtype=np.bool_)
        return Reference(rows.x, labels.label, rows.embedding, rows.output, recent)


def fitted(statistic: str, reference: Reference) -> LabelSignal:
    signal = performance_signal_for(MonitorSettings(performance_statistic=statistic))
    signal.fit(reference)
    return signal


def feed(signal: LabelSignal, rows: Predictions, labels: Labels) -> None:
    join = LabelJoin(len(rows))
    join.add(rows, signal.note(rows))
    signal.update(join.label(labels)[0])


def test_errors_that_gather_in_one_class_are_seen_while_their_rate_stays() -> None:
    stream = Clusters(1)
    reference = stream.reference(1_000)
    healthy, drifted = stream.take(4_000), stream.take(1_000)
    rows, labels = drifted
    top = rows.output.argmax(axis=1)
    moved = (top == 0) & (np.random.default_rng(1).random(1_000) < 0.2)
    gathered = replace(labels, label=np.where(moved, 1, top))
    assert abs(np.mean(gathered.label != top) - np.mean(labels.label != top)) < 0.02
    levels = {}
    for statistic in ("error", "score"):
        signal = fitted(statistic, reference)
        feed(signal, *healthy)
        assert signal.report().level is Level.NONE
        feed(signal, rows, gathered)
        levels[statistic] = signal.report().level
    assert levels == {"error": Level.NONE, "score": Level.DRIFT}


def test_inputs_in_other_shares_are_no_drift_of_a_calibrated_model() -> None:
    levels = []
    for seed in range(5):
        stream = Clusters(seed)
        signal = fitted("score", stream.reference())
        feed(signal, *stream.take(1_000))
        rows, labels = stream.take(6_000)
        sure = (rows.output.argmax(axis=1) == 0) | (rows.output.max(axis=1) > 0.8)
        often = np.where(rows.embedding[:, 2] > 0, 1.0, 0.2)
        index = np.flatnonzero(sure & (np.random.default_rng(seed).random(6_000) < often))
        kept = rows.take(index)
        feed(signal, kept, Labels(kept.ids, labels.label[index], kept.at))
        levels.append(signal.report().level)
    assert levels.count(Level.NONE) >= 4


def test_notes_of_others_beside_its_own_are_left_alone() -> None:
    rows, labels = Clusters(6).take(50)
    signal = fitted("score", Clusters(7).reference())
    own = signal.note(rows)
    measured = []
    for notes in (own, np.hstack([own, np.full((50, 2), 9.0, dtype=np.float32)])):
        join = LabelJoin(50)
        join.add(rows, notes)
        measured.append(signal.measure(join.label(labels)[0]).values)
    np.testing.assert_array_equal(measured[0], measured[1])


def test_waiting_row_is_bounded_whatever_the_model() -> None:
    rng = np.random.default_rng(0)
    n, wide = 120, 300
    output = rng.dirichlet(np.ones(wide), n).astype(np.float32)
    embedding = rng.normal(size=(n, wide)).astype(np.float32)
    scores = ScoreMap()
    flat = np.zeros((n, 1), dtype=np.float32)
    label = rng.integers(wide, size=n)
    scores.fit(Reference(flat, label, embedding, output, np.ones(n, dtype=np.bool_)))
    notes = scores.note(embedding, output, np.arange(n))
    assert notes.shape == (n, 1 + 16 + 32)
    assert scores.scores(scores.factors(notes, label)).shape == (n, 32)


def test_note_of_a_row_has_the_same_bits_in_any_company() -> None:
    rows, _ = Clusters(1).take(500)
    scores = ScoreMap()
    scores.fit(Clusters(2).reference())
    whole = scores.note(rows.embedding, rows.output, rows.row)
    index = np.sort(np.random.default_rng(0).choice(500, 77, replace=False))
    part = scores.note(rows.embedding[index], rows.output[index], rows.row[index])
    np.testing.assert_array_equal(whole[index], part)
    alone = scores.note(rows.embedding[7:8], rows.output[7:8], rows.row[7:8])
    np.testing.assert_array_equal(whole[7:8], alone)


def test_score_is_the_gradient_of_the_loss_up_to_scale_and_axes() -> None:
    """Rows that are sure and right hardly pull; wrong ones pull by how sure they were."""
    scores = ScoreMap()
    scores.fit(Clusters(3).reference())
    h = np.array([[2.0, 0.0, 0.0]] * 3, dtype=np.float32)
    output = np.array([[0.99, 0.005, 0.005], [0.99, 0.005, 0.005], [0.6, 0.2, 0.2]], np.float32)
    notes = scores.note(h, output, np.arange(3))
    right, wrong, unsure = np.linalg.norm(
        scores.scores(scores.factors(notes, np.array([0, 1, 1]))), axis=1
    )
    assert right < 0.05 * wrong
    assert unsure < wrong


def test_constant_embedding_leaves_the_errors_of_each_class() -> None:
    stream = Clusters(4)
    reference = stream.reference()
    flat = np.ones_like(reference.embedding)
    signal = fitted("score", replace(reference, embedding=flat))
    for swapped, level in ((0.0, Level.NONE), (0.5, Level.DRIFT)):
        rows, labels = stream.take(800, swapped=swapped)
        feed(signal, replace(rows, embedding=np.ones_like(rows.embedding)), labels)
        assert signal.report().level is level


def test_wild_and_missing_embeddings_are_no_error() -> None:
    stream = Clusters(5)
    reference = stream.reference()
    wild = np.array([1e30, 1e-30, 1.0], dtype=np.float32)
    signal = fitted("score", replace(reference, embedding=reference.embedding * wild))
    rows, labels = stream.take(800)
    embedding = rows.embedding * wild
    embedding[::50] = np.nan
    feed(signal, replace(rows, embedding=embedding), labels)
    assert np.isfinite(signal.report().statistic)
    assert signal.report().level is Level.NONE
