from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.helpers.streams import Stream
from undrift.evidence import Level
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.input import InputSignal
from undrift.monitor.signals.output import OutputSignal
from undrift.records import Predictions, Reference

SETTINGS = MonitorSettings()


def answers(stream: Stream, classes: np.ndarray) -> Predictions:
    """Rows that are all equally sure of the given classes, of four."""
    rows, _ = stream.take(len(classes))
    output = np.full((len(classes), 4), 0.1, dtype=np.float32)
    output[np.arange(len(classes)), classes] = 0.7
    return replace(rows, output=output)


def as_reference(rows: Predictions) -> Reference:
    label = rows.output.argmax(axis=1)
    recent = np.ones(len(rows), dtype=np.bool_)
    return Reference(rows.x, label, rows.embedding, rows.output, recent)


def test_change_of_class_mix_alone_moves_the_output_signal() -> None:
    stream, rng = Stream(0), np.random.default_rng(0)
    signal = OutputSignal(SETTINGS)
    signal.fit(as_reference(answers(stream, rng.choice(4, 600))))
    signal.update(answers(stream, rng.choice(4, 2_000)))
    assert signal.report().level is Level.NONE
    signal.update(answers(stream, rng.choice(4, 1_000, p=[0.55, 0.15, 0.15, 0.15])))
    assert signal.report().level is Level.DRIFT
    assert abs((signal.report().change_row or 0) - 2_600) < 300


def test_class_never_predicted_on_the_reference_is_no_error() -> None:
    stream, rng = Stream(1), np.random.default_rng(1)
    signal = OutputSignal(SETTINGS)
    signal.fit(as_reference(answers(stream, rng.choice(3, 600))))
    signal.update(answers(stream, np.full(200, 3)))
    assert signal.report().level is Level.DRIFT


def test_accuracy_is_estimated_without_labels() -> None:
    stream = Stream(2)
    signal = OutputSignal(SETTINGS)
    signal.fit(stream.reference(2_000))
    signal.update(stream.take(2_000)[0])
    assert abs(signal.estimated_loss) < 0.04
    rows, labels = stream.take(2_000, shift=2.0)
    signal.update(rows)
    real = np.mean(rows.output.argmax(axis=1) == labels.label)
    assert abs(signal.estimated_accuracy - real) < 0.04


def test_large_input_is_watched_by_its_embedding() -> None:
    def picture(rows: Predictions, moved: float) -> Predictions:
        x = np.zeros((len(rows), 3, 20, 20), dtype=np.float32)
        return replace(rows, x=x + moved, embedding=rows.embedding + moved)

    stream = Stream(3)
    signal = InputSignal(SETTINGS)
    signal.fit(as_reference(picture(stream.take(400)[0], 0.0)))
    signal.update(replace(picture(stream.take(1_000)[0], 0.0), x=np.full((1_000, 3, 20, 20), 9.0)))
    assert signal.report().level is Level.NONE
    signal.update(picture(stream.take(500)[0], 1.0))
    assert signal.report().level is Level.DRIFT


def test_wildly_scaled_features_and_outliers_do_not_hide_a_change() -> None:
    def rescaled(rows: Predictions) -> Predictions:
        x = rows.x * np.array([1e12, 1e-12, 1, 1, 1, 1], dtype=np.float32)
        x[::50, 3] = 1e30
        return replace(rows, x=x)

    stream = Stream(4)
    signal = InputSignal(SETTINGS)
    signal.fit(as_reference(rescaled(stream.take(600)[0])))
    signal.update(rescaled(stream.take(1_000)[0]))
    assert signal.report().level is Level.NONE
    signal.update(rescaled(stream.take(500, shift=0.7)[0]))
    assert signal.report().level is Level.DRIFT


def test_feature_constant_in_the_reference_that_changes_is_seen() -> None:
    def fixed(rows: Predictions, value: float) -> Predictions:
        x = rows.x.copy()
        x[:, 4] = value
        return replace(rows, x=x)

    stream = Stream(5)
    signal = InputSignal(SETTINGS)
    signal.fit(as_reference(fixed(stream.take(600)[0], 3.0)))
    signal.update(fixed(stream.take(1_000)[0], 3.0))
    assert signal.report().level is Level.NONE
    signal.update(fixed(stream.take(500)[0], 5.0))
    assert signal.report().level is Level.DRIFT
