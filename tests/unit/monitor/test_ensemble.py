from __future__ import annotations

from itertools import product

import pytest
from pydantic import ValidationError

from undrift.evidence import DriftKind, Level, SignalReport
from undrift.monitor.calibration import limits
from undrift.monitor.ensemble import Verdict, decide
from undrift.monitor.settings import MonitorSettings

NONE, WARNING, DRIFT = Level.NONE, Level.WARNING, Level.DRIFT
ESCALATING = MonitorSettings(escalate_without_labels=True, accuracy_tolerance=0.1)


def verdict(
    levels: tuple[Level, Level, Level],
    settings: MonitorSettings | None = None,
    *,
    labelled: int = 100,
    missing: bool = False,
    loss: float = 0.0,
    error: float = 0.0,
) -> Verdict:
    reports = [
        SignalReport(name, level, 0.0, 4.0, 5.0)
        for name, level in zip(("input", "output", "performance"), levels, strict=True)
    ]
    return decide(
        reports,
        settings or MonitorSettings(),
        labelled=labelled,
        labels_missing=missing,
        estimated=(loss, error),
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
        ((WARNING, NONE, DRIFT), DRIFT, DriftKind.CONCEPT),
        ((WARNING, DRIFT, DRIFT), DRIFT, DriftKind.BOTH),
        ((WARNING, NONE, WARNING), WARNING, DriftKind.BOTH),
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


def test_escalation_needs_a_loss_that_is_surely_above_the_tolerance() -> None:
    strong = (DRIFT, DRIFT, NONE)
    assert verdict(strong, ESCALATING, missing=True, loss=0.2, error=0.05).level is DRIFT
    unsure = verdict(strong, ESCALATING, missing=True, loss=0.2, error=0.07)
    assert unsure.level is WARNING
    assert "-0.200 ± 0.070" in unsure.reason


LEVELS = tuple(product(Level, repeat=3))
SITUATIONS = tuple(
    (settings, missing, loss)
    for settings in (MonitorSettings(), ESCALATING)
    for missing in (False, True)
    for loss in (-0.3, 0.0, 0.09, 0.5)
)


@pytest.mark.parametrize("levels", LEVELS)
def test_errors_on_labels_set_level_and_kind_whatever_the_others_say(
    levels: tuple[Level, Level, Level],
) -> None:
    for settings, missing, loss in SITUATIONS:
        found = verdict(levels, settings, missing=missing, loss=loss)
        if levels[2] is not NONE:
            assert found.level >= levels[2]
            as_sure = max(levels[:2]) >= levels[2]
            assert found.kind is (DriftKind.BOTH if as_sure else DriftKind.CONCEPT)


@pytest.mark.parametrize("levels", LEVELS)
def test_inputs_and_outputs_together_never_outvote_good_labels(
    levels: tuple[Level, Level, Level],
) -> None:
    for settings, missing, loss in SITUATIONS:
        found = verdict(levels, settings, missing=missing, loss=loss)
        may_escalate = settings is ESCALATING and missing and loss == 0.5 and DRIFT in levels[:2]
        if levels[2] is NONE and not may_escalate:
            assert found.level is min(WARNING, max(levels))
            quiet = levels == (NONE, NONE, NONE)
            assert found.kind is (DriftKind.NONE if quiet else DriftKind.COVARIATE)


@pytest.mark.parametrize("levels", LEVELS)
def test_more_evidence_never_lowers_the_level(levels: tuple[Level, Level, Level]) -> None:
    for settings, missing, loss in SITUATIONS:
        level = verdict(levels, settings, missing=missing, loss=loss).level
        for i in range(3):
            if levels[i] is not DRIFT:
                more = (*levels[:i], Level(levels[i] + 1), *levels[i + 1 :])
                assert verdict(more, settings, missing=missing, loss=loss).level >= level
        assert verdict(levels, settings, missing=missing, loss=loss + 0.1).level >= level


def test_missing_labels_are_told_apart_from_fine() -> None:
    fine, blind = verdict((NONE, NONE, NONE)), verdict((NONE, NONE, NONE), missing=True)
    assert fine.level is blind.level is NONE
    assert "labels are missing" in blind.reason
    assert "missing" not in fine.reason


def test_budget_is_split_over_the_signals_that_can_spend_it() -> None:
    budget = MonitorSettings(rows_per_false_drift=10_000, warnings_per_drift=10)
    assert limits(budget) == (4_000.0, 20_000.0)
    escalating = budget.model_copy(update={"escalate_without_labels": True})
    assert limits(escalating) == (4_000.0, 40_000.0)
    rare = budget.model_copy(update={"warnings_per_drift": 1})
    assert limits(rare) == (20_000.0, 20_000.0)


def test_window_shorter_than_the_lag_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"join_window_rows \(500\) must be at least"):
        MonitorSettings(join_window_rows=500, label_lag_rows=501)


@pytest.mark.parametrize(
    "levels", [(NONE, NONE, NONE), (WARNING, NONE, NONE), (DRIFT, DRIFT, NONE)]
)
@pytest.mark.parametrize("missing", [False, True])
def test_before_the_first_label_no_sentence_says_what_labels_show(
    levels: tuple[Level, Level, Level], missing: bool
) -> None:
    reason = verdict(levels, labelled=0, missing=missing).reason
    assert "late labels show" not in reason
    assert "no label has come yet" in reason or "labels are missing" in reason
    assert "no label has come yet" not in verdict(levels, missing=missing).reason
