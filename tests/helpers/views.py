"""What a platform would tell, as plain JSON values: defaults, and what a test wants otherwise."""

from __future__ import annotations

from typing import Any

from undrift.evidence import ProbationReport
from undrift.views import (
    AccuracyView,
    DriftView,
    EventView,
    LabelsView,
    SignalView,
    StatusView,
    SummaryView,
    plain,
)


def status(**changes: Any) -> dict[str, Any]:
    """Return the status of a healthy platform."""
    told = StatusView(model="m", mode="auto", phase="healthy", live_version=1)
    return {**plain(told), **changes}


def event(seq: int, kind: str, text: str = "", **more: Any) -> dict[str, Any]:
    """Return one event."""
    return plain(EventView(seq=seq, at=more.pop("at", 1.7e9), kind=kind, text=text, **more))


def signal(**changes: Any) -> dict[str, Any]:
    """Return one calm signal."""
    told = SignalView(name="input", level="none", statistic=0.0, warning_at=3.0, drift_at=9.0)
    return {**plain(told), **changes}


def drift(**changes: Any) -> dict[str, Any]:
    """Return the drift report of a monitor that has seen nothing move."""
    told = DriftView(
        level="none",
        kind="none",
        reason="",
        version=1,
        rows=0,
        labelled=0,
        regime_rows=0,
        labels_missing=False,
        signals=(),
        probation=ProbationReport("none", ""),
        summary=SummaryView(
            regime_start=0,
            labels=LabelsView(
                outcomes={},
                waiting=0,
                missing=False,
                coverage=None,
                coverage_beyond_lag=None,
                lag={"rows": None, "seconds": None},
            ),
            accuracy=AccuracyView(
                window_labels=0,
                window=None,
                reference=None,
                estimated=None,
                estimated_error=None,
            ),
        ),
    )
    return {**plain(told), **changes}
