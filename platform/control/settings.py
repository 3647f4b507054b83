"""The lifecycle section of the configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from undrift.settings import Section


class LifecycleSettings(Section):
    """When the platform may act by itself."""

    mode: Literal["off", "suggest", "auto"] = "auto"
    """off: only watch; suggest: retrain, then wait for an operator; auto: promote as well."""
    retrain_when: Literal["worse", "better"] = "better"
    """worse: retrain as soon as there is a drift; better: when a challenger shows that another
    model would be better now, or when labels are missing and the drift was escalated."""
    min_regime_rows: int = Field(250, ge=1)
    """Labelled rows of the new regime to wait for before it is retrained on."""
    cooldown_s: float = Field(300.0, ge=0)
    """Seconds between the end of one change of version and the next automatic retraining."""
    backoff_s: float = Field(60.0, ge=0)
    """Seconds before another try after a rejected or failed candidate; doubles each time."""
    backoff_max_s: float = Field(3600.0, ge=0)
    """Longest back-off, seconds."""
    refine_growth: float = Field(2.0, ge=0)
    """Retrain again when the labelled rows of the new regime have grown this much; 0: never."""
    refine_limit: int = Field(3, ge=0)
    """At most this many refinements for one regime."""
    retrain_every_rows: int = Field(0, ge=0)
    """Retrain after this many new labels though no drift was found, on the newest four times as
    many, for a world that never rests; 0: never."""
    auto_rollback: bool = True
    """Go back to the previous version when the probation fails, in every mode."""
    probation_timeout_s: float = Field(86_400.0, gt=0)
    """A probation that has seen too few labels for this long ends as unproven."""
    retraining_timeout_s: float = Field(21_600.0, gt=0)
    """A retraining without a candidate for this long is given up, and counts as failed."""

    @property
    def newest_rows(self) -> int:
        """Labelled rows that a retraining for the amount of new labels is for."""
        return 4 * self.retrain_every_rows
