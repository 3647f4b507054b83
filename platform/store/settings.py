"""The ``retention`` section of the configuration."""

from __future__ import annotations

from pydantic import Field

from undrift.settings import Section


class RetentionSettings(Section):
    """How much of what was recorded is kept.

    What is beyond any of the limits goes, in steps of about a quarter of that limit; but never
    rows that the next retraining would read.
    """

    days: float | None = Field(30.0, gt=0)
    """Predictions and labels of the newest days; null: of any age."""

    rows: int | None = Field(None, ge=1_000)
    """Newest predictions, with their labels; null: any number."""

    versions: int = Field(20, ge=1)
    """Newest model versions; more stay where they are in use: what is live or on its way, what
    `rollback` goes back to, their parents, and what a replay of the kept rows needs."""

    event_days: float | None = Field(365.0, gt=0)
    """Events of the journal of the newest days; null: of any age. None goes before the predictions
    of its time."""

    events: int | None = Field(100_000, ge=1_000)
    """Newest events of the journal; null: any number."""

    max_event_bytes: int | None = Field(1 << 30, ge=1 << 20)
    """Bytes on the disk that the journal may take; null: any number."""

    max_bytes: int | None = Field(10 << 30, ge=1 << 20)
    """Bytes on the disk that predictions and labels may take; null: any number."""
