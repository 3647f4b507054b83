"""What is played again and again: a labelled stream, the first model, and where time is split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from undrift.config import Config, load_config
from undrift.errors import ConfigError
from undrift.model.layout import row_shape
from undrift.model.network import factory_of
from undrift.monitor.history import Moment
from undrift.monitor.join import Joined, LabelJoin
from undrift.records import IntArray
from undrift.replay.loop import Pace
from undrift.replay.sources import configured_model, recorded
from undrift.replay.training import Shelf
from undrift.store.place import Root
from undrift.store.store import Store
from undrift.streams.csvfile import csv_stream
from undrift.streams.project import quick_sections, write_project
from undrift.streams.stream import NEVER, UNKNOWN, Rows, Stream

MIN_LABELS = 100


@dataclass(frozen=True, slots=True)
class History:
    """A labelled stream to play, and who answers its first row.

    Attributes:
        stream: The rows, and when their labels came.
        config: The configuration that is tuned.
        split: First row of the held-out part.
        pace: How virtual time runs.
        state: The model's folder of a recording, which has the first version; None: the
            configured model's own files.
        version: That version's number.
    """

    stream: Stream
    config: Path
    split: int
    pace: Pace
    state: Root | None = None
    version: int = 1

    def shelf(self, config: Config) -> Shelf:
        """Return the version that answers first, under a configuration."""
        if self.state is None:
            return configured_model(config)
        store = Store(self.state, read_only=True)
        first, model = store.reference(self.version), config.model
        return Shelf(
            factory_of(model, config.folder)(),
            store.state_dict(self.version),
            first.x,
            first.y,
            first.row,
            model.embedding,
        )

    def known(self, *, held_out: bool) -> NDArray[np.bool_]:
        """Return (n,) which rows count in a part.

        Before the split, those whose label had arrived by then: nothing later is known there.
        """
        known: NDArray[np.bool_] = self.stream.live.y != UNKNOWN
        later = np.arange(len(self.stream)) >= self.split
        known &= later if held_out else ~later & (self.stream.label_at <= self.split)
        return known

    def searched(self) -> Stream:
        """Return the stream up to the split."""
        part = slice(0, self.split)
        live = self.stream.live.take(part)
        return replace(self.stream, live=live, label_at=self.stream.label_at[part])

    def digest(self) -> str:
        """Return a hash of everything that a play depends on besides settings and seed."""
        shelf, stream = self.shelf(load_config(self.config)), self.stream
        found = hashlib.sha256(f"{self.split} {self.pace}".encode())
        first = shelf.reference(1)
        arrays: list[NDArray[Any]] = [stream.live.x, stream.live.y, stream.label_at]
        arrays += [first.x, first.y, *(tensor.numpy() for tensor in shelf.weights(1).values())]
        for array in arrays:
            found.update(array.tobytes())
        return found.hexdigest()


def split_at(stream: Stream, held_out: float) -> int:
    """Return the first row of the last ``held_out`` of a stream.

    Raises:
        ConfigError: A part has too few labels to tell anything.
    """
    split = len(stream) - round(held_out * len(stream))
    labelled = stream.live.y != UNKNOWN
    before = int((labelled[:split] & (stream.label_at[:split] <= split)).sum())
    after = int(labelled[split:].sum())
    if min(before, after) < MIN_LABELS:
        raise ConfigError(
            f"{stream.title}: {before:,} labels before the split at row {split:,} and {after:,} "
            f"after it; each part needs {MIN_LABELS}"
        )
    return split


def write_first(data: Path, label: str | None, lag: int, seed: int, folder: Path) -> Stream:
    """Train a first model on the first fifth of a CSV file, and write it as a project.

    Args:
        data: The file.
        label: Name or number of its label column.
        lag: Rows between a prediction and its label.
        seed: Seed of hold-out and training.
        folder: For ``undrift.yaml``, ``model.py``, weights and reference.

    Returns:
        The rest of the file.

    Raises:
        ConfigError: The file or its label cannot be used.
    """
    stream = csv_stream(data, label, lag=lag, seed=seed)
    settings = {name: part for name, part in quick_sections(1).items() if name != "serve"}
    values, _ = write_project(stream, folder, seed=seed, **settings)
    (folder / "undrift.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return stream


def recorded_stream(config: Config, state: Root) -> tuple[Stream, Pace, int]:
    """Return what a platform recorded as a labelled stream with the lags that labels really had.

    Returns:
        The stream, the mean pace of the recording with the median duration of its retrainings, and
        the version that answered its first row.

    Raises:
        StoreError: There is no recording, or it is damaged.
        ConfigError: It has no labels, or is of another model.
    """
    record = recorded(state)
    moments = [m for m in record.moments if m.rearm is None]
    rows = [m.predictions for m in moments if m.predictions is not None]
    x = np.concatenate([part.x for part in rows])
    at = np.concatenate([part.at for part in rows])
    if x.shape[1:] != row_shape(config.model):
        raise ConfigError(f"{state} recorded rows of shape {x.shape[1:]}, not of this model")
    y, label_at = joined_labels(moments, len(x), config.model.class_count)
    if (label_at == NEVER).all():
        raise ConfigError(f"{state} has no labels; without them nothing can be compared")
    nothing = Rows(x[:0], y[:0])
    stream = Stream(
        name=config.model.name,
        title=str(state),
        task="",
        input_shape=x.shape[1:],
        class_names=config.model.class_names,
        train=nothing,
        reference=nothing,
        live=Rows(x, y),
        label_at=label_at,
        features=config.monitor.features,
    )
    seconds = [float(m.metrics["seconds"]["total"]) for m in record.retrained]
    pace = Pace((len(at) - 1) / max(float(at[-1] - at[0]), 1e-3))
    pace = replace(pace, training_s=float(np.median(seconds))) if seconds else pace
    return stream, pace, int(rows[0].version[0])


def joined_labels(moments: Iterable[Moment], n: int, classes: int) -> tuple[IntArray, IntArray]:
    """Return (n,) labels as the monitor joined them, and (n,) the rows sent when each came."""
    y, label_at = np.full(n, UNKNOWN, dtype=np.int64), np.full(n, NEVER, dtype=np.int64)
    join, first, sent = LabelJoin(window=n), -1, 0
    for moment in moments:
        told: list[Joined] = []
        if moment.predictions is not None:
            first = int(moment.predictions.row[0]) if first < 0 else first
            sent += len(moment.predictions)
            told.append(join.add(moment.predictions)[0])
        if moment.labels is not None:
            told.append(join.label(moment.labels)[0])
        for joined in told:
            known = (joined.label >= 0) & (joined.label < classes)
            rows = joined.row[known] - first
            y[rows], label_at[rows] = joined.label[known], sent
    return y, label_at
