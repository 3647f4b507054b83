from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.rows import predictions
from tests.helpers.streams import Stream
from undrift.errors import ConfigError
from undrift.evidence import Level, SignalReport
from undrift.monitor.base import Calibration
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.input import InputSignal
from undrift.records import Predictions, Reference

BOTH = pytest.mark.parametrize("statistic", ["mmd", "marginal"])


def rows_of(x: np.ndarray, first: int = 0) -> Predictions:
    n = len(x)
    embedding = x.reshape(n, -1)[:, :3]
    return predictions(x, first=first, embedding=embedding, output=np.ones((n, 1)))


def fitted(x: np.ndarray, **settings: object) -> tuple[InputSignal, Calibration]:
    rows = rows_of(x)
    signal = InputSignal(MonitorSettings.model_validate(settings))
    label, recent = np.zeros(len(x), dtype=np.int64), np.ones(len(x), dtype=np.bool_)
    return signal, signal.fit(Reference(rows.x, label, rows.embedding, rows.output, recent))


def after(signal: InputSignal, *parts: np.ndarray) -> SignalReport:
    signal.update(rows_of(np.concatenate(parts)))
    return signal.report()


def test_rows_far_from_all_reference_rows_warn_within_ten_rows() -> None:
    rng = np.random.default_rng(0)
    signal, _ = fitted(rng.normal(size=(600, 8)))
    report = after(signal, rng.normal(size=(1_000, 8)), rng.normal(size=(50, 8)) + 3.0)
    assert report.since_row is not None
    assert 1_000 <= report.since_row < 1_010


def test_change_of_correlation_alone_is_seen_by_mmd() -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(size=(2_600, 1))
    x = 0.9 * common + 0.4 * rng.normal(size=(2_600, 4))
    signal, _ = fitted(x[:600])
    assert after(signal, x[600:1_600]).level is Level.NONE
    torn = np.stack([rng.permutation(column) for column in x[1_600:].T], axis=1)
    signal.update(rows_of(torn, 1_000))
    assert signal.report().level is Level.DRIFT


@BOTH
def test_slow_shift_of_a_third_of_a_deviation_is_seen(statistic: str) -> None:
    rng = np.random.default_rng(2)
    signal, _ = fitted(rng.normal(size=(1_000, 5)), input_statistic=statistic)
    slope = 0.3 * np.minimum(np.arange(2_000) / 1_000, 1.0)[:, None]
    report = after(signal, rng.normal(size=(500, 5)), rng.normal(size=(2_000, 5)) + slope)
    assert report.since_row is not None
    assert report.since_row >= 500


@BOTH
def test_columns_that_moved_are_named_with_their_means_largest_first(statistic: str) -> None:
    rng = np.random.default_rng(3)
    names = tuple("abcdefgh")
    signal, _ = fitted(rng.normal(size=(600, 8)), input_statistic=statistic, features=names)
    assert after(signal, rng.normal(size=(500, 8))).changes == ()
    moved = rng.normal(size=(300, 8)) + np.array([0, 0, 3, 0, 0, 1, 0, 0])
    signal.update(rows_of(moved, 500))
    changes = signal.report().changes
    assert [(c.what, c.name, c.measure) for c in changes] == [
        ("feature", "c", "hellinger"),
        ("feature", "f", "hellinger"),
    ]
    assert 1 > changes[0].effect > changes[1].effect > 0.2
    assert [round(c.before) for c in changes] == [0, 0]
    assert [round(c.now) for c in changes] == [3, 1]


def test_pixels_are_named_by_place() -> None:
    rng = np.random.default_rng(4)
    signal, _ = fitted(rng.normal(size=(400, 3, 4)))
    moved = rng.normal(size=(300, 3, 4))
    moved[:, 2, 1] += 4.0
    assert [c.name for c in after(signal, moved).changes] == ["x[2,1]"]


def test_large_inputs_name_the_embedding_and_need_no_names_of_columns() -> None:
    rng = np.random.default_rng(5)
    signal, _ = fitted(rng.normal(size=(400, 300)), features=("unused",))
    moved = rng.normal(size=(300, 300))
    moved[:, 1] += 4.0
    (change,) = after(signal, moved).changes
    assert (change.what, change.name) == ("embedding", "embedding[1]")


def test_wrong_number_of_names_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"monitor.features names 2 columns, .* has 3"):
        fitted(np.random.default_rng(6).normal(size=(100, 3)), features=("a", "b"))


