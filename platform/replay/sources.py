"""Where a replay's rows come from: a recording, or a labelled table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from undrift.config import Config, load_config
from undrift.errors import ConfigError, StoreError
from undrift.model.artifacts import load_inputs
from undrift.model.layout import held, layout_of, row_shape
from undrift.monitor.history import Moment, moments
from undrift.monitor.retention import first
from undrift.records import FloatArray, IntArray, TargetArray
from undrift.replay.training import Shelf
from undrift.store.blobs import Blobs
from undrift.store.bucket import check_url
from undrift.store.journal import REARMINGS, Journal
from undrift.store.place import Root, Where
from undrift.store.root import check_layout
from undrift.store.store import Manifest, Store
from undrift.streams.columns import as_numbers, features, label_texts
from undrift.streams.csvfile import csv_stream
from undrift.streams.project import quick_sections, write_project
from undrift.streams.stream import UNKNOWN, Rows, Stream, fixed_lag
from undrift.streams.tablefile import TableFile, label_column, read_table


@dataclass(frozen=True, slots=True)
class Recording:
    """What a platform has recorded, up to the moment of reading.

    Attributes:
        store: The state folder, open for reading.
        blobs: Its checkpoints; one of them stands for rows that are no longer kept.
        moments: Ticks, and the re-armings between them.
        commits: Number of the last one.
        decisions: Evidence that moved the lifecycle, as the journal has it.
        events_gone: Events of the journal that are no longer kept.
        retrained: Versions that a retraining made.
    """

    store: Store
    blobs: Blobs
    moments: Iterator[Moment]
    commits: int
    decisions: list[dict[str, Any]]
    events_gone: int
    retrained: list[Manifest]


def recording_folder(config: Config, state: str | None) -> Root:
    """Return the folder of the configured model in a state folder.

    Args:
        config: The configuration.
        state: The state folder, or its URL; None: the configured one.

    Raises:
        StoreError: It is no state of this release.
    """
    if state is not None:
        found = check_url(state) if "://" in state else Path(state).absolute()
        config = config.model_copy(update={"state": found})
    check_layout(config.root, config.model_state)
    return config.model_state


def recorded(state: Where) -> Recording:
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
    kept_since = begun["rearmings"] - 1
    rearmings = [record for _, record in Journal(state, REARMINGS).events(after=kept_since)]
    journal = Journal(state)
    gone = journal.first()
    decisions = [e["evidence"] for e in journal.read() if e["type"] == "Scored"]
    retrained = [manifest for manifest in store.versions() if manifest.plan is not None]
    return Recording(store, blobs, moments(commits, rearmings), last, decisions, gone, retrained)


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
    ``monitor.features``, if they are named there.

    Args:
        config: The configuration.
        path: The file; all of its rows are played.
        label: Name or number of its label column; of several outputs those of all, with commas.
        lag: Rows between a prediction and its label.

    Raises:
        ConfigError: The rows are not such rows; the text says why.
    """
    several = label.split(",") if label and config.model.is_regression else [label]
    file = read_table(path, several[0])
    columns = [label_column(file, one) for one in several]
    x, notes = _inputs(replace(file, table=file.table.drop_columns(columns)), config)
    y = _targets(file, columns, config)
    shape = row_shape(config.model)
    nothing = Rows(np.empty((0, *shape), dtype=np.float32), y[:0])
    return Stream(
        name=config.model.name,
        title=path.name,
        task=f"Predict {', '.join(map(repr, columns))}.",
        input_shape=shape,
        class_names=config.model.class_names,
        train=nothing,
        reference=nothing,
        live=Rows(x.reshape(len(x), *shape), y),
        label_at=fixed_lag(y, lag),
        features=config.monitor.features,
        notes=(*file.notes, *notes),
    )


def _inputs(file: TableFile, config: Config) -> tuple[FloatArray, list[str]]:
    wanted, path = config.monitor.features, file.path
    found = features(file.table, keep=frozenset(wanted))
    names = list(found.columns)
    if wanted and file.named:
        _check_names(wanted, file)
        names = list(wanted)
    layout = layout_of(config.model)
    size = int(np.prod(config.model.input_shape)) if layout is None else layout.columns
    if len(names) != size:
        raise ConfigError(
            f"{path}: {len(names)} columns besides the label, but model {config.model.name!r} "
            f"takes {size} numbers a row; to train a first model on this file instead, replay it "
            "where there is no undrift.yaml"
        )
    if layout is None:
        return np.stack([as_numbers(name, found, path) for name in names], axis=1), found.notes
    values = np.stack([as_numbers(name, found, path, np.float64) for name in names], axis=1)
    try:
        arrays = {one.name: held(values[:, digits[0]], one) for one, digits in layout.parts()}
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    return layout.pack(arrays), found.notes


def _check_names(wanted: Sequence[str], file: TableFile) -> None:
    """Refuse a file that names other columns than ``monitor.features`` does."""
    there = set(file.table.column_names)
    absent = [name for name in wanted if name not in there]
    if absent:
        alike = {name.casefold(): name for name in there}
        case = [f"{alike[n.casefold()]!r} for {n!r}" for n in absent if n.casefold() in alike]
        hint = f" (it has {', '.join(case)})" if case else ""
        raise ConfigError(
            f"{file.path}: monitor.features names {', '.join(map(repr, absent[:10]))}, which the "
            f"file does not have{hint}; its columns are {', '.join(file.table.column_names[:30])}"
        )


def _targets(file: TableFile, columns: Sequence[str], config: Config) -> TargetArray:
    """Return (n,) classes, or (n,) or (n, c) numbers, NaN where a label is missing."""
    if not config.model.is_regression:
        return _labels(file.table[columns[0]], columns[0], config.model.class_names, file.path)
    found = [_numbers(label_texts(file.table[name]), name, file.path) for name in columns]
    return found[0] if len(found) == 1 else np.stack(found, axis=1)


def _numbers(texts: pa.Array, column: str, path: Path) -> FloatArray:
    try:
        values = pc.fill_null(texts.cast(pa.float32()), np.nan).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        told = f"{path}: column {column!r} has labels that are no numbers: {error}"
        raise ConfigError(told) from None
    for row in np.flatnonzero(~np.isfinite(values) & texts.is_valid().to_numpy(False)).tolist():
        raise ConfigError(f"{path}: row {row:,} of column {column!r} is no finite number")
    return np.asarray(values, np.float32)


def _labels(values: pa.ChunkedArray, column: str, classes: tuple[str, ...], path: Path) -> IntArray:
    labels = label_texts(values)
    index = pc.index_in(labels, value_set=pa.array(classes, pa.string()))
    strange = np.flatnonzero(pc.and_(pc.is_null(index), pc.is_valid(labels)).to_numpy(False))
    if len(strange):
        row = int(strange[0])
        raise ConfigError(
            f"{path}: row {row:,} of column {column!r} is {labels[row].as_py()!r}; the model's "
            f"classes are {', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}"
        )
    return np.asarray(pc.fill_null(index, UNKNOWN).to_numpy(zero_copy_only=False), np.int64)
