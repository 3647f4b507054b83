from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.rows import predictions
from undrift.evidence import Level, SignalReport
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.output import OutputSignal, high_ranks
from undrift.monitor.statistics.detector import EDetector
from undrift.records import Predictions, Reference

SETTINGS = MonitorSettings()
RARE = MonitorSettings(rows_per_false_drift=3_000, warnings_per_drift=3)


class Answers:
    """Rows of a model that leans by ``margin`` to a class drawn from ``mix``."""

    def __init__(self, seed: int, classes: int = 5) -> None:
        self.rng = np.random.default_rng(seed)
        self.classes = classes
        self.row = 0

    def take(self, n: int, *, mix: list[float] | None = None, margin: float = 3.0) -> Predictions:
        logits = self.rng.normal(size=(n, self.classes))
        logits[np.arange(n), self.rng.choice(self.classes, n, p=mix)] += margin
        return self.rows(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))

    def rows(self, output: np.ndarray) -> Predictions:
        n = len(output)
        self.row += n
        ids, first = map(str, range(n)), self.row - n
        return predictions(np.zeros((n, 1)), first=first, ids=tuple(ids), output=output)

    def reference(self, rows: Predictions, label: np.ndarray | None = None) -> Reference:
        if label is None:
            chances = rows.output.cumsum(axis=1) / rows.output.sum(axis=1, keepdims=True)
            label = (chances > self.rng.random((len(rows), 1))).argmax(axis=1)
        recent = np.ones(len(rows), dtype=np.bool_)
        return Reference(rows.x, label, rows.embedding, rows.output, recent, rows.row)


def watching(answers: Answers, n: int = 600, settings: MonitorSettings = SETTINGS) -> OutputSignal:
    signal = OutputSignal(settings)
    signal.fit(answers.reference(answers.take(n)))
    return signal


def test_class_that_doubles_is_named_with_its_shares() -> None:
    answers = Answers(0)
    signal = watching(answers)
    signal.update(answers.take(1_000))
    assert signal.report().changes == ()
    signal.update(answers.take(600, mix=[0.15, 0.15, 0.15, 0.4, 0.15]))
    report = signal.report()
    assert report.level is Level.DRIFT
    first = report.changes[0]
    assert (first.what, first.name, first.measure) == ("class", "3", "share")
    assert first.before == pytest.approx(0.2, abs=0.05)
    assert first.now == pytest.approx(0.38, abs=0.06)
    assert first.effect == pytest.approx(0.42, abs=0.15)
    assert all(change.what == "class" for change in report.changes)
    effects = [abs(change.effect) for change in report.changes]
    assert effects == sorted(effects, reverse=True)


def test_fall_of_confidence_alone_is_named_and_no_class_is() -> None:
    answers = Answers(1)
    signal = watching(answers)
    signal.update(answers.take(1_000))
    signal.update(answers.take(200, margin=2.0))
    report = signal.report()
    assert report.level is Level.DRIFT
    (change,) = report.changes
    assert (change.what, change.measure) == ("confidence", "cohen_d")
    assert change.effect < -0.3
    assert change.now < change.before
    assert report.change_row is not None
    assert abs(report.change_row - 1_600) < 50


def test_at_most_five_changes_are_listed() -> None:
    answers = Answers(2, classes=20)
    signal = watching(answers)
    signal.update(answers.take(900, mix=[0.09] * 10 + [0.01] * 10, margin=5.0))
    assert len(signal.report().changes) == OutputSignal.LISTED


def test_few_rows_stranger_than_the_whole_reference_are_enough() -> None:
    answers = Answers(3)
    signal = watching(answers, settings=RARE)
    signal.update(answers.take(500))
    assert signal.report().level is Level.NONE
    signal.update(answers.rows(np.full((5, 5), 0.2)))
    assert signal.report().level is Level.DRIFT


def test_rise_of_confidence_is_a_change_too() -> None:
    answers = Answers(4)
    signal = watching(answers)
    signal.update(answers.take(500))
    signal.update(answers.take(150, margin=6.0))
    report = signal.report()
    assert report.level is Level.DRIFT
    assert [c.effect > 0 for c in report.changes if c.what == "confidence"] == [True]


def test_change_that_lasts_does_not_become_the_new_normal() -> None:
    answers = Answers(5)
    signal = watching(answers, n=200)
    for _ in range(20):
        signal.update(answers.take(500, margin=2.0))
    assert signal.report().level is Level.DRIFT
    assert abs(signal.estimate().loss) > 5 * signal.estimate().error


def test_model_that_gives_out_nan_is_seen_at_once() -> None:
    answers = Answers(6)
    signal = watching(answers)
    signal.update(answers.take(500))
    signal.update(answers.rows(np.full((15, 5), np.nan)))
    report = signal.report()
    assert report.level is Level.DRIFT
    assert {change.name for change in report.changes} >= {"none", "confidence"}
    assert signal.estimated_accuracy < 0.7