@BOTH
def test_category_that_grows_and_one_never_seen_are_named(statistic: str) -> None:
    rng = np.random.default_rng(7)

    def table(n: int, shares: list[float]) -> np.ndarray:
        return np.stack([rng.choice(4, n, p=shares), rng.normal(size=n)], axis=1)

    signal, _ = fitted(table(600, [0.5, 0.3, 0.2, 0.0]), input_statistic=statistic)
    assert after(signal, table(1_000, [0.5, 0.3, 0.2, 0.0])).level is Level.NONE
    signal.update(rows_of(table(500, [0.2, 0.3, 0.2, 0.3]), 1_000))
    assert signal.report().level is Level.DRIFT
    assert [c.name for c in signal.report().changes] == ["x[0]"]


@BOTH
def test_constant_column_is_told_and_another_value_is_a_change(statistic: str) -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(2_000, 3))
    x[:, 1] = 7.0
    signal, calibration = fitted(x[:600], input_statistic=statistic)
    assert any("constant on the reference" in n and "x[1]" in n for n in calibration.notes)
    assert after(signal, x[600:1_600]).level is Level.NONE
    x[1_600:, 1] = 7.5
    signal.update(rows_of(x[1_600:], 1_000))
    assert signal.report().level is Level.DRIFT
    assert [c.name for c in signal.report().changes] == ["x[1]"]


@BOTH
def test_wild_scales_and_heavy_tails_neither_alarm_nor_hide_a_change(statistic: str) -> None:
    rng = np.random.default_rng(19)

    def wild(n: int) -> np.ndarray:
        return rng.standard_cauchy(size=(n, 4)) * np.array([1e12, 1e-12, 1.0, 1e30])

    signal, _ = fitted(wild(600), input_statistic=statistic)
    assert after(signal, wild(2_000)).level is Level.NONE
    signal.update(rows_of(wild(600) + np.array([2e12, 0, 0, 0]), 2_000))
    assert signal.report().level is Level.DRIFT
    assert [c.name for c in signal.report().changes] == ["x[0]"]


@BOTH
def test_reference_of_fifty_rows_works_and_says_how_weak_it_is(statistic: str) -> None:
    rng = np.random.default_rng(10)
    signal, calibration = fitted(rng.normal(size=(50, 4)), input_statistic=statistic)
    assert any(
        "50 reference rows" in n and "0.6 standard deviations" in n for n in calibration.notes
    )
    assert after(signal, rng.normal(size=(1_000, 4))).level is Level.NONE
    signal.update(rows_of(rng.normal(size=(1_000, 4)) + 1.5, 1_000))
    assert signal.report().level is Level.DRIFT


def test_good_reference_needs_no_words() -> None:
    _, calibration = fitted(np.random.default_rng(11).normal(size=(1_000, 4)))
    assert calibration == Calibration(1_000)


@BOTH
def test_autocorrelation_is_measured_and_does_not_alarm(statistic: str) -> None:
    rng = np.random.default_rng(12)
    x = rng.normal(size=(5_000, 4))
    for i in range(1, len(x)):
        x[i] = 0.5 * x[i - 1] + 0.75**0.5 * x[i]
    signal, calibration = fitted(x[:1_000], input_statistic=statistic)
    assert 2.0 < calibration.correlation_time < 4.5
    assert after(signal, x[1_000:]).level is Level.NONE


def test_stream_that_begins_with_the_reference_itself_is_no_evidence() -> None:
    rng = np.random.default_rng(13)
    x = rng.normal(size=(300, 6))
    signal, _ = fitted(x)
    assert after(signal, x, rng.normal(size=(1_500, 6))).level is Level.NONE


def test_lasting_change_does_not_become_the_new_normal() -> None:
    rng = np.random.default_rng(14)
    signal, _ = fitted(rng.normal(size=(400, 3)))
    for first in range(0, 12_000, 1_000):
        signal.update(rows_of(rng.normal(size=(1_000, 3)) + 1.0, first))
    assert signal.report().level is Level.DRIFT


def test_statistic_of_marginals_counts_the_embedding_of_images_too() -> None:
    stream = Stream(15)
    rows, _ = stream.take(900)
    picture = replace(rows, x=np.zeros((900, 1, 20, 20), dtype=np.float32))
    signal = InputSignal(MonitorSettings(input_statistic="marginal"))
    some = picture.take(np.arange(400))
    recent = np.ones(400, dtype=np.bool_)
    signal.fit(Reference(some.x, np.zeros(400, np.int64), some.embedding, some.output, recent))
    moved = picture.take(np.arange(400, 900))
    signal.update(replace(moved, embedding=moved.embedding + 1.0))
    assert signal.report().level is Level.DRIFT
