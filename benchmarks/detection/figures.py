"""The figures behind the tables and plots, from the results of the tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.ours import Point
from benchmarks.detection.scoring import Score, delays, mean_time_interval, score
from benchmarks.detection.streams import AFTER, DRIFTS
from benchmarks.detection.tasks import LAGS, RIVALS, Task, read, tuned_points
from undrift.evidence import Level

OURS = "undrift"
LABELS = {rival.name: rival.labels for rival in RIVALS}


@dataclass(frozen=True, slots=True)
class Cell:
    """All detectors on one stream at one lag and one rate of false alarms.

    Attributes:
        stream: Name in the catalogue.
        lag: Rows by which labels are late.
        scores: By detector, one score a seed.
    """

    stream: str
    lag: int
    scores: dict[str, list[Score]]

    def mean(self, name: str) -> float:
        """Return the mean delay; a miss counts as the rows until the last label."""
        return float(delays(self.scores[name], self.horizon).mean())

    @property
    def horizon(self) -> int:
        """Rows from the drift until the last label."""
        return AFTER + self.lag

    @property
    def best(self) -> str:
        """The rival with the shortest mean delay."""
        return min((name for name in self.scores if name != OURS), key=self.mean)

    @property
    def ratio(self) -> float:
        """Our mean delay over that of the best rival."""
        return self.mean(OURS) / self.mean(self.best)


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        out: Folder of the results.
        seeds: Streams of each kind.
        calibration_seeds: Streams of each world on which rivals are tuned.
    """

    out: Path
    seeds: int
    calibration_seeds: int

    @cached_property
    def ours(self) -> dict[str, list[dict[str, Any]]]:
        """Results of the monitor by stream, one a seed."""
        return {name: self._of("ours", name) for name in DRIFTS}

    @cached_property
    def rivals(self) -> dict[str, list[dict[str, Any]]]:
        """Alarms of the rivals by stream, one a seed."""
        return {name: self._of("rivals", name) for name in DRIFTS}

    def outcomes(self, stream: str, point: Point, lag: int) -> list[dict[str, Any]]:
        """Return the monitor's outcomes, each with the onset of its stream."""
        return [
            run["outcomes"][str(point)][str(lag)] | {"onset": run["onset"]}
            for run in self.ours[stream]
        ]

    def our_scores(self, stream: str, point: Point, lag: int) -> list[Score]:
        """Return the monitor's scores, one a seed."""
        return [
            Score(len(o["false"]), None if o["arrival"] is None else o["arrival"] - o["onset"] + 1)
            for o in self.outcomes(stream, point, lag)
        ]

    def rival_scores(self, stream: str, rival: str, variant: str, lag: int) -> list[Score]:
        """Return a rival's scores, one a seed; ``variant`` is ``default`` or a point."""
        late = lag if LABELS[rival] else 0
        runs = zip(self.rivals[stream], self.ours[stream], strict=True)
        return [score(run[rival][variant], ours["onset"], late) for run, ours in runs]

    def cells(self, point: Point) -> list[Cell]:
        """Return the cells in which detectors are compared at equal false alarms.

        Drifts are compared with rivals that see labels, on streams whose accuracy falls; first
        alarms of any kind with all rivals, on all streams. A rival that no threshold keeps to our
        rate of false alarms is left out.
        """
        any_alarm = point.level is Level.WARNING
        found = []
        for stream, spec in DRIFTS.items():
            if point not in tuned_points(stream) or not (any_alarm or spec.hurts):
                continue
            for lag in LAGS:
                scores = {OURS: self.our_scores(stream, point, lag)}
                for name, needs_labels in LABELS.items():
                    fair = self.kept_to(spec.world, name, point)
                    if fair and (needs_labels or any_alarm):
                        scores[name] = self.rival_scores(stream, name, str(point), lag)
                found.append(Cell(stream, lag, scores))
        return found

    def quiet(self, stream: str, point: Point) -> tuple[int, int, NDArray[np.int64]]:
        """Return rows, false alarms, and false alarms of each seed on a stream without drift."""
        runs = self._of("quiet", stream)
        each = np.array([run["false"][str(point)] for run in runs])
        return sum(run["rows"] for run in runs), int(each.sum()), each

    def alert(self, stream: str, point: Point) -> float:
        """Return the share of a stream without drift during which the level was above none."""
        runs = self._of("quiet", stream)
        return float(np.mean([run["alert"][str(point)] / run["rows"] for run in runs]))

    def calibration(self, world: str, point: Point) -> tuple[int, int]:
        """Return rows and false alarms of the monitor on the streams that rivals are tuned on."""
        run = read(Task("calibrate-ours", world, str(point)), self.out)
        return run["rows"], run["false"]

    def tuned(self, world: str) -> dict[str, Any]:
        """Return the thresholds of the rivals in a world, with their false alarms."""
        return read(Task("calibrate-rivals", world), self.out)

    def kept_to(self, world: str, rival: str, point: Point) -> bool:
        """Tell whether a rival's tuned threshold keeps to our rate of false alarms in a world."""
        tuned = self.tuned(world)[rival][str(point)]
        return bool(tuned["false"] <= tuned["allowed"])

    def _of(self, kind: str, name: str) -> list[dict[str, Any]]:
        return [read(Task(kind, name, str(seed)), self.out) for seed in range(self.seeds)]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How we do over all cells.

    Attributes:
        cells: Number of cells.
        won: Share of cells in which our mean delay is shorter than that of the cell's best rival.
        worst: Largest ratio of our mean delay to that of the cell's best rival.
        within: Share of cells in which that ratio is at most 1.5.
        rival: The single rival that is best over all cells, by the mean of log delays.
        won_rival: Share of cells in which our mean delay is shorter than that rival's.
    """

    cells: int
    won: float
    worst: float
    within: float
    rival: str
    won_rival: float


def compare(cells: Sequence[Cell]) -> Comparison:
    """Compare ourselves with the rivals over all cells (at least one)."""
    ratios = np.array([cell.ratio for cell in cells])
    names = [name for name in LABELS if all(name in cell.scores for cell in cells)]
    rival = min(names, key=lambda name: sum(np.log(cell.mean(name)) for cell in cells))
    return Comparison(
        cells=len(cells),
        won=float((ratios < 1).mean()),
        worst=float(ratios.max()),
        within=float((ratios <= 1.5).mean()),
        rival=rival,
        won_rival=float(np.mean([cell.mean(OURS) < cell.mean(rival) for cell in cells])),
    )


def change_errors(outcomes: Iterable[dict[str, Any]]) -> NDArray[np.float64]:
    """Return the error of each change point found, as a share of the segment after the change."""
    found = [
        abs(o["change_row"] - o["onset"]) / AFTER
        for o in outcomes
        if o["detected"] is not None and o["change_row"] is not None
    ]
    return np.array(found)


def realised(results: Results, stream: str, point: Point) -> tuple[float, float, float]:
    """Return realised over stated mean time between false alarms, with a 95 % interval."""
    rows, false, _ = results.quiet(stream, point)
    low_mid_high = mean_time_interval(false, rows)
    middle, low, high = (value / point.rows_per_false_alarm for value in low_mid_high)
    return middle, low, high


def quartiles(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float, float]:
    """Return median, lower and upper quartile of one value or more."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float(low), float(high)