def test_estimate_looks_at_rows_since_the_change() -> None:
    answers = Answers(7)
    signal = watching(answers)
    signal.update(answers.take(500))
    calm = signal.estimate()
    assert abs(calm.loss) < 3 * calm.error
    rows = answers.take(100, margin=1.0)
    signal.update(rows)
    found = signal.estimate()
    expected = 1 - np.mean(rows.output.max(axis=1))
    assert found.accuracy == pytest.approx(1 - expected, abs=0.05)
    assert found.accuracy == signal.estimated_accuracy
    assert (found.loss, found.error) == (signal.estimated_loss, signal.loss_error)


def test_unscaled_outputs_are_watched_like_probabilities_and_noted() -> None:
    answers = Answers(8)
    rows = answers.take(400)
    unscaled = replace(rows, output=rows.output * 3)
    label = rows.output.argmax(axis=1)
    label[:40] = 0
    plain, odd = OutputSignal(SETTINGS), OutputSignal(SETTINGS)
    assert plain.fit(answers.reference(rows, label)).notes == ()
    (note,) = odd.fit(answers.reference(unscaled, label)).notes
    assert note.startswith("400 of 400 reference outputs are not probabilities")
    stream = answers.take(300)
    plain.update(stream)
    odd.update(replace(stream, output=stream.output * 5))
    assert odd.report().statistic == pytest.approx(plain.report().statistic, abs=0.05)


@pytest.mark.parametrize(
    ("output", "note"),
    [
        ([[0.9, 0.1], [0.1, 0.9]], "equally sure of every reference row"),
        ([[0.9, 0.1], [0.8, 0.2]], "gives every reference row the class 0"),
        ([[0.9, 0.1], [0.2, 0.8]], "makes no error on the reference"),
    ],
)
def test_what_a_reference_cannot_tell_is_said(output: list[list[float]], note: str) -> None:
    answers = Answers(9, classes=2)
    rows = answers.rows(np.array(output * 50))
    notes = OutputSignal(SETTINGS).fit(answers.reference(rows, rows.output.argmax(axis=1))).notes
    assert any(note in text for text in notes)


def test_reference_of_few_independent_rows_is_said_to_be_short() -> None:
    answers = Answers(11)
    rows = answers.take(15)
    repeated = answers.rows(np.repeat(rows.output, 20, axis=0))
    calibration = OutputSignal(SETTINGS).fit(answers.reference(repeated))
    assert 10 < calibration.correlation_time < 40
    assert any("300 reference rows tell no more than" in note for note in calibration.notes)


def test_two_classes_that_swap_shares_are_both_named() -> None:
    answers = Answers(10, classes=2)
    signal = OutputSignal(SETTINGS)
    signal.fit(answers.reference(answers.take(400, mix=[0.8, 0.2])))
    signal.update(answers.take(400, mix=[0.2, 0.8]))
    changes = {change.name: change.effect for change in signal.report().changes}
    assert changes["0"] < -0.8
    assert changes["1"] > 0.8


def test_rank_bets_are_fair_for_uniform_ranks() -> None:
    values = high_ranks((np.arange(100_000) + 0.5) / 100_000)
    np.testing.assert_allclose(values.mean(axis=0), 1.0, atol=1e-3)
    assert EDetector.LOWEST < values.min() < values.max() < EDetector.HIGHEST


def first_alarm(seed: int, correlation: float, limit: int) -> int:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(400 + 6 * limit, 3)) * np.sqrt(1 - correlation**2)
    walk = np.zeros_like(noise)
    for i in range(1, len(noise)):
        walk[i] = correlation * walk[i - 1] + noise[i]
    output = np.exp(2 * walk)
    answers = Answers(seed, classes=3)
    rows = answers.rows(output / output.sum(axis=1, keepdims=True))
    signal = OutputSignal(MonitorSettings(rows_per_false_drift=limit, warnings_per_drift=3))
    signal.fit(answers.reference(rows.take(np.arange(400))))
    for start in range(400, len(rows), 250):
        signal.update(rows.take(np.arange(start, min(start + 250, len(rows)))))
        report: SignalReport = signal.report()
        if report.since_row is not None:
            return report.since_row - 400
    return 6 * limit


@pytest.mark.thorough
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_budget_is_kept_on_independent_and_on_correlated_answers(correlation: float) -> None:
    times = [first_alarm(seed, correlation, 500) for seed in range(12)]
    assert 0.7 * 500 < np.mean(times) < 5 * 500


@pytest.mark.parametrize("slope", [0.0, 1.5])
def test_a_short_reference_of_many_classes_is_no_change(slope: float) -> None:
    """A warning in 1,000 rows is allowed; of 100 classes in 50 rows, most are still to be seen."""
    settings = MonitorSettings(rows_per_false_drift=5_000)
    mix = np.arange(1, 101) ** -slope
    early = 0
    for seed in range(20):
        answers = Answers(seed, classes=100)
        known = answers.take(50, mix=(mix / mix.sum()).tolist(), margin=8.0)
        signal = OutputSignal(settings)
        signal.fit(answers.reference(known))
        signal.update(answers.take(200, mix=(mix / mix.sum()).tolist(), margin=8.0))
        early += signal.report().level > Level.NONE
    assert early <= 6
