"""Whether a candidate may replace the model that serves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import DriftKind
from undrift.records import FloatArray, TargetArray
from undrift.train.objective import Objective, objective_for
from undrift.train.settings import TrainSettings

_SIGNIFICANCE = 0.1  # one-sided; a candidate promoted by luck still has to pass its probation
_EXPECTED = 0.5  # where a gain is expected
_FEWEST = 10  # older rows of a class by which it can be seen to be lost
_LOST = 0.25  # share of its recall that a class keeps at least


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two versions say about the same held-out rows.

    Attributes:
        old: (n, c) answers of the version that serves: class probabilities, or numbers.
        new: (n, c) answers of the candidate.
        y: (n,) class index, or (n,) or (n, c) targets.
    """

    old: FloatArray
    new: FloatArray
    y: TargetArray

    @property
    def objective(self) -> Objective:
        """What the two were trained for."""
        return objective_for(self.y)

    def qualities(self) -> tuple[float, float]:
        """Return accuracy or R2 of the old and of the new version; NaN without rows."""
        if not len(self.y):
            return math.nan, math.nan
        quality = self.objective.quality
        return quality(self.old, self.y), quality(self.new, self.y)


@dataclass(frozen=True, slots=True)
class Beside:
    """Whether the best head that learns from the labels answers each of some rows right.

    Attributes:
        old: (m,) the best one on the embedding of the version that serves.
        new: (m,) the best one on the candidate's.
    """

    old: NDArray[np.bool_]
    new: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class GateReport:
    """The verdict on a candidate.

    Attributes:
        accepted: True if it may replace the version that serves.
        reason: One sentence for a person.
        metrics: The figures behind it.
    """

    accepted: bool
    reason: str
    metrics: dict[str, float]


def judge(
    validation: Comparison,
    retention: Comparison,
    kind: DriftKind,
    settings: TrainSettings,
    *,
    expected: bool = False,
    heads: Beside | None = None,
) -> GateReport:
    """Judge a candidate on held-out rows.

    On recent rows it must gain quality, accuracy or R2, and its errors, Brier scores or squared
    errors, must be less beyond chance (a paired one-sided test at 10 %), which a few lucky rows
    or wild probabilities cannot pass. On older rows whose labels are still true it may lose no more
    than the tolerance. Where labels have changed, it may lose more if it gains enough: recent and
    older quality are then weighed by the retention share. Whatever has changed, no class may be
    lost: one that the version before knew and of which less than a quarter is left.

    Args:
        validation: Recent rows. A model that was trained elsewhere may come before there are any;
            then it may be no worse than the tolerance on the older ones.
        retention: Rows of older regimes whose labels are still true; may be empty.
        kind: What has drifted.
        settings: The tolerances.
        expected: Whether a challenger has already shown, on other rows, that a model of these rows
            is better. Then a few held-out rows need not show it again: any gain will do.
        heads: What heads that learn from the labels would answer to the newest recent rows, if such
            heads have a share in the answer. There the candidate, or the best head beside it, must
            be right more often than the best head beside the version that serves.
    """
    objective = validation.objective
    measure = objective.measure
    old_quality, new_quality = validation.qualities()
    old_kept, new_kept = retention.qualities()
    errors = objective.errors
    chance = _chance(errors(validation.old, validation.y) - errors(validation.new, validation.y))
    metrics = {"validation_rows": float(len(validation.y))}
    if len(validation.y):
        metrics |= {
            f"validation_{measure}_old": old_quality,
            f"validation_{measure}_new": new_quality,
            f"validation_{objective.error}_p": chance,
        }
    if len(retention.y):
        metrics |= {
            "retention_rows": float(len(retention.y)),
            f"retention_{measure}_old": old_kept,
            f"retention_{measure}_new": new_kept,
        }
    gain = new_quality - old_quality if len(validation.y) else 0.0
    loss = old_kept - new_kept
    moved = f"{measure} on {len(validation.y)} recent rows {old_quality:.3f} -> {new_quality:.3f}"
    kept = f"on {len(retention.y)} older rows {old_kept:.3f} -> {new_kept:.3f}"
    allowed = _allowed_loss(kind, gain, settings)
    if not (np.isfinite(validation.new).all() and np.isfinite(retention.new).all()):
        return GateReport(False, "the candidate's outputs are not all finite", metrics)
    judged = validation if len(validation.y) else retention
    if objective.collapsed(judged.new, judged.y):
        return GateReport(False, "the candidate gives every row the same answer", metrics)
    if not len(validation.y):
        told = f"no recent row is labelled; {measure} {kept}"
        fine = not len(retention.y) or loss <= allowed
        return GateReport(fine, told if fine else f"{told}: more than {allowed:.3f} lost", metrics)
    if gain < (0.0 if expected else settings.min_improvement):
        wanted = f"less than train.min_improvement {settings.min_improvement:g} gained"
        return GateReport(False, f"{moved}: {wanted}", metrics)
    if not chance <= (_EXPECTED if expected else _SIGNIFICANCE):
        return GateReport(False, f"{moved}: not beyond chance (p = {chance:.2f})", metrics)
    if heads is not None and not _beats(validation, heads, metrics):
        old, new, alone = (metrics[f"heads_accuracy_{name}"] for name in ("old", "new", "alone"))
        told = (
            f"{moved}, but on the newest {len(heads.old)} heads that learn from the labels reach "
            f"{old:.3f} beside the version that serves and {new:.3f} beside the candidate, which "
            f"reaches {alone:.3f} alone"
        )
        return GateReport(False, told, metrics)
    if len(retention.y) and loss > allowed:
        return GateReport(False, f"{moved}, but {kept}: forgets more than {allowed:.3f}", metrics)
    if lost := _lost(retention):
        return GateReport(False, f"{moved}, but it loses {lost} that nothing contradicts", metrics)
    return GateReport(True, f"{moved}; {kept}" if len(retention.y) else moved, metrics)


