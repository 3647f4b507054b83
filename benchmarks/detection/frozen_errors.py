"""The performance signal alone, on the errors of a frozen model, beside River's detectors.

Four of River's generators give two concepts each. A logistic regression learns prequentially on
the first 1,000 rows and is then frozen; those 1,000 errors are the reference, and every detector
sees the errors from row 1,000 on. The drift starts at row 5,000 of 10,000, at once or over 1,000
rows. It is missed unless found within 2,500 rows, or 3,000 if gradual. Alarms of a stream without
drift are false alarms; after one, ours starts anew on the 1,000 rows before it, and River's reset
themselves. All detectors are as they come. A cell that is done is kept: after a change of the code,
remove the folder.

    python -m benchmarks.detection.frozen_errors           # 30 seeds, some minutes on one core
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import drift, linear_model, multiclass, preprocessing
from river.datasets import synth
from river.drift import binary

from undrift.evidence import Level
from undrift.monitor.calibration import limits
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.statistics.error_rate import ErrorTest

ROWS, REFERENCE, DRIFT, WIDTH = 10_000, 1_000, 5_000, 1_000
WINDOW = {"abrupt": 2_500, "gradual": 3_000}
FEATURES = 10  # of the hyperplane

Concept = tuple[NDArray[np.float64], NDArray[np.int64]]  # inputs and classes
Errors = NDArray[np.bool_]


def from_river(stream: Iterable[tuple[dict[Any, Any], Any]]) -> Concept:
    rows = [(list(x.values()), int(y)) for x, y in itertools.islice(stream, ROWS)]
    return np.array([x for x, _ in rows], dtype=np.float64), np.array([y for _, y in rows])


def sea(seed: int) -> tuple[Concept, Concept]:
    return (
        from_river(synth.SEA(variant=0, noise=0.1, seed=seed)),
        from_river(synth.SEA(variant=3, noise=0.1, seed=seed + 10_000)),
    )


def stagger(seed: int) -> tuple[Concept, Concept]:
    return (
        from_river(synth.STAGGER(classification_function=0, seed=seed)),
        from_river(synth.STAGGER(classification_function=1, seed=seed + 10_000)),
    )


def led(seed: int) -> tuple[Concept, Concept]:
    noisy = {"noise_percentage": 0.1, "irrelevant_features": True}
    return (
        from_river(synth.LED(**noisy, seed=seed)),
        from_river(synth.LEDDrift(**noisy, n_drift_features=7, seed=seed + 10_000)),
    )


def hyperplane(seed: int) -> tuple[Concept, Concept]:
    """Two planes with weights of their own: River's turns from the first row on."""
    rng = np.random.default_rng(seed)

    def concept() -> Concept:
        weights, x = rng.random(FEATURES), rng.random((ROWS, FEATURES))
        above = x @ weights > weights.sum() / 2
        return x, (above ^ (rng.random(ROWS) < 0.05)).astype(np.int64)

    return concept(), concept()


STREAMS: dict[str, Callable[[int], tuple[Concept, Concept]]] = {
    "SEA": sea, "STAGGER": stagger, "LED": led, "hyperplane": hyperplane,
}  # fmt: skip


class Frozen:
    """A logistic regression, one against the rest if need be, that has learnt its last row."""

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.int64]) -> None:
        several = bool(y.max() > 1)
        scaler, logistic = preprocessing.StandardScaler(), linear_model.LogisticRegression()
        model = multiclass.OneVsRestClassifier(logistic) if several else logistic
        self.wrong = np.zeros(len(y), dtype=np.bool_)
        for i, label in enumerate(y.tolist()):
            row = dict(enumerate(x[i].tolist()))
            scaled = scaler.learn_one(row) or scaler.transform_one(row)
            self.wrong[i] = (model.predict_one(scaled) or 0) != label
            model.learn_one(scaled, label)
        parts = model.classifiers if several else {1: model}
        self._classes = np.array(sorted(parts))
        columns = range(x.shape[1])
        self._weights = np.array(
            [[parts[c].weights.get(j, 0.0) for j in columns] for c in self._classes.tolist()]
        )
        self._bias = np.array([parts[c].intercept for c in self._classes.tolist()])
        self._mean = np.array([scaler.means[j] for j in columns])
        spread = np.sqrt([scaler.vars[j] for j in columns])
        self._spread = np.where(spread > 0, spread, np.inf)

    def errors(self, x: NDArray[np.float64], y: NDArray[np.int64]) -> Errors:
        scores = (x - self._mean) / self._spread @ self._weights.T + self._bias
        if len(self._classes) == 1:
            return (scores[:, 0] > 0) != y
        return self._classes[scores.argmax(axis=1)] != y


