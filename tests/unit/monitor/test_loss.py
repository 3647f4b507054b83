from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.streams import Stream
from undrift.evidence import Level
from undrift.monitor.join import Joined, LabelJoin
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.loss import LossSignal
from undrift.monitor.statistics.score_map import probabilities
from undrift.records import Labels, Predictions, Reference

SETTINGS = MonitorSettings()


def fitted(output: np.ndarray, label: np.ndarray) -> LossSignal:
    n = len(label)
    flat = np.zeros((n, 1), dtype=np.float32)
    signal = LossSignal(SETTINGS)
    signal.fit(Reference(flat, label, flat, output, np.ones(n, dtype=np.bool_)))
    return signal


def joined(signal: LossSignal, rows: Predictions, labels: Labels) -> Joined:
    join = LabelJoin(len(rows))
    join.add(rows, signal.note(rows))
    return join.label(labels)[0]


def losses(output: np.ndarray, label: list[int]) -> list[float]:
    """Losses of rows whose label comes late, by a signal fitted on the same rows."""
    rows, _ = Stream().take(len(label))
    rows = replace(rows, output=output.astype(np.float32))
    labels = Labels(rows.ids, np.array(label), rows.at)
    signal = fitted(np.repeat(rows.output, 50, axis=0), np.repeat(labels.label, 50))
    found: list[float] = signal.measure(joined(signal, rows, labels)).values[:, 0].tolist()
    return found


def test_loss_is_the_cross_entropy_of_the_label_in_nats() -> None:
    output = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])
    assert losses(output, [0, 2]) == pytest.approx([np.log(2), np.log(4)])


def test_probability_zero_of_the_true_class_is_a_finite_loss() -> None:
    output = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert losses(output, [0, 1]) == pytest.approx([0.0, 24 * np.log(2)])


def test_label_that_the_model_has_no_class_for_is_the_largest_loss() -> None:
    output = np.array([[0.5, 0.5], [0.5, 0.5]])
    assert losses(output, [2, -1]) == pytest.approx([24 * np.log(2)] * 2)


def test_outputs_that_are_no_probabilities_are_made_so() -> None:
    output = np.array([[2.0, -1.0], [np.nan, 3.0], [np.inf, 0.5], [0.0, 0.0], [3.0, 1.0]])
    expected = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.5, 0.5], [0.75, 0.25]]
    assert probabilities(output.astype(np.float32)).tolist() == expected


def test_of_many_classes_the_likeliest_are_kept_and_the_rest_share() -> None:
    output = np.full((2, 132), 0.5 / 131)
    output[:, 100] = 0.5
    assert losses(output, [100, 7]) == pytest.approx([np.log(2), np.log(262)], rel=1e-5)
    sharp = np.zeros((1, 132))
    sharp[:, :32] = 1 / 32
    assert losses(np.repeat(sharp, 2, axis=0), [31, 32])[0] == pytest.approx(np.log(32))


def test_waiting_row_is_bounded_however_many_classes() -> None:
    for classes, noted in ((2, 2), (32, 32), (33, 64), (1_000, 64)):
        output = np.full((60, classes), 1 / classes, dtype=np.float32)
        signal = fitted(output, np.zeros(60, dtype=np.int64))
        rows, _ = Stream().take(3)
        assert signal.note(replace(rows, output=output[:3])).shape == (3, noted)


def test_constant_loss_is_told_and_a_larger_one_is_seen() -> None:
    sure = np.tile(np.array([1.0, 0.0], dtype=np.float32), (200, 1))
    flat = np.zeros((200, 1), dtype=np.float32)
    all_rows = np.ones(200, dtype=np.bool_)
    right = np.zeros(200, dtype=np.int64)
    signal = LossSignal(SETTINGS)
    calibration = signal.fit(Reference(flat, right, flat, sure, all_rows))
    assert "the loss is the same on every reference row" in calibration.notes[0]
    rows, labels = Stream().take(200)
    rows = replace(rows, output=sure)
    signal.update(joined(signal, rows, replace(labels, label=right)))
    assert signal.report().level is Level.NONE
    signal.update(joined(signal, rows, replace(labels, label=right + 1)))
    assert signal.report().level is Level.DRIFT


def test_model_that_loses_confidence_is_seen_though_it_errs_no_more() -> None:
    stream = Stream(1)
    signal = LossSignal(SETTINGS)
    signal.fit(stream.reference(600))
    rows, labels = stream.take(1_000)
    signal.update(joined(signal, rows, labels))
    assert signal.report().level is Level.NONE
    flatter = np.sqrt(rows.output)
    flatter /= flatter.sum(axis=1, keepdims=True)
    signal.update(joined(signal, replace(rows, output=flatter), labels))
    assert signal.report().level is Level.DRIFT
