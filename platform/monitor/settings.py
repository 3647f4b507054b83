"""The ``monitor`` section of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from undrift.settings import Section


class MonitorSettings(Section):
    """How often the monitor may be wrong, and how long it waits for labels.

    Rows are predictions; every length of time is counted in them, so that a replay of a
    recorded stream decides exactly as the live run did.

    Example:
        >>> MonitorSettings(days_per_false_drift=30, rows_per_day=5_000).rows_per_false_drift
        150000
    """

    rows_per_false_drift: int = Field(100_000, ge=100)
    """The false-alarm budget of the whole ensemble: at most one false drift in this many
    predictions, on average."""

    days_per_false_drift: float | None = Field(None, gt=0)
    """The same budget in time, instead of `rows_per_false_drift`: at most one false drift in this
    many days of `rows_per_day` predictions each."""

    rows_per_day: float | None = Field(None, gt=0)
    """Predictions a day, as many as you expect; needed for `days_per_false_drift` only."""

    warnings_per_drift: int = Field(20, ge=1)
    """A false warning may come this many times as often as a false drift."""

    input_statistic: Literal["mmd", "marginal"] = "mmd"
    """How inputs are compared with the reference: `mmd`, kernel mean embedding by random Fourier
    features; `marginal`, the distribution of each feature by itself."""

    performance_statistic: str = Field(
        "error", pattern=r"^(error|loss|score|[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*)$"
    )
    """What late labels are judged by: `error`, right or wrong; `loss`, the cross-entropy;
    `score`, the gradient of the last layer's log-likelihood; or a drift detector of River's
    interface as `module:Class`, as `river.drift:ADWIN`, which sets its own false-alarm rate."""

    performance_options: dict[str, float | int | bool | str] = Field(default_factory=dict)
    """Arguments of a detector that `performance_statistic` names by import path."""

    features: tuple[str, ...] = ()
    """Names of the input's columns, in order, for reports; without them a column is `x[3]`."""

    segments: tuple[str | int, ...] = ()
    """Columns of a one-dimensional input, by name or number, whose values divide the stream into
    segments that are watched one by one; a column of many values is cut at its quartiles."""

    season: str | None = Field(None, pattern=r"^\d+(\.\d+)? ?(h|d|rows)$")
    """A season in which errors come and go, as `24 h`, `7 d` or `5000 rows`: late labels are then
    also held against the error rate of their own phase of it. Only for `error`; the first season
    is for learning. Hours are those of UTC."""

    label_lag_rows: int = Field(10_000, ge=1)
    """Labels count as missing while the newest labelled prediction is further back than this."""

    join_window_rows: int = Field(100_000, ge=100)
    """Predictions that wait for their label, and predictions that a label waits for its own; what
    is older is counted as late or expired."""

    escalate_without_labels: bool = False
    """Let label-free evidence become drift while labels are missing and the estimated loss of
    accuracy exceeds ``accuracy_tolerance``."""

    accuracy_tolerance: float = Field(0.05, gt=0, lt=1)
    """Estimated loss of accuracy, as a fraction, that escalation needs."""

    accuracy_window: int = Field(500, ge=30)
    """Newest labels from which accuracy, label lag and the baseline of a probation are taken."""

    min_reference_rows: int = Field(50, ge=20)
    """Reference rows of the recent regime that a version needs before it can be watched."""

    probation_labels: int = Field(300, ge=1)
    """Labels that a promoted version must get through before it is kept for good."""

    probation_alpha: float = Field(0.05, gt=0, lt=1)
    """Chance that a promoted version that is no worse than allowed fails its probation."""

    probation_tolerance: float = Field(0.05, ge=0, lt=1)
    """Error above that of the version it replaced that a promoted version is allowed."""

    commit_rows: int = Field(4_096, ge=1)
    """Make predictions durable as soon as this many wait."""

    commit_ms: float = Field(200.0, gt=0)
    """Longest time that predictions and labels wait to be made durable, in milliseconds; without
    labels predictions wait up to a second where that takes long."""

    max_waiting_bytes: int = Field(128 * 2**20, ge=2**20)
    """Rows that may wait to be made durable, in bytes; what comes beyond, as with a full disk, is
    dropped and counted."""

    seed: int = 0
    """Seed of the random features, of the split of the reference, and of the breaking of ties."""

    _by_embedding: bool = PrivateAttr(False)
    _digits: Mapping[int, tuple[int, ...]] = PrivateAttr(default_factory=dict)

    @property
    def by_embedding(self) -> bool:
        """Whether inputs are compared by what enters the model's head alone.

        So where an input is whole numbers: they may be ids, which have no distance.
        """
        return self._by_embedding

    @property
    def digits(self) -> Mapping[int, tuple[int, ...]]:
        """Columns of a row that are higher digits of a column of large whole numbers."""
        return self._digits

    def with_ids(self, digits: Mapping[int, tuple[int, ...]] | None = None) -> Self:
        """Return the same for a model of which an input is whole numbers, with their digits."""
        found = self.model_copy()
        found._by_embedding, found._digits = True, digits or {}
        return found

    @model_validator(mode="before")
    @classmethod
    def _budget_in_rows(cls, values: Any) -> Any:
        days = values.get("days_per_false_drift") if isinstance(values, dict) else None
        if not isinstance(days, int | float):
            return values
        rows = values.get("rows_per_day")
        if not isinstance(rows, int | float):
            raise ValueError("days_per_false_drift needs rows_per_day, the predictions of one day")
        budget = round(days * rows)
        if values.get("rows_per_false_drift", budget) != budget:
            raise ValueError(
                "the budget is stated twice; give rows_per_false_drift or days_per_false_drift"
            )
        return values | {"rows_per_false_drift": budget}

    @model_validator(mode="after")
    def _window_covers_lag(self) -> Self:
        if self.join_window_rows < self.label_lag_rows:
            raise ValueError(
                f"join_window_rows ({self.join_window_rows}) must be at least label_lag_rows "
                f"({self.label_lag_rows}): a label within the lag must still find its prediction"
            )
        return self
