"""River's drift detectors on the errors of late labels, and STUDD on a student's disagreement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from river import drift
from river.drift import binary

from benchmarks.detection.rows import Stream

Prepared = Any


@dataclass(frozen=True, slots=True)
class Rival:
    """A detector with one main threshold.

    Attributes:
        name: For tables.
        labels: True if it needs labels, so that a lag delays it.
        default: Its threshold as published, on the scale of ``strictness``.
        strictness: Range of thresholds in which it is tuned, from lax to strict.
        prepare: Computes what does not depend on the threshold.
        alarms: Rows of its alarms, given what was prepared and a threshold; after an alarm it
            starts anew.
        steps: Halvings of the range of thresholds when it is tuned.
    """

    name: str
    labels: bool
    default: float
    strictness: tuple[float, float]
    prepare: Callable[[Stream], Prepared]
    alarms: Callable[[Prepared, float], list[int]]
    steps: int = 9


def errors(stream: Stream) -> tuple[list[int], list[int]]:
    """Return 0/1 errors on the reference and on the stream."""
    return _bits(stream.reference.wrong), _bits(stream.rows.wrong)


def disagreements(stream: Stream) -> tuple[list[int], list[int]]:
    """Return 0/1 disagreements of model and student on the reference and on the stream."""
    return _bits(stream.reference.disagrees), _bits(stream.rows.disagrees)


def run(detector: Any, bits: tuple[Sequence[int], Sequence[int]]) -> list[int]:
    """Let a River detector see the reference first, then the stream; return its alarms there."""
    reference, stream = bits
    for bit in reference:
        detector.update(bit)
    rows = []
    for row, bit in enumerate(stream):
        detector.update(bit)
        if detector.drift_detected:
            rows.append(row)
    return rows


def ddm(strictness: float) -> Any:
    """Return a DDM; its warning level, which does nothing here, must stay below the other."""
    return binary.DDM(warning_threshold=min(2.0, strictness), drift_threshold=strictness)


def eddm(strictness: float) -> Any:
    """Return an EDDM; likewise."""
    beta = 1.0 - strictness
    return binary.EDDM(alpha=max(0.95, beta), beta=beta)


class Mean:
    """A running mean: what River's ``stats.Mean`` computes, but quick to copy."""

    __slots__ = ("n", "value")

    def __init__(self, n: int = 0, value: float = 0.0) -> None:
        self.n, self.value = n, value

    def update(self, x: float) -> None:
        self.n += 1
        self.value += (1 / self.n) * (x - self.value)

    def get(self) -> float:
        return self.value

    def clone(self, *, include_attributes: bool) -> Mean:
        assert include_attributes
        return Mean(self.n, self.value)


class QuickHDDMA(binary.HDDMA):
    """River's HDDM_A, which spends most of its time on copying means."""

    def _reset(self) -> None:
        super()._reset()  # type: ignore[no-untyped-call]
        self._x_min, self._x_max, self._z = Mean(), Mean(), Mean()  # type: ignore[assignment]


def hddm(kind: Callable[..., Any]) -> Callable[[float], Any]:
    """Return a maker of HDDM_A or HDDM_W by the negative decimal logarithm of its confidence."""

    def make(strictness: float) -> Any:
        confidence = 10.0**-strictness
        return kind(drift_confidence=confidence, warning_confidence=min(1.0, 5 * confidence))

    return make


def _bits(values: np.ndarray) -> list[int]:
    bits: list[int] = values.astype(int).tolist()
    return bits


def _river(
    name: str,
    make: Callable[[float], Any],
    default: float,
    strictness: tuple[float, float],
    see: Callable[[Stream], tuple[list[int], list[int]]] = errors,
) -> Rival:
    return Rival(
        name,
        labels=see is errors,
        default=default,
        strictness=strictness,
        prepare=see,
        alarms=lambda bits, strict: run(make(strict), bits),
    )


def adwin(strictness: float) -> Any:
    """Return an ADWIN by the negative decimal logarithm of its delta."""
    return drift.ADWIN(delta=10.0**-strictness)


RECURSIVE: tuple[Rival, ...] = (
    _river("ADWIN", adwin, -np.log10(0.002), (0.0, 30.0)),
    _river("DDM", ddm, 3.0, (1.0, 20.0)),
    _river("EDDM", eddm, 0.1, (0.01, 0.9)),
    _river("HDDM_A", hddm(QuickHDDMA), 3.0, (0.01, 30.0)),
    _river("HDDM_W", hddm(binary.HDDMW), 3.0, (0.01, 30.0)),
    _river("Page-Hinkley", lambda t: drift.PageHinkley(threshold=t, mode="up"), 50.0, (0.5, 200.0)),
    _river("STUDD", adwin, -np.log10(0.002), (0.0, 30.0), see=disagreements),
)
