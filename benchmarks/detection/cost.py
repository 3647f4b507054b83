"""Cost per row of the three signals, and of River with a KS test per feature on the same rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from river import drift
from scipy.stats import ks_2samp

from benchmarks.detection.charts import STEP, WINDOW
from benchmarks.detection.rows import Rows
from benchmarks.detection.tasks import source_digest
from undrift.monitor.join import LabelJoin
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.error import PerformanceSignal
from undrift.monitor.signals.input import InputSignal
from undrift.monitor.signals.output import OutputSignal

BATCH, FEATURES, CLASSES = 512, 33, 6
BATCHES, REPEATS = 16, 7
KSWIN_ROWS = 256

Job = Callable[[], None]


def made(n: int, seed: int) -> Rows:
    """Return rows of 33 features and 6 classes without drift; only the shapes matter."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, FEATURES)).astype(np.float32)
    logits = x @ np.random.default_rng(0).normal(size=(FEATURES, CLASSES)).astype(np.float32)
    output = np.exp(logits - logits.max(axis=1, keepdims=True))
    output /= output.sum(axis=1, keepdims=True)
    y = (output.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return Rows(x, y, x, output, y)


def signals_job(reference: Rows, stream: Rows) -> Job:
    """Return a job that updates the three signals with every batch."""
    settings = MonitorSettings()
    inputs, outputs = InputSignal(settings), OutputSignal(settings)
    performance = PerformanceSignal(settings)
    for signal in (inputs, outputs, performance):
        signal.fit(reference.reference())
    predictions = stream.predictions()
    join = LabelJoin(len(stream))
    join.add(predictions)
    joined = join.label(stream.labels(0, len(stream), 0))[0]
    batches = []
    for first in range(0, len(stream), BATCH):
        index = np.arange(first, first + BATCH)
        late = np.isin(joined.row, index)
        batches.append((predictions.take(index), joined.take(late)))

    def job() -> None:
        for asked, labelled in batches:
            inputs.update(asked)
            outputs.update(asked)
            performance.update(labelled)

    return job


def monitor_job(reference: Rows, stream: Rows) -> Job:
    """Return a job that folds every batch and its labels: the label join is part of it."""
    monitor = Monitor(MonitorSettings(), reference.reference(), 1)
    predictions = stream.predictions()
    batches = [
        (predictions.take(np.arange(first, first + BATCH)), stream.labels(first, first + BATCH, 0))
        for first in range(0, len(stream), BATCH)
    ]

    def job() -> None:
        for asked, labels in batches:
            monitor.fold(asked, labels)
            monitor.evidence()

    return job


def river_job(reference: Rows, stream: Rows, every: int, window: int) -> Job:
    """Return a job with ADWIN on uncertainty and on errors, and KS tests of each feature.

    Args:
        reference: What the KS tests compare with.
        stream: Rows.
        every: Rows between two tests.
        window: Newest rows that are tested.
    """
    on_uncertainty, on_errors = drift.ADWIN(), drift.ADWIN()
    known, new = reference.x.astype(np.float64), stream.x.astype(np.float64)
    uncertainty = (1.0 - stream.output.max(axis=1)).tolist()
    wrong = stream.wrong.astype(int).tolist()

    def job() -> None:
        for i in range(len(stream)):
            on_uncertainty.update(uncertainty[i])
            on_errors.update(wrong[i])
            if (i + 1) % every == 0 and i + 1 >= window:
                for j in range(FEATURES):
                    ks_2samp(known[:, j], new[i + 1 - window : i + 1, j])

    return job


def kswin_job(stream: Rows) -> Job:
    """Return a job that feeds River's sequential KS test, one per feature, with a few rows."""
    detectors = [drift.KSWIN(seed=j) for j in range(FEATURES)]
    rows = stream.x[:KSWIN_ROWS].astype(float).tolist()

    def job() -> None:
        for row in rows:
            for detector, value in zip(detectors, row, strict=True):
                detector.update(value)

    return job


def measure() -> dict[str, Any]:
    """Return CPU microseconds per row of each job, one number per repetition, interleaved."""
    reference, stream = made(1_000, 1), made(BATCH * BATCHES, 2)
    jobs: dict[str, tuple[Job, int]] = {
        "signals": (signals_job(reference, stream), len(stream)),
        "monitor": (monitor_job(reference, stream), len(stream)),
        "river": (river_job(reference, stream, BATCH, BATCH), len(stream)),
        "rolling": (river_job(reference, stream, STEP, WINDOW), len(stream)),
        "kswin": (kswin_job(stream), KSWIN_ROWS),
    }
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(REPEATS):
        for name, (job, rows) in jobs.items():
            started = time.process_time()
            job()
            found[name].append((time.process_time() - started) / rows * 1e6)
    return found


def kept(out: Path) -> dict[str, list[float]]:
    """Return what :func:`measure` found with the present code, from disk if it is there."""
    path = out / f"cost-{source_digest('monitor')[:16]}.json"
    if not path.exists():
        path.write_text(json.dumps(measure()), encoding="utf-8")
    found: dict[str, list[float]] = json.loads(path.read_text(encoding="utf-8"))
    return found
