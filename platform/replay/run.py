"""`undrift replay`: reads the rows, runs the policy, and sums up."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from undrift.config import CONFIG_NAME, CONFIG_VARIABLE, Config, load_model
from undrift.errors import ConfigError
from undrift.events import Codec
from undrift.evidence import Evidence
from undrift.monitor.history import Moment
from undrift.monitor.retention import begin
from undrift.records import TargetArray
from undrift.replay.loop import Pace, Simulation, simulate
from undrift.replay.plot import check_plot, write_plot
from undrift.replay.sources import (
    configured_model,
    first_model,
    recorded,
    recording_folder,
    stream_for,
)
from undrift.replay.timeline import Timeline, replay_recording
from undrift.replay.training import Recalibrator, Shelf, Trainer
from undrift.streams.quality import Scores, answers
from undrift.streams.stream import Stream, known

DEFAULT_LAG = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What to replay, and under which policy.

    Attributes:
        config: The YAML file; None: found as usual, and for a CSV file not needed.
        model: Which of several models.
        state: State folder of the recording; None: the configured one.
        data: A labelled CSV file to play instead of a recording.
        label: Its label column.
        lag: Rows between a prediction and its label; None: 200.
        changes: What to set instead of the configuration, each as ``section.key=value``.
        retrain: Retrain after drifts, instead of only re-arming the monitor.
        pace: Rows a second, on which cooldowns and the duration of trainings are counted.
        training_s: Seconds from the order of a retraining to its candidate.
        seed: Seed of a first model that is trained here.
        plot: File for a plot of the signals.
    """

    config: Path | None = None
    model: str | None = None
    state: str | None = None
    data: Path | None = None
    label: str | None = None
    lag: int | None = None
    changes: tuple[str, ...] = ()
    retrain: bool = False
    pace: float = Pace().rows_per_s
    training_s: float = Pace().training_s
    seed: int = 0
    plot: Path | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay found.

    Attributes:
        source: What was replayed.
        notes: How, one sentence each.
        timeline: What would have happened.
        totals: Counts and costs.
        accuracy: Accuracy of the frozen model and, with retraining, of the platform.
        measure: What it is: ``accuracy``, or ``R2`` of numbers.
    """

    source: str
    notes: tuple[str, ...]
    timeline: Timeline
    totals: dict[str, Any]
    accuracy: dict[str, dict[str, float | None]]
    measure: str = "accuracy"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "source": self.source,
            "notes": list(self.notes),
            "timeline": [entry.to_dict() for entry in self.timeline.entries],
            "totals": self.totals,
            "accuracy": self.accuracy,
            "measure": self.measure,
        }


def main(options: ReplayOptions, console: Console) -> Replayed:
    """Replay, showing progress on ``console``.

    Raises:
        UndriftError: The options, the files or the settings do not allow it.
    """
    checked(options)
    found = _labelled(options, console) if options.data else _recorded(options, console)
    if options.plot is not None:
        write_plot(found.timeline, options.plot, found.source)
    return found


def checked(options: ReplayOptions) -> None:
    """Check what can be said before anything is read.

    Raises:
        ConfigError: The options do not go together, or the plot cannot be written.
    """
    if options.plot is not None:
        check_plot(options.plot)
    if options.data is None:
        given = {"--label": options.label, "--lag": options.lag, "--retrain": options.retrain}
        for name, value in given.items():
            if value is not None and value is not False:
                raise ConfigError(f"{name} goes with --data FILE.csv, not with a recording")
    elif options.state is not None:
        raise ConfigError("--state names a recording and --data a file; replay one at a time")


def _recorded(options: ReplayOptions, console: Console) -> Replayed:
    config = load_model(options.config, options.model, options.changes)
    state = recording_folder(config, options.state)
    record = recorded(state)
    decisions: dict[int, list[str]] = {}
    for decision in record.decisions:
        decisions.setdefault(decision["rows"], []).append(json.dumps(decision))
    seen = 0

    begun = time.perf_counter()
    with _bar(console, record.commits) as advance:

        def observe(moment: Moment, evidence: Evidence) -> None:
            nonlocal seen
            advance(moment.commit)
            open_ = decisions.get(evidence.rows)
            text = json.dumps(Codec.encode(evidence)) if open_ else ""
            if open_ and text in open_:
                open_.remove(text)
                seen += 1

        names, reference = config.model.class_names, record.store.reference
        first = begin(record.store, record.blobs, config.monitor, names)
        timeline = replay_recording(record.moments, first.monitor, reference, observe=observe)
    assert timeline is not None
    seconds = time.perf_counter() - begun
    trained: dict[int, int] = {}
    for manifest in record.retrained:
        start = int((manifest.plan or {})["regime_start"])
        trained[start] = max(trained.get(start, 0), int(manifest.metrics["regime_rows"]))
    spent = sum(m.metrics["seconds"]["total"] for m in record.retrained)
    totals = _totals(timeline, trained, len(record.retrained), seconds)
    totals["training_s"] = {"recorded": spent}
    gone = sum(decision["rows"] <= first.row for decision in record.decisions) if first.row else 0
    totals["decisions"] = {"live": len(record.decisions) - gone, "same": seen}
    totals["gone"] = {"rows": first.row, "decisions": gone, "events": record.events_gone}
    return Replayed(str(state), (), timeline, totals, {})


def _labelled(options: ReplayOptions, console: Console) -> Replayed:
    assert options.data is not None
    lag = DEFAULT_LAG if options.lag is None else options.lag
    config, stream, shelf, note = _prepare(options, options.data, lag, console)
    rows = config.monitor.min_reference_rows
    torch.set_num_threads(config.train.threads)
    kind = Trainer if options.retrain else Recalibrator
    trainer = kind(shelf, config.train, rows)
    begun = time.perf_counter()
    with _bar(console, len(stream)) as advance:
        found = simulate(
            stream,
            shelf,
            trainer,
            monitor=config.monitor,
            lifecycle=config.lifecycle.model_copy(update={"mode": "auto"}),
            train=config.train,
            pace=Pace(options.pace, options.training_s),
            mixes=config.serve.mixes,
            progress=advance,
        )
    seconds = time.perf_counter() - begun
    totals = _totals(found.timeline, found.trained, found.retrainings, seconds)
    totals["training_s"] = {"measured" if options.retrain else "estimated": trainer.seconds}
    how = (
        "Drifts are retrained on."
        if options.retrain
        else "Nothing is trained: after a drift the monitor is re-armed on labelled rows of the "
        "new regime, as after a retraining."
    )
    accuracy = _accuracies(stream, shelf, found if options.retrain else None)
    notes = (*stream.notes, note, how)
    measure = Scores(stream.live.y).measure
    return Replayed(str(options.data), notes, found.timeline, totals, accuracy, measure)


def _prepare(
    options: ReplayOptions, data: Path, lag: int, console: Console
) -> tuple[Config, Stream, Shelf, str]:
    named = options.config is not None or bool(os.environ.get(CONFIG_VARIABLE))
    if named or Path(CONFIG_NAME).is_file():
        config = load_model(options.config, options.model, options.changes)
        stream = stream_for(config, data, options.label, lag)
        note = f"Model {config.model.name!r} of the configuration; row 0 is the first of the file."
        return config, stream, configured_model(config), note
    with console.status("training the first model"):
        stream, shelf, config = first_model(data, options.label, lag, options.seed, options.changes)
    return config, stream, shelf, f"Row 0 is row {stream.rows_before:,} of the file."


@contextmanager
def _bar(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("replaying"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)


def _totals(
    timeline: Timeline, trained: dict[int, int], retrainings: int, seconds: float
) -> dict[str, Any]:
    last, counts = timeline.last, timeline.counts
    return {
        "rows": last.rows,
        "labels": last.labelled,
        "warnings": counts.get("warning", 0),
        "drifts": counts.get("drift", 0),
        "rearmed": sum(counts.get(kind, 0) for kind in ("rearmed", "promoted", "rolled_back")),
        "retrainings": retrainings,
        "labels_trained_on": sum(trained.values()),
        "replay_s": seconds,
        "rows_per_s": last.rows / max(seconds, 1e-9),
    }


def _accuracies(
    stream: Stream, shelf: Shelf, found: Simulation | None
) -> dict[str, dict[str, float | None]]:
    """Return accuracy over everything and over the last three fifths of the whole file."""
    x = stream.live.x
    starts = range(0, len(x), 4096)
    parts = [shelf.answers(1, x, a, min(a + 4096, len(x)))[0] for a in starts]
    frozen = answers(np.concatenate(parts), stream.live.y)
    late = max(0, 2 * (stream.rows_before + len(stream)) // 5 - stream.rows_before)
    players = {"frozen": frozen} | ({} if found is None else {"platform": found.predicted})
    return {
        name: {
            "all": _accuracy(stream, predicted, 0),
            "last_three_fifths": _accuracy(stream, predicted, late),
        }
        for name, predicted in players.items()
    }


def _accuracy(stream: Stream, predicted: TargetArray, start: int) -> float | None:
    y = stream.live.y[start:]
    judged = known(y) & known(predicted[start:])
    if not judged.any():
        return None
    return float(Scores(stream.live.y)(predicted[start:], y)[judged].mean())
