"""The gate's verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from undrift.evidence import DriftKind
from undrift.train.gate import Beside, Comparison, judge
from undrift.train.settings import TrainSettings

SETTINGS = TrainSettings(min_improvement=0.01, max_retention_loss=0.1)


def answers(y: np.ndarray, accuracy: float) -> np.ndarray:
    """Probabilities that name the right class for the given share of the rows."""
    right = np.arange(len(y)) < round(accuracy * len(y))
    p = np.where((y == 1) == right, 0.9, 0.1).astype(np.float32)
    return np.stack([1 - p, p], axis=1)


def compare(n: int, old: float, new: float) -> Comparison:
    y = np.arange(n) % 2
    return Comparison(answers(y, old), answers(y, new), y)


NOTHING = compare(0, 0, 0)


def test_a_clear_gain_is_accepted() -> None:
    report = judge(compare(100, 0.4, 0.8), compare(100, 0.9, 0.85), DriftKind.BOTH, SETTINGS)
    assert report.accepted
    assert "0.400 -> 0.800" in report.reason
    assert report.metrics["retention_accuracy_new"] == pytest.approx(0.85)


def test_no_gain_is_rejected() -> None:
    report = judge(compare(100, 0.8, 0.8), NOTHING, DriftKind.CONCEPT, SETTINGS)
    assert not report.accepted
    assert "min_improvement" in report.reason


def test_a_gain_that_could_be_chance_is_rejected() -> None:
    report = judge(compare(20, 0.7, 0.75), NOTHING, DriftKind.CONCEPT, SETTINGS)
    assert not report.accepted
    assert "beyond chance" in report.reason


def test_identical_answers_are_no_gain_even_without_a_minimum() -> None:
    lenient = TrainSettings(min_improvement=0.0)
    assert not judge(compare(50, 0.7, 0.7), NOTHING, DriftKind.NONE, lenient).accepted


def test_wild_probabilities_are_rejected_whatever_the_accuracy() -> None:
    y = np.arange(200) % 2
    old = np.full((200, 2), 0.5, np.float32)
    wrong = np.arange(200) % 5 < 2
    new = np.eye(2, dtype=np.float32)[np.where(wrong, 1 - y, y)]
    report = judge(Comparison(old, new, y), NOTHING, DriftKind.CONCEPT, SETTINGS)
    assert report.metrics["validation_accuracy_new"] > report.metrics["validation_accuracy_old"]
    assert not report.accepted


@pytest.mark.parametrize(
    ("kind", "kept", "accepted"),
    [
        (DriftKind.COVARIATE, 0.85, True),
        (DriftKind.COVARIATE, 0.7, False),
        (DriftKind.NONE, 0.7, False),
        (DriftKind.CONCEPT, 0.6, True),  # gains enough
    ],
)
def test_forgetting_is_judged_by_what_has_drifted(
    kind: DriftKind, kept: float, accepted: bool
) -> None:
    report = judge(compare(100, 0.4, 0.8), compare(100, 0.9, kept), kind, SETTINGS)
    assert report.accepted is accepted
    assert accepted or "forgets" in report.reason


@pytest.mark.parametrize("kind", list(DriftKind))
def test_a_class_that_nothing_contradicts_is_never_lost(kind: DriftKind) -> None:
    """Whatever was gained: the retention rows are those whose labels are still true."""
    y = np.repeat([0, 1, 2], [60, 30, 9])
    known = np.eye(3)[y]
    forgotten = np.eye(3)[np.where(y == 1, 0, y)]
    rare = np.eye(3)[np.where(y == 2, 0, y)]  # nine rows are too few to tell
    loose = SETTINGS.model_copy(update={"max_retention_loss": 1.0})
    recent = compare(100, 0.1, 0.9)
    report = judge(recent, Comparison(known, forgotten, y), kind, loose)
    assert not report.accepted
    assert "loses class 1 (1.00 -> 0.00 of 30 older rows) that nothing contradicts" in report.reason
    assert judge(recent, Comparison(known, rare, y), kind, loose).accepted
    assert judge(recent, Comparison(forgotten, forgotten, y), kind, loose).accepted
    half = np.eye(3)[np.where((y == 1) & (np.arange(99) % 2 == 0), 0, y)]
    assert judge(recent, Comparison(known, half, y), kind, loose).accepted


@pytest.mark.parametrize(("kept", "accepted"), [(0.75, True), (0.65, False)])
def test_when_both_drifted_recent_gain_pays_for_forgetting(kept: float, accepted: bool) -> None:
    # gains 0.05, worth 0.2 at a retention share of one fifth; forgets 0.15 or 0.25
    recent, older = compare(400, 0.4, 0.45), compare(100, 0.9, kept)
    settings = SETTINGS.model_copy(update={"retention_share": 0.2})
    assert judge(recent, older, DriftKind.BOTH, settings).accepted is accepted


def test_outputs_that_are_not_finite_are_rejected() -> None:
    good = compare(100, 0.4, 0.9)
    broken = good.new.copy()
    broken[3, 0] = math.nan
    report = judge(Comparison(good.old, broken, good.y), NOTHING, DriftKind.CONCEPT, SETTINGS)
    assert not report.accepted
    assert "finite" in report.reason


def test_one_row_proves_nothing() -> None:
    assert not judge(compare(1, 0.0, 1.0), NOTHING, DriftKind.CONCEPT, SETTINGS).accepted


def heads(n: int, old: float, new: float) -> Beside:
    return Beside(np.arange(n) < round(old * n), np.arange(n) < round(new * n))


@pytest.mark.parametrize(
    ("old", "new", "accepted"),
    [(0.7, 0.0, True), (0.8, 0.0, False), (0.8, 0.805, True), (0.9, 0.9, False), (0.9, 0.95, True)],
)
def test_a_candidate_with_its_heads_must_beat_the_heads_beside_the_model(
    old: float, new: float, accepted: bool
) -> None:
    recent = compare(200, 0.4, 0.8)
    report = judge(recent, NOTHING, DriftKind.CONCEPT, SETTINGS, heads=heads(200, old, new))
    assert report.accepted == accepted
    figures = [report.metrics[f"heads_accuracy_{name}"] for name in ("old", "new", "alone")]
    assert figures == [old, new, 0.8]
    assert accepted or f"heads that learn from the labels reach {old:.3f}" in report.reason


def test_heads_are_beaten_on_the_newest_rows_or_not_at_all() -> None:
    """The candidate is right on the first four fifths; heads as well, and on the last as well."""
    recent = compare(500, 0.4, 0.8)
    beside = heads(100, 1.0, 0.0)
    newest = judge(recent, NOTHING, DriftKind.CONCEPT, SETTINGS, heads=beside)
    assert not newest.accepted
    assert newest.metrics["heads_accuracy_alone"] == 0.0
