"""What every statistic that late labels can be judged by must do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.helpers.discovery import concrete, hold_all
from tests.helpers.streams import NumberStream, Stream
from undrift.errors import ConfigError
from undrift.evidence import Level
from undrift.monitor import signals
from undrift.monitor.base import Measures
from undrift.monitor.join import Joined, LabelJoin, LabelSignal
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.performance import performance_signal_for
from undrift.monitor.statistics.squared_errors import SquaredErrors
from undrift.records import Labels, Predictions, Reference

STATISTICS = ("error", "loss", "score", "river.drift:ADWIN", "squared error")


@dataclass(frozen=True)
class Make:
    """A statistic, and a stream of what it judges."""

    statistic: str

    def __call__(self) -> LabelSignal:
        if self.statistic == "squared error":
            return performance_signal_for(MonitorSettings(), numbers=True)
        return performance_signal_for(MonitorSettings(performance_statistic=self.statistic))

    def stream(self, seed: int = 0) -> Stream:
        return (NumberStream if self.statistic == "squared error" else Stream)(seed)


@pytest.fixture(params=STATISTICS)
def make(request: pytest.FixtureRequest) -> Make:
    return Make(request.param)


@pytest.fixture(params=STATISTICS[:-1])
def of_classes(request: pytest.FixtureRequest) -> Make:
    return Make(request.param)


def test_every_label_signal_is_held_to_this() -> None:
    held = (type(Make(statistic)()) for statistic in STATISTICS)
    hold_all(concrete(LabelSignal, signals), held, "STATISTICS")


def fitted(make: Make, reference: Reference) -> LabelSignal:
    signal = make()
    signal.fit(reference)
    return signal


def _numbers(labels: Labels) -> bool:
    return labels.label.dtype.kind == "f"


def joined(signal: LabelSignal, predictions: Predictions, labels: Labels) -> Joined:
    errors = SquaredErrors.of(NumberStream().reference()) if _numbers(labels) else None
    join = LabelJoin(max(len(predictions), 1), errors)
    join.add(predictions, signal.note(predictions))
    return join.label(labels)[0]


def feed(signal: LabelSignal, stream: Stream, n: int, **change: float) -> None:
    for _ in range(0, n, 500):
        signal.update(joined(signal, *stream.take(500, **change)))


def reference_of(rows: Predictions, labels: Labels) -> Reference:
    recent = np.ones(len(rows), dtype=np.bool_)
    return Reference(rows.x, labels.label, rows.embedding, rows.output, recent)


def test_fresh_signal_reports_nothing(make: Make) -> None:
    report = fitted(make, make.stream().reference()).report()
    assert (report.name, report.level, report.statistic) == ("performance", Level.NONE, 0.0)
    assert (report.change_row, report.since_row) == (None, None)
    assert 0 < report.warning_at < report.drift_at


def test_no_alarm_on_a_stream_like_the_reference(make: Make) -> None:
    levels = []
    for seed in range(4):
        stream = make.stream(seed)
        signal = fitted(make, stream.reference())
        feed(signal, stream, 3_000)
        levels.append(signal.report().level)
    assert levels.count(Level.NONE) >= 3


def test_gross_change_is_drift_and_its_start_is_found(make: Make) -> None:
    for seed in range(3):
        stream = make.stream(seed)
        signal = fitted(make, stream.reference())
        feed(signal, stream, 2_000)
        feed(signal, stream, 1_000, flipped=0.5)
        report = signal.report()
        assert report.level is Level.DRIFT
        assert report.statistic >= report.drift_at > report.warning_at
        assert report.change_row is not None
        assert report.since_row is not None
        assert 1_850 <= report.change_row <= 2_150
        assert report.change_row <= report.since_row <= 2_600


def test_cut_into_ticks_changes_nothing(make: Make) -> None:
    stream = make.stream(3)
    reference = stream.reference()
    parts = [stream.take(700), stream.take(1_200, flipped=0.3), stream.take(100)]
    predictions = Predictions.concat([p for p, _ in parts])
    labels = Labels.concat([labels for _, labels in parts])
    whole, pieces = fitted(make, reference), fitted(make, reference)
    whole.update(joined(whole, predictions, labels))
    cuts = np.sort(np.random.default_rng(0).choice(np.arange(1, 2_000), 150, replace=False))
    for index in np.split(np.arange(2_000), cuts):
        rows = predictions.take(index)
        pieces.update(joined(pieces, rows, Labels(rows.ids, labels.label[index], rows.at)))
    assert whole.report() == pieces.report()
    assert whole.report().since_row is not None
    for name, value in whole.state().items():
        np.testing.assert_array_equal(value, pieces.state()[name])


def test_shards_measure_and_one_folds(make: Make) -> None:
    stream = make.stream(4)
    whole = fitted(make, stream.reference())
    one = make()
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


def test_saved_and_loaded_mid_stream_decides_alike(make: Make) -> None:
    stream = make.stream(5)
    signal = fitted(make, stream.reference())
    feed(signal, stream, 1_000)
    signal.update(joined(signal, *stream.take(77)))
    loaded = make()
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


def test_state_is_a_copy(make: Make) -> None:
    stream = make.stream(6)
    signal = fitted(make, stream.reference())
    before = signal.state()
    kept = {name: value.copy() for name, value in before.items()}
    feed(signal, stream, 500, flipped=0.5)
    for name, value in before.items():
        np.testing.assert_array_equal(value, kept[name])


def test_refit_forgets_the_alarm(make: Make) -> None:
    stream = make.stream(7)
    reference = stream.reference()
    signal = fitted(make, reference)
    feed(signal, stream, 1_000, flipped=0.5)
    assert signal.report().level is Level.DRIFT
    signal.fit(reference)
    assert signal.report() == fitted(make, reference).report()


def test_labels_for_one_percent_of_traffic_are_enough(make: Make) -> None:
    stream = make.stream(8)
    signal = fitted(make, stream.reference())
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


def test_one_class_model_is_no_evidence(of_classes: Make) -> None:
    rows, labels = of_classes.stream(9).take(400)
    rows = replace(rows, output=np.ones((400, 1), dtype=np.float32))
    labels = replace(labels, label=np.zeros(400, dtype=np.int64))
    first = np.arange(200)
    some = Labels(rows.take(first).ids, labels.label[first], labels.at[first])
    signal = fitted(of_classes, reference_of(rows.take(first), some))
    signal.update(joined(signal, rows, labels))
    assert signal.report().level is Level.NONE


def test_label_of_no_class_of_the_model_is_an_error(of_classes: Make) -> None:
    stream = of_classes.stream(10)
    signal = fitted(of_classes, stream.reference())
    rows, labels = stream.take(300)
    signal.update(joined(signal, rows, replace(labels, label=np.where(labels.label == 1, 7, -1))))
    assert signal.report().level is Level.DRIFT


def test_outputs_that_do_not_sum_to_one_are_normalised(of_classes: Make) -> None:
    stream = of_classes.stream(11)
    reference = stream.reference()
    rows, labels = stream.take(1_000, flipped=0.2)
    scaled = fitted(of_classes, replace(reference, output=reference.output * 8))
    plain = fitted(of_classes, reference)
    scaled.update(joined(scaled, replace(rows, output=rows.output * 4), labels))
    plain.update(joined(plain, rows, labels))
    assert scaled.report() == plain.report()


def test_short_reference_is_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"49 rows .* monitor.min_reference_rows = 50"):
        fitted(make, make.stream().reference(49))


def test_empty_batch_changes_nothing(make: Make) -> None:
    stream = make.stream(12)
    signal = fitted(make, stream.reference())
    feed(signal, stream, 500)
    before = signal.report()
    batch = joined(signal, *stream.take(10))
    signal.update(batch.take(np.zeros(10, dtype=np.bool_)))
    assert signal.report() == before
