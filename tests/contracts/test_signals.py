"""What every signal must do, whatever it measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from tests.helpers.discovery import concrete, hold_all
from tests.helpers.streams import Stream
from undrift.errors import ConfigError
from undrift.evidence import Level, SignalReport
from undrift.monitor import signals
from undrift.monitor.base import Measures, Signal
from undrift.monitor.join import LabelJoin, LabelSignal
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.error import PerformanceSignal
from undrift.monitor.signals.input import InputSignal
from undrift.monitor.signals.output import OutputSignal
from undrift.monitor.signals.values import ValueSignal
from undrift.records import Labels, Predictions, Reference

SETTINGS = MonitorSettings()
MARGINAL = MonitorSettings(input_statistic="marginal")


@dataclass(frozen=True)
class Kind:
    name: str
    build: Callable[[MonitorSettings], Signal[Any]]
    change: dict[str, float]  # a gross change that this signal must see
    settings: MonitorSettings = SETTINGS
    statistic: str = ""

    def batch(self, predictions: Predictions, labels: Labels) -> Any:
        if self.name != "performance":
            return predictions
        join = LabelJoin(len(predictions))
        join.add(predictions)
        return join.label(labels)[0]


KINDS = (
    Kind("input", InputSignal, {"shift": 1.0}),
    Kind("input", InputSignal, {"shift": 1.0}, MARGINAL, "marginal"),
    Kind("output", OutputSignal, {"shift": 2.0}),
    Kind("output", ValueSignal, {"shift": 2.0}, statistic="values"),
    Kind("performance", PerformanceSignal, {"flipped": 0.5}),
)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.statistic or kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def test_every_signal_is_held_to_this() -> None:
    family = concrete(Signal, signals) - concrete(LabelSignal, signals)
    hold_all(family, (kind.build for kind in KINDS), "KINDS")


def fitted(kind: Kind, reference: Reference) -> Signal[Any]:
    signal = kind.build(kind.settings)
    signal.fit(reference)
    return signal


def feed(signal: Signal[Any], kind: Kind, stream: Stream, n: int, **change: float) -> None:
    for _ in range(0, n, 500):
        signal.update(kind.batch(*stream.take(500, **change)))


def test_fresh_signal_reports_nothing(kind: Kind) -> None:
    report = fitted(kind, Stream().reference()).report()
    assert report == SignalReport(
        kind.name, Level.NONE, 0.0, report.warning_at, report.drift_at, None, None
    )
    assert report.warning_at == pytest.approx(np.log10(20_001))
    assert report.drift_at == pytest.approx(np.log10(200_001))


def test_no_alarm_on_a_stream_like_the_reference(kind: Kind) -> None:
    levels = []
    for seed in range(5):
        stream = Stream(seed)
        signal = fitted(kind, stream.reference())
        feed(signal, kind, stream, 4_000)
        levels.append(signal.report().level)
    assert levels.count(Level.NONE) >= 4  # 4,000 of at least 15,000 rows between false warnings


def test_gross_change_is_drift_and_its_start_is_found(kind: Kind) -> None:
    for seed in range(3):
        stream = Stream(seed)
        signal = fitted(kind, stream.reference())
        feed(signal, kind, stream, 2_000)
        feed(signal, kind, stream, 1_000, **kind.change)
        report = signal.report()
        assert report.level is Level.DRIFT
        assert report.statistic > report.drift_at > report.warning_at
        assert report.change_row is not None
        assert report.since_row is not None
        assert 1_850 <= report.change_row <= 2_150
        assert report.change_row <= report.since_row <= 2_600


def test_batch_cut_changes_nothing(kind: Kind) -> None:
    stream = Stream(3)
    reference = stream.reference()
    parts = [stream.take(700), stream.take(1_200, **kind.change), stream.take(100)]
    predictions = Predictions.concat([p for p, _ in parts])
    batch = kind.batch(predictions, Labels.concat([labels for _, labels in parts]))
    whole, pieces = fitted(kind, reference), fitted(kind, reference)
    whole.update(batch)
    cuts = np.sort(np.random.default_rng(0).choice(np.arange(1, 2_000), 150, replace=False))
    for rows in np.split(np.arange(2_000), cuts):
        pieces.update(batch.take(np.isin(np.arange(2_000), rows)))
    assert whole.report() == pieces.report()
    assert whole.report().since_row is not None


def test_shards_measure_and_one_folds(kind: Kind) -> None:
    stream = Stream(12)
    whole = fitted(kind, stream.reference())
    feed(whole, kind, stream, 500)
    state = whole.state()
    parts = [stream.take(700), stream.take(800, **kind.change)]
    batch = kind.batch(
        Predictions.concat([p for p, _ in parts]), Labels.concat([labels for _, labels in parts])
    )
    whole.update(batch)
    shards = [kind.build(kind.settings) for _ in range(4)]
    measures = []
    owner = np.random.default_rng(1).integers(0, 4, 1_500)
    for i, shard in enumerate(shards):
        shard.load(state)
        cuts = np.array_split(np.flatnonzero(owner == i), 5)
        measures += [shard.measure(batch.take(np.isin(np.arange(1_500), cut))) for cut in cuts]
    shards[0].advance(Measures.merge(measures))
    assert shards[0].report() == whole.report()
    assert whole.report().level is Level.DRIFT
    final = shards[0].state()
    for name, value in whole.state().items():
        np.testing.assert_array_equal(final[name], value)


def test_saved_and_loaded_mid_stream_decides_alike(kind: Kind) -> None:
    stream = Stream(4)
    reference = stream.reference()
    signal = fitted(kind, reference)
    feed(signal, kind, stream, 1_000)
    signal.update(kind.batch(*stream.take(77)))
    loaded = kind.build(kind.settings)
    loaded.load(signal.state())
    seen: list[Level] = []
    for change in ({}, kind.change, {}):
        for size in (1, 90, 400):
            batch = kind.batch(*stream.take(size, **change))
            signal.update(batch)
            loaded.update(batch)
            assert loaded.report() == signal.report()
        seen.append(signal.report().level)
    assert seen[:2] == [Level.NONE, Level.DRIFT]


def test_state_is_a_copy(kind: Kind) -> None:
    stream = Stream(5)
    signal = fitted(kind, stream.reference())
    before = signal.state()
    kept = {name: value.copy() for name, value in before.items()}
    feed(signal, kind, stream, 500, **kind.change)
    for name, value in before.items():
        np.testing.assert_array_equal(value, kept[name])


def test_same_seed_same_report(kind: Kind) -> None:
    reports = []
    for _ in range(2):
        stream = Stream(6)
        signal = fitted(kind, stream.reference())
        feed(signal, kind, stream, 1_000, **kind.change)
        reports.append(signal.report())
    assert reports[0] == reports[1]


def test_constant_features_and_outputs_are_no_evidence(kind: Kind) -> None:
    def constant(n: int) -> tuple[Predictions, Labels]:
        predictions, labels = Stream(7).take(n)
        output = np.tile(np.array([1.0, 0.0], dtype=np.float32), (n, 1))
        predictions = replace(predictions, x=np.ones_like(predictions.x), output=output)
        return predictions, replace(labels, label=np.zeros_like(labels.label))

    rows, truth = constant(200)
    all_recent = np.ones(200, dtype=np.bool_)
    reference = Reference(rows.x, truth.label, rows.embedding, rows.output, all_recent)
    signal = fitted(kind, reference)
    signal.update(kind.batch(*constant(3_000)))
    assert signal.report().level is Level.NONE


def test_one_class_model_is_watched(kind: Kind) -> None:
    rows, truth = Stream(8).take(1_200)
    rows = replace(rows, output=np.ones((1_200, 1), dtype=np.float32))
    truth = replace(truth, label=np.zeros(1_200, dtype=np.int64))
    n = 200
    reference = Reference(
        rows.x[:n], truth.label[:n], rows.embedding[:n], rows.output[:n], np.ones(n, dtype=np.bool_)
    )
    signal = fitted(kind, reference)
    signal.update(kind.batch(rows, truth))
    assert signal.report().level is Level.NONE


def test_short_reference_is_refused(kind: Kind) -> None:
    with pytest.raises(ConfigError, match=r"49 rows .* monitor.min_reference_rows = 50"):
        fitted(kind, Stream().reference(49))


def test_old_rows_of_the_reference_do_not_count(kind: Kind) -> None:
    reference = Stream().reference(600)
    recent = np.arange(600) >= 570
    with pytest.raises(ConfigError, match="30 rows of the recent regime"):
        fitted(kind, replace(reference, recent=recent))


def test_reference_that_is_not_finite_is_refused(kind: Kind) -> None:
    reference = Stream().reference()
    reference.x[3, 2] = np.nan
    with pytest.raises(ConfigError, match="value of x that is not finite"):
        fitted(kind, reference)


def test_short_reference_still_sees_a_gross_change(kind: Kind) -> None:
    stream = Stream(13)
    signal = fitted(kind, stream.reference(100))
    feed(signal, kind, stream, 1_000)
    assert signal.report().level is Level.NONE
    feed(signal, kind, stream, 2_000, **kind.change)
    assert signal.report().level is Level.DRIFT


def test_refit_forgets_the_alarm(kind: Kind) -> None:
    stream = Stream(10)
    reference = stream.reference()
    signal = fitted(kind, reference)
    feed(signal, kind, stream, 1_000, **kind.change)
    signal.fit(reference)
    assert signal.report() == fitted(kind, reference).report()


def test_empty_batch_changes_nothing(kind: Kind) -> None:
    stream = Stream(11)
    signal = fitted(kind, stream.reference())
    feed(signal, kind, stream, 500)
    before = signal.report()
    batch = kind.batch(*stream.take(10))
    signal.update(batch.take(np.zeros(10, dtype=np.bool_)))
    assert signal.report() == before
