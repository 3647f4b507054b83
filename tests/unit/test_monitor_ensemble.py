from __future__ import annotations

import pytest
from pydantic import ValidationError

from undrift.events import DriftKind, Level, SignalReport
from undrift.monitor.calibration import limits
from undrift.monitor.ensemble import Verdict, decide
from undrift.monitor.settings import MonitorSettings

NONE, WARNING, DRIFT = Level.NONE, Level.WARNING, Level.DRIFT
ESCALATING = MonitorSettings(escalate_without_labels=True, accuracy_tolerance=0.1)


def verdict(
    levels: tuple[Level, Level, Level],
    settings: MonitorSettings | None = None,
    *,
    missing: bool = False,
    loss: float = 0.0,
) -> Verdict:
    reports = [
        SignalReport(name, level, 0.0, 4.0, 5.0)
        for name, level in zip(("input", "output", "performance"), levels, strict=True)
    ]
    return decide(
        reports, settings or MonitorSettings(), labels_missing=missing, estimated_loss=loss
    )


@pytest.mark.parametrize(
    ("levels", "level", "kind"),
    [
        ((NONE, NONE, NONE), NONE, DriftKind.NONE),
        ((NONE, NONE, WARNING), WARNING, DriftKind.CONCEPT),
        ((NONE, NONE, DRIFT), DRIFT, DriftKind.CONCEPT),
        ((WARNING, NONE, NONE), WARNING, DriftKind.COVARIATE),
        ((NONE, WARNING, NONE), WARNING, DriftKind.COVARIATE),
        ((DRIFT, DRIFT, NONE), WARNING, DriftKind.COVARIATE),
        ((DRIFT, DRIFT, WARNING), WARNING, DriftKind.BOTH),
        ((WARNING, NONE, DRIFT), DRIFT, DriftKind.BOTH),
    ],
)
def test_labels_set_the_level_and_the_signals_together_the_kind(
    levels: tuple[Level, Level, Level], level: Level, kind: DriftKind
) -> None:
    found = verdict(levels, ESCALATING, loss=0.5)
    assert (found.level, found.kind) == (level, kind)


def test_escalation_needs_policy_missing_labels_strong_evidence_and_estimated_loss() -> None:
    strong = (DRIFT, NONE, NONE)
    assert verdict(strong, ESCALATING, missing=True, loss=0.2).level is DRIFT
    assert verdict(strong, ESCALATING, missing=True, loss=0.1).level is WARNING
    assert verdict(strong, ESCALATING, missing=False, loss=0.2).level is WARNING
    assert verdict((WARNING, WARNING, NONE), ESCALATING, missing=True, loss=0.2).level is WARNING
    assert verdict(strong, MonitorSettings(), missing=True, loss=0.2).level is WARNING


def test_missing_labels_are_told_apart_from_fine() -> None:
    fine, blind = verdict((NONE, NONE, NONE)), verdict((NONE, NONE, NONE), missing=True)
    assert fine.level is blind.level is NONE
    assert "labels are missing" in blind.reason
    assert "missing" not in fine.reason


def test_budget_is_split_over_the_signals_that_can_spend_it() -> None:
    budget = MonitorSettings(rows_per_false_drift=10_000, warnings_per_drift=10)
    assert limits(budget) == (3_000.0, 10_000.0)
    escalating = budget.model_copy(update={"escalate_without_labels": True})
    assert limits(escalating) == (3_000.0, 30_000.0)
    rare = budget.model_copy(update={"warnings_per_drift": 1})
    assert limits(rare) == (10_000.0, 10_000.0)


def test_window_shorter_than_the_lag_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"join_window_rows \(500\) must be at least"):
        MonitorSettings(join_window_rows=500, label_lag_rows=501)
