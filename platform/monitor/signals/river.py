"""The performance signal by a drift detector of River's interface, fed with the errors."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from undrift.errors import ConfigError
from undrift.evidence import Level, SignalReport
from undrift.monitor.base import Calibration, Measures, State
from undrift.monitor.calibration import recent_rows
from undrift.monitor.join import Joined, LabelSignal
from undrift.monitor.settings import MonitorSettings
from undrift.records import Reference


class ErrorDetector(Protocol):
    """What is asked of a foreign detector; one with ``warning_detected`` can warn as well."""

    @property
    def drift_detected(self) -> bool:
        """True if the last value made an alarm."""

    def update(self, x: int) -> object:
        """Take in one value: 1 for a wrong prediction, 0 for a right one."""


class RiverSignal(LabelSignal):
    """Watches the errors of late labels with a detector of River's interface.

    The detector gets 1 for a wrong and 0 for a right prediction, one label at a time: first the
    reference, where its alarms are not listened to, then the stream as labels arrive. That suits
    ADWIN, PageHinkley, KSWIN, DDM, EDDM, HDDMA and HDDMW; ADWIN, KSWIN and PageHinkley alarm on
    falling errors as well, and KSWIN tells 0 from 1 badly. FHDDM of River 0.26 alarms on a
    falling mean only, so of errors it sees none but a model that gets better: leave it.

    It sets its own false-alarm rate; the budget does not reach it. An alarm resets such a
    detector, so the level stays at drift until the next fit. Where the level rises, the change
    point is the row that splits the errors seen so far into the two likeliest rates.

    The saved state is the errors themselves, one bit each; a load feeds them again.

    Args:
        settings: Names the class as ``module:Class``, and its arguments. A ``seed`` that the class
            takes and that is not among them is the seed of the settings.

    Raises:
        ConfigError: There is no such module or class, it refuses the arguments, or it is no drift
            detector.

    Example:
        >>> settings = MonitorSettings(
        ...     performance_statistic="river.drift:ADWIN", performance_options={"delta": 0.001}
        ... )
        >>> RiverSignal(settings).report().level.name
        'NONE'
    """

    REACH: ClassVar[int] = 10_000  # newest labels among which a change point is looked for
    SAVED = ("_level", "_since", "_change")

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._rows: list[int] = []
        self._reset()

    def fit(self, reference: Reference) -> Calibration:
        """Make the detector anew and feed it with the errors of the recent reference rows."""
        recent = recent_rows(reference, self._settings)
        self._reset()
        self._feed((recent.output.argmax(axis=1) != recent.y).tolist())
        path = self._settings.performance_statistic
        note = (
            f"{path} sets its own false-alarm rate; monitor.rows_per_false_drift does not bind it"
        )
        return Calibration(len(recent), notes=(note,))

    def measure(self, batch: Joined) -> Measures:
        """Return (n, 1) ones where the prediction was wrong."""
        return Measures(batch.row, batch.wrong[:, None].astype(np.float64))

    def advance(self, measures: Measures) -> None:
        """Take in labels that met their predictions, up to the alarm."""
        for wrong, row in zip(measures.values[:, 0].tolist(), measures.row.tolist(), strict=True):
            if self._level == Level.DRIFT:
                return
            self._feed([bool(wrong)])
            self._rows.append(row)
            self._judge(row)
        del self._rows[: -self.REACH]

    def report(self) -> SignalReport:
        """Return the present level, which is the statistic too, and the change point."""
        alarmed = self._level > Level.NONE
        return SignalReport(
            name="performance",
            level=Level(self._level),
            statistic=float(self._level),
            warning_at=float(Level.WARNING),
            drift_at=float(Level.DRIFT),
            change_row=self._change if alarmed else None,
            since_row=self._since if alarmed else None,
        )

    def state(self) -> State:
        """Return a copy of the errors seen since the fit, and of what was made of them."""
        errors = np.frombuffer(bytes(self._errors), dtype=np.uint8)
        return super().state() | {
            "errors": np.packbits(errors),
            "fed": np.array(len(errors)),
            "rows": np.array(self._rows, dtype=np.int64),
        }

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a saved state by feeding its errors to a new detector."""
        self._reset()
        super().load(state)
        self._rows = state["rows"].tolist()
        self._feed(np.unpackbits(state["errors"], count=int(state["fed"])).tolist())

    def _reset(self) -> None:
        self._detector = build(self._settings)
        self._errors = bytearray()
        self._rows = []
        self._level = int(Level.NONE)
        self._since = -1
        self._change = -1

    def _feed(self, errors: Iterable[int]) -> None:
        for wrong in errors:
            self._detector.update(int(wrong))
            self._errors.append(wrong)

    def _judge(self, row: int) -> None:
        warned = bool(getattr(self._detector, "warning_detected", False))
        level = int(Level.DRIFT if self._detector.drift_detected else warned)
        if level > self._level:
            self._change = self._likeliest_change()
        if level != self._level:
            self._level, self._since = level, row

    def _likeliest_change(self) -> int:
        """Return the row from which a second error rate makes the errors likeliest."""
        rows = self._rows[-self.REACH :]
        begin = len(self._errors) - len(rows)
        errors = np.frombuffer(bytes(self._errors[begin:]), dtype=np.uint8).astype(np.float64)
        wrong = self._errors.count(1, 0, begin) + np.cumsum(errors) - errors
        n = begin + np.arange(len(rows))
        after = (len(self._errors) - n, wrong[-1] + errors[-1] - wrong)
        best = np.argmax(_fit(n, wrong) + _fit(*after))
        return rows[int(best)]


def build(settings: MonitorSettings) -> ErrorDetector:
    """Return a new detector of the class that ``performance_statistic`` names.

    Raises:
        ConfigError: There is no such module or class, it refuses ``performance_options``, or it is
            no drift detector.
    """
    path, options = settings.performance_statistic, dict(settings.performance_options)
    module, _, name = path.partition(":")
    where = f"monitor.performance_statistic = {path!r}"
    try:
        kind = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        hint = "; pip install river" if (error.name or "").split(".")[0] == "river" else ""
        raise ConfigError(f"{where}: cannot import {module}: {error}{hint}") from error
    if not inspect.isclass(kind):
        raise ConfigError(f"{where}: {module} has no class {name}")
    if "seed" in inspect.signature(kind).parameters:
        options = {"seed": settings.seed} | options
    try:
        detector: Any = kind(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{where}: {name} refuses monitor.performance_options = {options}: {error}; "
            f"it takes {inspect.signature(kind)}"
        ) from error
    if not callable(getattr(detector, "update", None)) or not hasattr(detector, "drift_detected"):
        raise ConfigError(f"{where}: {name} is no drift detector: update(x), drift_detected")
    found: ErrorDetector = detector
    return found


def _fit(n: NDArray[np.int64], wrong: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log-likelihood of ``wrong`` errors among ``n`` rows at their own rate."""
    right = n - wrong
    rate = (wrong / np.maximum(n, 1)).clip(1e-12, 1 - 1e-12)
    fit: NDArray[np.float64] = wrong * np.log(rate) + right * np.log1p(-rate)
    return fit