def _allowed_loss(kind: DriftKind, gain: float, settings: TrainSettings) -> float:
    if kind in (DriftKind.CONCEPT, DriftKind.BOTH):
        worth = (1.0 - settings.retention_share) / max(settings.retention_share, 1e-9)
        # R2 has no lower bound: what a model gains that was worse than none pays for nothing.
        return max(settings.max_retention_loss, min(gain, 1.0) * worth)
    return settings.max_retention_loss


def _lost(retention: Comparison) -> str:
    """Return which classes a candidate no longer knows; empty if none, or if there are none."""
    if not np.issubdtype(retention.y.dtype, np.integer):
        return ""
    found = []
    for known in np.unique(retention.y).tolist():
        here = retention.y == known
        old, new = (
            (c[here].argmax(axis=1) == known).mean() for c in (retention.old, retention.new)
        )
        if here.sum() >= _FEWEST and old >= 2.0 * _LOST and new < _LOST * old:
            found.append(f"class {known} ({old:.2f} -> {new:.2f} of {here.sum()} older rows)")
    return ", ".join(found)


def _beats(validation: Comparison, heads: Beside, metrics: dict[str, float]) -> bool:
    """Return whether a candidate, or a head beside it, does better; keeps the figures."""
    newest = slice(len(validation.y) - len(heads.old), None)
    alone = validation.new[newest].argmax(axis=1) == validation.y[newest]
    metrics |= {
        "heads_rows": float(len(alone)),
        "heads_accuracy_old": float(heads.old.mean()),
        "heads_accuracy_new": float(heads.new.mean()),
        "heads_accuracy_alone": float(alone.mean()),
    }
    return bool(max(alone.sum(), heads.new.sum()) > heads.old.sum())


def _chance(gains: NDArray[np.float64]) -> float:
    """Return the one-sided p-value of a paired z test: how likely such gains are by luck."""
    n = len(gains)
    if n < 2:
        return 1.0
    deviation = float(gains.std(ddof=1))
    if deviation == 0.0:
        return 0.0 if gains.mean() > 0.0 else 1.0
    z = float(gains.mean()) / (deviation / math.sqrt(n))
    return 0.5 * math.erfc(z / math.sqrt(2.0))
