from __future__ import annotations

import numpy as np
import pytest

from undrift.errors import ConfigError
from undrift.streams.digits import digits, tilt
from undrift.streams.flights import arrivals, flights
from undrift.streams.stream import NEVER, UNKNOWN, Rows, Stream, fixed_lag


def stream_of(y: list[int], label_at: list[int]) -> Stream:
    rows = Rows(np.zeros((len(y), 2), np.float32), np.array(y))
    return Stream(
        name="s",
        title="S",
        task="",
        input_shape=(2,),
        class_names=("0", "1"),
        train=rows,
        reference=rows,
        live=rows,
        label_at=np.array(label_at),
    )


def test_labels_are_due_in_order_of_arrival_and_unknown_ones_never() -> None:
    stream = stream_of([1, UNKNOWN, 0, 1], [9, 2, 3, NEVER])
    rows, at = stream.due()
    assert rows.tolist() == [2, 0]
    assert at.tolist() == [3, 9]


def test_label_of_unknown_row_never_arrives() -> None:
    assert fixed_lag(np.array([1, UNKNOWN]), 0).tolist() == [1, NEVER]


def test_digits_of_one_seed_are_the_same_and_of_another_differ() -> None:
    a, b, c = digits(500, seed=1), digits(500, seed=1), digits(500, seed=2)
    np.testing.assert_array_equal(a.live.x, b.live.x)
    np.testing.assert_array_equal(a.train.x, b.train.x)
    assert not np.array_equal(a.live.x, c.live.x)


def test_digits_are_images_in_range_with_labels_after_the_lag() -> None:
    stream = digits(600, lag=50)
    assert stream.live.x.shape == (600, 1, 8, 8)
    assert stream.live.x.dtype == np.float32
    assert stream.live.x.min() >= 0
    assert stream.live.x.max() <= 1
    assert stream.label_at[10] == 61
    assert stream.classes == 10


def test_digits_held_out_and_streamed_images_are_not_those_trained_on() -> None:
    stream = digits(900)
    for rows in (stream.reference, stream.live):
        calm = rows.take(slice(0, 100)).x.reshape(100, -1)
        trained = stream.train.x.reshape(len(stream.train), -1)
        nearest = ((calm[:, None] - trained[None]) ** 2).sum(axis=2).min(axis=1)
        again = ((trained[:100, None] - trained[None]) ** 2).sum(axis=2)
        np.fill_diagonal(again, np.inf)
        assert np.median(nearest) > 1.5 * np.median(again.min(axis=1))


def test_camera_is_calm_at_first_and_nearly_still_at_the_end() -> None:
    angle = tilt(1000)
    assert (angle[:150] == 0).all()
    assert (np.diff(angle) >= 0).all()
    assert angle[800:].max() - angle[800:].min() < 5


@pytest.mark.parametrize("make", [digits, flights])
def test_stream_of_too_few_rows_is_refused(make: object) -> None:
    with pytest.raises(ConfigError, match="at least 500 rows, not 499"):
        make(499)  # type: ignore[operator]


def test_flight_that_never_lands_is_never_labelled() -> None:
    at = arrivals(np.array([0.0, 10.0, 20.0]), np.array([25.0, np.nan, 20.0]))
    assert at.tolist() == [3, NEVER, 3]


@pytest.fixture(scope="module")
def departures() -> Stream:
    return flights(2000)


@pytest.mark.thorough
def test_flights_are_finite_and_labels_come_after_their_rows(departures: Stream) -> None:
    assert len(departures) == 2000
    assert np.isfinite(departures.live.x).all()
    known = departures.label_at < NEVER
    assert (departures.label_at[known] > np.flatnonzero(known)).all()


@pytest.mark.thorough
def test_flights_without_arrival_delay_have_no_label(departures: Stream) -> None:
    missing = departures.live.y == UNKNOWN
    assert 0.005 < missing.mean() < 0.06
    assert (departures.label_at[missing] == NEVER).mean() > 0.9
    assert not np.isin(departures.due()[0], np.flatnonzero(missing)).any()
    assert (departures.train.y != UNKNOWN).all()


@pytest.mark.thorough
def test_flights_know_nothing_of_their_own_delay(departures: Stream) -> None:
    late = departures.train.y == 1
    x = departures.train.x
    apart = np.abs(x[late].mean(axis=0) - x[~late].mean(axis=0)) / (x.std(axis=0) + 1e-6)
    assert apart.max() < 1.0  # a flight's own departure delay is 1.7 standard deviations apart
