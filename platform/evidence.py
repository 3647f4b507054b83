"""What the signals say, and what they say together: levels, kinds, change points."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Literal


class Level(IntEnum):
    """How sure a signal, or the ensemble, is that the world has moved."""

    NONE = 0
    WARNING = 1
    DRIFT = 2


class DriftKind(StrEnum):
    """What the signals together say has changed; it decides the retraining data."""

    NONE = "none"
    CONCEPT = "concept"  # the labels, given the inputs
    COVARIATE = "covariate"  # the inputs
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that moved, and by how much; the larger the effect, the more it moved.

    Attributes:
        what: ``feature``, ``embedding``, ``class``, ``confidence`` or ``segment``.
        name: Which one, as ``nswprice``, ``x[3]``, ``cat`` or ``site=north``.
        measure: The effect size's name, as ``hellinger`` or ``share``.
        effect: The effect size; 0 is no change.
        before: On the reference: a mean, a share or an accuracy.
        now: The same on recent rows.
    """

    what: str
    name: str
    measure: str
    effect: float
    before: float
    now: float


@dataclass(frozen=True, slots=True)
class SignalReport:
    """The state of one signal.

    Attributes:
        name: ``input``, ``output``, ``performance`` or ``challenger``.
        level: Present level.
        statistic: The sequential statistic, on the scale of the two limits.
        warning_at: Statistic at which the level becomes warning.
        drift_at: Statistic at which the level becomes drift.
        change_row: Estimated first row of the new regime while the level is above none.
        since_row: Row at which the present level was reached.
        changes: What moved most, largest effect first; empty while the level is none.
    """

    name: str
    level: Level
    statistic: float
    warning_at: float
    drift_at: float
    change_row: int | None = None
    since_row: int | None = None
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Challenger:
    """How a cheap model that follows the labels fares against the live one.

    Attributes:
        name: What it is, as ``1,000 rows on the embedding``.
        memory: Labelled rows that it reaches back; 0 for all.
        embedding_only: Whether it is a new last layer of the live model.
        weight: Its share in the evidence that some challenger is better; all sum to one.
        lead: Accuracy above the live model's on ``rows``, as a fraction.
        low: What the lead is at least, at a confidence of 95 %.
        rows: Newest labels, since the lead began if it is significant.
        share: Its share in the answer of a mixture; with the live model's they sum to one.
    """

    name: str
    memory: int
    embedding_only: bool
    weight: float
    lead: float
    low: float
    rows: int
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the monitor knows now, and what the ensemble makes of it.

    Attributes:
        level: Level of the ensemble.
        kind: What has changed.
        signals: The three signals that compare with the reference, and that of the challengers.
        version: Model version that the signals watch.
        rows: Predictions seen so far.
        labelled: Labels joined so far.
        regime_rows: Labelled rows since the start of the present regime.
        labels_missing: True if labels are further away than the configured lag allows.
        reason: One sentence for a person.
        challengers: How the challengers fare, the best supported first.
        better: The challenger that shows that retraining pays, if one does.
    """

    level: Level
    kind: DriftKind
    signals: tuple[SignalReport, ...]
    version: int
    rows: int
    labelled: int
    regime_rows: int = 0
    labels_missing: bool = False
    reason: str = ""
    challengers: tuple[Challenger, ...] = ()
    better: Challenger | None = None

    @property
    def change_row(self) -> int | None:
        """Earliest change point among the signals that decide, labels before inputs."""
        by_name = {s.name: s for s in self.signals}
        performance = by_name.get("performance")
        if performance is not None and performance.change_row is not None:
            return performance.change_row
        rows = [s.change_row for s in self.signals if s.change_row is not None]
        return min(rows, default=None)


Status = Literal["none", "running", "passed", "failed"]


@dataclass(frozen=True, slots=True)
class ProbationReport:
    """How the promoted version is doing.

    Attributes:
        status: ``none`` if no probation was asked for since the last re-arming.
        detail: One sentence for a person.
        labels: Labels of the new version seen so far.
        error: Its error rate on them.
        baseline: Error rate that the version before would have had on them; where it was not
            asked, the one that it had, as last seen.
        against: The version before; None if no probation was asked for.
    """

    status: Status
    detail: str
    labels: int = 0
    error: float = 0.0
    baseline: float = 0.0
    against: int | None = None


@dataclass(frozen=True, slots=True)
class ComparisonReport:
    """How a candidate fares in the present stage of its rollout.

    Attributes:
        status: ``none`` if no comparison was asked for.
        detail: One sentence for a person.
        run_id: Run that it belongs to.
        step: Number of the stage, counted from 0.
        rows: Rows that both versions were asked and whose label came.
        error: Error rate of the candidate on them.
        baseline: Error rate of the live version on them.
        asked: Rows that both were asked, labelled or not.
        differs: Share of those on which their classes differ; of a regression the mean squared
            difference in units of the targets' variance, each at most 1. None before the first.
    """

    status: Status = "none"
    detail: str = ""
    run_id: str = ""
    step: int = 0
    rows: int = 0
    error: float = 0.0
    baseline: float = 0.0
    asked: int = 0
    differs: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """How far a rollout by stages is.

    Attributes:
        version: Version that is tried.
        stage: ``shadow`` or ``canary``.
        share: Share of the requests that it is asked, or answers.
        step: Number of the stage, counted from 1; ``steps`` there are.
        since: When it began, Unix seconds.
        wanted: Labelled rows after which the stage is passed; ``rows`` have told so far.
        error: Error rate of the version on them.
        lead: What the live version errs more than it on them; negative if less.
        asked: Rows that both versions were asked, labelled or not.
        differs: Share of those on which they differ, as `ComparisonReport` has it.
        next: What comes after this stage: ``shadow``, ``canary`` or ``promotion``.
    """

    version: int
    stage: str
    share: float
    step: int
    steps: int
    since: float
    wanted: int
    rows: int = 0
    error: float | None = None
    lead: float | None = None
    asked: int = 0
    differs: float | None = None
    next: str