def errors_of(stream: str, seed: int) -> dict[str, Errors]:
    """Return (10,000,) errors of the stream without drift, with an abrupt, with a gradual one."""
    (x, y), (later_x, later_y) = STREAMS[stream](seed)
    model = Frozen(x[:REFERENCE], y[:REFERENCE])
    before = np.concatenate([model.wrong, model.errors(x[REFERENCE:], y[REFERENCE:])])
    after = model.errors(later_x, later_y)
    moved = (np.arange(ROWS) - DRIFT) / WIDTH
    gradual = np.random.default_rng([seed, 1]).random(ROWS) < moved
    return {
        "none": before,
        "abrupt": np.where(moved >= 0, after, before),
        "gradual": np.where(gradual, after, before),
    }


@dataclass(frozen=True)
class Alarm:
    row: int
    change_row: int | None = None


def ours(wrong: Errors) -> list[Alarm]:
    """Return the drifts of the performance signal's test at the default budget."""
    alarms: list[Alarm] = []
    test, at = ErrorTest(*limits(MonitorSettings())), REFERENCE
    alike = np.zeros(len(wrong), dtype=np.int64)  # rivals are not told of classes either
    test.fit(wrong[:REFERENCE], alike[:REFERENCE], np.arange(REFERENCE))
    while at < len(wrong):
        rows = np.arange(at, min(at + 64, len(wrong)))
        test.update(wrong[rows], alike[rows], rows)
        at += len(rows)
        report = test.report("performance")
        if report.level is Level.DRIFT:
            at = (report.since_row or 0) + 1
            alarms.append(Alarm(at - 1, report.change_row))
            newest = np.arange(at - REFERENCE, at)
            test.fit(wrong[newest], alike[newest], newest)
    return alarms


def rivals(make: Callable[[], Any]) -> Callable[[Errors], list[Alarm]]:
    def run(wrong: Errors) -> list[Alarm]:
        detector, alarms = make(), []
        for row, error in enumerate(wrong[REFERENCE:].tolist(), REFERENCE):
            detector.update(error)
            if detector.drift_detected:
                alarms.append(Alarm(row))
        return alarms

    return run


DETECTORS: dict[str, Callable[[Errors], list[Alarm]]] = {
    "undrift": ours,
    "ADWIN": rivals(drift.ADWIN),
    "DDM": rivals(binary.DDM),
    "HDDM_A": rivals(binary.HDDMA),
    "HDDM_W": rivals(binary.HDDMW),
    "Page-Hinkley": rivals(drift.PageHinkley),
}


def cell(stream: str, seed: int) -> dict[str, Any]:
    """Return, per detector, false alarms, and delays and change points of the two drifts."""
    errors = errors_of(stream, seed)
    result: dict[str, Any] = {}
    for name, detect in DETECTORS.items():
        found: dict[str, Any] = {"false": len(detect(errors["none"]))}
        for kind, window in WINDOW.items():
            hits = [a for a in detect(errors[kind]) if DRIFT <= a.row < DRIFT + window]
            found[kind] = hits[0].row - DRIFT if hits else None
            found[f"{kind}_change"] = hits[0].change_row if hits else None
        result[name] = found
    return result


def collect(seeds: int, out: Path) -> list[tuple[str, dict[str, Any]]]:
    cells = []
    for stream, seed in itertools.product(STREAMS, range(seeds)):
        path = out / f"{stream}-{seed}.json"
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_text(json.dumps(cell(stream, seed)), encoding="utf-8")
            part.replace(path)
        cells.append((stream, json.loads(path.read_text(encoding="utf-8"))))
    return cells


def row(name: str, cells: list[dict[str, Any]]) -> str:
    """Return one line of the table."""
    parts = [name]
    for kind in WINDOW:
        delays = [c[name][kind] for c in cells]
        hits = [d for d in delays if d is not None]
        low, middle, high = np.quantile(hits, [0.25, 0.5, 0.75]) if hits else [np.nan] * 3
        parts.append(f"{1 - len(hits) / len(delays):.1%}")
        parts.append(f"{middle:.0f} ({low:.0f}-{high:.0f})")
    false = sum(c[name]["false"] for c in cells)
    parts.append(f"{1e4 * false / len(cells) / (ROWS - REFERENCE):.2f}")
    changes = [c[name]["abrupt_change"] for c in cells]
    off = [abs(row - DRIFT) for row in changes if row is not None]
    parts.append(f"{statistics.median(off):.0f}" if off else "")
    return "| " + " | ".join(parts) + " |"


def table(cells: list[tuple[str, dict[str, Any]]]) -> str:
    head = (
        "| detector | missed, abrupt | delay | missed, gradual | delay "
        "| false alarms per 10,000 | change point off by |\n|---|--:|--:|--:|--:|--:|--:|"
    )
    every = [c for _, c in cells]
    blocks = [("all four streams", every)]
    blocks += [(name, [c for s, c in cells if s == name]) for name in STREAMS]
    return "\n\n".join(
        f"{title}, {len(some)} runs; delay: median (quartiles) in rows\n\n{head}\n"
        + "\n".join(row(name, some) for name in DETECTORS)
        for title, some in blocks
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("build/detection/frozen_errors"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(table(collect(arguments.seeds, arguments.out)))


if __name__ == "__main__":
    main()
