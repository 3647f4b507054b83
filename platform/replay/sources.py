"""Where a replay's rows come from: a recording, or a labelled CSV file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from undrift.config import Config, load_config
from undrift.errors import ConfigError, StoreError
from undrift.model.artifacts import load_inputs
from undrift.monitor.history import Moment, moments
from undrift.monitor.retention import first
from undrift.records import FloatArray, IntArray
from undrift.replay.training import Shelf
from undrift.store.blobs import Blobs
from undrift.store.files import check_layout
from undrift.store.journal import REARMINGS, Journal
from undrift.store.store import Manifest, Store
from undrift.streams.csvfile import csv_stream, label_column, read_table
from undrift.streams.project import quick_sections, write_project
from undrift.streams.stream import UNKNOWN, Rows, Stream, fixed_lag

_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)


@dataclass(frozen=True, slots=True)
class Recording:
    """What a platform has recorded, up to the moment of reading.

    Attributes:
        store: The state folder, open for reading.
        blobs: Its checkpoints; one of them stands for rows that are no longer kept.
        moments: Ticks, and the re-armings between them.
        commits: Number of the last one.
        decisions: Evidence that moved the lifecycle, as the journal has it.
        retrained: Versions that a retraining made.
    """

    store: Store
    blobs: Blobs
    moments: Iterator[Moment]
    commits: int
    decisions: list[dict[str, Any]]
    retrained: list[Manifest]


def recording_folder(config: Config, state: Path | None) -> Path:
    """Return the folder of the configured model in a state folder.

    Args:
        config: The configuration.
        state: The state folder; None: the configured one.

    Raises:
        StoreError: It is no state folder of this release.
    """
    if state is not None:
        config = config.model_copy(update={"state": state.absolute()})
    check_layout(config.state, config.model_state)
    return config.model_state


def recorded(state: Path) -> Recording:
    """Open the recording in the folder of a model; the platform may run on.

    Raises:
        StoreError: There is none, or it is damaged.
    """
    store = Store(state, read_only=True)
    last = max(store.as_of().values())
    if last < 0:
        raise StoreError(f"{state} has no recorded rows; nothing was asked of its platform yet")
    blobs = Blobs(state)
    saved = first(store, blobs)
    begun = saved[1] if saved else {"commit": 0, "rearmings": 0}
    commits = store.commits(begun["commit"])  # listed now, so every re-arming before is there
    rearmings = Journal(state, REARMINGS).read()[begun["rearmings"] :]
    decisions = [e["evidence"] for e in Journal(state).read() if e["type"] == "Scored"]
    retrained = [manifest for manifest in store.versions() if manifest.plan is not None]
    return Recording(store, blobs, moments(commits, rearmings), last, decisions, retrained)


def first_model(
    path: Path, label: str | None, lag: int, seed: int, changes: Sequence[str]
) -> tuple[Stream, Shelf, Config]:
    """Read a CSV file, and train the first model on its first fifth as `undrift demo` does.

    Args:
        path: The file.
        label: Name or number of its label column.
        lag: Rows between a prediction and its label.
        seed: Seed of the hold-out and of the training.
        changes: Changes to the demo's settings, as ``section.key=value``.

    Raises:
        ConfigError: The file, its label or a change cannot be used.
    """
    stream = csv_stream(path, label, lag=lag, seed=seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        values, model = write_project(stream, folder, seed=seed, **quick_sections(1))
        (folder / "undrift.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        config = load_config(folder / "undrift.yaml", changes)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    held_out = stream.reference
    return stream, Shelf(model, weights, held_out.x, held_out.y, stream.reference_row), config


def configured_model(config: Config) -> Shelf:
    """Return the model that a configuration points at, as version 1.

    Raises:
        ModelError: The factory fails, or the weights do not fit.
        ConfigError: The reference cannot be used.
    """
    inputs = load_inputs(*config.artifacts)
    head = config.model.embedding
    return Shelf(inputs.factory(), inputs.weights, inputs.x, inputs.y, inputs.row, head)


def stream_for(config: Config, path: Path, label: str | None, lag: int) -> Stream:
    """Read a CSV file as rows for the configured model.

    The columns other than the label are the model's input, as they stand, in the order of
    ``monitor.features`` where the file has columns of those names.

    Args:
        config: The configuration.
        path: The file; all of its rows are played.
        label: Name or number of its label column.
        lag: Rows between a prediction and its label.

    Raises:
        ConfigError: The rows are not such rows; the text says why.
    """
    table, named = read_table(path, label)
    column = label_column(table, label, named, path)
    x = _inputs(table.drop_columns([column]), config, path)
    y = _labels(table[column], column, config.model.class_names, path)
    shape = config.model.input_shape
    nothing = Rows(np.empty((0, *shape), dtype=np.float32), np.empty(0, dtype=np.int64))
    return Stream(
        name=config.model.name,
        title=path.name,
        task=f"Predict {column!r}.",
        input_shape=shape,
        class_names=config.model.class_names,
        train=nothing,
        reference=nothing,
        live=Rows(x.reshape(len(x), *shape), y),
        label_at=fixed_lag(y, lag),
        features=config.monitor.features,
    )


def _inputs(table: pa.Table, config: Config, path: Path) -> FloatArray:
    wanted, there = config.monitor.features, table.column_names
    names = list(wanted) if wanted and set(wanted) <= set(there) else there
    size = int(np.prod(config.model.input_shape))
    if len(names) != size:
        raise ConfigError(
            f"{path}: {len(names)} columns besides the label, but model {config.model.name!r} "
            f"takes {size} numbers a row; to train a first model on this file instead, replay it "
            "where there is no undrift.yaml"
        )
    columns = []
    for name in names:
        kind = table[name].type
        if not any(of(kind) for of in _NUMBERS):
            raise ConfigError(f"{path}: column {name!r} is {kind}, the model takes numbers")
        values = table[name].cast(pa.float32(), safe=False).to_numpy()
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise ConfigError(
                f"{path}: column {name!r} has {len(bad):,} missing or infinite values, the first "
                f"in row {bad[0]:,}; the platform would refuse those rows"
            )
        columns.append(values)
    return np.stack(columns, axis=1).astype(np.float32)


def _labels(values: pa.ChunkedArray, column: str, classes: tuple[str, ...], path: Path) -> IntArray:
    index = {name: i for i, name in enumerate(classes)}
    y = np.full(len(values), UNKNOWN, dtype=np.int64)
    for row, value in enumerate(values.to_pylist()):
        if value is None:
            continue
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        if str(whole) not in index:
            raise ConfigError(
                f"{path}: row {row:,} of column {column!r} is {value!r}; the model's classes are "
                f"{', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}"
            )
        y[row] = index[str(whole)]
    return y
