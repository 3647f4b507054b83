"""What every statistic that late labels can be judged by must do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.discovery import concrete, hold_all
from tests.helpers.streams import Stream
from undrift.errors import ConfigError
from undrift.evidence import Level
from undrift.monitor import signals
from undrift.monitor.base import Measures
from undrift.monitor.join import Joined, LabelJoin, LabelSignal
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.performance import performance_signal_for
from undrift.records import Labels, Predictions, Reference

STATISTICS = ("error", "loss", "score", "river.drift:ADWIN")


@pytest.fixture(params=STATISTICS)
def settings(request: pytest.FixtureRequest) -> MonitorSettings:
    return MonitorSettings(performance_statistic=request.param)


def test_every_label_signal_is_held_to_this() -> None:
    named = (MonitorSettings(performance_statistic=name) for name in STATISTICS)
    held = (type(performance_signal_for(settings)) for settings in named)
    hold_all(concrete(LabelSignal, signals), held, "STATISTICS")


def fitted(settings: MonitorSettings, reference: Reference) -> LabelSignal:
    signal = performance_signal_for(settings)
    signal.fit(reference)
    return signal


def joined(signal: LabelSignal, predictions: Predictions, labels: Labels) -> Joined:
    join = LabelJoin(max(len(predictions), 1))
    join.add(predictions, signal.note(predictions))
    return join.label(labels)[0]


def feed(signal: LabelSignal, stream: Stream, n: int, **change: float) -> None:
    for _ in range(0, n, 500):
        signal.update(joined(signal, *stream.take(500, **change)))


def reference_of(rows: Predictions, labels: Labels) -> Reference:
    recent = np.ones(len(rows), dtype=np.bool_)
    return Reference(rows.x, labels.label, rows.embedding, rows.output, recent)


def test_fresh_signal_reports_nothing(settings: MonitorSettings) -> None:
    report = fitted(settings, Stream().reference()).report()
    assert (report.name, report.level, report.statistic) == ("performance", Level.NONE, 0.0)
    assert (report.change_row, report.since_row) == (None, None)
    assert 0 < report.warning_at < report.drift_at


def test_no_alarm_on_a_stream_like_the_reference(settings: MonitorSettings) -> None:
    levels = []
    for seed in range(4):
        stream = Stream(seed)
        signal = fitted(settings, stream.reference())
        feed(signal, stream, 3_000)
        levels.append(signal.report().level)
    assert levels.count(Level.NONE) >= 3


def test_gross_change_is_drift_and_its_start_is_found(settings: MonitorSettings) -> None:
    for seed in range(3):
        stream = Stream(seed)
        signal = fitted(settings, stream.reference())
        feed(signal, stream, 2_000)
        feed(signal, stream, 1_000, flipped=0.5)
        report = signal.report()
        assert report.level is Level.DRIFT
        assert report.statistic >= report.drift_at > report.warning_at
        assert report.change_row is not None
        assert report.since_row is not None
        assert 1_850 <= report.change_row <= 2_150
        assert report.change_row <= report.since_row <= 2_600


def test_cut_into_ticks_changes_nothing(settings: MonitorSettings) -> None:
    stream = Stream(3)
    reference = stream.reference()
    parts = [stream.take(700), stream.take(1_200, flipped=0.3), stream.take(100)]
    predictions = Predictions.concat([p for p, _ in parts])
    labels = Labels.concat([labels for _, labels in parts])
    whole, pieces = fitted(settings, reference), fitted(settings, reference)
    whole.update(joined(whole, predictions, labels))
    cuts = np.sort(np.random.default_rng(0).choice(np.arange(1, 2_000), 150, replace=False))
    for index in np.split(np.arange(2_000), cuts):
        rows = predictions.take(index)
        pieces.update(joined(pieces, rows, Labels(rows.ids, labels.label[index], rows.at)))
    assert whole.report() == pieces.report()
    assert whole.report().since_row is not None
    for name, value in whole.state().items():
        np.testing.assert_array_equal(value, pieces.state()[name])


def test_shards_measure_and_one_folds(settings: MonitorSettings) -> None:
    stream = Stream(4)
    whole = fitted(settings, stream.reference())
    one = performance_signal_for(settings)
    one.load(whole.state())
    rows, labels = stream.take(1_500, flipped=0.5)
    whole.update(joined(whole, rows, labels))
    measures = []
    for shard in range(4):
        index = np.flatnonzero(np.random.default_rng(0).integers(4, size=1_500) == shard)
        part = rows.take(index)
        mine = Labels(part.ids, labels.label[index], part.at)
        measures.append(one.measure(joined(one, part, mine)))
    one.advance(Measures.merge(measures))
    assert one.report() == whole.report()
    assert one.report().level is Level.DRIFT


def test_saved_and_loaded_mid_stream_decides_alike(settings: MonitorSettings) -> None:
    stream = Stream(5)
    signal = fitted(settings, stream.reference())
    feed(signal, stream, 1_000)
    signal.update(joined(signal, *stream.take(77)))
    loaded = performance_signal_for(settings)
    loaded.load(signal.state())
    for flipped in (0.0, 0.5):
        for size in (1, 90, 400):
            rows, labels = stream.take(size, flipped=flipped)
            signal.update(joined(signal, rows, labels))
            loaded.update(joined(loaded, rows, labels))
            assert loaded.report() == signal.report()
    assert signal.report().level is Level.DRIFT
    for name, value in signal.state().items():
        np.testing.assert_array_equal(value, loaded.state()[name])


def test_state_is_a_copy(settings: MonitorSettings) -> None:
    stream = Stream(6)
    signal = fitted(settings, stream.reference())
    before = signal.state()
    kept = {name: value.copy() for name, value in before.items()}
    feed(signal, stream, 500, flipped=0.5)
    for name, value in before.items():
        np.testing.assert_array_equal(value, kept[name])


def test_refit_forgets_the_alarm(settings: MonitorSettings) -> None:
    stream = Stream(7)
    reference = stream.reference()
    signal = fitted(settings, reference)
    feed(signal, stream, 1_000, flipped=0.5)
    assert signal.report().level is Level.DRIFT
    signal.fit(reference)
    assert signal.report() == fitted(settings, reference).report()


def test_labels_for_one_percent_of_traffic_are_enough(settings: MonitorSettings) -> None:
    stream = Stream(8)
    signal = fitted(settings, stream.reference())
    few = np.arange(0, 2_000, 100)
    for flipped in [0.0] * 8 + [0.6] * 8:
        rows, labels = stream.take(2_000, flipped=flipped)
        some = Labels(rows.take(few).ids, labels.label[few], labels.at[few])
        signal.update(joined(signal, rows, some))
        if signal.report().level is Level.DRIFT:
            break
    report = signal.report()
    assert report.since_row is not None
    assert report.change_row is not None
    assert 16_000 <= report.since_row <= 26_000
    assert 12_000 <= report.change_row <= report.since_row


def test_one_class_model_is_no_evidence(settings: MonitorSettings) -> None:
    rows, labels = Stream(9).take(400)
    rows = replace(rows, output=np.ones((400, 1), dtype=np.float32))
    labels = replace(labels, label=np.zeros(400, dtype=np.int64))
    first = np.arange(200)
    some = Labels(rows.take(first).ids, labels.label[first], labels.at[first])
    signal = fitted(settings, reference_of(rows.take(first), some))
    signal.update(joined(signal, rows, labels))
    assert signal.report().level is Level.NONE


def test_label_of_no_class_of_the_model_is_an_error(settings: MonitorSettings) -> None:
    stream = Stream(10)
    signal = fitted(settings, stream.reference())
    rows, labels = stream.take(300)
    signal.update(joined(signal, rows, replace(labels, label=np.where(labels.label == 1, 7, -1))))
    assert signal.report().level is Level.DRIFT


def test_outputs_that_do_not_sum_to_one_are_normalised(settings: MonitorSettings) -> None:
    stream = Stream(11)
    reference = stream.reference()
    rows, labels = stream.take(1_000, flipped=0.2)
    scaled = fitted(settings, replace(reference, output=reference.output * 8))
    plain = fitted(settings, reference)
    scaled.update(joined(scaled, replace(rows, output=rows.output * 4), labels))
    plain.update(joined(plain, rows, labels))
    assert scaled.report() == plain.report()


def test_short_reference_is_refused(settings: MonitorSettings) -> None:
    with pytest.raises(ConfigError, match=r"49 rows .* monitor.min_reference_rows = 50"):
        fitted(settings, Stream().reference(49))


def test_empty_batch_changes_nothing(settings: MonitorSettings) -> None:
    stream = Stream(12)
    signal = fitted(settings, stream.reference())
    feed(signal, stream, 500)
    before = signal.report()
    batch = joined(signal, *stream.take(10))
    signal.update(batch.take(np.zeros(10, dtype=np.bool_)))
    assert signal.report() == before
